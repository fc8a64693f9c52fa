package harness

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/stack"
)

// Content types of a delivery.
const (
	PlainJSON  = "application/json"
	EventsJSON = "application/cloudevents+json"
)

// An Answer is what came back for a request.
type Answer struct {
	Status int
	Body   string
}

// Send makes one request. It fails the test only if there is no answer at all.
func (s *System) Send(method, url, body string, header http.Header) Answer {
	s.T.Helper()
	a, err := s.TrySend(method, url, body, header)
	Must(s.T, err)
	return a
}

// TrySend makes one request, with the app's token unless the header has one. The error says
// that there was no answer.
func (s *System) TrySend(method, url, body string, header http.Header) (Answer, error) {
	req, err := http.NewRequestWithContext(s.T.Context(), method, url, strings.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	maps.Copy(req.Header, header)
	req.Host = header.Get("Host") // net/http does not send it from Header
	if _, given := req.Header["Dapr-Api-Token"]; s.AppAPIToken != "" && !given {
		req.Header.Set("dapr-api-token", s.AppAPIToken)
	}
	resp, err := Client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return Answer{resp.StatusCode, strings.TrimSpace(string(text))}, err
}

// Client makes the requests of all tests.
var Client = &http.Client{
	Timeout:   30 * time.Second,
	Transport: &http.Transport{MaxIdleConnsPerHost: 64},
}

// Invoke calls a method of an app through its own sidecar.
func (s *System) Invoke(app *stack.App, method, path, contentType, body string) Answer {
	s.T.Helper()
	return s.InvokeFrom(app, app, method, path, contentType, body, nil)
}

// InvokeFrom calls a method of an app through another app's sidecar.
func (s *System) InvokeFrom(from, to *stack.App, method, path, contentType, body string, header http.Header) Answer {
	s.T.Helper()
	all := http.Header{"Dapr-Api-Token": {s.DaprToken}}
	if contentType != "" {
		all.Set("Content-Type", contentType)
	}
	maps.Copy(all, header)
	return s.Send(method, from.DaprURL("/v1.0/invoke/"+to.ID+"/method"+path), body, all)
}

// Place places an order and demands that it is accepted.
func (s *System) Place(orderID, itemID string, quantity int) {
	s.T.Helper()
	body, err := json.Marshal(map[string]any{"orderId": orderID, "itemId": itemID, "quantity": quantity})
	Must(s.T, err)
	if a := s.Send("POST", s.Order.URL("/order"), string(body), nil); a.Status != http.StatusOK {
		s.T.Fatalf("POST /order %s: got %d %s, want 200", body, a.Status, a.Body)
	}
}

// SetStock sets the stock of an item.
func (s *System) SetStock(itemID string, quantity int) {
	s.T.Helper()
	a := s.Send("POST", s.Inventory[0].URL("/inventory/"+itemID), fmt.Sprintf(`{"quantity":%d}`, quantity), nil)
	if a.Status != http.StatusOK {
		s.T.Fatalf("POST /inventory/%s: got %d %s, want 200", itemID, a.Status, a.Body)
	}
}

// Stock returns the stock of an item.
func (s *System) Stock(itemID string) (quantity int, err error) {
	a, err := s.TrySend("GET", s.Inventory[0].URL("/inventory/"+itemID), "", nil)
	if err != nil {
		return 0, err
	}
	var stock struct{ Quantity int }
	if err := json.Unmarshal([]byte(a.Body), &stock); err != nil || a.Status != http.StatusOK {
		return 0, fmt.Errorf("GET /inventory/%s: got %d %s", itemID, a.Status, a.Body)
	}
	return stock.Quantity, nil
}

// WaitForStock waits until the stock of an item is as wanted.
func (s *System) WaitForStock(itemID string, want int) {
	s.T.Helper()
	WaitFor(s.T, 2*time.Minute, func() error {
		got, err := s.Stock(itemID)
		if err == nil && got != want {
			err = fmt.Errorf("the stock of %s is %d, want %d", itemID, got, want)
		}
		return err
	})
}

// Publish publishes an event through a sidecar.
func (s *System) Publish(app *stack.App, topic string, m daprhttp.Message) {
	s.T.Helper()
	Must(s.T, s.Sidecar(app).Publish(s.T.Context(), "pubsub", topic, m))
}

// Sidecar returns a client of an app's sidecar.
func (s *System) Sidecar(app *stack.App) *daprhttp.Client {
	return &daprhttp.Client{Endpoint: app.DaprURL(""), APIToken: s.DaprToken}
}

// Disguises are headers with which a caller may try to pass for the app's own sidecar. The app's
// sidecar removes the headers that Connection names, such as the one with the caller's name.
func Disguises(app *stack.App) []http.Header {
	const name = "dapr-caller-app-id"
	return []http.Header{
		nil,
		{"Dapr-Caller-App-Id": {app.ID}}, // says that it is another
		{"Connection": {name}},
		{"Connection": {"Dapr-Caller-App-Id"}},
		{"Connection": {strings.ToUpper(name)}},
		{"Connection": {"close, " + name}},
		{"Connection": {name + ",dapr-callee-app-id ,\tdapr-app-id"}},
		{"Connection": {"keep-alive", name}},
		{"Connection": {name, name}},
		{"Connection": {"te, proxy-authorization, keep-alive, " + name}, "Te": {"trailers"}, "Proxy-Authorization": {"Basic eA=="}, "Keep-Alive": {"timeout=5"}},
		{"Connection": {name}, "Dapr-Caller-App-Id": {app.ID}},
	}
}

// Metrics returns what is read at a URL, without the comments.
func (s *System) Metrics(url string) map[string]string {
	s.T.Helper()
	found := make(map[string]string)
	for line := range strings.Lines(s.Send("GET", url, "", nil).Body) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			found[name] = value
		}
	}
	return found
}
