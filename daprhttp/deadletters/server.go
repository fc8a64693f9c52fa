package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/web"
)

// A service keeps the letters of one dead-letter topic.
type service struct {
	kept            *folder
	sidecar         *daprhttp.Client
	pubsubName      string
	deadLetterTopic string
	subscription    map[string]string // metadata of the subscription
	topic           string            // the topic to which letters are sent again
	appToken        string
	log             *slog.Logger
}

const maxLetterBytes = 16 << 20 // of a delivery, which has the letter in base64

// handler returns all routes. The health check and the metrics need no token. The sidecar's
// Configuration keeps other apps out.
func (s *service) handler() (http.Handler, error) {
	app := http.NewServeMux()
	err := daprhttp.Subscribe(app, daprhttp.Subscription{
		PubsubName:    s.pubsubName,
		Topic:         s.deadLetterTopic,
		Route:         "letters/deliver",
		Metadata:      s.subscription,
		Handler:       s.keep,
		Wrap:          s.retryDropped,
		MaxEventBytes: maxLetterBytes,
	})
	if err != nil {
		return nil, err
	}
	app.HandleFunc("GET /letters", s.list)
	app.HandleFunc("GET /letters/{id}", s.show)
	app.HandleFunc("POST /letters/{id}/send", s.on(s.send))
	app.HandleFunc("DELETE /letters/{id}", s.on(s.drop))
	var metrics web.Metrics
	metrics.GaugeFunc("dead_letters", "Dead letters that are kept.", func() float64 { return float64(s.kept.size()) })
	app.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	app.Handle("GET /metrics", &metrics)
	return web.LogRefused(s.log, web.RefuseOtherSites(daprhttp.RequireAppToken(s.appToken, app, "/healthz", "/metrics"))), nil
}

// retryDropped returns a handler that retries a letter which next drops, because the letter
// is too long or damaged, and logs it. Otherwise the letter would be lost.
func (s *service) retryDropped(next daprhttp.Handler) daprhttp.Handler {
	return func(ctx context.Context, e daprhttp.Event) daprhttp.Outcome {
		o := next(ctx, e)
		if o.Status == daprhttp.StatusDrop {
			s.log.Error("Failed to keep a dead letter.", web.LogEventID, e.ID, web.LogError, o.Err)
			o.Status, o.HTTPStatus = daprhttp.StatusRetry, cmp.Or(o.HTTPStatus, http.StatusBadRequest)
		}
		return o
	}
}

// keep writes a letter to the disk and then acknowledges the delivery.
func (s *service) keep(_ context.Context, e daprhttp.Event) daprhttp.Outcome {
	l := readLetter(e.Message())
	id := l.id()
	isNew, err := s.kept.keep(id, e.Message())
	if err != nil {
		s.log.Error("Failed to keep a dead letter.", web.LogEventID, l.ID, "id", id, web.LogError, err)
		return daprhttp.Retry(err)
	}
	if isNew {
		s.log.Info("Kept a dead letter.", web.LogEventID, l.ID, "id", id)
	}
	return daprhttp.Success()
}

// list answers with all letters, the oldest first. A letter that can't be read has the error
// as its reason.
func (s *service) list(w http.ResponseWriter, _ *http.Request) {
	letters, err := s.kept.list()
	if err != nil {
		web.WriteError(w, http.StatusInternalServerError, err.Error())
		return
	}
	summaries := make([]summary, 0, len(letters))
	for _, k := range letters {
		body, err := s.kept.read(k.id)
		switch {
		case err == nil:
			summaries = append(summaries, readLetter(body).summary(k.id, k.receivedAt))
		case !errors.Is(err, errNoLetter): // otherwise it was just sent or dropped
			summaries = append(summaries, summary{ID: k.id, Reason: "the letter can't be read: " + err.Error(), ReceivedAt: k.receivedAt})
		}
	}
	web.WriteJSON(w, http.StatusOK, summaries)
}

// show answers with a letter, unchanged.
func (s *service) show(w http.ResponseWriter, r *http.Request) {
	body, err := s.kept.read(r.PathValue("id"))
	if err != nil {
		web.WriteError(w, statusOf(err), err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream") // a letter may have any format
	_, _ = w.Write(body)
}

func statusOf(err error) int {
	if errors.Is(err, errNoLetter) {
		return http.StatusNotFound
	}
	return http.StatusInternalServerError
}

// on returns a handler that calls do for the letter in the path.
func (s *service) on(do func(context.Context, string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		if err := do(r.Context(), id); err != nil {
			web.WriteError(w, statusOf(err), err.Error())
			return
		}
		web.WriteJSON(w, http.StatusOK, map[string]string{"id": id})
	}
}

// send sends a letter to its topic again. The event keeps its id, so that a subscriber can
// recognise a duplicate.
func (s *service) send(ctx context.Context, id string) error {
	return s.kept.take(id, func(body []byte) error {
		l := readLetter(body)
		if len(l.Body) < l.Size {
			return fmt.Errorf("only the beginning of its %d bytes is kept: its publisher must send it again", l.Size)
		}
		err := s.sidecar.Publish(ctx, s.pubsubName, s.topic, daprhttp.Message{Data: l.Body, Raw: true})
		if err == nil {
			s.log.Info("Sent a dead letter again.", web.LogEventID, l.ID, "id", id, "topic", s.topic)
		}
		return err
	})
}

func (s *service) drop(_ context.Context, id string) error {
	err := s.kept.take(id, func([]byte) error { return nil })
	if err == nil {
		s.log.Info("Dropped a dead letter.", "id", id)
	}
	return err
}
