package daprhttp

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// An event that is accepted has the attributes that encoding/json finds, and its moved copy
// is the same event.
func FuzzDecodeEvent(f *testing.F) {
	for _, seed := range []string{
		`{"specversion":"1.0","id":"e1","source":"s","type":"t","datacontenttype":"application/json","data":{"a":1}}`,
		`{"specversion":"1.0","source":"s","id":"e\u0031","datacontenttype":"text/plain","data":"text"}`,
		`{"specversion":"1.0","source":"s","id":"e1","data_base64":"AAE="}`,
		`{"specversion":"1.0","source":"s","id":"e1","ID":"e2","Data":{},"data":null}`,
		`{"specversion":"1.0","source":"s","id":"\ud800"}`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := DecodeEvent(body)
		if err != nil {
			return
		}
		var members map[string]any
		if err := json.Unmarshal(body, &members); err != nil {
			t.Fatal(err)
		}
		if members["id"] != e.ID || members["source"] != e.Source || e.ID == "" || e.Source == "" {
			t.Errorf("%q: decoded as %+v", body, e)
		}
		copied, err := DecodeEvent(newDeadLetter(e, "app", nil).standIn(e.Data))
		if err != nil || copied.ID != e.ID || copied.Source != e.Source || string(copied.Data) != string(e.Data) {
			t.Errorf("%q: decoded as %+v, and its copy as %+v, %v", body, e, copied, err)
		}
	})
}

// A dead letter has the whole event that was dropped, whatever its body.
func FuzzDeadLetter(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","id":"e1","source":"s","data":{"a":1}}`), "why", "topic")
	f.Add([]byte(`{"id":"e1","deadletterreason":"x","deadlettersize":7}`), "", "")
	f.Add([]byte(`{"data":1}`), "\u2028", "a\"b")
	f.Add([]byte("\x00\xff"), "why", "topic")
	f.Fuzz(func(t *testing.T, body []byte, reason, topic string) {
		if !utf8.ValidString(reason) || !utf8.ValidString(topic) {
			return // JSON can't hold them
		}
		e, _ := DecodeEvent(body)
		e.Topic = topic
		letter := newDeadLetter(e, "app", nil)
		letter.Reason = reason + "."
		written, ok := letter.withAttributes()
		if !ok {
			written = letter.standIn(letter.Body)
		}
		read, _ := DecodeDeadLetter(written)
		if read.Reason != letter.Reason || read.From != topic || read.AppID != "app" {
			t.Errorf("%q became %q, with %q, %q, %q", body, written, read.Reason, read.From, read.AppID)
		}
		if !ok && string(read.Body) != string(body) {
			t.Errorf("%q became %q, whose body is %q", body, written, read.Body)
		}
	})
}
