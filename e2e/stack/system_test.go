package stack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestServiceThatCanNotBeBuiltIsNamed(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "order")
	if err := Build(t.Context(), folder, filepath.Join(folder, "program")); err == nil || !strings.Contains(err.Error(), "order could not be built") {
		t.Errorf("got %v", err)
	}
}

// Component files in which nothing was replaced, or not all, would let tests use the
// servers of whoever runs them.
func TestComponentFilesThatDoNotNameOurServersAreNoticed(t *testing.T) {
	ours := RedisAt("127.0.0.1:1", 0)
	const users = "value: \"localhost:6379\"\n"
	for name, c := range map[string]struct{ file, text, want string }{
		"nothing to replace":        {"pubsub.yaml", "value: \"10.0.0.1:6379\"\n", "does not name the server"},
		"another server of a user":  {"statestore.yaml", users + "value: \"host=localhost port=5432\"\n", "still name port=5432"},
		"a file that is not known":  {"bindings.yaml", users, "not known which server"},
		"a server where none is to": {"resiliency.yaml", users, "still name localhost:6379"},
	} {
		folder := t.TempDir()
		write(t, filepath.Join(folder, c.file), c.text)
		if err := WriteComponents(folder, t.TempDir(), ours, ours); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	if err := WriteComponents(t.TempDir(), t.TempDir(), ours, ours); err == nil {
		t.Error("no component files at all: no error")
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
