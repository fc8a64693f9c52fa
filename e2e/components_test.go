package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// A componentFile is a Dapr component as
// https://docs.dapr.io/reference/resource-specs/component-schema/ describes it.
type componentFile struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	Spec       struct {
		Type     string
		Version  string
		Metadata []struct {
			Name         string
			Value        *string
			SecretKeyRef *struct{ Name, Key string } `yaml:"secretKeyRef"`
		}
	}
	Auth struct {
		SecretStore string `yaml:"secretStore"`
	}
	Scopes []string
}

// A componentSchema is what components-contrib says of a component, in the file
// metadata.yaml beside its source.
type componentSchema struct {
	Type, Name, Version    string
	Capabilities           []string
	Metadata               []setting
	AuthenticationProfiles []struct{ Metadata []setting } `yaml:"authenticationProfiles"`
	BuiltinProfiles        []struct{ Metadata []setting } `yaml:"builtinAuthenticationProfiles"`
}

type setting struct {
	Name          string
	Required      bool
	Sensitive     bool
	Type          string
	AllowedValues []string `yaml:"allowedValues"`
}

// What Dapr itself reads of every pub/sub component.
var pubsubSettings = []setting{{Name: "protectedTopics"}, {Name: "allowedTopics"}, {Name: "publishingScopes"}, {Name: "subscriptionScopes"}}

// Every component file of the project says only what its component knows, with
// values that it takes, and leaves nothing out that it needs.
func TestComponentFilesAreWhatTheirComponentsTake(t *testing.T) {
	t.Parallel()
	schemas := readSchemas(t)
	var files []string
	must(t, filepath.WalkDir(filepath.Join(root, "components"), func(path string, entry os.DirEntry, err error) error {
		switch name := entry.Name(); {
		case name == "run" || name == "kubernetes": // apps, not components
			return filepath.SkipDir
		case strings.HasSuffix(name, ".yaml") && name != "resiliency.yaml":
			files = append(files, path)
		}
		return err
	}))
	if len(files) < 9 {
		t.Errorf("there are only the component files %v", files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		if err := checkComponent(text, schemas); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// The check sees what it is there to see.
func TestComponentFilesThatAreWrongAreNoticed(t *testing.T) {
	t.Parallel()
	schemas := readSchemas(t)
	for _, wrong := range []struct{ file, old, new, want string }{
		{"pubsub.yaml", "name: concurrency", "name: concurency", "concurency"},
		{"pubsub.yaml", `value: "400"`, `value: "many"`, "many"},
		{"pubsub.yaml", "type: pubsub.redis", "type: pubsub.reddis", "pubsub.reddis"},
		{"pubsub.yaml", "name: redisHost", "name: redisDB", "redisHost"},
		{"pubsub.yaml", "kind: Component", "kind: Komponent", "Komponent"},
		{"pubsub.yaml", "    - name: redisPassword\n      value: \"\"\n", "    - name: redisHost\n      value: \"\"\n", "twice"},
		{"statestore.yaml", "scopes:", "scope:", "scope"},
		{"rabbitmq-postgres/statestore.yaml", "version: v2", "version: v3", "v3"},
		{"rabbitmq-postgres/statestore.yaml", "name: connectionString", "name: host", "log in"},
		{"azure/statestore.yaml", "name: database", "name: collection", "database"},
		{"azure/statestore.yaml", "      secretKeyRef:\n        name: COSMOS_KEY\n        key: COSMOS_KEY\n", "      value: \"a secret\"\n", "a secret is written out"},
		{"azure/statestore.yaml", "auth:\n  secretStore: secrets\n", "", "secret"},
	} {
		text, err := os.ReadFile(filepath.Join(root, "components", wrong.file))
		must(t, err)
		if !bytes.Contains(text, []byte(wrong.old)) {
			t.Fatalf("%s does not have %s", wrong.file, wrong.old)
		}
		err = checkComponent(bytes.ReplaceAll(text, []byte(wrong.old), []byte(wrong.new)), schemas)
		if err == nil || !strings.Contains(err.Error(), wrong.want) {
			t.Errorf("%s with %q for %q: got %v, want an error that names %s", wrong.file, wrong.new, wrong.old, err, wrong.want)
		}
	}
}

// checkComponent returns all that is wrong with a component file.
func checkComponent(text []byte, schemas map[string]componentSchema) error {
	var c componentFile
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil {
		return err
	}
	if err := decoder.Decode(new(componentFile)); err != io.EOF {
		return fmt.Errorf("it has more than one document")
	}
	if c.APIVersion != "dapr.io/v1alpha1" || c.Kind != "Component" || c.Metadata.Name == "" {
		return fmt.Errorf("%s %s %q is no component", c.APIVersion, c.Kind, c.Metadata.Name)
	}
	schema, ok := schemas[c.Spec.Type+" "+c.Spec.Version]
	if !ok {
		return fmt.Errorf("there is no component of type %s and version %s", c.Spec.Type, c.Spec.Version)
	}
	known := slices.Clone(schema.Metadata)
	var profiles [][]setting
	for _, p := range schema.AuthenticationProfiles {
		profiles = append(profiles, p.Metadata)
	}
	for _, p := range schema.BuiltinProfiles {
		profiles = append(profiles, p.Metadata)
	}
	known = append(known, slices.Concat(profiles...)...)
	if schema.Type == "pubsub" {
		known = append(known, pubsubSettings...)
	}

	var wrong []error
	given := make(map[string]bool)
	for _, m := range c.Spec.Metadata {
		if given[m.Name] {
			wrong = append(wrong, fmt.Errorf("%s is given twice", m.Name))
		}
		given[m.Name] = true
		i := slices.IndexFunc(known, func(s setting) bool { return s.Name == m.Name })
		if i < 0 {
			wrong = append(wrong, fmt.Errorf("%s has no setting %s", c.Spec.Type, m.Name))
			continue
		}
		switch {
		case (m.Value == nil) == (m.SecretKeyRef == nil):
			wrong = append(wrong, fmt.Errorf("%s has to have a value or a secret", m.Name))
		case m.SecretKeyRef != nil:
			if c.Auth.SecretStore == "" {
				wrong = append(wrong, fmt.Errorf("%s is a secret, and no secret store is named", m.Name))
			}
		case known[i].Sensitive && *m.Value != "" && !strings.Contains(*m.Value, "localhost") && schema.Name != "sqlite":
			wrong = append(wrong, fmt.Errorf("%s: a secret is written out", m.Name))
		default:
			wrong = append(wrong, known[i].check(*m.Value))
		}
	}
	for _, s := range schema.Metadata {
		if s.Required && !given[s.Name] {
			wrong = append(wrong, fmt.Errorf("%s is missing", s.Name))
		}
	}
	whole := func(profile []setting) bool {
		return !slices.ContainsFunc(profile, func(s setting) bool { return s.Required && !given[s.Name] })
	}
	if len(profiles) > 0 && !slices.ContainsFunc(profiles, whole) {
		wrong = append(wrong, fmt.Errorf("there is nothing to log in with"))
	}
	// What the counting protocol needs. Not every schema lists it; those that do not
	// are of stores that the promises are proven on.
	if schema.Type == "state" && len(schema.Capabilities) > 0 && !slices.Contains(schema.Capabilities, "etag") {
		wrong = append(wrong, fmt.Errorf("%s has no ETags", c.Spec.Type))
	}
	if schema.Name == "azure.cosmosdb" && !slices.Contains(schema.Capabilities, "ttl") {
		wrong = append(wrong, fmt.Errorf("%s has no time to live", c.Spec.Type))
	}
	return errors.Join(wrong...)
}

// check returns what is wrong with a value.
func (s setting) check(value string) error {
	var err error
	switch s.Type {
	case "bool":
		_, err = strconv.ParseBool(value)
	case "number":
		_, err = strconv.Atoi(value)
	case "duration":
		_, err = time.ParseDuration(value)
	}
	if err == nil && len(s.AllowedValues) > 0 && !slices.Contains(s.AllowedValues, value) {
		err = fmt.Errorf("%q is none of %q", value, s.AllowedValues)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return nil
}

// readSchemas returns the schema of every component that the sidecar may be built
// with, by type and version. It is in the module that the sidecar is built from.
func readSchemas(t *testing.T) map[string]componentSchema {
	t.Helper()
	download := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", "github.com/dapr/components-contrib")
	download.Dir = filepath.Join(root, "e2e", "daprd")
	download.Env = append(os.Environ(), "GOWORK=off")
	output, err := download.Output()
	if err != nil {
		t.Fatalf("the module of Dapr's components can't be had: %v %s", err, output)
	}
	var module struct{ Dir string }
	must(t, json.Unmarshal(output, &module))
	schemas := make(map[string]componentSchema)
	must(t, filepath.WalkDir(module.Dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.Name() != "metadata.yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var s componentSchema
		if err := yaml.Unmarshal(text, &s); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		schemas[s.Type+"."+s.Name+" "+s.Version] = s
		return nil
	}))
	return schemas
}
