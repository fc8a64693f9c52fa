package once_test

import (
	"context"
	"errors"
	"fmt"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/daprtest"
	"example.com/dapr-orders/daprhttp/once"
)

// An event that is delivered again changes nothing.
func ExampleInbox_Apply() {
	sidecar := &daprhttp.Client{HTTPClient: new(daprtest.Sidecar).Client()} // in memory
	sold := once.New[int](sidecar, "statestore", once.Options{})

	sale := func(eventID string, pieces int) once.Change[int] {
		return once.Change[int]{
			Key:   "item1",
			ID:    once.EventID("order-service", eventID),
			Apply: func(n int) (int, error) { return n + pieces, nil },
		}
	}
	for _, change := range []once.Change[int]{sale("e1", 10), sale("e2", 5), sale("e1", 10)} {
		r, err := sold.Apply(context.Background(), change)
		fmt.Println(r.Before, r.After, r.Duplicate, err)
	}
	n, err := sold.Get(context.Background(), "item1")
	fmt.Println(n, err)
	// Output:
	// 0 10 false <nil>
	// 10 15 false <nil>
	// 0 0 true <nil>
	// 15 <nil>
}

// A value may have any type that encodes as JSON. An error of the Apply function is final
// for the call. A redelivery asks the function again.
func ExampleErrFinal() {
	sidecar := &daprhttp.Client{HTTPClient: new(daprtest.Sidecar).Client()} // in memory
	type seats struct {
		Free  int      `json:"free"`
		Names []string `json:"names"`
	}
	trains := once.New[seats](sidecar, "statestore", once.Options{})
	book := func(eventID, name string) once.Change[seats] {
		return once.Change[seats]{
			Key: "train 7",
			ID:  once.EventID("bookings", eventID),
			Apply: func(s seats) (seats, error) {
				if s.Free == 0 {
					return s, errors.New("the train is full")
				}
				return seats{s.Free - 1, append(s.Names[:len(s.Names):len(s.Names)], name)}, nil
			},
		}
	}
	ctx := context.Background()
	fmt.Println(trains.Set(ctx, "train 7", seats{Free: 1}))
	booked, err := trains.Apply(ctx, book("b1", "Ada"))
	fmt.Println(booked.After, err)
	_, err = trains.Apply(ctx, book("b2", "Bob"))
	fmt.Println(err, errors.Is(err, once.ErrFinal))
	// Output:
	// <nil>
	// {0 [Ada]} <nil>
	// the train is full true
}
