package web

import (
	"errors"
	"io"
	"math"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

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
	o, err = ReadObject(httptest.NewRequest("POST", "/", strings.NewReader(`{"n":1}`)), math.MaxInt64)
	is.NoErr(err)
	is.True(o.Has("n"))

	rest := strings.NewReader(`{"n":1} ` + strings.Repeat("x", 1<<20))
	_, err = ReadObject(httptest.NewRequest("POST", "/", rest), 7)
	is.Equal(status(err), 413)
	is.Equal(rest.Len(), 0) // read to its end, so that the sender sees the answer

	_, err = ReadObject(httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader("1"), iotest.ErrReader(io.ErrUnexpectedEOF))), 5)
	is.Equal(status(err), 400)
	_, err = ReadObject(httptest.NewRequest("POST", "/", strings.NewReader("[]")), 5)
	is.Equal(status(err), 400)
}

func TestObject(t *testing.T) {
	is := is.New(t)
	o, err := DecodeObject([]byte(`{"key":"a\\ud800 \ud83d\ude00","n":5,"long":9223372036854775808,"none":null,"empty":"","Key":"b",
		"escape":"\\\\u\\ud83d"}`))
	is.NoErr(err)
	is.True(o.Has("key"))
	is.True(!o.Has("KEY"))
	is.True(!o.Has("none"))
	for field, want := range map[string]string{"key": `a\ud800 😀`, "none": "", "missing": "", "empty": "", "escape": `\\u\ud83d`} {
		got, err := o.Text(field, notEmpty)
		is.NoErr(err)
		is.Equal(got, want)
	}
	n, err := o.Integer("n", 5)
	is.NoErr(err)
	is.Equal(n, int64(5))
	_, err = o.Integer("long", math.MaxInt64)
	is.True(err != nil)
	for _, field := range []string{"none", "missing"} {
		n, err := o.Integer(field, 100)
		is.NoErr(err)
		is.Equal(n, int64(0))
	}
}

func notEmpty(text string) error {
	if text == "" {
		return errors.New("must not be empty")
	}
	return nil
}

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
		{text, "text must be valid Unicode", []string{`"\ud800"`, `"\udc00"`, `"\ud800\ud800"`, `"\\\ud83d!"`}},
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
