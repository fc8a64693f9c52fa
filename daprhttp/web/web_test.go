package web

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matryer/is"
)

func TestReadObject(t *testing.T) {
	is := is.New(t)
	status := func(err error) int {
		w := httptest.NewRecorder()
		WriteBodyError(w, err)
		return w.Code
	}
	o, err := ReadObject(httptest.NewRequest("POST", "/", strings.NewReader(`{"n":1}`)), 7)
	is.NoErr(err)
	is.True(o.Has("n"))

	rest := strings.NewReader(`{"n":1} ` + strings.Repeat("x", 1<<20))
	_, err = ReadObject(httptest.NewRequest("POST", "/", rest), 7)
	is.Equal(status(err), 413)
	is.Equal(rest.Len(), 0) // read to its end, so that the sender sees the answer

	_, err = ReadObject(httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader("1"), broken{})), 5)
	is.Equal(status(err), 400)
	_, err = ReadObject(httptest.NewRequest("POST", "/", strings.NewReader("[]")), 5)
	is.Equal(status(err), 400)
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestObject(t *testing.T) {
	is := is.New(t)
	o, err := DecodeObject([]byte(`{"key":"a\\ud800 \ud83d\ude00","n":5,"none":null,"empty":"","Key":"b","escape":"\\\\u\\ud83d"}`))
	is.NoErr(err)
	is.True(o.Has("key"))
	is.True(!o.Has("KEY"))
	is.True(!o.Has("none"))
	for field, want := range map[string]string{"key": `a\ud800 😀`, "none": "", "missing": "", "empty": "", "escape": `\\u\ud83d`} {
		got, err := o.Text(field, anyText)
		is.NoErr(err)
		is.Equal(got, want)
	}
	n, err := o.Integer("n", 100)
	is.NoErr(err)
	is.Equal(n, int64(5))
	for _, field := range []string{"none", "missing"} {
		n, err := o.Integer(field, 100)
		is.NoErr(err)
		is.Equal(n, int64(0))
	}
}

func anyText(string) error { return nil }

// The error names the field and the rule.
func TestObjectRefusesValuesThatBreakARule(t *testing.T) {
	const text, number = `{"text":%s}`, `{"number":%s}`
	for _, tt := range []struct {
		form, wantError string
		values          []string
	}{
		{"%s", "the body is not valid JSON", []string{
			``, ` `, `{`, `{"text":"a"`, `{"text":"a"}{}`, `{"text":"a"} x`, `{'text':'a'}`, `text=a&number=1`, `<text/>`, "{\"text\":\"a\nb\"}",
		}},
		{number, "the body is not valid JSON", []string{`01`, `+1`, `NaN`, `0x10`}},
		{"%s", "the body must be a JSON object", []string{`null`, `[]`, `[{"text":"a"}]`, `"text"`, `10`, `true`}},
		{text, "the body is not valid UTF-8", []string{"\"\xff\"", "\"\xed\xa0\x80\""}},
		{text, "text must be a string", []string{`1`, `["a"]`, `{"a":"b"}`, `false`}},
		{text, "text must be valid Unicode", []string{`"\ud800"`, `"\udc00\ud800"`, `"\\\ud83d!"`}},
		{text, "text must not be checked", []string{`"checked"`, `"\u0063hecked"`}},
		{number, "number must be a number", []string{`"10"`, `true`, `[1]`, `{}`}},
		{number, "number must not be negative", []string{`-1`, `-9223372036854775809`}},
		{number, "number must be an integer", []string{`1.5`, `1e2`, `1.0`, `-0.5`}},
		{number, "number must not be greater than 9007199254740991", []string{`9007199254740992`, `9223372036854775808`, `1` + strings.Repeat("0", 400)}},
	} {
		for _, value := range tt.values {
			o, err := DecodeObject([]byte(strings.ReplaceAll(tt.form, "%s", value)))
			if err == nil {
				_, err1 := o.Text("text", func(text string) error {
					if text == "checked" {
						return errors.New("must not be checked")
					}
					return nil
				})
				_, err2 := o.Integer("number", 1<<53-1)
				err = errors.Join(err1, err2)
			}
			if err == nil || !strings.HasPrefix(err.Error(), tt.wantError) {
				t.Errorf("%.80s: got %v, want %s", value, err, tt.wantError)
			}
		}
	}
}

// Dapr takes an incomplete answer for success, so that an answer must leave the program in
// one write.
func TestAnswerLeavesInOneWrite(t *testing.T) {
	is := is.New(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	counted := &countingListener{Listener: ln}
	go func() {
		_ = Serve(t.Context(), counted, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			WriteJSON(w, 200, map[string]string{"a": strings.Repeat("x", 1900)})
		}), time.Second)
	}()
	resp, err := http.Get("http://" + ln.Addr().String())
	is.NoErr(err)
	body, err := io.ReadAll(resp.Body)
	is.NoErr(err)
	is.NoErr(resp.Body.Close())
	is.Equal(resp.ContentLength, int64(len(body)))
	is.Equal(counted.writes.Load(), int64(1))
}

// A countingListener counts the writes to its connections.
type countingListener struct {
	net.Listener
	writes atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return countingConn{conn, l}, err
}

type countingConn struct {
	net.Conn
	l *countingListener
}

func (c countingConn) Write(b []byte) (int, error) {
	c.l.writes.Add(1)
	return c.Conn.Write(b)
}

func TestServeReportsUnfinishedRequests(t *testing.T) {
	is := is.New(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	ctx, stop := context.WithCancel(t.Context())
	hang := make(chan struct{})
	defer close(hang)
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stop(); <-hang })
	go func() { _, _ = http.Get("http://" + ln.Addr().String()) }()
	err = Serve(ctx, ln, h, time.Millisecond)
	is.True(errors.Is(err, context.DeadlineExceeded))
	is.True(strings.Contains(err.Error(), "still under way"))
}

func TestServeReportsAFailedListener(t *testing.T) {
	is := is.New(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	is.NoErr(ln.Close())
	is.True(Serve(t.Context(), ln, http.NotFoundHandler(), time.Second) != nil)
}

// The server closes the connections of silent clients, and answers other clients.
func TestServeOutlastsSlowClients(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			if err != nil {
				w.WriteHeader(http.StatusRequestTimeout)
			}
		}), time.Second)
	}()
	beginnings := []string{
		"", // never a byte
		"POST / HTTP/1.1\r\nHost: x\r\nA-Header-That-Never-",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\na body that never",
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", // no second request
	}
	var slow []net.Conn
	for i := range maxConnections {
		conn, err := net.Dial("tcp", ln.Addr().String())
		is.NoErr(err)
		defer conn.Close()
		_, err = io.WriteString(conn, beginnings[i%len(beginnings)])
		is.NoErr(err)
		slow = append(slow, conn)
	}
	resp, err := (&http.Client{Timeout: time.Minute}).Get("http://" + ln.Addr().String())
	is.NoErr(err)
	is.NoErr(resp.Body.Close())
	is.Equal(resp.StatusCode, 200)
	for _, conn := range slow { // the server closes every one of them
		is.NoErr(conn.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err := io.Copy(io.Discard, conn)
		var timeout net.Error
		is.True(!errors.As(err, &timeout) || !timeout.Timeout())
	}
	stop()
	is.NoErr(<-ended)
}

// The metadata of a message becomes headers of its delivery.
func TestServeTakesHeadersAsLongAsAMessage(t *testing.T) {
	is := is.New(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	go func() { _ = Serve(t.Context(), ln, http.NotFoundHandler(), time.Second) }()
	for bytes, want := range map[int]int{4 << 20: http.StatusNotFound, 6 << 20: http.StatusRequestHeaderFieldsTooLarge} {
		req, err := http.NewRequest("GET", "http://"+ln.Addr().String(), nil)
		is.NoErr(err)
		req.Header.Set("X", strings.Repeat("x", bytes))
		resp, err := http.DefaultClient.Do(req)
		is.NoErr(err)
		is.NoErr(resp.Body.Close())
		is.Equal(resp.StatusCode, want)
	}
}
