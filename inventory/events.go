package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"example.com/dapr-orders/daprhttp"
)

const (
	pubsubName      = "pubsub"
	retryPubsubName = "pubsub-retry"
	topic           = "OrderPlaced"
	retryTopic      = "OrderPlaced-retry"
	deadLetterTopic = "OrderPlaced-dead-letter"

	// An order that can't be applied within tryFor moves to the retry topic, because the
	// sidecar delivers a bounded number of orders at a time, and a waiting order is one of
	// them. The retry topic's deliveries are tried for retryFor.
	tryFor   = 2 * time.Second
	retryFor = 15 * time.Second
)

// subscribe registers the sidecar's routes: the list of subscriptions, and the deliveries.
func (s *service) subscribe(mux *http.ServeMux) error {
	dead, err1 := daprhttp.DeadLetters(daprhttp.Topic{
		Sidecar: s.sidecar, PubsubName: pubsubName, Name: deadLetterTopic, Moved: s.moved("dead-letter", s.metrics.dead),
	}, s.appID)
	retry := daprhttp.Topic{Sidecar: s.sidecar, PubsubName: retryPubsubName, Name: retryTopic, Moved: s.moved("retry", s.metrics.retried)}
	tryBriefly, err2 := daprhttp.Retries(retry, tryFor)
	tryLonger, err3 := daprhttp.Retries(retry, retryFor)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	orders := daprhttp.Subscription{
		PubsubName:      pubsubName,
		Topic:           topic,
		Route:           "orders",
		DeadLetterTopic: deadLetterTopic,
		Metadata:        s.subscription,
		Handler:         func(ctx context.Context, e daprhttp.Event) daprhttp.Outcome { return s.handle(ctx, e, true) },
		// From the inside: try the handler, log a refusal, move a refused event to the dead
		// letters.
		Wrap:          func(h daprhttp.Handler) daprhttp.Handler { return dead(s.refused(tryBriefly(h))) },
		MaxEventBytes: maxBodyBytes,
		BareData:      true, // a person may send the order without an event around it
	}
	retries := orders
	retries.PubsubName, retries.Topic, retries.Route, retries.DeadLetterTopic = retryPubsubName, retryTopic, "orders/retry", ""
	retries.Metadata = daprhttp.BrokerMetadata(s.subscription) // without rawPayload: a moved event is a CloudEvent
	retries.Handler = func(ctx context.Context, e daprhttp.Event) daprhttp.Outcome { return s.handle(ctx, e, false) }
	retries.Wrap = func(h daprhttp.Handler) daprhttp.Handler { return dead(s.refused(tryLonger(h))) }

	return daprhttp.Subscribe(mux, orders, retries)
}

// whenSidecarStarts returns a handler that notices when a sidecar asks for the subscriptions,
// which it does once, at its start. The handler forgets the stuck items (see stuck.go): the
// previous sidecar may have been at fault, not the store. It logs a warning if the sidecar may
// lose events: it has no filter (see components/dapr-issues.md), which adds the header
// dapr-filter, and delivers more than one event at a time.
func (s *service) whenSidecarStarts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		starts := r.URL.Path == "/dapr/subscribe" && r.Header.Get("dapr-app-id") != ""
		if starts {
			s.stuck.forget()
		}
		if starts && r.Header.Get("dapr-filter") == "" {
			if m, err := s.sidecar.Metadata(r.Context()); err != nil || m.AppConnection.MaxConcurrency != 1 {
				s.log.Warn("WARNING: this sidecar may lose events when a delivery fails. Start it with --config ../components/config.yaml" +
					" and --resources-path ../components/redis, or with --app-max-concurrency 1. See components/dapr-issues.md.")
			}
		}
		next.ServeHTTP(w, r)
	})
}
