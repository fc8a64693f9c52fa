package daprhttp

import (
	"errors"
	"testing"
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
