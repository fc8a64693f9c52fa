package once

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/matryer/is"
)

func TestUnacknowledgedSavesOfACutOffPrimaryAreNotAnswered(t *testing.T) {
	for _, start := range []int64{0, -1} {
		t.Run(fmt.Sprintf("the value is %d", start), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				memory := &memoryStore{}
				in, another := newInbox[int64](memory), newInbox[int64](memory)
				if start != 0 { // the key is not new
					must(t, in, event("before", "apple"))
				}
				memory.cut("")
				order := lower(testID("e1"), "apple", 10)
				_, err := in.Apply(soon(t), order)
				is.True(err != nil) // its save will be lost
				_, err = another.Apply(soon(t), order)
				is.True(err != nil) // the record that shows the event as applied will be lost
				is.True(in.Set(soon(t), "apple", 500) != nil)
				refuse := Change[int64]{"apple", testID("e2"), func(int64) (int64, error) { return 0, errors.New("sold out") }}
				_, err = in.Apply(soon(t), refuse)
				is.True(err != nil && !errors.Is(err, ErrFinal)) // the value that made Apply refuse will be lost
				memory.put("apple", `{"once":2,"value":"damaged"}`)
				_, err = in.Apply(soon(t), order)
				is.True(err != nil && !errors.Is(err, ErrFinal)) // the damaged value will be lost
				in.settle()
				another.settle()

				memory.failOver()
				is.Equal(must(t, another, order), Result[int64]{Before: start, After: start - 10})
				is.Equal(must(t, another, order), duplicate)
			})
		})
	}
}

// A change that was never acknowledged must get no marker. Otherwise its redelivery is
// taken for a duplicate after its save is lost.
func TestOnlyAcknowledgedChangesAreMarked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		must(t, newInbox[int64](memory), event("first", "apple"))
		memory.cut("apple") // the partition of the markers is not cut off
		const events = 12
		for i := range events { // other replicas see the unacknowledged record, and commit over it
			in := newTestInbox(memory, 0)
			in.tuning.maxIDs = 4
			_, err := in.Apply(soon(t), event(strconv.Itoa(i), "apple"))
			is.True(err != nil)
			in.settle()
		}
		is.Equal(memory.markers(), 0)
		memory.failOver()
		for i := range events {
			is.Equal(must(t, newInbox[int64](memory), event(strconv.Itoa(i), "apple")).Duplicate, false)
		}
		is.Equal(storedRecord(t, memory, "apple").Value, int64(-events-1))
	})
}

// After a failover, a count of prunings would have the same value again. The name of the
// commit that pruned does not come back. Here a look-up finds no marker while the primary
// is cut off. After the failover the ID is applied, marked, and has left the record.
func TestLookUpDoesNotStayValidAfterAFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		memory.put("apple", fmt.Sprintf(`{"once":2,"value":100,"pruned":"X.6","watermark":"%s"}`, testID("tt")))
		memory.cut("")
		memory.put("apple", fmt.Sprintf(`{"once":2,"value":99,"pruned":"Y.7","watermark":"%s"}`, testID("tt")))
		wait := make(chan struct{})
		slow := newInbox[int64](on("save", memory, func(c call) error {
			<-wait // its look-up is made before the failover, its save after
			return c.do()
		}))
		var got Result[int64]
		go func() { got = must(t, slow, event("e1", "apple")) }()
		synctest.Wait()
		memory.failOver()
		fast := newTestInbox(memory, 0)
		must(t, fast, event("e1", "apple"))
		fast.settle()
		is.Equal(storedRecord(t, memory, "apple").IDs, idSet("")) // it has left the record
		close(wait)
		slow.settle()
		synctest.Wait()
		is.Equal(got, duplicate)
		is.Equal(storedRecord(t, memory, "apple").Value, int64(99))
	})
}
