package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// walkThrough stocks item1 with 100, orders 10 and waits until 90 are left, through the
// sidecars. It shows each request as a person would type it.
func (s system) walkThrough(ctx context.Context, out *console) error {
	if err := s.show(ctx, out, s.setStockCall("item1", `{"quantity": 100}`)); err != nil {
		return err
	}
	if err := s.show(ctx, out, s.orderCall(`{"orderId": "order-1001", "itemId": "item1", "quantity": 10}`)); err != nil {
		return err
	}
	if err := s.waitForStock(ctx, "item1", 90); err != nil {
		return err
	}
	return s.show(ctx, out, s.stockCall("item1"))
}

// show prints a call as a curl command, makes it, and prints the answer.
func (s system) show(ctx context.Context, out *console, c call) error {
	out.printf("\n$ %s", s.curl(c))
	a, err := s.do(ctx, c)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK {
		return fmt.Errorf("%s %s answered %d: %s", c.method, c.url, a.status, a.body)
	}
	out.printf("%s", a.body)
	return nil
}

// waitForStock waits until the stock of an item is as expected: an event takes a moment to
// arrive.
func (s system) waitForStock(ctx context.Context, itemID string, want int64) error {
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		stock, err := s.stock(ctx, itemID)
		if err != nil || stock == want {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the stock of %s is %d and not %d: has another program on this Redis ordered it too?", itemID, stock, want)
		}
	}
}
