package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"example.com/dapr-orders/daprhttp"
)

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
		w := s.serve(r)
		status, text := w.Code, w.Body.String()
		var answer struct {
			Status            daprhttp.Status
			Error             string
			PreviousQuantity  int64
			OrderedQuantity   int64
			RemainingQuantity int64
		}
		if err := json.Unmarshal([]byte(text), &answer); err != nil {
			t.Fatalf("%q: answered %s", body, text)
		}
		applied := s.written()
		switch {
		case status == 200 && answer.Status == daprhttp.StatusSuccess && applied &&
			answer.OrderedQuantity > 0 && answer.PreviousQuantity-answer.OrderedQuantity == answer.RemainingQuantity:
		case status == 200 && answer.Status == daprhttp.StatusSuccess && isEvent && !applied && answer.Error != "" && len(s.published()) == 1: // a dead letter
		case status == 400 && !isEvent && !applied && answer.Error != "":
		default:
			t.Errorf("%q: answered %d %s", body, status, text)
		}
	})
}
