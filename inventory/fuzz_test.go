package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A delivery is applied or becomes a dead letter. A request by hand is applied or gets 400.
func FuzzDelivery(f *testing.F) {
	for _, seed := range []string{
		`{"specversion":"1.0","id":"e1","source":"s","type":"t","data":{"orderId":"o","itemId":"i","quantity":1}}`,
		`{"specversion":"1.0","id":"e1","source":"s","datacontenttype":"text/plain","data":"{\"itemId\":\"i\",\"quantity\":1}"}`,
		`{"specversion":"1.0","id":"e1","source":"s","data_base64":"eyJpdGVtSWQiOiJpIiwicXVhbnRpdHkiOjF9"}`,
		`{"orderId":"o","itemId":"i","quantity":1}`,
		`{"specversion":"1.0","data":{}}`, `{"itemId":"~","quantity":1}`, `[]`, `null`, ``,
	} {
		for _, id := range []string{"", "b1", "%FF\xff"} {
			f.Add([]byte(seed), true, id)
			f.Add([]byte(seed), false, id)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, isEvent bool, id string) {
		s := newServiceTest(t)
		r := httptest.NewRequest("POST", "/orders", bytes.NewReader(body))
		if isEvent {
			r.Header.Set("Content-Type", eventType)
		}
		if id != "" { // in binary mode
			r.Header = http.Header{"Ce_id": {id}, "Ce-Source": {"s"}, "Ce_specversion": {"1.0"}, "Content-Type": r.Header["Content-Type"]}
		}
		w := httptest.NewRecorder()
		s.daprd.App.ServeHTTP(w, r)
		status, text := w.Code, w.Body.String()
		applied, dead := s.written(), len(s.published()) == 1
		switch begins := func(answer string) bool { return strings.HasPrefix(text, answer) }; {
		case status == 200 && applied && !dead && begins(`{"status":"SUCCESS","message":`):
		case status == 200 && !applied && dead && begins(`{"status":"SUCCESS","error":`) && isEvent:
		case status == 400 && !applied && !dead && begins(`{"error":`) && !isEvent:
		default:
			t.Errorf("%q: answered %d %s", body, status, text)
		}
	})
}
