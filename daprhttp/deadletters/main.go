// Command deadletters keeps what comes to a dead-letter topic, in files, until a
// person has looked at it and sends it again or drops it. It talks to its Dapr
// sidecar alone, so that it works with any broker.
//
//	deadletters serve OrderPlaced-dead-letter OrderPlaced
//	                           keep what comes to the first topic; what is sent
//	                           again goes to the second
//	deadletters list           show what is kept, with the reason
//	deadletters send ID…|all   send again, under the same event id
//	deadletters drop ID…|all   forget
//
// While it serves, the same can be had with curl:
//
//	GET    /letters                 list
//	GET    /letters/{id}            the event as it came
//	POST   /letters/{id|all}/send   send again
//	DELETE /letters/{id|all}        drop
//	GET    /healthz
//	GET    /metrics
//
// It reads these environment variables:
//
//	PORT, or else APP_PORT                       where it listens (5004)
//	APP_HOST                                     and on which interface (127.0.0.1)
//	DAPR_HTTP_ENDPOINT, or else DAPR_HTTP_PORT   its sidecar (3504)
//	DAPR_API_TOKEN                               sent to the sidecar
//	APP_API_TOKEN                                demanded of every request
//	APP_ID                                       its Dapr app ID (dead-letters)
//	PUBSUB_NAME                                  the pub/sub component (pubsub)
//	SUBSCRIPTION_METADATA                        what the broker is told of its subscription: name=value,…
//	DEAD_LETTERS_DIR                             the folder of the files (dead-letters)
//	PUBLISH_TWICE                                true: what is sent again
//	LOG_FORMAT                                   text, or json (text)
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/web"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "deadletters:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: deadletters serve DEAD-LETTER-TOPIC TOPIC | list | send ID…|all | drop ID…|all")

func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	addr, err := daprhttp.AppAddr(getenv, 5004)
	if err != nil {
		return err
	}
	service := remote{url: "http://" + addr, token: getenv("APP_API_TOKEN")}
	switch {
	case len(args) == 3 && args[0] == "serve":
		return serve(ctx, addr, args[1], args[2], getenv, stdout)
	case len(args) == 1 && args[0] == "list":
		return service.list(ctx, stdout)
	case len(args) > 1 && args[0] == "send":
		return service.each(ctx, args[1:], "POST", "/send", "sent again", stdout)
	case len(args) > 1 && args[0] == "drop":
		return service.each(ctx, args[1:], "DELETE", "", "dropped", stdout)
	default:
		return errUsage
	}
}

// serve keeps letters until ctx is done.
func serve(ctx context.Context, addr, deadLetterTopic, topic string, getenv func(string) string, stdout io.Writer) error {
	sidecar, err := daprhttp.ClientFromEnv(getenv, 3504)
	if err != nil {
		return err
	}
	if sidecar.PublishTwice, err = web.Flag(getenv, "PUBLISH_TWICE"); err != nil {
		return err
	}
	subscription, err := daprhttp.MetadataFromEnv(getenv)
	if err != nil {
		return err
	}
	// As it is: what is no event would not be delivered else.
	subscription[daprhttp.MetadataRawPayload] = "true"
	log, err := web.NewLogger(stdout, getenv("LOG_FORMAT"))
	if err != nil {
		return err
	}
	kept, err := openFolder(cmp.Or(getenv("DEAD_LETTERS_DIR"), "dead-letters"))
	if err != nil {
		return err
	}
	ln, err := web.Listen(addr)
	if err != nil {
		return err
	}
	s := &service{
		kept:            kept,
		sidecar:         sidecar,
		pubsubName:      cmp.Or(getenv("PUBSUB_NAME"), "pubsub"),
		deadLetterTopic: deadLetterTopic,
		subscription:    subscription,
		topic:           topic,
		appID:           cmp.Or(getenv("APP_ID"), "dead-letters"),
		appToken:        getenv("APP_API_TOKEN"),
		log:             log,
	}
	log.Info(fmt.Sprintf("dead-letters listens on http://%s and keeps what comes to %s in %s", ln.Addr(), deadLetterTopic, kept.dir))
	defer log.Info("dead-letters has stopped")
	return web.Serve(ctx, ln, s.handler(), 20*time.Second)
}
