package daprhttp

import (
	"bytes"
	"testing"
	"unicode/utf8"
)

// A dead letter has the whole event that was dropped, whatever its body. The letter of a
// CloudEvent is the same event.
func FuzzDeadLetter(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","id":"e1","source":"s","data":{"a":1}}`), "why", "topic")
	f.Add([]byte(`{"specversion":"1.0","source":"s","id":"e\u0031","ID":"e2","datacontenttype":"text/plain","data":"text"}`), "why", "topic")
	f.Add([]byte(`{"specversion":"1.0","source":"s","id":"\ud800","data_base64":"AAE="}`), "why", "topic")
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
		if ok && (read.ID != e.ID || read.Source != e.Source || string(read.Data) != string(e.Data)) {
			t.Errorf("%q became %q: %+v became %+v", body, written, e, read.Event)
		}
		if ok {
			body = bytes.TrimSpace(body)
		}
		if string(read.Body) != string(body) {
			t.Errorf("%q became %q, whose body is %q", body, written, read.Body)
		}
	})
}
