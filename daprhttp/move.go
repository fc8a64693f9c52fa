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

	// Moved is told of each event that was published to the topic, or, with an error,
	// was not. It may be nil.
	Moved func(ctx context.Context, e Event, err error)
}

func (t Topic) check() error {
	if t.Sidecar == nil || t.PubsubName == "" || t.Name == "" {
		return errors.New("daprhttp: Sidecar, PubsubName and Name of a Topic must be set")
	}
	return nil
}

// moveTime bounds how long it takes to move an event.
const moveTime = 10 * time.Second

// publish publishes the body of an event to the topic as it is. It goes on when the
// delivery that brought the event has been broken off.
func (t Topic) publish(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), moveTime)
	defer cancel()
	return t.Sidecar.Publish(ctx, t.PubsubName, t.Name, Message{Data: body, Raw: true})
}

// around returns the topic for events that it delivered itself. It publishes them once,
// whatever PublishTwice says: twice, an event becomes one more each time that it goes round.
// Once is enough here, because the sidecar publishes and acknowledges over one connection to
// the broker. If that breaks before the broker has the new event, the broker gets no
// acknowledgement either, and delivers the old event again.
func (t Topic) around() Topic {
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

// Retries returns a wrapper whose handler tries each event for some time and then moves
// it to the end of a retry topic, so that events which can't be handled now hold up no
// others. The program subscribes to the retry topic with another such wrapper, which
// tries longer. An event goes round there until it is handled, published once each time,
// whatever [Client.PublishTwice] says.
//
// The wrapped handler is called again and again, with growing pauses of up to a second,
// while it returns StatusRetry. The context of its calls ends after tryFor, and not when
// the delivery is broken off: another replica would get the event much later. When the
// event can't be moved, the outcome is the handler's, so that the sidecar delivers the
// event again. Events that a person sent are tried and not moved.
//
// The retry topic is best one of a component of its own, since some components share
// among their topics how many events are delivered at the same time.
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
			if !o.again() || e.byHand {
				return o
			}
			topic := to
			if e.deliveredBy == [2]string{to.PubsubName, to.Name} {
				topic = to.around()
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

// try calls a handler until the outcome is not StatusRetry, or the time is over.
func try(ctx context.Context, e Event, next Handler, tryFor time.Duration) Outcome {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tryFor)
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		o := next(ctx, e)
		if !o.again() {
			return o
		}
		select {
		case <-ctx.Done():
			return o
		case <-time.After(pause):
		}
	}
}
