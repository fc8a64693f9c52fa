// Package load places orders, for the tests, the page and the benchmark. [Load] says how
// many and how fast; [Target] places one order.
package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// A Load bounds a sequence of calls. Each call places an order.
type Load struct {
	Clients   int // how many calls may be under way at the same time; at least 1
	PerSecond int // how many calls may begin in a second; 0: as many as the clients can make
	Count     int // how many calls are made; 0: no limit
}

// Run calls place with the numbers 0, 1, 2 and so on, and returns when no call is under
// way. It begins no further call once ctx has ended or a call has failed; the context of
// the calls has then ended, too. Run returns the first error of a call. The end of ctx
// alone is no error.
func (l Load) Run(ctx context.Context, place func(ctx context.Context, n int) error) error {
	limit := rate.NewLimiter(rate.Inf, 1)
	if l.PerSecond > 0 {
		limit.SetLimit(rate.Limit(l.PerSecond))
	}
	calls, ctx := errgroup.WithContext(ctx)
	calls.SetLimit(l.Clients)
	for n := 0; (l.Count == 0 || n < l.Count) && limit.Wait(ctx) == nil; n++ {
		calls.Go(func() error {
			if ctx.Err() != nil { // while the call waited for a client
				return nil
			}
			return place(ctx, n)
		})
	}
	return calls.Wait()
}

// An Order is what the order service gets.
type Order struct {
	ID       string `json:"orderId"`
	ItemID   string `json:"itemId"`
	Quantity int    `json:"quantity"`
	Key      string `json:"-"` // the Idempotency-Key; empty for none
}

// A Target is where and how orders are placed.
type Target struct {
	URL     string        // of POST /order, or of its invocation through a sidecar
	Token   string        // sent in the header dapr-api-token
	Timeout time.Duration // of each request; more than 0

	// Pause is how long Place waits before it sends a refused order again. 0 means that
	// Place sends each order once.
	Pause time.Duration

	// Refused gets the error of each request that was refused or not answered, at once.
	// Each goroutine that calls Place calls it. It may be nil.
	Refused func(error)
}

// errInvalid matches the error of an order that the order service never accepts.
var errInvalid = errors.New("the order is invalid")

// client keeps the connections of many clients open.
var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}

// Place places an order. It returns nil when the order service has accepted the order.
// After a refusal or no answer, it sends the same request again until the order is
// accepted or ctx ends, and then returns the last error. An answer 400 ends it at once.
func (t Target) Place(ctx context.Context, o Order) error {
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	for {
		err := t.send(ctx, body, o.Key)
		if err == nil {
			return nil
		}
		if t.Refused != nil {
			t.Refused(err)
		}
		if t.Pause == 0 || errors.Is(err, errInvalid) {
			return err
		}
		select {
		case <-time.After(t.Pause):
		case <-ctx.Done():
			return err
		}
	}
}

// send makes one request.
func (t Target) send(ctx context.Context, body []byte, key string) error {
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("dapr-api-token", t.Token)
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusBadRequest:
		return fmt.Errorf("%w: %s", errInvalid, answer)
	case resp.StatusCode != http.StatusOK || len(answer) == 0: // a sidecar may answer 200 for a service that has died
		return fmt.Errorf("POST %s answered %s: %s", t.URL, resp.Status, answer)
	}
	return nil
}
