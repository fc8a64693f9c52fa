package web

import "net/http"

// RefuseOtherSites returns a handler that answers 403 to what a browser sends from a
// page of another site, and hands all else to next. Reading with GET is not refused:
// the browser keeps the answer from such a page.
//
// See [http.CrossOriginProtection].
func RefuseOtherSites(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		WriteError(w, http.StatusForbidden, "a page of another site may not send this")
	}))
	return protection.Handler(next)
}
