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

// The program takes its settings from the environment. A request under way gets its answer
// when the program stops.
func TestProgramFinishesRequestsWhenItStops(t *testing.T) {
	is := is.New(t)
	publishing, goOn := make(chan struct{}, 2), make(chan struct{})
	sidecar := &daprtest.Sidecar{APIToken: "sidecar's", Fault: func(daprtest.Request) daprtest.Fault {
		publishing <- struct{}{}
		<-goOn
		return daprtest.Fault{}
	}}
	server := httptest.NewServer(sidecar)
	defer server.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	addr := ln.Addr().String() // a free port
	ln.Close()
	env := map[string]string{
		"PORT": addr[len("127.0.0.1:"):], "DAPR_HTTP_ENDPOINT": server.URL, "DAPR_API_TOKEN": "sidecar's", "APP_API_TOKEN": "own",
		"PUBLISH_TWICE": "true", "LOG_FORMAT": "json",
	}
	logs, stdout := io.Pipe()
	lines := bufio.NewScanner(logs)
	logged := func(parts ...string) {
		t.Helper()
		is.True(lines.Scan())
		for _, part := range parts {
			is.True(strings.Contains(lines.Text(), part))
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, func(name string) string { return env[name] }, stdout) }()
	logged("order-service listens on http://"+addr+" and publishes through the sidecar at "+server.URL, `"level":"INFO"`)

	place := func(token string) int {
		r := httptest.NewRequest("POST", "http://"+addr+"/order", strings.NewReader(good))
		r.RequestURI = "" // a client's request
		r.Header.Set("dapr-api-token", token)
		r.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Error(err)
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	is.Equal(place("wrong"), 401)
	answered := make(chan int, 1)
	go func() { answered <- place("own") }()
	<-publishing
	stop()
	for err == nil { // until the program accepts no connection
		var conn net.Conn
		if conn, err = net.Dial("tcp", addr); err == nil {
			conn.Close()
		}
	}
	select {
	case err := <-ended:
		t.Fatalf("run returned (%v) with a request under way", err)
	case <-answered:
		t.Fatal("the request was answered before the sidecar had")
	default:
	}
	close(goOn)
	logged("Published OrderPlaced event.", `"traceId":"0af7651916cd43dd8448eb211c80319c"`, `"orderId":"o"`)
	is.Equal(<-answered, 200)
	logged("order-service has stopped")
	is.NoErr(<-ended)
	ids := eventIDs(t, sidecar)
	is.Equal(len(ids), 2) // PUBLISH_TWICE
	is.Equal(ids[0], ids[1])
}

// The error names every wrong variable, and shows no token. The rules are tested in packages
// web and daprhttp.
func TestWrongSettingsAreReported(t *testing.T) {
	is := is.New(t)
	env := map[string]string{
		"PORT": "http", "APP_HOST": "127.0.0.1:5002", "DAPR_HTTP_ENDPOINT": "localhost", "DAPR_API_TOKEN": "secret\n", "APP_API_TOKEN": "secret ",
		"PUBLISH_TWICE": "yes", "LOG_FORMAT": "JSON",
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
	is.True(strings.Contains(err.Error(), "192.0.2.1:5002")) // the default port
}
