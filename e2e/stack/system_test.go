package stack

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestServiceThatCanNotBeBuiltIsNamed(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "order")
	if err := Build(t.Context(), folder, filepath.Join(folder, "program")); err == nil || !strings.Contains(err.Error(), "order could not be built") {
		t.Errorf("got %v", err)
	}
}

func TestProgramThatIsMissingIsNotInstalled(t *testing.T) {
	if _, err := (Program{commands: []string{"no-such-program"}, advice: "write one"}).Find(); !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "write one") {
		t.Errorf("got %v", err)
	}
}

// Component files in which nothing was replaced, or not all, would let tests use the
// servers of whoever runs them.
func TestComponentFilesThatDoNotNameOurServersAreNoticed(t *testing.T) {
	ours := RedisAt("127.0.0.1:1")
	const users = "value: \"localhost:6379\"\n"
	for name, c := range map[string]struct{ file, text, want string }{
		"nothing to replace":         {"pubsub.yaml", "value: \"10.0.0.1:6379\"\n", "does not name the server"},
		"another server of a user":   {"statestore.yaml", users + "value: \"host=localhost port=5432\"\n", "still name port=5432"},
		"a file that is not known":   {"bindings.yaml", users, "not known which server"},
		"a server where none is to":  {"resiliency.yaml", users, "still name localhost:6379"},
		"another path of the filter": {"answered.yaml", "value: \"file:///answered.wasm\"\n", "does not name file://../components/answered.wasm"},
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

// In the tests' copy of the filter's file the path is a full one, of a file that is there.
func TestFilterIsFoundFromEveryFolder(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	ours, dir := RedisAt("127.0.0.1:1"), t.TempDir()
	if err := WriteComponents(filepath.Join(root, "components", "redis"), dir, ours, ours); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, FilterFile))
	if err != nil {
		t.Fatal(err)
	}
	_, path, _ := strings.Cut(string(text), `"file://`)
	path, _, _ = strings.Cut(path, `"`)
	if !filepath.IsAbs(path) || !isFile(path) {
		t.Errorf("the filter is looked for at %q", path)
	}
}

// The copy of a Configuration keeps the filter and who may call the app, and has no other
// tracing than was asked for.
func TestConfigurationsKeepFilterAndAccessControl(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	for collector, tracing := range map[string]string{"": "", "http://127.0.0.1:5090": "endpointAddress: http://127.0.0.1:5090/api/v2/spans"} {
		dir := t.TempDir()
		if err := WriteConfigs(root, dir, Extras{Collector: collector}); err != nil {
			t.Fatal(err)
		}
		for _, s := range Services {
			text, err := os.ReadFile(filepath.Join(dir, s.Config))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(text); !strings.Contains(got, "name: answered") || !strings.Contains(got, tracing) ||
				strings.Contains(got, "tracing") != (collector != "") || strings.Contains(got, "9411") ||
				strings.Contains(got, "accessControl:\n    defaultAction: deny\n") != (s.AppID != Order.AppID) {
				t.Errorf("with the collector %q the Configuration of %s is\n%s", collector, s.AppID, got)
			}
		}
	}
}

// The files that users have are the files that the tests run with.
func TestComponentsAreTheUsers(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	here, dir, folder := RedisAt("127.0.0.1:1"), t.TempDir(), filepath.Join(root, "components", "redis")
	if err := WriteComponents(folder, dir, here, here); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pubsub.yaml", "statestore.yaml", "resiliency.yaml"} {
		users, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		tests, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		same := `"` + DefaultRedisAddr + `"`
		if diff := cmp.Diff(string(users), strings.ReplaceAll(string(tests), here.In(same), same)); diff != "" {
			t.Errorf("%s (-users +tests):\n%s", name, diff)
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
