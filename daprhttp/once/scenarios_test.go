package once

import (
	"fmt"
	"testing"
)

// testID returns the ID of a name. If the name begins with "t", its length in seconds is
// the time of the ID.
func testID(name string) ID {
	var ms uint64
	if name[0] == 't' {
		ms = uint64(len(name)) * 1000
	}
	return newID(ms, []byte(name))
}

// testRecord returns a record as it is stored, with the IDs of these names.
func testRecord(value int, names ...string) string {
	var ids []ID
	for _, name := range names {
		ids = append(ids, testID(name))
	}
	return fmt.Sprintf(`{"once":2,"value":%d,"ids":"%s"}`, value, setOf(ids))
}

func TestEveryInterleavingAppliesEachEventOnce(t *testing.T) {
	values := map[string]string{"apple": testRecord(100), "pear": testRecord(100)}
	order := func(id, key string, by int64) Change[int64] { return lower(testID(id), key, by) }
	to := func(replica int, changes ...Change[int64]) handover { return handover{replica, changes} }
	mark := func(key, id string) (string, string) {
		return markerKey(key, testID(id)), `"` + string(testID(id)) + `"`
	}
	e1Key, e1Marker := mark("apple", "e1")
	e2Key, e2Marker := mark("apple", "e2")
	tests := map[string]scenario{
		"one event, two replicas": {
			start:      values,
			replicas:   2,
			faults:     2,
			deliveries: []handover{to(0, order("e1", "apple", 10)), to(1, order("e1", "apple", 10))},
			long:       true,
			want:       map[string]int64{"apple": 90},
			keep:       2,
		},
		"one event, one replica, four faults": {
			start:      values,
			replicas:   1,
			faults:     4,
			deliveries: []handover{to(0, order("e1", "apple", 10))},
			long:       true,
			want:       map[string]int64{"apple": 90},
		},
		"one event that is marked at once, two replicas": {
			start:      values,
			replicas:   2,
			faults:     1,
			deliveries: []handover{to(0, order("e1", "apple", 10)), to(1, order("e1", "apple", 10))},
			long:       true,
			want:       map[string]int64{"apple": 90},
		},
		"two events of one item, two replicas": {
			start:      values,
			replicas:   2,
			faults:     2,
			deliveries: []handover{to(0, order("e1", "apple", 10)), to(1, order("e2", "apple", 5))},
			long:       true,
			want:       map[string]int64{"apple": 85},
			keep:       2,
		},
		"two events that are marked at once, two replicas": {
			start:      values,
			replicas:   2,
			deliveries: []handover{to(0, order("e1", "apple", 10)), to(1, order("e2", "apple", 5))},
			want:       map[string]int64{"apple": 85},
		},
		"one event, redelivered while its ID leaves the record": {
			start:    values,
			replicas: 2,
			deliveries: []handover{
				to(0, order("e1", "apple", 10), order("e2", "apple", 5)), to(1, order("e1", "apple", 10)),
			},
			long: true,
			want: map[string]int64{"apple": 85},
		},
		"an event whose replica died before it was marked": {
			start:      map[string]string{"apple": testRecord(90, "e1")},
			replicas:   2,
			faults:     1,
			deliveries: []handover{to(0, order("e2", "apple", 5)), to(1, order("e1", "apple", 10))},
			want:       map[string]int64{"apple": 85},
			keep:       1,
		},
		"a new item": {
			replicas:   2,
			faults:     1,
			deliveries: []handover{to(0, order("e1", "apple", 10)), to(1, order("e2", "apple", 5))},
			want:       map[string]int64{"apple": -15},
			keep:       2,
		},
		"one event that changes two items": {
			start:      values,
			replicas:   1,
			faults:     1,
			deliveries: []handover{to(0, order("e1", "apple", 10)), to(0, order("e1", "pear", 5))},
			long:       true,
			want:       map[string]int64{"apple": 90, "pear": 95},
		},
		"an event that comes late, twice": {
			start:    map[string]string{"apple": testRecord(100, "tt")},
			replicas: 2,
			deliveries: []handover{
				to(0, order("t", "apple", 10)), to(1, order("t", "apple", 10)),
			},
			want: map[string]int64{"apple": 90},
		},
		"a record of version 1": {
			start: map[string]string{
				"apple":                    `{"value":100,"latest":"` + string(testID("ttt")) + `","older":"` + string(setOf([]ID{testID("t"), testID("tt")})) + `","watermark":"` + string(testID("t")) + `","commits":"X.1"}`,
				"~" + string(testID("e1")): `"` + string(testID("e1")) + `"`,
			},
			replicas: 2,
			deliveries: []handover{
				to(0, order("tttt", "apple", 1)), to(1, order("e1", "apple", 10)),
			},
			want: map[string]int64{"apple": 99},
			keep: 1,
		},
		"events whose IDs have left the record, in one commit": {
			start: map[string]string{
				"apple": `{"once":2,"value":90,"pruned":"X.3","watermark":"` + string(testID("t")) + `"}`,
				e1Key:   e1Marker,
				e2Key:   e2Marker,
			},
			replicas: 1,
			faults:   1,
			deliveries: []handover{
				to(0, order("e1", "apple", 1)), to(0, order("e2", "apple", 10)), to(0, order("e4", "apple", 1)),
			},
			want: map[string]int64{"apple": 89},
			keep: 3,
		},
		"a look-up that finds no marker, while an ID leaves": {
			start: map[string]string{
				"apple": `{"once":2,"value":100,"ids":"` + string(testID("t1")) + `","pruned":"X.1","watermark":"` + string(testID("t9")) + `"}`,
			},
			replicas: 2,
			deliveries: []handover{
				to(0, order("e1", "apple", 10)), to(1, order("e1", "apple", 10)),
			},
			want: map[string]int64{"apple": 90},
		},
		"an ID that leaves while another replica looks for it": {
			start:      map[string]string{"apple": `{"once":2,"value":100,"pruned":"X.1","watermark":"` + string(testID("t9")) + `"}`},
			replicas:   2,
			deliveries: []handover{to(0, order("e1", "apple", 10)), to(1, order("e1", "apple", 10))},
			want:       map[string]int64{"apple": 90},
		},
		"events of one moment share a marker, and one is redelivered": {
			start:    map[string]string{"apple": testRecord(100, "t1")},
			replicas: 2,
			faults:   1,
			sharing:  true,
			deliveries: []handover{
				to(0, order("t2", "apple", 10)), to(1, order("t2", "apple", 10)),
			},
			long: true,
			want: map[string]int64{"apple": 90},
		},
		"an event that comes after its moment has a marker": {
			start: map[string]string{
				"apple":                                 `{"once":2,"value":100,"pruned":"X.1","watermark":"` + string(testID("ttt")) + `"}`,
				sharedKey("apple", testID("t1").span()): `"` + string(testID("t1")) + `"`,
			},
			replicas: 2,
			sharing:  true,
			deliveries: []handover{
				to(0, order("t2", "apple", 10)), to(1, order("t1", "apple", 1)),
			},
			long: true,
			want: map[string]int64{"apple": 90},
		},
		"a failover while IDs that share a marker leave": {
			start:      map[string]string{"apple": testRecord(100, "t1")},
			replicas:   1,
			failover:   true,
			sharing:    true,
			deliveries: []handover{to(0, order("t2", "apple", 10)), to(0, order("t2", "apple", 10))},
			want:       map[string]int64{"apple": 90},
		},
		"a full record": {
			start:      map[string]string{"apple": testRecord(100, "t1", "t2")},
			replicas:   2,
			deliveries: []handover{to(0, order("t", "apple", 10)), to(1, order("t1", "apple", 10))},
			long:       true,
			want:       map[string]int64{"apple": 90},
			maxIDs:     2,
		},
		"a full record, and faults": {
			start:      map[string]string{"apple": testRecord(100, "t1", "t2")},
			replicas:   1,
			faults:     2,
			deliveries: []handover{to(0, order("t", "apple", 10)), to(0, order("t1", "apple", 10))},
			want:       map[string]int64{"apple": 90},
			maxIDs:     2,
		},
		"three events of one replica, and another replica": {
			start:    values,
			replicas: 2,
			deliveries: []handover{
				to(0, order("e1", "apple", 10), order("e2", "apple", 5), order("e3", "apple", 1)), to(1, order("e2", "apple", 5)),
			},
			want: map[string]int64{"apple": 84},
			keep: 5,
		},
		"three events of one replica": {
			start:      values,
			replicas:   1,
			faults:     2,
			deliveries: []handover{to(0, order("e1", "apple", 10), order("e2", "apple", 5), order("e3", "apple", 1))},
			want:       map[string]int64{"apple": 84},
			keep:       5,
		},
		"a failover, one event": {
			start:      values,
			replicas:   2,
			failover:   true,
			deliveries: []handover{to(0, order("e1", "apple", 10)), to(1, order("e1", "apple", 10))},
			want:       map[string]int64{"apple": 90},
			keep:       2,
		},
		"a failover while an ID leaves": {
			start:      values,
			replicas:   2,
			failover:   true,
			deliveries: []handover{to(0, order("e1", "apple", 10)), to(1, order("e1", "apple", 10))},
			long:       true,
			want:       map[string]int64{"apple": 90},
		},
		"a failover while IDs leave a full record": {
			start:      map[string]string{"apple": testRecord(90, "e1")},
			replicas:   1,
			faults:     1,
			failover:   true,
			deliveries: []handover{to(0, order("e2", "apple", 5)), to(0, order("e1", "apple", 10))},
			want:       map[string]int64{"apple": 85},
			maxIDs:     1,
		},
		"a failover after a look-up that found no marker": {
			start:      map[string]string{"apple": `{"once":2,"value":100,"pruned":"X.1","watermark":"` + string(testID("t9")) + `"}`},
			replicas:   2,
			failover:   true,
			cutFor:     2,
			deliveries: []handover{to(0, order("e1", "apple", 10)), to(1, order("e1", "apple", 10))},
			want:       map[string]int64{"apple": 90},
			long:       true,
		},
	}
	for name, s := range tests {
		t.Run(name, func(t *testing.T) {
			if s.long && (raceDetector || testing.Short()) {
				t.Skip("it takes long with the race detector")
			}
			t.Parallel()
			t.Logf("%d runs", tryAll(t, s))
		})
	}
}
