package stack

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"
)

func TestServiceThatCanNotBeBuiltIsNamed(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "order")
	if err := Build(t.Context(), folder, filepath.Join(folder, "program")); err == nil || !strings.Contains(err.Error(), "order could not be built") {
		t.Errorf("got %v", err)
	}
}

func TestProgramThatIsMissingIsNotInstalled(t *testing.T) {
	_, err := (Program{commands: []string{"no-such-program"}, advice: "write one"}).Find()
	if !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "write one") {
		t.Errorf("got %v", err)
	}
}

// Component files in which a user's server remains would let tests use that server.
func TestComponentFilesThatDoNotNameOurServersAreNoticed(t *testing.T) {
	actual := RedisAt("127.0.0.1:1")
	const documented = "value: \"localhost:6379\"\n"
	for name, c := range map[string]struct{ file, text, want string }{
		"nothing to replace":         {"pubsub.yaml", "value: \"10.0.0.1:6379\"\n", "does not name the server"},
		"another server of a user":   {"statestore.yaml", documented + "value: \"host=localhost port=5432\"\n", "still name port=5432"},
		"a file that is not known":   {"bindings.yaml", documented, "not known which server"},
		"a server where none is to":  {"resiliency.yaml", documented, "still name localhost:6379"},
		"another path of the filter": {"answered.yaml", "value: \"file:///answered.wasm\"\n", "does not name file://../components/answered.wasm"},
	} {
		folder := t.TempDir()
		write(t, filepath.Join(folder, c.file), c.text)
		if err := WriteComponents(folder, t.TempDir(), actual, actual); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	if err := WriteComponents(t.TempDir(), t.TempDir(), actual, actual); err == nil {
		t.Error("no component files at all: no error")
	}
}

// The tests run with the component files that users have. Only the server's address and the
// path of the filter differ.
func TestComponentFilesAreThoseOfUsers(t *testing.T) {
	is := is.New(t)
	root, err := Root()
	is.NoErr(err)
	actual, dir, folder := RedisAt("127.0.0.1:1"), t.TempDir(), filepath.Join(root, "components", "redis")
	is.NoErr(WriteComponents(folder, dir, actual, actual))
	filter := filepath.Join(root, "components", "answered.wasm")
	is.True(isFile(filter))
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	is.NoErr(err)
	for _, file := range files {
		original := strings.NewReplacer("127.0.0.1:1", DefaultRedisAddr, filepath.ToSlash(filter), "../components/answered.wasm")
		if diff := cmp.Diff(read(t, file), original.Replace(read(t, filepath.Join(dir, filepath.Base(file))))); diff != "" {
			t.Errorf("%s (-documented +actual):\n%s", file, diff)
		}
	}
}

// The copy of a Configuration keeps the filter and who may call the app, and has no other
// tracing than was asked for.
func TestConfigurationsKeepFilterAndAccessControl(t *testing.T) {
	is := is.New(t)
	root, err := Root()
	is.NoErr(err)
	for collector, tracing := range map[string]string{"": "", "http://127.0.0.1:5090": "endpointAddress: http://127.0.0.1:5090/api/v2/spans"} {
		dir := t.TempDir()
		is.NoErr(WriteConfigs(root, dir, Extras{Collector: collector}))
		for _, s := range Services {
			if got := read(t, filepath.Join(dir, s.Config)); !strings.Contains(got, "name: answered") || !strings.Contains(got, tracing) ||
				strings.Contains(got, "tracing") != (collector != "") || strings.Contains(got, "9411") ||
				strings.Contains(got, "accessControl:\n    defaultAction: deny\n") != (s.AppID != Order.AppID) {
				t.Errorf("with the collector %q the Configuration of %s is\n%s", collector, s.AppID, got)
			}
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	is.New(t).NoErr(err)
	return string(text)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	is.New(t).NoErr(os.WriteFile(file, []byte(text), 0o644))
}
