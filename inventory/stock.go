package main

import (
	"encoding/json"
	"fmt"
	"math"

	"example.com/dapr-orders/daprhttp"
)

// A stock is the number of pieces of an item. It may be below zero: an OrderPlaced event is
// a fact, which a subscriber can't refuse.
type stock int64

// less returns the stock after an order of quantity pieces.
func (s stock) less(quantity int64) (stock, error) {
	if int64(s)-quantity < -daprhttp.MaxInteger {
		return 0, fmt.Errorf("the stock would fall below %d", int64(-daprhttp.MaxInteger))
	}
	return s - stock(quantity), nil
}

// UnmarshalJSON reads a stored stock. Another program may have saved the number as 10.0 or
// 1e1.
func (s *stock) UnmarshalJSON(text []byte) error {
	var n float64
	if err := json.Unmarshal(text, &n); err != nil || string(text) == "null" || n != math.Trunc(n) || math.Abs(n) > daprhttp.MaxInteger {
		return fmt.Errorf("the stored stock must be an integer from %d to %d", int64(-daprhttp.MaxInteger), int64(daprhttp.MaxInteger))
	}
	*s = stock(n)
	return nil
}
