package web

import (
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
		if IsCloudEvent(r) {
			h = next
		}
		h.ServeHTTP(w, r)
	})
}

// IsCloudEvent reports whether the body of a request is a CloudEvent in JSON, as its
// content type says. A sidecar delivers every event so.
func IsCloudEvent(r *http.Request) bool {
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return mediaType == "application/cloudevents+json"
}
