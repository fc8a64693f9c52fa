package daprhttp

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestRequireAppToken(t *testing.T) {
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
		passed := false
		RequireAppToken(tt.token, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			passed = true
			w.WriteHeader(204)
		})).ServeHTTP(w, r)
		if w.Code != tt.want || passed != (tt.want == 204) {
			t.Errorf("token %q, sent %q: got %d, passed %t, want %d", tt.token, tt.sent, w.Code, passed, tt.want)
		}
	}
}

func TestTokenIsSentToTheSidecar(t *testing.T) {
	c, s := answering(204, nil, "")
	c.APIToken = "secret"
	if err := c.DeleteState(t.Context(), "s", StateItem{Key: "k"}); err != nil || s.Requests()[0].Header.Get("dapr-api-token") != "secret" {
		t.Errorf("error %v, requests %v", err, requests(s))
	}
}
