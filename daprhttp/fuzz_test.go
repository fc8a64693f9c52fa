package daprhttp

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzDecodeEvent(f *testing.F) {
	for _, seed := range []string{
		`{"specversion":"1.0","id":"e1","source":"s","type":"t","datacontenttype":"application/json","data":{"a":1}}`,
		`{"id":"e1","datacontenttype":"text/plain","data":"text"}`,
		`{"id":"e1","data_base64":"AAE="}`,
		`{"id":"e1","data":"a","data_base64":""}`,
		`{"id":"e1","datacontenttype":";","data":"\ud800"}`,
		`{"id":"e1","ID":"e2","Data":{},"data":null}`,
		`[]`, `null`, `"`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		event, err := DecodeEvent(body)
		if err != nil {
			if !errors.Is(err, ErrNotEvent) {
				t.Errorf("error %v is not ErrNotEvent", err)
			}
			return
		}
		if event.ID == "" {
			t.Error("an event without id was accepted")
		}
		again, err := DecodeEvent(body)
		if err != nil || string(again.Data) != string(event.Data) {
			t.Errorf("the second time: %+v, %v", again, err)
		}
	})
}

// Whatever else is in a bulk, its entries are read as they are; and what is no bulk
// is an error.
func FuzzBulkEntries(f *testing.F) {
	f.Add([]byte(`{"entries":[{"entryId":"1","event":{"a":[1,"}"]}},{}],"x":{}}`), "id", `a "text" {[`, "\\\"")
	f.Add([]byte(`{"entries":[{"entryId":1}]}`), "", "\u2028", "]}")
	f.Add([]byte(`{"entries":`), "é", "", "x")
	f.Fuzz(func(t *testing.T, body []byte, id, data, other string) {
		for _, err := range BulkEntries(bytes.NewReader(body)) {
			if err != nil && !errors.Is(err, ErrNotBulk) {
				t.Errorf("%q: error %v is not ErrNotBulk", body, err)
			}
		}
		type entry struct {
			Metadata    any    `json:"metadata"`
			EntryID     string `json:"entryId"`
			Event       any    `json:"event"`
			ContentType string `json:"contentType"`
		}
		event := map[string]any{"data": data, "a": []any{other, 1.5, nil, true}}
		bulk, err := json.Marshal(map[string]any{
			"a": []string{other, data}, "z": other, "m": map[string]string{"entries": data},
			"entries": []entry{{other, id, event, data}, {nil, other, data, id}},
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []BulkEntry
		for e, err := range BulkEntries(bytes.NewReader(bulk)) {
			if len(id) > maxEntryText/6 || len(data) > maxEntryText/6 || len(other) > maxEntryText/6 {
				return // it may be too long for a name
			}
			if err != nil {
				t.Fatalf("%s: %v", bulk, err)
			}
			got = append(got, e)
		}
		valid := func(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
		want, _ := json.Marshal(event)
		if len(got) != 2 || got[0].EntryID != valid(id) && utf8.ValidString(id) || string(got[0].Event) != string(want) {
			t.Errorf("%s: read %+v", bulk, got)
		}
	})
}
