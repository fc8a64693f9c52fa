package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/daprtest"
	"example.com/dapr-orders/daprhttp/web"
)

// A fixture is the program beside a sidecar in memory.
type fixture struct {
	*service
	daprd *daprtest.Sidecar
	dir   string
	url   string
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{dir: t.TempDir(), daprd: new(daprtest.Sidecar)}
	kept, err := openFolder(f.dir)
	must(t, err)
	f.service = &service{
		kept: kept, sidecar: &daprhttp.Client{HTTPClient: f.daprd.Client()}, pubsubName: "pubsub",
		deadLetterTopic: "orders-dead", subscription: map[string]string{daprhttp.MetadataRawPayload: "true"},
		topic: "orders", log: web.NewLogger(io.Discard, "text"),
	}
	f.daprd.App, err = f.handler()
	must(t, err)
	server := httptest.NewServer(f.daprd.App)
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// deliver delivers a letter.
func (f *fixture) deliver(t *testing.T, letter string) {
	t.Helper()
	d, err := f.daprd.Deliver(t.Context(), daprtest.Message{Topic: "orders-dead", Event: []byte(letter)})
	must(t, err)
	if d.Status != "SUCCESS" {
		t.Fatalf("the delivery was answered %s", d.Body)
	}
}

// command runs the program as a person does.
func (f *fixture) command(args ...string) (string, error) {
	var out bytes.Buffer
	getenv := func(name string) string {
		if name == "PORT" {
			return f.url[strings.LastIndex(f.url, ":")+1:]
		}
		return ""
	}
	err := run(context.Background(), args, getenv, &out)
	return out.String(), err
}

func (f *fixture) ids(t *testing.T) (ids []string) {
	letters, err := f.kept.list()
	must(t, err)
	for _, l := range letters {
		ids = append(ids, l.id)
	}
	return ids
}

const (
	event  = `{"data":{"itemId":"broken","quantity":1},"id":"e1","source":"order-service","specversion":"1.0","topic":"orders","type":"t"}`
	reason = `,"deadletterreason":"the stored value is damaged","deadlettertopic":"orders","deadletterapp":"inventory"}`
)

func TestLetterIsSentAgainUnchanged(t *testing.T) {
	is := is.New(t)
	f := newFixture(t)
	f.deliver(t, event) // moved by the sidecar
	f.deliver(t, strings.TrimSuffix(event, "}")+reason)
	f.deliver(t, strings.TrimSuffix(event, "}")+reason) // delivered again
	f.deliver(t, event)
	is.Equal(len(f.ids(t)), 1)
	id := f.ids(t)[0]

	out, err := f.command("list")
	is.NoErr(err)
	is.True(strings.Contains(out, id))
	is.True(strings.Contains(out, "the stored value is damaged"))
	is.True(strings.Contains(out, `{"itemId":"broken","quantity":1}`))

	out, err = f.command("send", id)
	is.NoErr(err)
	is.Equal(out, id+" sent again\n")
	is.Equal(f.published(), []string{"pubsub orders " + event})
	is.Equal(len(f.ids(t)), 0)
	out, err = f.command("list")
	is.NoErr(err)
	is.Equal(out, "no dead letters\n")
	_, err = f.command("send", id)
	is.Equal(err.Error(), id+": there is no such letter")
}

// When a sidecar moves an event in binary mode, the attributes are in the headers.
func TestBinaryLetterIsSentAgainAsTheSameEvent(t *testing.T) {
	is := is.New(t)
	f := newFixture(t)
	d, err := f.daprd.Deliver(t.Context(), daprtest.Message{Topic: "orders-dead", Event: []byte(`{"n":1}`), Metadata: map[string]string{
		"ce_specversion": "1.0", "ce_id": "b1", "ce_source": "pos", "ce_ext": "kept", "rawPayload": "true",
	}})
	must(t, err)
	is.Equal(d.Status, "SUCCESS")
	out, err := f.command("list")
	is.NoErr(err)
	is.True(strings.Contains(out, " b1 "))
	_, err = f.command("send", "all")
	is.NoErr(err)
	is.Equal(f.published(), []string{"pubsub orders " +
		`{"data":{"n":1},"ext":"kept","id":"b1","source":"pos","specversion":"1.0"}`})
}

// A letter that can't be kept is delivered again, and logged.
func TestLetterThatIsTooLongIsNotLost(t *testing.T) {
	is := is.New(t)
	f := newFixture(t)
	var log bytes.Buffer
	f.log = web.NewLogger(&log, "text")
	h, err := f.handler()
	must(t, err)
	for contentType, want := range map[string]int{"application/cloudevents+json": 500, "application/json": 413} {
		r := httptest.NewRequest("POST", "/letters/deliver", strings.NewReader(`{"specversion":"1.0","id":"big","source":"s","data":"`+strings.Repeat("x", maxLetterBytes)+`"}`))
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		is.Equal(w.Code, want)
	}
	is.Equal(strings.Count(log.String(), "Failed to keep a dead letter."), 2)
	is.Equal(len(f.ids(t)), 0)
}

func TestAllLettersAreDropped(t *testing.T) {
	is := is.New(t)
	f := newFixture(t)
	f.deliver(t, event)
	f.deliver(t, strings.Replace(event, `"e1"`, `"e2"`, 1))
	f.deliver(t, strings.Replace(event, `:1}`, `:2}`, 1)) // the same id with other data
	f.deliver(t, "\x00\xff not an event")
	is.Equal(len(f.ids(t)), 4)
	out, err := f.command("drop", "all")
	is.NoErr(err)
	is.Equal(strings.Count(out, "dropped\n"), 4)
	is.Equal(len(f.ids(t)), 0)
	is.Equal(len(f.published()), 0)
}

func TestMessageThatIsNotAnEventIsSentUnchanged(t *testing.T) {
	is := is.New(t)
	f := newFixture(t)
	f.deliver(t, "\x00 not an event")
	out, err := f.command("list")
	is.NoErr(err)
	is.True(strings.Contains(out, "it is not a CloudEvent"))
	is.True(!strings.Contains(out, "\x00"))
	_, err = f.command("send", "all")
	is.NoErr(err)
	is.Equal(f.published(), []string{"pubsub orders \x00 not an event"})
}

func TestLetterThatIsNotSentIsKept(t *testing.T) {
	is := is.New(t)
	f := newFixture(t)
	f.deliver(t, event)
	f.answer(500, func() {})
	_, err := f.command("send", "all")
	is.True(strings.Contains(err.Error(), "sidecar answered 500"))
	is.Equal(len(f.ids(t)), 1)
	// The second letter has only the beginning of its event.
	f.deliver(t, `{"data":"begin","deadlettersize":5000000,"id":"e9","source":"s","specversion":"1.0","type":"t"}`)
	f.answer(0, func() {})
	out, err := f.command("send", "all")
	is.True(strings.Contains(err.Error(), "only the beginning of its 5000000 bytes is kept"))
	is.Equal(strings.Count(out, "sent again"), 1)
	is.Equal(len(f.ids(t)), 1)
}

// An event that fails again may come back while it is being sent.
func TestLetterThatComesBackAtOnceIsKept(t *testing.T) {
	is := is.New(t)
	f := newFixture(t)
	f.deliver(t, event)
	again := func() { f.deliver(t, event) }
	f.answer(0, again)
	_, err := f.command("send", "all")
	is.NoErr(err)
	is.Equal(len(f.ids(t)), 1)
	f.answer(500, again)
	_, err = f.command("send", "all")
	is.True(err != nil)
	is.Equal(len(f.ids(t)), 1)
}

// A program that was killed may leave a letter half written or half sent.
func TestFolderIsRepaired(t *testing.T) {
	is := is.New(t)
	dir := t.TempDir()
	for _, name := range []string{"a.letter", "b.sending", "c.letter", "c.sending", "d.123.part"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
	}
	f, err := openFolder(dir)
	must(t, err)
	letters, err := f.list()
	must(t, err)
	is.Equal(len(letters), 3)
	entries, err := os.ReadDir(dir)
	must(t, err)
	is.Equal(len(entries), 3)
	_, err = f.read("d")
	is.True(errors.Is(err, errNoLetter))
}

func TestLetterThatCannotBeKeptIsDeliveredAgain(t *testing.T) {
	is := is.New(t)
	f := newFixture(t)
	must(t, os.RemoveAll(f.dir))
	d, err := f.daprd.Deliver(t.Context(), daprtest.Message{Topic: "orders-dead", Event: []byte(event)})
	must(t, err)
	is.Equal(d.Status, "RETRY")
}

func TestStrangersAreRefused(t *testing.T) {
	f := newFixture(t)
	f.deliver(t, event)
	id := f.ids(t)[0]
	f.appToken = "secret"
	h, err := f.handler()
	must(t, err)
	for _, tt := range []struct {
		header, value string
		want          int
	}{
		{"dapr-api-token", "wrong", 401},
		{"sec-fetch-site", "cross-site", 403},
	} {
		for _, request := range []string{"DELETE /letters/all", "POST /letters/" + id + "/send", "POST /letters/deliver"} {
			method, path, _ := strings.Cut(request, " ")
			r := httptest.NewRequest(method, path, nil)
			r.Header.Set("dapr-api-token", "secret")
			r.Header.Set(tt.header, tt.value)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Errorf("%s with %s %s: got %d, want %d", request, tt.header, tt.value, w.Code, tt.want)
			}
		}
	}
	if len(f.ids(t)) != 1 || len(f.published()) > 0 {
		t.Error("a request of a stranger took effect")
	}
}

func TestListDescribesLetters(t *testing.T) {
	is := is.New(t)
	f := newFixture(t)
	f.deliver(t, event)
	resp, err := http.Get(f.url + "/letters")
	must(t, err)
	defer resp.Body.Close()
	var got []map[string]any
	must(t, json.NewDecoder(resp.Body).Decode(&got))
	is.Equal(got[0]["eventId"], "e1")
	is.Equal(got[0]["source"], "order-service")
	is.Equal(got[0]["reason"], "unknown: a sidecar moved it; see the log of the subscriber")
	shown, err := http.Get(f.url + "/letters/" + f.ids(t)[0])
	must(t, err)
	defer shown.Body.Close()
	body, _ := io.ReadAll(shown.Body)
	is.Equal(string(body), event)
}

// figure returns the number of letters in the answer to GET /metrics.
func (f *fixture) figure(t *testing.T) string {
	t.Helper()
	resp, err := http.Get(f.url + "/metrics")
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	_, figure, _ := strings.Cut(string(body), "\ndead_letters ")
	return strings.TrimSpace(figure)
}

// GET /metrics needs no token, and must be fast with a million letters too.
func TestMetricsDoNotReadTheFolder(t *testing.T) {
	is := is.New(t)
	f := newFixture(t)
	other := strings.Replace(event, `"e1"`, `"e2"`, 1)
	f.deliver(t, event)
	f.deliver(t, event)
	f.deliver(t, other)
	is.Equal(f.figure(t), "2")
	f.answer(500, func() {})
	_, err := f.command("send", "all")
	is.True(err != nil)
	is.Equal(f.figure(t), "2")
	f.answer(0, func() { f.deliver(t, event); f.deliver(t, other) })
	_, err = f.command("send", f.ids(t)[0])
	is.NoErr(err)
	is.Equal(f.figure(t), "2")
	_, err = f.command("drop", f.ids(t)[0])
	is.NoErr(err)
	is.Equal(f.figure(t), "1")
	is.Equal(len(f.ids(t)), 1)
	again, err := openFolder(f.dir)
	must(t, err)
	is.Equal(again.size(), 1)

	must(t, os.RemoveAll(f.dir))
	is.Equal(f.figure(t), "1") // the folder is not read
}

func TestListShowsInvisibleCharacters(t *testing.T) {
	is := is.New(t)
	f := newFixture(t)
	f.deliver(t, strings.NewReplacer("e1", "e\u202e1", "broken", "bro\u2028\u200bken").Replace(event))
	out, err := f.command("list")
	is.NoErr(err)
	is.True(strings.Contains(out, `e\u202e1`))
	is.True(strings.Contains(out, `bro\u2028\u200bken`))
	is.True(!strings.ContainsAny(out, "\u202e\u2028\u200b"))
}

func TestFolderMustBeWritable(t *testing.T) {
	is := is.New(t)
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		getenv := func(name string) string { return map[string]string{"DEAD_LETTERS_DIR": dir}[name] }
		err := run(t.Context(), []string{"serve", "a", "b"}, getenv, io.Discard)
		is.True(err != nil)
		is.True(strings.HasPrefix(err.Error(), "DEAD_LETTERS_DIR must be a folder"))
	}
}

func TestUsage(t *testing.T) {
	is := is.New(t)
	f := newFixture(t)
	for _, args := range [][]string{nil, {"serve"}, {"serve", "a"}, {"send"}, {"drop"}, {"list", "x"}, {"help"}} {
		_, err := f.command(args...)
		is.Equal(err, errUsage)
	}
}
