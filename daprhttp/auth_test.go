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
		path  string
		want  int
	}{
		{"", nil, "/", 204},
		{"", []string{"any"}, "/", 204},
		{"secret", nil, "/", 401},
		{"secret", []string{""}, "/", 401},
		{"secret", []string{"secre"}, "/", 401},
		{"secret", []string{"secret "}, "/", 401},
		{"secret", []string{"wrong", "secret"}, "/", 401},
		{"secret", []string{"secret"}, "/", 204},
		{"secret", nil, "/open", 204},
		{"secret", nil, "/open/", 401},
		{"secret", nil, "/x/../open", 401},
	} {
		r := httptest.NewRequest("POST", tt.path, nil)
		r.Header["Dapr-Api-Token"] = tt.sent
		w := httptest.NewRecorder()
		passed := false
		RequireAppToken(tt.token, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			passed = true
			w.WriteHeader(204)
		}), "/open").ServeHTTP(w, r)
		if w.Code != tt.want || passed != (tt.want == 204) {
			t.Errorf("%+v: got %d, passed %t", tt, w.Code, passed)
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
