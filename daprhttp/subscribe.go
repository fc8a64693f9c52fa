package daprhttp

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// A Subscription asks the sidecar to deliver the events of one topic to one
// route of the program.
//
// See https://docs.dapr.io/reference/api/pubsub_api/#provide-a-route-for-dapr-to-discover-topic-subscriptions.
type Subscription struct {
	PubsubName string `json:"pubsubname"`
	Topic      string `json:"topic"`

	// Route is the path to which events are POSTed. Where Routes is set it
	// stands for Routes.Default.
	Route  string  `json:"route,omitempty"`
	Routes *Routes `json:"routes,omitempty"`

	// DeadLetterTopic takes the events that were answered with StatusDrop, or
	// whose retries have run out. Without it they are gone.
	DeadLetterTopic string `json:"deadLetterTopic,omitempty"`

	BulkSubscribe *BulkSubscribe    `json:"bulkSubscribe,omitempty"`
	Metadata      map[string]string `json:"metadata,omitempty"` // such as MetadataRawPayload
}

// Routes sends events to paths by what is in them.
//
// See https://docs.dapr.io/developing-applications/building-blocks/pubsub/howto-route-messages/.
type Routes struct {
	Rules   []Rule `json:"rules,omitempty"` // the first that matches is taken
	Default string `json:"default,omitempty"`
}

// A Rule sends the events that match to a path.
type Rule struct {
	Match string `json:"match"` // in CEL, such as `event.type == "OrderPlaced"`
	Path  string `json:"path"`
}

// BulkSubscribe asks for many events with one request.
//
// See https://docs.dapr.io/developing-applications/building-blocks/pubsub/pubsub-bulk/.
type BulkSubscribe struct {
	Enabled            bool `json:"enabled"`
	MaxMessagesCount   int  `json:"maxMessagesCount,omitempty"`
	MaxAwaitDurationMs int  `json:"maxAwaitDurationMs,omitempty"`
}

// MetadataFromEnv returns the metadata of subscriptions that the environment names, such
// as SUBSCRIPTION_METADATA="queueType=quorum", with commas between several. What there
// is, the reference of each pub/sub component says. getenv is usually [os.Getenv].
//
// The error says what the variable may hold.
func MetadataFromEnv(getenv func(string) string) (map[string]string, error) {
	const name = "SUBSCRIPTION_METADATA"
	metadata := make(map[string]string)
	if getenv(name) == "" {
		return metadata, nil
	}
	for pair := range strings.SplitSeq(getenv(name), ",") {
		key, value, found := strings.Cut(strings.TrimSpace(pair), "=")
		if !found || key == "" {
			return nil, fmt.Errorf("%s is %q: it must be names and values, such as name=value,other=value", name, getenv(name))
		}
		metadata[key] = value
	}
	return metadata, nil
}

// SubscribeHandler returns the handler of GET /dapr/subscribe, which a sidecar
// calls when it starts to learn what the program subscribes to.
func SubscribeHandler(subscriptions ...Subscription) http.Handler {
	if subscriptions == nil {
		subscriptions = []Subscription{} // a program that subscribes to nothing says [], not null
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, subscriptions)
	})
}

// Status is what a subscriber answers to a delivery, in the field "status" of a
// JSON object sent with HTTP status 200.
//
// Dapr takes any other answer with a 2xx for StatusSuccess, a 404 for
// StatusDrop, and all else for StatusRetry.
//
// See https://docs.dapr.io/reference/api/pubsub_api/#expected-http-response.
type Status string

const (
	StatusSuccess Status = "SUCCESS" // done: the event is not delivered again
	StatusRetry   Status = "RETRY"   // not done: deliver it again, as the resiliency policy says
	StatusDrop    Status = "DROP"    // can't be done: to the dead-letter topic, where there is one
)

// tokenHeader carries both tokens: the program's to the sidecar, and the
// sidecar's to the program.
const tokenHeader = "dapr-api-token"

// RequireAppToken returns a handler that lets a request through to next only if
// its header "dapr-api-token" holds token, and answers 401 otherwise. A program
// passes it APP_API_TOKEN, which the sidecar knows too and sends with every
// request. An empty token lets everything through.
//
// See https://docs.dapr.io/operations/security/app-api-token/.
func RequireAppToken(token string, next http.Handler) http.Handler {
	if token == "" {
		return next
	}
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Hashes have one length, so that the time of the comparison tells
		// nothing, not even how long the token is.
		got := sha256.Sum256([]byte(r.Header.Get(tokenHeader)))
		if subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
			writeJSON(w, http.StatusUnauthorized, failure{"the header dapr-api-token must hold the token in APP_API_TOKEN"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// failure is the answer to what is not let through.
type failure struct {
	Error string `json:"error"`
}

// callerHeader says, in a request that came by service invocation from another app,
// which one: the sidecar that the caller used has put it there. What a sidecar
// delivers, and what its own program sends through it, does not have it.
const callerHeader = "dapr-caller-app-id"

// RequireCaller returns a handler that lets a request through to next unless it came
// by service invocation from an app whose ID is not among appIDs, and answers that
// with 403. A route for deliveries admits none but the program's own app ID:
// whoever invokes a program has its token put on the request by the program's own
// sidecar, so that the token of [RequireAppToken] tells nothing of who it is.
//
// That name is as good as what the sidecars know of each other: with mTLS nobody can
// borrow it; without, whoever is let to run a sidecar with that ID can.
//
// See https://docs.dapr.io/reference/api/service_invocation_api/.
func RequireCaller(appIDs []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, caller := range r.Header.Values(callerHeader) {
			if !slices.Contains(appIDs, caller) {
				writeJSON(w, http.StatusForbidden, failure{fmt.Sprintf("the app %q may not do this by service invocation", caller)})
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
