package main

import (
	"encoding/json"
	"testing"

	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
)

func TestStoredStock(t *testing.T) {
	for text, want := range map[string]stock{
		`100`: 100, `-5`: -5, `1e2`: 100, `100.0`: 100, `9007199254740991`: daprhttp.MaxInteger, `-9007199254740991`: -daprhttp.MaxInteger,
	} {
		is := is.New(t)
		var got stock
		is.NoErr(json.Unmarshal([]byte(text), &got))
		is.Equal(got, want)
	}
	for _, text := range []string{`1.5`, `null`, `"100"`, `{}`, `[100]`, `9007199254740992`, `-9223372036854775808`, `1e300`, `true`} {
		if err := json.Unmarshal([]byte(text), new(stock)); err == nil {
			t.Errorf("%s was read as a stock", text)
		}
	}
}

func TestStockFallsBelowZeroToALimit(t *testing.T) {
	is := is.New(t)
	got, err := stock(5).less(7)
	is.NoErr(err)
	is.Equal(got, stock(-2))
	got, err = stock(-daprhttp.MaxInteger + 1).less(1)
	is.NoErr(err)
	is.Equal(got, stock(-daprhttp.MaxInteger))
	_, err = stock(-daprhttp.MaxInteger).less(1)
	is.True(err != nil)
	_, err = stock(-daprhttp.MaxInteger).less(daprhttp.MaxInteger)
	is.True(err != nil)
}
