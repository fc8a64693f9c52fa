package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp/daprtest"
)

// A fixture is the program, which serves next to a sidecar in memory.
type fixture struct {
	is    *is.I
	daprd *daprtest.Sidecar
	env   map[string]string
	log   bytes.Buffer
}

// start starts the program with settings: names of environment variables and their values.
func start(t *testing.T, settings ...string) *fixture {
	t.Helper()
	f := &fixture{
		is: is.New(t), daprd: &daprtest.Sidecar{AppAPIToken: "secret"},
		env: map[string]string{"APP_API_TOKEN": "secret", "DEAD_LETTERS_DIR": t.TempDir()},
	}
	for i := 0; i < len(settings); i += 2 {
		f.env[settings[i]] = settings[i+1]
	}
	s, _, err := newService("orders-dead", "orders", f.getenv, &f.log)
	f.is.NoErr(err)
	s.sidecar.HTTPClient = f.daprd.Client()
	f.daprd.App, err = s.handler()
	f.is.NoErr(err)
	server := httptest.NewServer(f.daprd.App)
	t.Cleanup(server.Close)
	f.env["PORT"] = server.URL[len("http://127.0.0.1:"):]
	return f
}

func (f *fixture) getenv(name string) string { return f.env[name] }

// command runs the program as a person does.
func (f *fixture) command(args ...string) (string, error) {
	var out bytes.Buffer
	err := run(context.Background(), args, f.getenv, &out)
	return out.String(), err
}

// do makes a request with headers.
func (f *fixture) do(method, path, body string, header http.Header) *httptest.ResponseRecorder {
	r, w := httptest.NewRequest(method, path, strings.NewReader(body)), httptest.NewRecorder()
	maps.Copy(r.Header, header)
	f.daprd.App.ServeHTTP(w, r)
	return w
}

var (
	token    = http.Header{"Dapr-Api-Token": {"secret"}}
	delivery = http.Header{"Dapr-Api-Token": {"secret"}, "Content-Type": {"application/cloudevents+json"}}
)

// deliver delivers a letter, and returns what the answer means.
func (f *fixture) deliver(letter string) (status string) {
	d, err := f.daprd.Deliver(context.Background(), daprtest.Message{Topic: "orders-dead", Event: []byte(letter)})
	f.is.NoErr(err)
	return d.Status
}

// list returns the letters that are kept.
func (f *fixture) list() (letters []map[string]any) {
	f.is.NoErr(json.Unmarshal(f.do("GET", "/letters", "", token).Body.Bytes(), &letters))
	return letters
}

// answer sets the status of the answers to publish requests; 0 means success. Each request
// calls meanwhile before the answer.
func (f *fixture) answer(status int, meanwhile func()) {
	f.daprd.Fault = func(daprtest.Request) daprtest.Fault {
		meanwhile()
		return daprtest.Fault{Status: status}
	}
}

// published returns the component, the topic and the event of each message.
func (f *fixture) published() (all []string) {
	for _, m := range f.daprd.Published() {
		all = append(all, m.PubsubName+" "+m.Topic+" "+string(m.Event))
	}
	return all
}

const (
	event  = `{"data":{"itemId":"broken","quantity":1},"id":"e1","source":"order-service","specversion":"1.0","topic":"orders","type":"t"}`
	reason = `,"deadletterreason":"the stored value is damaged","deadlettertopic":"orders","deadletterapp":"inventory"}`
)

func TestLetterIsSentAgainUnchanged(t *testing.T) {
	f := start(t)
	is := f.is
	f.deliver(event) // moved by the sidecar
	f.deliver(strings.TrimSuffix(event, "}") + reason)
	f.deliver(strings.TrimSuffix(event, "}") + strings.Replace(reason, "damaged", "gone", 1)) // the first reason stays
	is.Equal(f.deliver(event), "SUCCESS")
	is.Equal(len(f.list()), 1)
	id := f.list()[0]["id"].(string)
	files, err := os.ReadDir(f.env["DEAD_LETTERS_DIR"])
	is.NoErr(err)
	is.Equal(len(files), 1)

	out, err := f.command("list")
	is.NoErr(err)
	is.True(strings.Contains(out, id))
	is.True(strings.Contains(out, "the stored value is damaged"))
	is.True(strings.Contains(out, `{"itemId":"broken","quantity":1}`))

	out, err = f.command("send", id)
	is.NoErr(err)
	is.Equal(out, id+" sent again\n")
	is.Equal(f.published(), []string{"pubsub orders " + event})
	out, err = f.command("list")
	is.NoErr(err)
	is.Equal(out, "no dead letters\n")
	_, err = f.command("send", id)
	is.Equal(err.Error(), id+": there is no such letter")
	for _, typed := range []string{"LETTER1", "../letters?"} {
		_, err = f.command("send", typed)
		is.Equal(err.Error(), typed+": there is no such letter")
	}
	log := f.log.String()
	is.Equal(strings.Count(log, `eventId="e1" Kept a dead letter. id=`+id+"\n"), 1)
	is.True(strings.Contains(log, `eventId="e1" Sent a dead letter again. id=`+id+", topic=orders\n"))
}

// When a sidecar moves an event in binary mode, the attributes are in the headers.
func TestBinaryLetterIsSentAgainAsTheSameEvent(t *testing.T) {
	f := start(t, "PUBLISH_TWICE", "true", "PUBSUB_NAME", "broker")
	is := f.is
	d, err := f.daprd.Deliver(t.Context(), daprtest.Message{
		PubsubName: "broker", Topic: "orders-dead", Event: []byte(`{"n":1}`),
		Metadata: map[string]string{"ce_specversion": "1.0", "ce_id": "b1", "ce_source": "pos", "ce_ext": "kept", "rawPayload": "true"},
	})
	is.NoErr(err)
	is.Equal(d.Status, "SUCCESS")
	_, err = f.command("send", "all")
	is.NoErr(err)
	const sent = `broker orders {"data":{"n":1},"ext":"kept","id":"b1","source":"pos","specversion":"1.0"}`
	is.Equal(f.published(), []string{sent, sent})
}

func TestMessageThatIsNotAnEventIsSentUnchanged(t *testing.T) {
	f := start(t)
	f.deliver("\x00 not an event")
	out, err := f.command("list")
	f.is.NoErr(err)
	f.is.True(strings.Contains(out, "it is not a CloudEvent"))
	f.is.True(!strings.Contains(out, "\x00"))
	_, err = f.command("send", "all")
	f.is.NoErr(err)
	f.is.Equal(f.published(), []string{"pubsub orders \x00 not an event"})
}

// A letter that can't be kept is delivered again, and logged.
func TestLetterThatCannotBeKeptIsDeliveredAgain(t *testing.T) {
	f := start(t)
	long := `{"specversion":"1.0","id":"big","source":"s","data":"` + strings.Repeat("x", maxLetterBytes) + `"}`
	f.is.Equal(f.do("POST", "/letters/deliver", long, delivery).Code, 500)
	f.is.Equal(f.do("POST", "/letters/deliver", "{}", token).Code, 400) // by hand
	f.is.Equal(len(f.list()), 0)
	f.is.Equal(f.deliver(long[:len(long)/100]+`"}`), "SUCCESS")
	f.is.NoErr(os.RemoveAll(f.env["DEAD_LETTERS_DIR"]))
	f.is.Equal(f.deliver(event), "RETRY")
	f.is.Equal(strings.Count(f.log.String(), "Failed to keep a dead letter."), 3)
}

func TestAllLettersAreDropped(t *testing.T) {
	f := start(t)
	f.deliver(event)
	f.deliver(strings.Replace(event, `,`, `, `, 1)) // the same
	f.deliver(strings.Replace(event, `"e1"`, `"e2"`, 1))
	f.deliver(strings.Replace(event, `order-service`, `another`, 1))
	f.deliver(strings.Replace(event, `:1}`, `:2}`, 1)) // the same id with other data
	f.deliver("\x00\xff not an event")
	f.is.Equal(len(f.list()), 5)
	out, err := f.command("drop", "all")
	f.is.NoErr(err)
	f.is.Equal(strings.Count(out, "dropped\n"), 5)
	f.is.Equal(len(f.list()), 0)
	f.is.Equal(len(f.published()), 0)
	f.is.Equal(strings.Count(f.log.String(), "Dropped a dead letter. id="), 5)
}

func TestLetterThatIsNotSentIsKept(t *testing.T) {
	f := start(t)
	is := f.is
	f.deliver(event)
	f.answer(500, func() {})
	_, err := f.command("send", "all")
	is.True(strings.Contains(err.Error(), "sidecar answered 500"))
	is.Equal(len(f.list()), 1)
	// Each request is for one letter: one for all would take too long when they are many.
	for id, want := range map[string]int{f.list()[0]["id"].(string): 500, "aaaaaaaaaaaaaaaa": 404, "all": 404} {
		is.Equal(f.do("POST", "/letters/"+id+"/send", "", token).Code, want)
	}
	// The second letter has only the beginning of its event.
	f.deliver(`{"data_base64":"YmVnaW4=","datacontenttype":"application/octet-stream","deadletterapp":"a","deadletterreason":"too long",` +
		`"deadlettersize":5000000,"deadlettertopic":"orders","id":"e9","source":"s","specversion":"1.0","topic":"orders","type":"t"}`)
	f.answer(0, func() {})
	out, err := f.command("send", "all")
	is.True(strings.HasSuffix(err.Error(), ": only the beginning of its 5000000 bytes is kept: its publisher must send it again"))
	is.Equal(strings.Count(out, "sent again"), 1)
	is.Equal(f.list()[0]["eventId"], "e9")
}

// An event that fails again may come back while it is being sent, even twice.
func TestLetterThatComesBackAtOnceIsKept(t *testing.T) {
	for _, status := range []int{0, 500} {
		f := start(t)
		f.deliver(event)
		id := f.list()[0]["id"].(string)
		f.answer(status, func() {
			_, err := f.command("send", id)
			f.is.Equal(err.Error(), id+": the letter is being sent already")
			f.deliver(event)
			f.deliver(strings.TrimSuffix(event, "}") + reason)
		})
		_, err := f.command("send", "all")
		f.is.Equal(err == nil, status == 0)
		f.is.Equal(f.list()[0]["reason"], "the stored value is damaged")
		f.answer(0, func() {})
		_, err = f.command("send", "all")
		f.is.NoErr(err)
		f.is.Equal(len(f.list()), 0)
		f.is.Equal(strings.Count(f.log.String(), "Kept a dead letter."), 2)
	}
}

// A program that was killed may leave a letter half written.
func TestFolderIsRepaired(t *testing.T) {
	is := is.New(t)
	dir := filepath.Join(t.TempDir(), "made")
	f, err := openFolder(dir)
	is.NoErr(err)
	is.Equal(f.count, 0)
	made, err := os.Stat(dir)
	is.NoErr(err)
	is.True(runtime.GOOS == "windows" || made.Mode().Perm() == 0o700)
	a, b := strings.Repeat("a", 16), strings.Repeat("b", 16)
	for _, name := range []string{b + ".letter", a + ".letter", "copy of " + a + ".letter", a + ".123.part", "123.part", "film.mkv.part", a + ".x.part"} {
		is.NoErr(os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
	}
	is.NoErr(os.MkdirAll(filepath.Join(dir, a+".456.part", "full"), 0o700)) // of another program
	is.NoErr(os.Chtimes(filepath.Join(dir, b+".letter"), time.Time{}, time.Unix(1, 0)))
	f, err = openFolder(dir)
	is.NoErr(err)
	is.Equal(f.size(), 2)
	letters, err := f.list()
	is.NoErr(err)
	is.Equal(letters[0].id+letters[1].id, b+a) // the oldest first
	entries, err := os.ReadDir(dir)
	is.NoErr(err)
	is.Equal(len(entries), 7) // without the part of a letter
	_, err = f.read(strings.Repeat("d", 16))
	is.True(errors.Is(err, errNoLetter))
}

func TestWrongSettingsAreReported(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := start(t)
	for _, tt := range []struct{ name, value, want string }{
		{"DEAD_LETTERS_DIR", file, "DEAD_LETTERS_DIR must be a folder in which files can be written: "},
		{"DEAD_LETTERS_DIR", filepath.Join(file, "below"), "DEAD_LETTERS_DIR must be a folder in which files can be written: "},
		{"APP_HOST", "192.0.2.1", "listen tcp 192.0.2.1:5004: "}, // no address of this machine; the default port
		{"DAPR_HTTP_PORT", "x", `DAPR_HTTP_PORT is "x": it must be `},
		{"PUBSUB_NAME", "a b", `PUBSUB_NAME is "a b": it must be `},
	} {
		f.env = map[string]string{"DEAD_LETTERS_DIR": t.TempDir(), tt.name: tt.value}
		_, err := f.command("serve", "a", "b")
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s=%s: got %v, want %s", tt.name, tt.value, err, tt.want)
		}
	}
}

func TestStrangersAreRefused(t *testing.T) {
	f := start(t)
	f.deliver(event)
	for _, request := range []string{"DELETE /letters/aaaaaaaaaaaaaaaa", "POST /letters/aaaaaaaaaaaaaaaa/send", "POST /letters/deliver"} {
		method, path, _ := strings.Cut(request, " ")
		f.is.Equal(f.do(method, path, "", nil).Code, 401)
		f.is.Equal(f.do(method, path, "", http.Header{"Dapr-Api-Token": {"secret"}, "Sec-Fetch-Site": {"cross-site"}}).Code, 403)
	}
	f.is.Equal(len(f.list()), 1)
	f.is.Equal(len(f.published()), 0)
	f.do("POST", "/letters/deliver", event, http.Header{"Content-Type": {"application/cloudevents+json"}})
	f.env["APP_API_TOKEN"] = "wrong"
	_, err := f.command("drop", "all")
	f.is.True(strings.Contains(err.Error(), "the header dapr-api-token must hold the token in APP_API_TOKEN"))
	f.env["APP_API_TOKEN"] = "wrong "
	_, err = f.command("list")
	f.is.True(strings.HasPrefix(err.Error(), "APP_API_TOKEN must be"))
	f.is.True(strings.Contains(f.log.String(), "Refused a delivery. path=/letters/deliver, status=401\n"))
}

func TestListDescribesLetters(t *testing.T) {
	f := start(t)
	is := f.is
	long := strings.Replace(event, "broken", "bro\u2028\u200bken"+strings.Repeat("é", 200), 1)
	f.deliver(strings.Replace(long, "e1", "e\u202e1", 1))
	got := f.list()[0]
	is.Equal(got["eventId"], "e\u202e1")
	is.Equal(got["source"], "order-service")
	is.Equal(got["reason"], "unknown: a sidecar moved it; see the log of the subscriber")
	is.True(strings.HasPrefix(got["data"].(string), "{\"itemId\":\"bro\u2028\u200bkené"))
	is.Equal(len(got["data"].(string)), 199+len("\uFFFD")) // 200 bytes, the last of them half a character
	shown := f.do("GET", "/letters/"+got["id"].(string), "", token)
	is.Equal(shown.Body.String(), strings.Replace(long, "e1", "e\u202e1", 1))
	is.Equal(shown.Header().Get("Content-Type"), "application/octet-stream")
	for _, id := range []string{"aaaaaaaaaaaaaaaa", "..%2F" + filepath.Base(f.env["DEAD_LETTERS_DIR"]) + "%2F" + got["id"].(string)} {
		is.Equal(f.do("GET", "/letters/"+id, "", token).Code, 404)
	}

	f.deliver(strings.Replace(strings.TrimSuffix(long, "}")+reason, "damaged", "dam\u202eaged", 1))
	out, err := f.command("list")
	is.NoErr(err)
	for _, text := range []string{`e\u202e1`, `bro\u2028\u200bken`, `dam\u202eaged`} {
		is.True(strings.Contains(out, text))
	}
	is.True(!strings.ContainsAny(out, "\u202e\u2028\u200b"))
}

// A letter that can't be read is not hidden. A copy of it may still come.
func TestLetterThatCannotBeReadIsListed(t *testing.T) {
	f := start(t)
	is := f.is
	f.deliver(event)
	path := filepath.Join(f.env["DEAD_LETTERS_DIR"], f.list()[0]["id"].(string)+letterSuffix)
	is.NoErr(os.Remove(path))
	is.NoErr(os.Mkdir(path, 0o700))
	out, err := f.command("list")
	is.NoErr(err)
	is.True(strings.Contains(out, "the letter can't be read: "))
	is.NoErr(os.Remove(path))
	if err := os.Symlink(path, path); err != nil {
		t.Skip(err) // Windows may refuse it
	}
	f.deliver(event)
	is.Equal(len(f.list()), 1)
	is.True(strings.Contains(f.do("GET", "/metrics", "", nil).Body.String(), "\ndead_letters 1\n"))
}

// GET /metrics needs no token, and must be fast with a million letters too.
func TestMetricsDoNotReadTheFolder(t *testing.T) {
	f := start(t)
	counted := func(want string) {
		t.Helper()
		_, figure, _ := strings.Cut(f.do("GET", "/metrics", "", nil).Body.String(), "\ndead_letters ")
		f.is.Equal(strings.TrimSpace(figure), want)
	}
	other := strings.Replace(event, `"e1"`, `"e2"`, 1)
	f.deliver(event)
	f.deliver(event)
	f.deliver(other)
	f.deliver(strings.TrimSuffix(event, "}") + reason)
	counted("2")
	f.answer(500, func() {})
	_, err := f.command("send", "all")
	f.is.True(err != nil)
	counted("2")
	f.answer(0, func() { f.deliver(event); f.deliver(other) })
	_, err = f.command("send", f.list()[0]["id"].(string))
	f.is.NoErr(err)
	counted("2")
	_, err = f.command("drop", f.list()[0]["id"].(string))
	f.is.NoErr(err)
	counted("1")
	f.is.NoErr(os.RemoveAll(f.env["DEAD_LETTERS_DIR"]))
	counted("1")
	f.is.Equal(f.do("GET", "/healthz", "", nil).Code, 200)
}

func TestUsage(t *testing.T) {
	f := &fixture{}
	for _, args := range [][]string{nil, {"serve"}, {"serve", "a"}, {"send"}, {"drop"}, {"list", "x"}, {"help"}} {
		if _, err := f.command(args...); err != errUsage {
			t.Errorf("%q: got %v", args, err)
		}
	}
}

// Another method of a route is answered 405 and the methods that it has. Any request but
// those of the health check and the metrics needs the token first.
func TestWrongMethod(t *testing.T) {
	f := start(t)
	for request, want := range map[string]string{
		"POST /healthz": "GET, HEAD", "POST /metrics": "GET, HEAD", "PUT /letters": "GET, HEAD", "PUT /letters/a": "DELETE, GET, HEAD", "GET /letters/deliver/": "",
	} {
		method, path, _ := strings.Cut(request, " ")
		w := f.do(method, path, "", token)
		f.is.Equal(w.Header().Get("Allow"), want)
		f.is.Equal(w.Code == 405, want != "")
		if strings.HasPrefix(path, "/letters") {
			f.is.Equal(f.do(method, path, "", nil).Code, 401)
		}
	}
}

// No proxy gets the token: the command line reaches the program on this machine itself.
func TestCommandLineUsesNoProxy(t *testing.T) {
	proxied := 0
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { proxied++ }))
	defer proxy.Close()
	transport := http.DefaultTransport.(*http.Transport)
	before := transport.Proxy
	defer func() { transport.Proxy = before }()
	transport.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }
	for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0"} {
		f := start(t, "APP_HOST", host)
		out, err := f.command("list")
		f.is.NoErr(err)
		f.is.Equal(out, "no dead letters\n")
	}
	if proxied > 0 {
		t.Errorf("a proxy got %d requests", proxied)
	}
}
