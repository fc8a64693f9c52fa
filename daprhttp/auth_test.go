package daprhttp

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/matryer/is"
)

func TestRequireAppToken(t *testing.T) {
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) })
	for _, tt := range []struct {
		token string
		sent  []string
		want  int
	}{
		{"", nil, 204},
		{"", []string{"any"}, 204},
		{"secret", nil, 401},
		{"secret", []string{""}, 401},
		{"secret", []string{"secre"}, 401},
		{"secret", []string{"secret "}, 401},
		{"secret", []string{"wrong", "secret"}, 401},
		{"secret", []string{"secret"}, 204},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header["Dapr-Api-Token"] = tt.sent
		w := httptest.NewRecorder()
		RequireAppToken(tt.token, next).ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("token %q, sent %q: got %d, want %d", tt.token, tt.sent, w.Code, tt.want)
		}
	}
}

func TestTraceID(t *testing.T) {
	is := is.New(t)
	is.Equal(TraceID("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), "0af7651916cd43dd8448eb211c80319c")
	for _, none := range []string{"", "x", "00-0af7-b7ad-01", strings.Repeat("-", 60)[:3]} {
		is.Equal(TraceID(none), "")
	}
}
