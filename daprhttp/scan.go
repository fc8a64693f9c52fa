package daprhttp

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// A scanner goes through JSON once, from a stream, and keeps only what it is told
// to. It finds where values begin and end; whether what is between is valid is for
// [json.Unmarshal] to say, of what was kept.
type scanner struct {
	r    *bufio.Reader
	tail []byte // the end of the last value that was longer than its limit
}

const maxTail = 2 << 10

func newScanner(r io.Reader) *scanner { return &scanner{r: bufio.NewReaderSize(r, 16<<10)} }

// peek returns the next byte that is no white space, and leaves it where it is.
func (s *scanner) peek() (byte, error) {
	for {
		b, err := s.r.Peek(1)
		if err != nil {
			return 0, noEOF(err)
		}
		switch b[0] {
		case ' ', '\t', '\n', '\r':
			_, _ = s.r.Discard(1)
		default:
			return b[0], nil
		}
	}
}

// noEOF returns err, for JSON that is not complete yet.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// delim takes one delimiter.
func (s *scanner) delim(want byte) error {
	got, err := s.peek()
	if err == nil && got != want {
		err = fmt.Errorf("it has %q instead of %q", got, want)
	}
	if err == nil {
		_, _ = s.r.Discard(1)
	}
	return err
}

// each goes through an array or an object, of which open has been seen: it calls
// item at the beginning of each element or member.
func (s *scanner) each(open, end byte, item func() error) error {
	if err := s.delim(open); err != nil {
		return err
	}
	for first := true; ; first = false {
		next, err := s.peek()
		switch {
		case err != nil:
			return err
		case next == end:
			return s.delim(end)
		case !first:
			if err := s.delim(','); err != nil {
				return err
			}
		}
		if err := item(); err != nil {
			return err
		}
	}
}

// members goes through an object: it calls member with each name, and member must
// take the value. A name that is very long is none that anybody asks for.
func (s *scanner) members(member func(name string) error) error {
	var buffer [64]byte
	return s.each('{', '}', func() error {
		raw, _, err := s.value(buffer[:0], len(buffer))
		if err != nil {
			return err
		}
		if err := s.delim(':'); err != nil {
			return err
		}
		return member(unquote(raw))
	})
}

// unquote returns a JSON string that has no escapes, and "" for anything else.
func unquote(raw []byte) string {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' || slices.Contains(raw, '\\') {
		return ""
	}
	return string(raw[1 : len(raw)-1])
}

// value takes one value. It appends it to kept as far as that then has no more than
// limit bytes, and returns how long the value is.
func (s *scanner) value(kept []byte, limit int) ([]byte, int, error) {
	first, err := s.peek()
	if err != nil {
		return kept, 0, err
	}
	var (
		size, depth       int
		inString, escaped bool
		scalar            = first != '"' && first != '{' && first != '['
	)
	for {
		if _, err := s.r.Peek(1); err != nil {
			if err == io.EOF && scalar && size > 0 {
				return kept, size, nil
			}
			return kept, size, noEOF(err)
		}
		chunk, _ := s.r.Peek(s.r.Buffered())
		n, ended := 0, false
		for n < len(chunk) && !ended {
			c := chunk[n]
			switch {
			case escaped:
				escaped = false
			case inString:
				switch c {
				case '\\':
					escaped = true
				case '"':
					inString = false
					ended = depth == 0
				}
			case c == '"':
				inString = true
			case c == '{' || c == '[':
				depth++
			case c == '}' || c == ']' || c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r':
				if scalar { // the delimiter is not a part of it
					kept, size = s.take(kept, limit, n, size)
					if size == 0 {
						return kept, 0, errors.New("a value is missing")
					}
					return kept, size, nil
				}
				if c == '}' || c == ']' {
					depth--
					ended = depth == 0
				}
			}
			n++
		}
		kept, size = s.take(kept, limit, n, size)
		if ended {
			return kept, size, nil
		}
	}
}

// take moves n bytes out of the buffer, into kept where there is room.
func (s *scanner) take(kept []byte, limit, n, size int) ([]byte, int) {
	chunk, _ := s.r.Peek(n)
	room := min(n, max(0, limit-len(kept)))
	kept = append(kept, chunk[:room]...)
	if limit > 0 && room < n {
		s.tail = append(s.tail, chunk[max(0, n-maxTail):]...)
		s.tail = s.tail[max(0, len(s.tail)-maxTail):]
	}
	_, _ = s.r.Discard(n)
	return kept, size + n
}

// skip takes one value and keeps nothing of it.
func (s *scanner) skip() error {
	_, _, err := s.value(nil, 0)
	return err
}

// text takes a string of at most limit bytes.
func (s *scanner) text(limit int) (text string, err error) {
	raw, size, err := s.value(nil, limit)
	switch {
	case err != nil:
		return "", err
	case size > limit:
		return "", fmt.Errorf("a string is longer than %d bytes", limit)
	}
	err = json.Unmarshal(raw, &text)
	return text, err
}
