package web

import (
	"log/slog"
	"mime"
	"net/http"
)

// RefuseOtherSites returns a handler that answers 403 to what a browser sends from a
// page of another site, and hands all else to next. Reading with GET is not refused:
// the browser keeps the answer from such a page.
//
// A CloudEvent passes whatever headers it has: a sidecar's delivery has headers that the
// publisher chose, and a browser sends no such content type to another site without
// asking that site first.
//
// See [http.CrossOriginProtection].
func RefuseOtherSites(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		WriteError(w, http.StatusForbidden, "a page of another site may not send this")
	}))
	protected := protection.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := protected
		if IsCloudEvent(r.Header) {
			h = next
		}
		h.ServeHTTP(w, r)
	})
}

// IsCloudEvent reports whether the header of a request says that its body is a CloudEvent in
// JSON. A sidecar delivers every event so.
func IsCloudEvent(h http.Header) bool {
	mediaType, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return mediaType == "application/cloudevents+json"
}

// LogRefused returns a handler that logs each CloudEvent that next answers with a status from
// 400 to 499. Nobody else sees that: the sidecar delivers such an event again and again, or
// drops it.
func LogRefused(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !IsCloudEvent(r.Header) {
			next.ServeHTTP(w, r)
			return
		}
		seen := &statusWriter{w, http.StatusOK}
		next.ServeHTTP(seen, r)
		if 400 <= seen.status && seen.status < 500 {
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
