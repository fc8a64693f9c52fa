package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp/daprtest"
)

func TestProgramTakesItsSettingsFromTheEnvironment(t *testing.T) {
	is := is.New(t)
	sidecar := &daprtest.Sidecar{APIToken: "sidecar's"}
	server := httptest.NewServer(sidecar)
	defer server.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	addr := ln.Addr().String() // a free port
	ln.Close()
	env := map[string]string{
		"PORT": addr[len("127.0.0.1:"):], "DAPR_HTTP_ENDPOINT": server.URL, "DAPR_API_TOKEN": "sidecar's", "APP_API_TOKEN": "own",
		"APP_ID": "stock-keeper", "STATE_CONSISTENCY": "default", "PUBLISH_TWICE": "true", "SUBSCRIPTION_METADATA": "queueType=quorum", "LOG_FORMAT": "json",
	}
	logs, stdout := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, func(name string) string { return env[name] }, stdout); stdout.Close() }()
	lines := bufio.NewScanner(logs)
	is.True(lines.Scan())
	is.True(strings.Contains(lines.Text(), `"msg":"inventory-service listens on http://`+addr+` and keeps its stock through the sidecar at `+server.URL))
	rest := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(logs)
		rest <- string(text)
	}()

	do := func(method, path, token, body string) (int, string) {
		r := httptest.NewRequest(method, "http://"+addr+path, strings.NewReader(body))
		r.RequestURI = "" // a client's request
		r.Header = http.Header{"Dapr-Api-Token": {token}, "Content-Type": {eventType}, "Traceparent": {trace}}
		resp, err := http.DefaultClient.Do(r)
		is.NoErr(err)
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		is.NoErr(err)
		return resp.StatusCode, string(answer)
	}
	status, _ := do("GET", "/dapr/subscribe", "wrong", "")
	is.Equal(status, 401)
	status, subscriptions := do("GET", "/dapr/subscribe", "own", "")
	is.Equal(status, 200)
	is.Equal(strings.Count(subscriptions, `"metadata":{"queueType":"quorum"}`), 2)
	status, _ = do("GET", "/inventory/item1", "own", "")
	is.Equal(status, 200)
	is.Equal(sidecar.Requests()[0].Query.Get("consistency"), "")
	do("POST", "/orders", "own", `{"specversion":"1.0","id":"e1","source":"s","traceparent":"`+trace+`","data":{"itemId":"item1","quantity":-1}}`)
	is.Equal(len(sidecar.Published()), 2) // PUBLISH_TWICE
	is.True(strings.Contains(string(sidecar.Published()[0].Event), `"deadletterapp":"stock-keeper"`))
	stop()
	is.NoErr(<-ended)
	text := <-rest
	is.True(strings.Contains(text, `"msg":"Refused OrderPlaced event.","eventId":"e1","traceId":"0af7651916cd43dd8448eb211c80319c"`))
	is.True(strings.Contains(text, `"msg":"inventory-service has stopped"`))
}

// The error names every wrong variable, and shows no token. The rules are tested in packages
// web and daprhttp.
func TestWrongSettingsAreReported(t *testing.T) {
	is := is.New(t)
	env := map[string]string{
		"PORT": "http", "APP_HOST": "[::1]", "DAPR_HTTP_ENDPOINT": "localhost", "DAPR_API_TOKEN": "secret\n", "APP_API_TOKEN": "secret ",
		"APP_ID": "a b", "MARKER_TTL": "0s", "STATE_CONSISTENCY": "weak", "PUBLISH_TWICE": "1", "SUBSCRIPTION_METADATA": "quorum", "LOG_FORMAT": "xml",
	}
	err := run(t.Context(), func(name string) string { return env[name] }, io.Discard)
	is.True(err != nil)
	is.Equal(strings.Count(err.Error(), "\n"), len(env)-1)
	for name := range env {
		is.True(strings.Contains(err.Error(), name+" "))
	}
	is.True(!strings.Contains(err.Error(), "secret"))

	env = map[string]string{"APP_HOST": "192.0.2.1"} // no address of this machine
	err = run(t.Context(), func(name string) string { return env[name] }, io.Discard)
	is.True(err != nil)
	is.True(strings.Contains(err.Error(), "192.0.2.1:5001")) // the default port
}
