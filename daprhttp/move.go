package daprhttp

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Topic is where a wrapper of a [Handler] moves events: see [DeadLetters] and [Retries].
// All fields but Moved must be set.
type Topic struct {
	Sidecar    *Client
	PubsubName string
	Name       string

	// Moved is called after each move, and after a move that failed, with the error. It may
	// be nil.
	Moved func(ctx context.Context, e Event, err error)
}

func (t Topic) check() error {
	if t.Sidecar == nil || t.PubsubName == "" || t.Name == "" {
		return errors.New("daprhttp: Sidecar, PubsubName and Name of a Topic must be set")
	}
	return nil
}

// errNotDelivered is the error of an Event that a program made itself.
var errNotDelivered = errors.New("daprhttp: the event can't be moved, because no sidecar delivered it")

// moveTime bounds one attempt to publish an event.
const moveTime = 10 * time.Second

// publish publishes the body of an event unchanged. It goes on when the delivery of the
// event is cancelled.
func (t Topic) publish(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), moveTime)
	defer cancel()
	return t.Sidecar.Publish(ctx, t.PubsubName, t.Name, Message{Data: body, Raw: true})
}

// publishingOnce returns the topic without PublishTwice. Otherwise an event that returns to
// its topic would double each time. Once is enough if the component publishes and
// acknowledges over one connection. If that breaks before the broker has the new event, the
// broker gets no acknowledgement either, and redelivers the old event. It is not enough for a
// broker that refuses the new event while the connection lives.
func (t Topic) publishingOnce() Topic {
	sidecar := *t.Sidecar
	sidecar.PublishTwice = false
	t.Sidecar = &sidecar
	return t
}

func (t Topic) moved(ctx context.Context, e Event, err error) {
	if t.Moved != nil {
		t.Moved(ctx, e, err)
	}
}

// Retries returns a wrapper. Its handler tries each event for tryFor and then moves it to
// the end of a retry topic. So an event that fails holds its place in the sidecar for tryFor,
// and for the move, which takes 10 seconds at most.
// The program subscribes to the retry topic with another such wrapper, which tries longer.
// An event from the retry topic returns to the end of that topic until it is handled. Each
// return is published once. [Client.PublishTwice] applies to the first move.
//
// The handler calls the wrapped handler again while that returns StatusRetry without
// [Outcome.MoveNow], with growing pauses of up to a second. The context of these calls ends
// after tryFor. The tries go on when the sidecar breaks off the delivery. Otherwise the
// event would wait for the broker's redelivery. A panic ends the tries: see [Handler].
//
// After a move the outcome is StatusSuccess, with the error of the wrapped handler. If the
// event can't be moved, the outcome is that of the wrapped handler, and the sidecar delivers
// the event again. An event that a person sent (see [Subscribe]) is tried and not moved.
//
// tryFor should be shorter than the time after which the broker delivers the event again. The
// retry topic should have a component of its own: some components bound the events in flight
// over all their topics.
//
// The error says that a field of the Topic is missing, or that tryFor is not positive.
func Retries(to Topic, tryFor time.Duration) (func(Handler) Handler, error) {
	if err := to.check(); err != nil {
		return nil, err
	}
	if tryFor <= 0 {
		return nil, fmt.Errorf("daprhttp: an event can't be tried for %v", tryFor)
	}
	return func(next Handler) Handler {
		return func(ctx context.Context, e Event) Outcome {
			o := try(ctx, e, next, tryFor)
			switch {
			case !o.isRetry() || e.byHand:
				return o
			case e.raw == nil:
				return Retry(errNotDelivered)
			}
			topic := to
			if e.deliveredBy == [2]string{to.PubsubName, to.Name} {
				topic = to.publishingOnce()
			}
			err := topic.publish(ctx, e.raw)
			to.moved(ctx, e, err)
			if err != nil {
				return o
			}
			return Outcome{Status: StatusSuccess, Err: o.Err}
		}
	}, nil
}

// try calls a handler until another try is of no use, or tryFor is over.
func try(ctx context.Context, e Event, next Handler, tryFor time.Duration) Outcome {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tryFor)
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		o := next(ctx, e)
		if !o.isRetry() || o.MoveNow {
			return o
		}
		select {
		case <-ctx.Done():
			return o
		case <-time.After(pause):
		}
	}
}
