package daprhttp

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"slices"

	"example.com/dapr-orders/daprhttp/web"
)

// tokenHeader carries DAPR_API_TOKEN to the sidecar and APP_API_TOKEN to the program.
const tokenHeader = "dapr-api-token"

// RequireAppToken returns a handler that passes a request to next if its header
// "dapr-api-token" holds token, and answers 401 otherwise. The token is that in
// APP_API_TOKEN, which the sidecar sends with every request. An empty token passes
// every request. A request to one of the open paths, such as "/healthz", needs no token.
//
// The token keeps out programs that call the service directly. It does not keep out other
// apps that have a sidecar: the program's own sidecar puts the token on each service
// invocation, whichever app makes it. Only accessControl in the Configuration of the
// program's sidecar refuses those. No header tells an invocation from a delivery.
//
// See https://docs.dapr.io/operations/security/app-api-token/.
func RequireAppToken(token string, next http.Handler, open ...string) http.Handler {
	if token == "" {
		return next
	}
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Hashes have the same length, so that the time of the comparison does
		// not tell the length of the token.
		got := sha256.Sum256([]byte(r.Header.Get(tokenHeader)))
		if subtle.ConstantTimeCompare(want[:], got[:]) != 1 && !slices.Contains(open, r.URL.Path) {
			web.WriteError(w, http.StatusUnauthorized, "the header dapr-api-token must hold the token in APP_API_TOKEN")
			return
		}
		next.ServeHTTP(w, r)
	})
}
