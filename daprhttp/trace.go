package daprhttp

import (
	"context"
	"net/http"
)

// traceHeaders are the headers of the W3C Trace Context,
// https://www.w3.org/TR/trace-context/.
var traceHeaders = [...]string{"Traceparent", "Tracestate"}

type traceKey struct{}

// ContextWithTrace returns a copy of ctx that carries the trace of a request:
// its traceparent and tracestate headers. A [Client] passes them on in every
// call made under that context, so that the sidecar continues the trace. A
// request without a traceparent leaves ctx as it is.
//
// See https://docs.dapr.io/operations/observability/tracing/w3c-tracing-overview/.
func ContextWithTrace(ctx context.Context, h http.Header) context.Context {
	if h.Get(traceHeaders[0]) == "" {
		return ctx
	}
	var trace [len(traceHeaders)]string
	for i, name := range traceHeaders {
		trace[i] = h.Get(name)
	}
	return context.WithValue(ctx, traceKey{}, trace)
}

func setTrace(ctx context.Context, h http.Header) {
	trace, _ := ctx.Value(traceKey{}).([len(traceHeaders)]string)
	for i, value := range trace {
		if value != "" {
			h.Set(traceHeaders[i], value)
		}
	}
}

// TraceID returns the ID of a trace, 32 hexadecimal digits, from its traceparent, or
// "" where that is none.
func TraceID(traceParent string) string {
	const version, id = len("00-"), 32
	if len(traceParent) < version+id+1 || traceParent[version-1] != '-' || traceParent[version+id] != '-' {
		return ""
	}
	return traceParent[version : version+id]
}
