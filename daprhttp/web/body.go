package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// errBodyTooLarge is wrapped by the error of [ReadObject] for a body beyond the limit.
var errBodyTooLarge = errors.New("the body is too large")

// ReadObject reads the body of a request, which must be one JSON object of at most limit
// bytes. It ignores the content type. The error is for the client: see [WriteBodyError].
//
// ReadObject reads and discards up to 16 MiB of a body beyond the limit, because a client
// that is cut off may not see the answer.
func ReadObject(r *http.Request, limit int64) (Object, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, max(limit, limit+1))) // the sum may overflow
	if err != nil {
		return nil, fmt.Errorf("the body could not be read: %w", err)
	}
	if int64(len(body)) > limit {
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 16<<20))
		return nil, fmt.Errorf("%w: it must not be longer than %d bytes", errBodyTooLarge, limit)
	}
	return DecodeObject(body)
}

// WriteBodyError answers a request with the text of err as {"error":…}. The status is 413
// for a body beyond the limit of [ReadObject], and 400 for any other error.
func WriteBodyError(w http.ResponseWriter, err error) {
	status := http.StatusBadRequest
	if errors.Is(err, errBodyTooLarge) {
		status = http.StatusRequestEntityTooLarge
	}
	WriteError(w, status, err.Error())
}

// WriteJSON answers a request with a status and v as JSON and a newline. It panics when
// encoding/json can't encode v. It sets Content-Type and Content-Length and writes the body
// once, so that an answer of up to 2 KiB leaves the program in one piece or not at all.
// Invisible characters are escaped, because people read answers in a terminal: see
// [Visible].
func WriteJSON(w http.ResponseWriter, status int, v any) {
	text, err := EncodeJSON(v)
	if err != nil {
		panic(err) // a mistake of the program
	}
	WriteEncoded(w, status, text)
}

// EncodeJSON returns v as WriteJSON writes it. The error is that of encoding/json.
func EncodeJSON(v any) (string, error) {
	var body strings.Builder
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return Visible(strings.TrimSuffix(body.String(), "\n")) + "\n", err
}

// WriteEncoded answers a request as [WriteJSON] does. text comes from [EncodeJSON].
func WriteEncoded(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // fails only when the client has gone
}

// WriteError answers a request with a status and the text as {"error":…}.
func WriteError(w http.ResponseWriter, status int, text string) {
	WriteJSON(w, status, struct {
		Error string `json:"error"`
	}{text})
}

// An Object is a JSON object: the JSON of each value, by its field. Its methods read a
// value exactly or return an error, which is for the client and names the field and the
// rule. A nil Object has no fields.
type Object map[string]json.RawMessage

// DecodeObject returns the JSON object in a body. The error, which is for the client, says
// that the body is not UTF-8, not JSON, or not one object with nothing behind it. When a
// field appears twice, the last one counts.
func DecodeObject(body []byte) (Object, error) {
	if !utf8.Valid(body) { // encoding/json would replace the bytes without an error
		return nil, errors.New("the body is not valid UTF-8")
	}
	var o Object
	err := json.Unmarshal(body, &o)
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrongType):
		return nil, fmt.Errorf("the body must be a JSON object, not a JSON %s", wrongType.Value)
	case err != nil:
		return nil, fmt.Errorf("the body is not valid JSON: %w", err)
	case o == nil:
		return nil, errors.New("the body must be a JSON object, not null")
	}
	return o, nil
}

// Has reports whether the object has the field with a value other than null.
func (o Object) Has(field string) bool {
	raw := o[field]
	return raw != nil && string(raw) != "null"
}

// Text returns the string in a field, or "" when the field is missing, null or empty. It
// fails when the value is another type, has half of a surrogate pair, or check returns an
// error. Text puts the field's name before the error of check. check is not called for "". It must
// not be nil.
func (o Object) Text(field string, check func(string) error) (string, error) {
	if !o.Has(field) {
		return "", nil
	}
	var text string
	if err := json.Unmarshal(o[field], &text); err != nil {
		return "", fmt.Errorf("%s must be a string", field)
	}
	if !wholeCharacters.Match(o[field]) {
		return "", fmt.Errorf("%s must be valid Unicode", field)
	}
	if text == "" {
		return "", nil
	}
	if err := check(text); err != nil {
		return "", fmt.Errorf("%s %w", field, err)
	}
	return text, nil
}

// Integer returns the integer in a field, or 0 when the field is missing or null. It fails
// when the value is another type, has a fraction or an exponent, or is not from 0 to most.
func (o Object) Integer(field string, most int64) (int64, error) {
	if !o.Has(field) {
		return 0, nil
	}
	raw := string(o[field])
	if raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return 0, fmt.Errorf("%s must be a number", field)
	}
	n, err := strconv.ParseInt(raw, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		return 0, fmt.Errorf("%s must be an integer, written without fraction or exponent", field)
	case n < 0:
		return 0, fmt.Errorf("%s must not be negative", field)
	case err != nil || n > most:
		return 0, fmt.Errorf("%s must not be greater than %d", field, most)
	}
	return n, nil
}

// wholeCharacters matches a JSON string in which no \u escape stands for half of a character.
// encoding/json turns such an escape into U+FFFD without an error.
var wholeCharacters = regexp.MustCompile(`^(?:[^\\]|\\[^u]|\\u[^dD]|\\u[dD][0-7]|\\u[dD][89abAB]..\\u[dD][c-fC-F])*$`)
