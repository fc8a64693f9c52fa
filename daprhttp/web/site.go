package web

import (
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strings"
)

// RefuseOtherSites returns a handler that answers 403 to what a page of another site makes a
// browser send. Any other request goes to next.
//
// By [http.CrossOriginProtection], it refuses a request that changes data. Requests with GET,
// HEAD or OPTIONS pass: the browser does not show the answer to such a page. A CloudEvent
// passes even with a header Origin: the metadata of a message becomes headers of its delivery.
// A browser sends this content type to another site only after asking that site.
//
// The owner of a site can make its name resolve to this machine (DNS rebinding), and the
// browser then takes the service for a part of that site. So a request that arrives at a
// loopback address is refused if its header Host is a name with a dot.
func RefuseOtherSites(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		WriteError(w, http.StatusForbidden, "a page of another site may not send this")
	}))
	protected := protection.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case isRebound(r):
			WriteError(w, http.StatusForbidden, "the header Host must be an IP address or a name without a dot (such as localhost)")
		case IsCloudEvent(r.Header):
			next.ServeHTTP(w, r)
		default:
			protected.ServeHTTP(w, r)
		}
	})
}

// isRebound reports whether a request for a name that another site can have arrived at a
// loopback address.
func isRebound(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = strings.Trim(r.Host, "[]") // without a port
	}
	return local != nil && local.IP.IsLoopback() && strings.Contains(host, ".") && net.ParseIP(host) == nil
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
