package main

import (
	"encoding/json"
	"testing"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/web"
)

func FuzzParseOrder(f *testing.F) {
	for _, seed := range []string{
		`{"orderId":"order-1001","itemId":"item1","quantity":10}`,
		`{"orderId":"a/b","itemId":"\ud83d\udce6","quantity":9007199254740991}`,
		`{"orderId":"o","itemId":"\ud800","quantity":1}`,
		`{"orderId":"o","itemId":"i","quantity":1.0}`,
		`{"orderId":"o","itemId":"i","quantity":1}{}`,
		`{"orderId":null}`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := decode(body)
		if err != nil {
			return
		}
		if daprhttp.CheckKey(o.OrderID) != nil || daprhttp.CheckKey(o.ItemID) != nil || o.Quantity < 1 || o.Quantity > daprhttp.MaxInteger {
			t.Errorf("%q was accepted: %+v", body, o)
		}
		event, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decode(event); err != nil || again != o {
			t.Errorf("published as %s, which is %+v, %v", event, again, err)
		}
	})
}

func decode(body []byte) (order, error) {
	fields, err := web.DecodeObject(body)
	if err != nil {
		return order{}, err
	}
	return parseOrder(fields)
}
