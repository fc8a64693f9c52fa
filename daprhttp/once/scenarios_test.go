package once

import "testing"

// testID returns an ID. Those of names that begin with "t" have a time in them, as
// many seconds as the name has characters.
func testID(name string) ID {
	var ms uint64
	if name[0] == 't' {
		ms = uint64(len(name)) * 1000
	}
	return newID(ms, []byte(name))
}

func TestEveryInterleavingCountsOnce(t *testing.T) {
	values := map[string]string{"apple": `{"commits":"","value":100}`, "pear": `{"commits":"","value":100}`}
	order := func(id, key string, by int64) Change[int64] { return lower(testID(id), key, by) }
	to := func(replica int, changes ...Change[int64]) handover { return handover{replica, changes} }
	tests := map[string]scenario{
		"one event, two replicas": {
			start:      values,
			replicas:   2,
			faults:     2,
			deliveries: []handover{to(0, order("e1", "apple", 10)), to(1, order("e1", "apple", 10))},
			want:       map[string]int64{"apple": 90},
		},
		"one event, one replica, five faults": {
			start:      values,
			replicas:   1,
			faults:     5,
			deliveries: []handover{to(0, order("e1", "apple", 10))},
			want:       map[string]int64{"apple": 90},
		},
		"two events of one item, two replicas": {
			start:      values,
			replicas:   2,
			faults:     1,
			deliveries: []handover{to(0, order("e1", "apple", 10)), to(1, order("e2", "apple", 5))},
			want:       map[string]int64{"apple": 85},
		},
		"one event, redelivered while its ID leaves the record": {
			start:    values,
			replicas: 2,
			faults:   1,
			deliveries: []handover{
				to(0, order("e1", "apple", 10)), to(0, order("e2", "apple", 5)), to(1, order("e1", "apple", 10)),
			},
			want: map[string]int64{"apple": 85},
		},
		"an event whose counter died before marking it": {
			start:      map[string]string{"apple": `{"commits":"","value":90,"older":"` + string(testID("e1")) + `"}`},
			replicas:   2,
			faults:     2,
			deliveries: []handover{to(0, order("e2", "apple", 5)), to(1, order("e1", "apple", 10))},
			want:       map[string]int64{"apple": 85},
		},
		"an item never seen": {
			replicas:   2,
			faults:     1,
			deliveries: []handover{to(0, order("e1", "apple", 10)), to(1, order("e2", "apple", 5))},
			want:       map[string]int64{"apple": -15},
		},
		"two items in one commit": {
			start:    values,
			replicas: 1,
			faults:   1,
			deliveries: []handover{
				to(0, order("e1", "apple", 10)), to(0, order("e2", "pear", 5)), to(0, order("e2", "pear", 5)),
			},
			want: map[string]int64{"apple": 90, "pear": 95},
		},
		"one event with a time in its ID, two replicas": {
			start:      values,
			replicas:   2,
			faults:     1,
			deliveries: []handover{to(0, order("t", "apple", 10)), to(1, order("t", "apple", 10))},
			want:       map[string]int64{"apple": 90},
		},
		"an event that comes late, twice": {
			start:    map[string]string{"apple": `{"commits":"","value":100,"older":"` + string(testID("tt")) + `"}`},
			replicas: 2,
			faults:   1,
			deliveries: []handover{
				to(0, order("t", "apple", 10)), to(1, order("t", "apple", 10)),
			},
			want: map[string]int64{"apple": 90},
		},
		"a record that keeps no ID": {
			start:    map[string]string{"apple": `{"commits":"","value":100,"latest":"` + string(testID("ttt")) + `","older":"` + string(setOf([]ID{testID("t"), testID("tt")})) + `"}`},
			limit:    100,
			replicas: 2,
			faults:   1,
			deliveries: []handover{
				to(0, order("tttt", "apple", 1)), to(1, order("tt", "apple", 10)),
			},
			want: map[string]int64{"apple": 99},
		},
		"a record that keeps no ID, and a memory of one": {
			start:    map[string]string{"apple": `{"commits":"","value":100,"latest":"` + string(testID("ttt")) + `","older":"` + string(setOf([]ID{testID("t"), testID("tt")})) + `"}`},
			replicas: 2,
			faults:   0,
			deliveries: []handover{
				to(0, order("tttt", "apple", 1)), to(1, order("tt", "apple", 10)),
			},
			want: map[string]int64{"apple": 99},
		},
		"a batch of what has left the record, and a memory of one": {
			start: map[string]string{
				"apple":                    `{"commits":"","value":90,"generation":3,"watermark":"` + string(testID("e3")) + `"}`,
				"~" + string(testID("e1")): `"` + string(testID("e1")) + `"`,
				"~" + string(testID("e2")): `"` + string(testID("e2")) + `"`,
				"~" + string(testID("e3")): `"` + string(testID("e3")) + `"`,
			},
			replicas: 1,
			faults:   1,
			deliveries: []handover{
				to(0, order("e1", "apple", 1)), to(0, order("e2", "apple", 10)), to(0, order("e3", "apple", 10)), to(0, order("e4", "apple", 1)),
			},
			want: map[string]int64{"apple": 89},
		},
		"two replicas that take turns": {
			start:    map[string]string{"apple": `{"commits":"B.0 A.0","value":100}`},
			replicas: 2,
			faults:   1,
			deliveries: []handover{
				to(0, order("e1", "apple", 10)), to(1, order("e2", "apple", 5)), to(0, order("e2", "apple", 5)),
			},
			want: map[string]int64{"apple": 85},
		},
		"one replica that reads ahead, and another": {
			start:    values,
			ahead:    true,
			replicas: 2,
			deliveries: []handover{
				to(0, order("e1", "apple", 10)), to(0, order("e2", "apple", 5)), to(1, order("e2", "apple", 5)),
			},
			want: map[string]int64{"apple": 85},
		},
		"one event, one replica that reads ahead": {
			start:      values,
			ahead:      true,
			replicas:   1,
			faults:     2,
			deliveries: []handover{to(0, order("e1", "apple", 10)), to(0, order("e2", "apple", 5))},
			want:       map[string]int64{"apple": 85},
		},
		"a look-up that is done again only when an ID has left": {
			start: map[string]string{
				"apple": `{"commits":"A.0 B.0","value":100,"older":"` + string(setOf([]ID{testID("t1"), testID("t2")})) + `","generation":1,"watermark":"` + string(testID("t9")) + `"}`,
			},
			keep:     0,
			limit:    100,
			replicas: 2,
			faults:   0,
			deliveries: []handover{
				to(0, order("e1", "apple", 10)), to(1, order("e1", "apple", 10)),
			},
			want: map[string]int64{"apple": 90},
		},
		"an event that goes through all generations, one step at a time, meanwhile looked for by another": {
			start:    map[string]string{"apple": `{"commits":"","value":100,"watermark":"` + string(testID("t9")) + `"}`},
			keep:     1,
			limit:    100,
			replicas: 2,
			deliveries: []handover{
				to(0, order("e1", "apple", 10), order("t9a", "apple", 1), order("t9b", "apple", 1)),
				to(1, order("e1", "apple", 10)),
			},
			want: map[string]int64{"apple": 88},
		},
		"two replicas that mark in the same span": {
			start:    map[string]string{"apple": `{"commits":"","value":100,"older":"` + string(testID("t")) + `"}`},
			replicas: 2,
			faults:   0,
			deliveries: []handover{
				to(0, order("t1", "apple", 1)), to(1, order("t2", "apple", 10)),
			},
			want: map[string]int64{"apple": 89},
		},
		"two items in a store that saves all or nothing": {
			start:    values,
			atomic:   true,
			replicas: 1,
			faults:   2,
			deliveries: []handover{
				to(0, order("e1", "apple", 10)), to(0, order("e2", "pear", 5)),
			},
			want: map[string]int64{"apple": 90, "pear": 95},
		},
	}
	for name, s := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Logf("%d ways", tryAll(t, s))
		})
	}
}
