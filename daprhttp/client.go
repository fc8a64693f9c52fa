package daprhttp

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"example.com/dapr-orders/daprhttp/web"
)

// defaultEndpoint is the URL of a sidecar with Dapr's default port.
const defaultEndpoint = "http://127.0.0.1:3500"

// A Client calls the Dapr HTTP API of one sidecar. The zero value calls the
// sidecar at http://127.0.0.1:3500. Its methods may be called by many goroutines at
// once; its fields must not change after the first call.
//
// Every method returns an error that wraps an [*Error] when the sidecar
// answers with a status other than 2xx, even if the answer can't be read. Other errors are
// those of the connection, of an argument that can't be sent, or of an answer that can't be
// read. A call that failed may still have taken effect.
type Client struct {
	// Endpoint is the URL of the sidecar's HTTP API, without "/v1.0".
	// Empty means http://127.0.0.1:3500.
	Endpoint string

	// APIToken is sent in the header "dapr-api-token" when it is not empty.
	// See https://docs.dapr.io/operations/security/api-token/.
	APIToken string

	// Timeout bounds a call, from the connection to the last byte of the answer.
	// Zero means 10 seconds. An earlier deadline of the call's context wins. With
	// PublishTwice, Publish makes two calls.
	Timeout time.Duration

	// MaxResponseBytes bounds the body of an answer in bytes. A longer one is an error.
	// Zero means 16 MiB.
	MaxResponseBytes int64

	// PublishTwice lets Publish publish each message two times, one after the other.
	// It is for a component that may report success for a message that the broker never
	// confirmed. Subscribers must recognise duplicates. A Message without an ID gets one; a
	// CloudEvent in its Data must have an id.
	PublishTwice bool

	// HTTPClient sends the requests. Nil means a client that all Clients share,
	// which keeps connections open for reuse.
	HTTPClient *http.Client
}

// sharedHTTPClient keeps as many idle connections to the sidecar as a busy service has calls
// under way; http.DefaultClient keeps two. It uses no proxy, because the sidecar runs on the
// same machine. It follows no redirect, which would send the token to another server.
var sharedHTTPClient = &http.Client{
	Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConns:        256,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     90 * time.Second,
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// ClientFromEnv returns a Client for the sidecar that the environment names. Its
// URL is that in DAPR_HTTP_ENDPOINT. If that is not set, it is 127.0.0.1 with the
// port in DAPR_HTTP_PORT, which `dapr run` sets, or with defaultPort. The token
// comes from DAPR_API_TOKEN. getenv is usually [os.Getenv].
//
// The error names the wrong variables and the values that they may have. It shows
// neither the token nor a password in the URL. The Client is never nil, so that a program
// can set fields before it checks the error.
func ClientFromEnv(getenv func(string) string, defaultPort int) (*Client, error) {
	env := web.NewEnv(getenv)
	c := &Client{APIToken: env.Secret("DAPR_API_TOKEN"), Endpoint: env.URL("DAPR_HTTP_ENDPOINT", defaultEndpoint)}
	if getenv("DAPR_HTTP_ENDPOINT") == "" {
		c.Endpoint = fmt.Sprintf("http://127.0.0.1:%d", env.Port(defaultPort, "DAPR_HTTP_PORT"))
	}
	return c, env.Err()
}

// An Error is the sidecar's answer to a call that failed. Find it with [errors.As].
//
// See https://docs.dapr.io/reference/api/error_codes/.
type Error struct {
	StatusCode int    // HTTP status
	ErrorCode  string // such as "ERR_PUBSUB_NOT_FOUND"; empty when the answer was not Dapr's JSON
	Message    string // Dapr's message, or the beginning of the answer's body; empty when it can't be read
}

// Error returns the three fields on one line. Invisible characters are escaped.
func (e *Error) Error() string {
	text := fmt.Sprintf("sidecar answered %d", e.StatusCode)
	if e.ErrorCode != "" {
		text += " " + e.ErrorCode
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	return web.Visible(text)
}

// newError reads Dapr's error JSON, {"errorCode":…,"message":…}. It keeps another
// body, such as a proxy's page, as text.
func newError(status int, body []byte) *Error {
	e := &Error{StatusCode: status}
	var answer struct {
		ErrorCode string `json:"errorCode"`
		Message   string `json:"message"`
	}
	if err := json.Unmarshal(body, &answer); err == nil {
		e.ErrorCode, e.Message = answer.ErrorCode, answer.Message
	}
	if e.ErrorCode == "" && e.Message == "" {
		const most = 512
		e.Message = strings.ToValidUTF8(string(body[:min(len(body), most)]), "")
	}
	return e
}

// A request is one call of the sidecar's API.
type request struct {
	method      string
	path        string // escaped, from "/v1.0/" on
	query       url.Values
	contentType string
	ifMatch     string // ETag
	body        []byte
}

// An answer is the sidecar's answer with a status of 2xx.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do makes one call.
func (c *Client) do(ctx context.Context, r request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, 10*time.Second))
	defer cancel()

	target := strings.TrimSuffix(cmp.Or(c.Endpoint, defaultEndpoint), "/") + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(r.body))
	if err != nil {
		return answer{}, fmt.Errorf("daprhttp: %w", err)
	}
	setNotEmpty(req.Header, "Content-Type", r.contentType)
	setNotEmpty(req.Header, "If-Match", r.ifMatch)
	setNotEmpty(req.Header, tokenHeader, c.APIToken)
	// A gateway that compresses an answer removes its ETag.
	req.Header.Set("Accept-Encoding", "identity")
	setTrace(ctx, req.Header)

	resp, err := cmp.Or(c.HTTPClient, sharedHTTPClient).Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("daprhttp: %w", err) // a *url.Error, which names method and URL
	}
	defer resp.Body.Close()
	body, err := c.readBody(resp)
	switch refused := resp.StatusCode/100 != 2; {
	case refused && err != nil:
		err = fmt.Errorf("%w: %w", &Error{StatusCode: resp.StatusCode}, err)
	case refused:
		err = newError(resp.StatusCode, body)
	}
	if err != nil {
		return answer{}, fmt.Errorf("daprhttp: %s %s: %w", r.method, r.path, err)
	}
	return answer{resp.StatusCode, resp.Header, body}, nil
}

func (c *Client) readBody(resp *http.Response) ([]byte, error) {
	if encoding := strings.Join(resp.Header.Values("Content-Encoding"), ", "); encoding != "" && encoding != "identity" {
		return nil, fmt.Errorf("a gateway before the sidecar has encoded the answer with %q, although the request accepts only identity", encoding)
	}
	most := cmp.Or(c.MaxResponseBytes, 16<<20)
	body, err := io.ReadAll(io.LimitReader(resp.Body, max(most, most+1)))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the answer: %w", err)
	case int64(len(body)) > most:
		return nil, fmt.Errorf("the answer is longer than %d bytes", most)
	}
	return body, nil
}

// doJSON makes a call whose body is v as JSON.
func (c *Client) doJSON(ctx context.Context, r request, v any) (answer, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return answer{}, fmt.Errorf("daprhttp: %s %s: %w", r.method, r.path, err)
	}
	r.body, r.contentType = body, "application/json"
	return c.do(ctx, r)
}

// metadataQuery returns metadata as query parameters, "metadata.<name>=<value>".
func metadataQuery(metadata map[string]string) url.Values {
	query := make(url.Values, len(metadata))
	for name, value := range metadata {
		query.Set("metadata."+name, value)
	}
	return query
}

// segment returns text as one segment of a URL's path. A sidecar decodes "+" as a
// space, even in a path.
func segment(text string) string {
	return strings.ReplaceAll(url.PathEscape(text), "+", "%2B")
}

// setNotEmpty sets a header or a query parameter, unless the value is empty.
func setNotEmpty(in interface{ Set(name, value string) }, name, value string) {
	if value != "" {
		in.Set(name, value)
	}
}
