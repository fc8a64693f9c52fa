package load

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matryer/is"
)

func TestLoadKeepsItsBounds(t *testing.T) {
	run := func(l Load, calls int, took time.Duration, want error) {
		synctest.Test(t, func(t *testing.T) {
			is := is.New(t)
			ctx, cancel := context.WithTimeout(t.Context(), 9500*time.Millisecond)
			defer cancel()
			began, made := time.Now(), make(chan int, 100)
			is.Equal(want, l.Run(ctx, func(_ context.Context, n int) error {
				made <- n
				time.Sleep(time.Second)
				return map[int]error{5: want}[n]
			}))
			is.Equal(len(made), calls)
			is.Equal(time.Since(began).Round(time.Millisecond), took)
		})
	}
	run(Load{Clients: 2, Count: 8}, 8, 4*time.Second, nil)
	run(Load{Clients: 100, PerSecond: 10, Count: 41}, 41, 5*time.Second, nil)
	run(Load{Clients: 1}, 10, 10*time.Second, nil) // the context ends
	run(Load{Clients: 1}, 6, 6*time.Second, errors.New("the sixth call failed"))
}

func TestRefusedOrderIsSentAgain(t *testing.T) {
	is := is.New(t)
	requests, refused := 0, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		is.Equal(r.Header["Idempotency-Key"], []string{"key"})
		if requests++; requests == 1 {
			panic(http.ErrAbortHandler) // no answer
		}
		w.WriteHeader([]int{2: 500, 3: 200, 4: 200, 5: 400, 6: 500}[requests])
		if requests != 3 { // a sidecar whose service has died may answer 200 without a body
			_, _ = w.Write([]byte("answer"))
		}
	}))
	defer server.Close()
	target := Target{URL: server.URL, Timeout: time.Minute, Pause: 1, Refused: func(error) { refused++ }}
	is.NoErr(target.Place(t.Context(), Order{Key: "key"}))
	is.Equal(refused, 3)
	is.True(errors.Is(target.Place(t.Context(), Order{Key: "key"}), errInvalid)) // and it is not sent again
	target.Pause = 0
	is.True(target.Place(t.Context(), Order{Key: "key"}) != nil) // nor is this
	is.Equal(requests, 6)
	target.Pause = time.Hour
	ended, end := context.WithCancel(t.Context())
	end()
	is.True(target.Place(ended, Order{}) != nil)
}
