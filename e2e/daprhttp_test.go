package e2e

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"

	"example.com/dapr-orders/e2e/harness"
)

// What package daprhttp says of the Dapr HTTP API is what a real sidecar does.
func TestDaprHTTPAgainstARealSidecar(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Tokens: true})
	c := s.Sidecar(s.Inventory[0]) // the state store is this app's alone
	ctx := t.Context()
	const store = "statestore"

	get := func(t *testing.T, key string) daprhttp.StateValue {
		t.Helper()
		v, err := c.GetState(ctx, store, key, daprhttp.GetStateOptions{Consistency: daprhttp.Strong})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}

	t.Run("save and get", func(t *testing.T) {
		is := is.New(t)
		is.True(get(t, "absent").Value == nil)
		is.NoErr(c.SaveState(ctx, store, daprhttp.StateItem{Key: "a/b+c", Value: map[string]int{"n": 1}}, daprhttp.StateItem{Key: "b", Value: "text"}))
		is.Equal(string(get(t, "a/b+c").Value), `{"n":1}`)
		is.Equal(string(get(t, "b").Value), `"text"`)
	})
	t.Run("ETags", func(t *testing.T) {
		is := is.New(t)
		first := daprhttp.StateOptions{Concurrency: daprhttp.FirstWrite}
		is.NoErr(c.SaveState(ctx, store, daprhttp.StateItem{Key: "e", Value: 1, Options: first}))
		old := get(t, "e").ETag
		is.True(c.SaveState(ctx, store, daprhttp.StateItem{Key: "e", Value: 2, Options: first}) != nil) // it exists
		is.NoErr(c.SaveState(ctx, store, daprhttp.StateItem{Key: "e", Value: 2, ETag: old, Options: first}))

		err := c.SaveState(ctx, store, daprhttp.StateItem{Key: "e", Value: 3, ETag: old, Options: first})
		var refused *daprhttp.Error
		is.True(errors.As(err, &refused))
		is.Equal(refused.StatusCode, 409)
		is.Equal(refused.ErrorCode, "ERR_STATE_SAVE")
		is.True(c.DeleteState(ctx, store, daprhttp.StateItem{Key: "e", ETag: old, Options: first}) != nil)
		is.Equal(string(get(t, "e").Value), `2`)
		is.NoErr(c.DeleteState(ctx, store, daprhttp.StateItem{Key: "e", ETag: get(t, "e").ETag, Options: first}))
		is.True(get(t, "e").Value == nil)
	})
	t.Run("bulk get", func(t *testing.T) {
		is := is.New(t)
		is.NoErr(c.SaveState(ctx, store, daprhttp.StateItem{Key: "x", Value: 1}, daprhttp.StateItem{Key: "..", Value: 2}))
		values, err := c.GetBulkState(ctx, store, []string{"x", "..", "absent"}, daprhttp.GetBulkStateOptions{Parallelism: 2})
		is.NoErr(err)
		got := make(map[string]string)
		for _, v := range values {
			is.Equal(v.Error, "")
			is.Equal(v.ETag != "", v.Value != nil)
			got[v.Key] = string(v.Value)
		}
		if diff := cmp.Diff(map[string]string{"x": "1", "..": "2", "absent": ""}, got); diff != "" {
			t.Errorf("values (-want +got):\n%s", diff)
		}
	})
	t.Run("TTL", func(t *testing.T) {
		is := is.New(t)
		is.NoErr(c.SaveState(ctx, store, daprhttp.StateItem{Key: "ttl", Value: 1, Metadata: daprhttp.TTL(1)}))
		is.Equal(string(get(t, "ttl").Value), `1`)
		harness.WaitFor(t, time.Minute, func() error {
			if v := get(t, "ttl"); v.Value != nil {
				return fmt.Errorf("the value is still there: %s", v.Value)
			}
			return nil
		})
	})
	t.Run("transaction", func(t *testing.T) {
		is := is.New(t)
		is.NoErr(c.SaveState(ctx, store, daprhttp.StateItem{Key: "old", Value: 1}))
		is.NoErr(c.StateTransaction(ctx, store, []daprhttp.StateOperation{
			{Operation: "upsert", Request: daprhttp.StateItem{Key: "new", Value: 2}},
			{Operation: "delete", Request: daprhttp.StateItem{Key: "old", ETag: get(t, "old").ETag, Options: daprhttp.StateOptions{Concurrency: daprhttp.FirstWrite}}},
		}, nil))
		is.Equal(string(get(t, "new").Value), `2`)
		is.True(get(t, "old").Value == nil)
	})
	t.Run("refusals", func(t *testing.T) {
		is := is.New(t)
		var refused *daprhttp.Error
		_, err := c.GetState(ctx, "no-such-store", "key", daprhttp.GetStateOptions{})
		is.True(errors.As(err, &refused))
		is.Equal(refused.ErrorCode, "ERR_STATE_STORE_NOT_FOUND")
		err = c.Publish(ctx, "no-such-pubsub", "topic", daprhttp.Message{})
		is.True(errors.As(err, &refused))
		is.Equal(refused.StatusCode, 404)
		is.Equal(refused.ErrorCode, "ERR_PUBSUB_NOT_FOUND")
		_, err = c.GetState(ctx, store, "a||b", daprhttp.GetStateOptions{})
		is.True(errors.As(err, &refused))
		is.Equal(refused.StatusCode, 400)
		err = (&daprhttp.Client{Endpoint: c.Endpoint, APIToken: "wrong"}).Publish(ctx, "pubsub", "topic", daprhttp.Message{})
		is.True(errors.As(err, &refused))
		is.Equal(refused.StatusCode, 401)
	})
	t.Run("publish", func(t *testing.T) {
		is := is.New(t)
		reader := s.Subscribe("reader", "all kinds")
		c := s.Sidecar(reader.App)
		is.NoErr(c.Publish(ctx, "pubsub", "all kinds", daprhttp.Message{Data: []byte(`{"n":9007199254740993}`), ID: "json"}))
		is.NoErr(c.Publish(ctx, "pubsub", "all kinds", daprhttp.Message{Data: []byte(`{"specversion":"1.0","id":"event","source":"elsewhere","type":"t","data":[1]}`), ContentType: "application/cloudevents+json"}))
		is.NoErr(c.Publish(ctx, "pubsub", "all kinds", daprhttp.Message{
			Data: []byte(`{"specversion":"1.0","id":"raw","source":"by hand","type":"t","datacontenttype":"text/plain","data":"as it is"}`),
			Raw:  true,
		}))
		is.NoErr(c.Publish(ctx, "pubsub", "all kinds", daprhttp.Message{Data: []byte(`a "text"`), ContentType: "text/plain", ID: "text"}))
		is.NoErr(c.Publish(ctx, "pubsub", "all kinds", daprhttp.Message{Data: []byte{0, 1, 255}, ContentType: "application/octet-stream", ID: "bytes"}))

		want := []string{
			"bytes from reader: \x00\x01\xff",
			"event from elsewhere: [1]",
			"json from reader: {\"n\":9007199254740993}",
			"raw from by hand: as it is",
			"text from reader: a \"text\"",
		}
		harness.WaitFor(t, time.Minute, func() error {
			if n := len(reader.Events()); n < len(want) {
				return fmt.Errorf("%d of %d events have come", n, len(want))
			}
			return nil
		})
		var got []string
		for _, e := range reader.Events() {
			got = append(got, fmt.Sprintf("%s from %s: %s", e.ID, e.Source, e.Data))
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}
