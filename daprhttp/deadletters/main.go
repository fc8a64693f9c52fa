// Command deadletters keeps the letters of a dead-letter topic in files, until a person
// sends them again or drops them. It uses only its Dapr sidecar, and so works with any
// broker.
//
//	deadletters serve OrderPlaced-dead-letter OrderPlaced
//	                           keep the letters of the first topic; send them to
//	                           the second
//	deadletters list           list the letters and their reasons
//	deadletters send ID…|all   send letters again, under the same event id
//	deadletters drop ID…|all   delete letters
//
// A subscriber that applies each event once recognises a duplicate for some time: the
// inventory service for MARKER_TTL after it applied the event. An older event may be applied
// twice. The event of a letter may have been applied: a copy may have been sent before, or
// the subscriber's answer may have been lost. Check that before you send an old event.
//
// While it serves, curl can do the same:
//
//	GET    /letters              list
//	GET    /letters/{id}         the letter, unchanged
//	POST   /letters/{id}/send    send again
//	DELETE /letters/{id}         drop
//	GET    /healthz
//	GET    /metrics
//
// It reads these environment variables, with their defaults in brackets:
//
//	PORT; if not set, APP_PORT                   the port on which it listens (5004)
//	APP_HOST                                     the interface on which it listens (127.0.0.1)
//	DAPR_HTTP_ENDPOINT; if not, DAPR_HTTP_PORT   its sidecar (3504)
//	DAPR_API_TOKEN                               the token that it sends to the sidecar
//	APP_API_TOKEN                                the token of every request but GET /healthz, /metrics
//	PUBSUB_NAME                                  the pub/sub component (pubsub)
//	SUBSCRIPTION_METADATA                        metadata of its subscription: name=value,…
//	DEAD_LETTERS_DIR                             the folder of the files (dead-letters)
//	PUBLISH_TWICE                                true: publish each letter twice
//	LOG_FORMAT                                   text, or json (text)
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/web"
)

func main() {
	web.Main("deadletters", func(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
		return run(ctx, os.Args[1:], getenv, stdout)
	})
}

var errUsage = errors.New("usage: deadletters serve DEAD-LETTER-TOPIC TOPIC | list | send ID…|all | drop ID…|all")

func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	env := web.NewEnv(getenv)
	server := remote{url: "http://" + env.Addr(5004), token: env.Secret("APP_API_TOKEN")}
	switch {
	case len(args) == 3 && args[0] == "serve":
		return serve(ctx, args[1], args[2], getenv, stdout)
	case env.Err() != nil:
		return env.Err()
	case len(args) == 1 && args[0] == "list":
		return server.list(ctx, stdout)
	case len(args) > 1 && args[0] == "send":
		return server.each(ctx, args[1:], "POST", "/send", "sent again", stdout)
	case len(args) > 1 && args[0] == "drop":
		return server.each(ctx, args[1:], "DELETE", "", "dropped", stdout)
	default:
		return errUsage
	}
}

// serve keeps letters until ctx is done.
func serve(ctx context.Context, deadLetterTopic, topic string, getenv func(string) string, stdout io.Writer) error {
	s, addr, err := newService(deadLetterTopic, topic, getenv, stdout)
	if err != nil {
		return err
	}
	handler, err := s.handler()
	if err != nil {
		return err
	}
	ln, err := web.Listen(addr)
	if err != nil {
		return err
	}
	return web.Run(ctx, ln, handler, s.log, "dead-letters", "keeps what comes to "+deadLetterTopic+" in "+s.kept.dir)
}

// newService returns the service that the environment describes, and its address.
func newService(deadLetterTopic, topic string, getenv func(string) string, stdout io.Writer) (s *service, addr string, err error) {
	env := web.NewEnv(getenv)
	addr = env.Addr(5004)
	sidecar, err := daprhttp.ClientFromEnv(getenv, 3504)
	env.Fail(err)
	sidecar.PublishTwice = env.Flag("PUBLISH_TWICE")
	s = &service{
		sidecar:         sidecar,
		pubsubName:      env.Name("PUBSUB_NAME", "pubsub"),
		deadLetterTopic: deadLetterTopic,
		subscription:    env.Pairs("SUBSCRIPTION_METADATA"),
		topic:           topic,
		appToken:        env.Secret("APP_API_TOKEN"),
		log:             web.NewLogger(stdout, env.OneOf("LOG_FORMAT", "text", "json")),
	}
	if err := env.Err(); err != nil {
		return nil, "", err
	}
	s.subscription[daprhttp.MetadataRawPayload] = "true" // a letter need not be a CloudEvent
	if s.kept, err = openFolder(env.Text("DEAD_LETTERS_DIR", "dead-letters")); err != nil {
		return nil, "", fmt.Errorf("DEAD_LETTERS_DIR must be a folder in which files can be written: %w", err)
	}
	return s, addr, nil
}
