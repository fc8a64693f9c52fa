package web

import (
	"log/slog"
	"mime"
	"net/http"
)

// RefuseOtherSites returns a handler that answers 403 to a request that a browser sends from
// a page of another site. Any other request goes to next. Requests with GET, HEAD or OPTIONS
// pass: the browser does not show the answer to such a page.
//
// A CloudEvent passes with any headers, because the publisher of an event chooses headers of
// its delivery. A browser sends this content type to another site only after asking that
// site.
//
// See [http.CrossOriginProtection].
func RefuseOtherSites(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		WriteError(w, http.StatusForbidden, "a page of another site may not send this")
	}))
	protected := protection.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if IsCloudEvent(r.Header) {
			next.ServeHTTP(w, r)
		} else {
			protected.ServeHTTP(w, r)
		}
	})
}

// IsCloudEvent reports whether a request has the content type application/cloudevents+json,
// with which a sidecar delivers every event.
//
// See https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md#32-structured-content-mode.
func IsCloudEvent(h http.Header) bool {
	mediaType, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return mediaType == "application/cloudevents+json"
}

// LogRefused returns a handler that hands each request to next and logs path and status of
// each CloudEvent that next answers with a status from 400 to 499. The sidecar delivers such
// an event again or drops it, and does not tell the publisher.
func LogRefused(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &statusWriter{w, http.StatusOK}
		next.ServeHTTP(seen, r)
		if IsCloudEvent(r.Header) && 400 <= seen.status && seen.status < 500 {
			log.Info("Refused a delivery.", "path", r.URL.EscapedPath(), "status", seen.status)
		}
	})
}

// A statusWriter keeps the status that it passes on.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}
