package daprhttp

import (
	"context"
	"net/http"
	"regexp"
	"strings"
)

// A trace holds the trace headers of a request.
type trace struct{ parent, state, baggage string }

type traceKey struct{}

// The lengths in bytes that a [Client] passes on. A sidecar reads 8 KiB of headers, and
// answers 431 to longer ones.
const (
	maxTraceParent = 128
	maxTraceState  = 512
	maxBaggage     = 2 << 10
)

// ContextWithTrace returns a copy of ctx that carries the trace of a request: its headers
// traceparent, tracestate and baggage. A [Client] sends them with every call under that
// context, so that the sidecar continues the trace. The values of several
// headers tracestate or baggage become one list. Without a traceparent, tracestate is ignored.
//
// ContextWithTrace keeps the headers short, because a sidecar reads 8 KiB of headers. It
// leaves out the members of tracestate beyond 512 bytes or 32 members, and those of baggage
// beyond 2 KiB or 64 members. It leaves out a whole list of more than 8 KiB. It also leaves
// out malformed baggage, for which a sidecar answers 400.
//
// See https://www.w3.org/TR/trace-context/, https://www.w3.org/TR/baggage/ and
// https://docs.dapr.io/operations/observability/tracing/w3c-tracing-overview/.
func ContextWithTrace(ctx context.Context, h http.Header) context.Context {
	t := trace{baggage: list(h.Values("Baggage"), maxBaggage, 64, baggageMember.MatchString)}
	if parents := h.Values("Traceparent"); len(parents) == 1 && TraceID(parents[0]) != "" && len(parents[0]) <= maxTraceParent {
		t.parent = parents[0]
		t.state = list(h.Values("Tracestate"), maxTraceState, 32, func(string) bool { return true })
	}
	return context.WithValue(ctx, traceKey{}, t)
}

// list joins the members of a header that may be given several times. It leaves out members
// that are not valid or have no room. It reads no list beyond 8 KiB, because an event may
// have megabytes of headers.
func list(values []string, mostBytes, mostMembers int, valid func(string) bool) string {
	all := strings.Join(values, ",")
	if len(all) > 8<<10 {
		return ""
	}
	joined, separator, members := "", "", 0
	for member := range strings.SplitSeq(all, ",") {
		member = strings.TrimSpace(member)
		if member == "" || len(joined)+len(separator)+len(member) > mostBytes || members == mostMembers || !valid(member) {
			continue
		}
		joined += separator + member
		separator = ","
		members++
	}
	return joined
}

// baggageMember matches key=value and the properties after it.
var baggageMember = func() *regexp.Regexp {
	const (
		key   = `[!#$%&'*+.^_|~0-9A-Za-z\x60-]+`
		value = `(?:[!#$&-+\--:<-\[\]-~]|%[0-9A-Fa-f]{2})*`
	)
	return regexp.MustCompile(`^` + key + `\s*=\s*` + value + `\s*(?:;\s*` + key + `\s*(?:=\s*` + value + `\s*)?)*$`)
}()

func setTrace(ctx context.Context, h http.Header) {
	t, _ := ctx.Value(traceKey{}).(trace)
	setNotEmpty(h, "Traceparent", t.parent)
	setNotEmpty(h, "Tracestate", t.state)
	setNotEmpty(h, "Baggage", t.baggage)
}

// TraceID returns the ID of a trace, 32 hexadecimal digits, from its traceparent, or "" if it
// has none. It does not check the other fields.
func TraceID(traceParent string) string {
	const version, id = len("00-"), 32
	if len(traceParent) < version+id+1 || traceParent[version-1] != '-' || traceParent[version+id] != '-' {
		return ""
	}
	if traceID := traceParent[version : version+id]; isHex(traceID) {
		return traceID
	}
	return ""
}
