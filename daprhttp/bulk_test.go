package daprhttp_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
)

// readBulk returns the entries of a body as "id event", and the error at the end.
func readBulk(body io.Reader) (entries []string, err error) {
	for e, err := range daprhttp.BulkEntries(body) {
		if err != nil {
			return entries, err
		}
		entries = append(entries, fmt.Sprintf("%s %s %s", e.EntryID, e.Event, e.ContentType))
	}
	return entries, nil
}

func TestBulkEntries(t *testing.T) {
	tests := []struct {
		body string
		want string // joined by ","
		ok   bool
	}{
		{`{"entries":[]}`, "", true},
		{`{"entries":[{"entryId":"1","event":{"a":[1, 2]},"contentType":"application/cloudevents+json","metadata":null},{"entryId":"2","event":"x"}],"id":"b","metadata":{"pubsubName":"p"}}`,
			`1 {"a":[1, 2]} application/cloudevents+json,2 "x" `, true},
		{`{"id":"b","metadata":{"entries":[1]},"entries":[{"entryId":"1"}]}`, "1  ", true}, // the names in any order
		{`{"orderId":"o","itemId":"i","quantity":1}`, "", false},
		{`{"entries":null}`, "", false},
		{`{"entries":{}}`, "", false},
		{`{"entries":[{"entryId":1}]}`, "", false},
		{`{"entries":[{"entryId":"1"}`, "1  ", false}, // breaks off
		{`{"entries":[{"entryId":"1"}]`, "1  ", false},
		{`{}`, "", false},
		{`[]`, "", false},
		{`null`, "", false},
		{``, "", false},
		{`no JSON`, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.body, func(t *testing.T) {
			is := is.New(t)
			got, err := readBulk(iotest.OneByteReader(strings.NewReader(tt.body)))
			is.Equal(strings.Join(got, ","), tt.want)
			is.Equal(err == nil, tt.ok)
			is.Equal(errors.Is(err, daprhttp.ErrNotBulk), !tt.ok)
		})
	}
}

// A bulk may be longer than what a program would have in memory, an entry not.
func TestBulkEntriesAreReadOneByOne(t *testing.T) {
	is := is.New(t)
	entry := `{"entryId":"1","event":"` + strings.Repeat("x", 1<<20) + `"},`
	parts := []io.Reader{strings.NewReader(`{"entries":[`)}
	for range 40 {
		parts = append(parts, strings.NewReader(entry))
	}
	parts = append(parts, strings.NewReader(`{"entryId":"last"}]}`))
	got, err := readBulk(io.MultiReader(parts...))
	is.NoErr(err)
	is.Equal(len(got), 41)

	endless := io.MultiReader(strings.NewReader(`{"entries":["`), iotest.DataErrReader(xs{}))
	_, err = readBulk(endless)
	is.True(errors.Is(err, daprhttp.ErrNotBulk))
}

// xs is an endless row of x.
type xs struct{}

func (xs) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func TestBulkEntriesStopWhenTheCallerDoes(t *testing.T) {
	for range daprhttp.BulkEntries(strings.NewReader(`{"entries":[{"entryId":"1"},{"entryId":"2"}]}`)) {
		break
	}
}
