package daprhttp

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"example.com/dapr-orders/daprhttp/web"
)

// decodeMessage reads an event in either mode of CloudEvents. In structured mode the body is
// the event. In binary mode the body is the data, and the headers are the attributes. A
// sidecar delivers the metadata of a broker's message as headers: ce_id and so on. Over HTTP
// they are ce-id and so on.
//
// See https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md#31-binary-content-mode
// and the bindings of the brokers next to it.
func decodeMessage(h http.Header, body []byte) (Event, error) {
	e, err := DecodeEvent(body)
	if err == nil || !isBinary(h) {
		return e, err
	}
	return DecodeEvent(structured(h, body))
}

func isBinary(h http.Header) bool {
	return cmp.Or(h.Get("ce-id"), h.Get("ce_id"), h.Get("ce-specversion"), h.Get("ce_specversion")) != ""
}

// structured returns an event of the binary mode in the JSON format.
func structured(h http.Header, data []byte) []byte {
	event := make(map[string]any)
	for _, prefix := range []string{"ce_", "ce-"} { // the second overrides the first
		for name := range h {
			attribute, found := strings.CutPrefix(strings.ToLower(name), prefix)
			value := h.Get(name)
			if text, err := url.PathUnescape(value); err == nil && prefix == "ce-" {
				value = text
			}
			if found && utf8.ValidString(value) {
				event[attribute] = value
			}
		}
	}
	delete(event, "data")
	delete(event, "data_base64")
	if contentType := h.Get("Content-Type"); contentType != "" && !web.IsCloudEvent(h) {
		event["datacontenttype"] = contentType
	}
	if beginning := bytes.TrimLeft(data, " \t\r\n"); len(beginning) > 0 && slices.Contains([]byte("{["), beginning[0]) && json.Valid(data) {
		event["data"] = json.RawMessage(data)
	} else {
		event["data_base64"] = data
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(event) // strings, bytes and valid JSON can always be encoded
	return bytes.TrimSuffix(body.Bytes(), []byte{'\n'})
}
