package daprhttp

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"

	"example.com/dapr-orders/daprhttp/web"
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
			web.WriteError(w, http.StatusUnauthorized, "the header dapr-api-token must hold the token in APP_API_TOKEN")
			return
		}
		next.ServeHTTP(w, r)
	})
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
				web.WriteError(w, http.StatusForbidden, fmt.Sprintf("the app %q may not do this by service invocation", caller))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
