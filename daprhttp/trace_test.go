package daprhttp

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"
)

const traceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// A header that is a list may be given several times.
func TestTraceIsPassedOn(t *testing.T) {
	member := func(i int) string { return fmt.Sprintf("m%02d=%s", i, strings.Repeat("x", 96)) } // 100 bytes
	var long, short []string
	for i := range 80 {
		long = append(long, member(i))
		short = append(short, fmt.Sprintf("m%d=x", i))
	}
	for what, tt := range map[string]struct{ incoming, want http.Header }{
		"several headers": {http.Header{"Traceparent": {traceParent}, "Tracestate": {"a=1, b=2", "c=3,,", ""}, "Baggage": {"k=v;p;q=1 , l=%20", "m="}},
			http.Header{"Traceparent": {traceParent}, "Tracestate": {"a=1,b=2,c=3"}, "Baggage": {"k=v;p;q=1,l=%20,m="}}},
		"a trace state without a trace":  {http.Header{"Tracestate": {"a=1"}}, http.Header{}},
		"baggage without a trace":        {http.Header{"Baggage": {"k=v"}}, http.Header{"Baggage": {"k=v"}}},
		"baggage that a sidecar refuses": {http.Header{"Baggage": {`a,=b,c=%zz,d="e",f=g h,i=j;=,k=\,l=ä,ok=1`}}, http.Header{"Baggage": {"ok=1"}}},
		"more than a sidecar takes": {http.Header{"Traceparent": {traceParent}, "Tracestate": long, "Baggage": long},
			http.Header{"Traceparent": {traceParent}, "Tracestate": {strings.Join(long[:5], ",")}, "Baggage": {strings.Join(long[:20], ",")}}},
		"more baggage members than a sidecar takes": {http.Header{"Baggage": {strings.Join(short, ",")}}, http.Header{"Baggage": {strings.Join(short[:64], ",")}}},
		"more state members than a sidecar takes": {http.Header{"Traceparent": {traceParent}, "Tracestate": short},
			http.Header{"Traceparent": {traceParent}, "Tracestate": {strings.Join(short[:32], ",")}}},
		"a member that is longer than the limit":  {http.Header{"Baggage": {"a=" + strings.Repeat("x", 2047), "b=1"}}, http.Header{"Baggage": {"b=1"}}},
		"a member that is as long as the limit":   {http.Header{"Baggage": {"a=" + strings.Repeat("x", 2046)}}, http.Header{"Baggage": {"a=" + strings.Repeat("x", 2046)}}},
		"a list of megabytes":                     {http.Header{"Baggage": {"a=1", strings.Repeat("b,", 1<<20)}}, http.Header{}},
		"two traces":                              {http.Header{"Traceparent": {traceParent, traceParent}, "Tracestate": {"a=1"}}, http.Header{}},
		"a malformed trace":                       {http.Header{"Traceparent": {strings.Repeat("x", 100)}, "Tracestate": {"a=1"}}, http.Header{}},
		"a trace that is longer than a sidecar's": {http.Header{"Traceparent": {traceParent + strings.Repeat("x", 1<<15)}}, http.Header{}},
	} {
		c, s := answering(204, nil, "")
		if err := c.DeleteState(ContextWithTrace(t.Context(), tt.incoming), "s", StateItem{Key: "k"}); err != nil {
			t.Error(what, err)
		}
		got := s.Requests()[0].Header
		got.Del("Accept-Encoding")
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
}

func TestTraceID(t *testing.T) {
	is := is.New(t)
	is.Equal(TraceID(traceParent), "0af7651916cd43dd8448eb211c80319c")
	for _, malformed := range []string{"", "00-0af7-b7ad-01", traceParent[:35], "00+" + traceParent[3:], traceParent[:35] + "+", "00-" + strings.Repeat("Q", 32) + "-b7ad6b7169203331-01"} {
		is.Equal(TraceID(malformed), "")
	}
}
