package harness

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// Metrics returns what is read at a URL, without the comments.
func Metrics(t *testing.T, url string) map[string]string {
	t.Helper()
	resp, err := http.Get(url)
	Must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	Must(t, err)
	found := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			found[name] = value
		}
	}
	return found
}
