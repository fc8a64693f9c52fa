package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// A component is what the tests read of a Dapr component:
// https://docs.dapr.io/reference/resource-specs/component-schema/.
type component struct {
	Metadata struct{ Name string }
	Spec     struct {
		Type, Version string
		Metadata      []struct {
			Name         string
			Value        *string   // nil for a secret and for an environment variable
			SecretKeyRef *struct{} `json:"secretKeyRef"`
		}
	}
	Auth struct {
		SecretStore string `json:"secretStore"`
	}
	Scopes []string
}

// A componentSchema is what components-contrib says about a component, in the file
// metadata.yaml next to its source.
type componentSchema struct {
	Type, Name, Version    string
	Metadata               []setting
	AuthenticationProfiles []struct{ Metadata []setting } `json:"authenticationProfiles"`
	BuiltinProfiles        []struct{ Metadata []setting } `json:"builtinAuthenticationProfiles"`
}

type setting struct {
	Name          string
	Required      bool
	Type          string
	AllowedValues []string `json:"allowedValues"`
}

// daprRules are what the sidecar accepts, read from the modules that it is built from.
type daprRules struct {
	resources  map[string]*jsonschema.Schema // by kind
	components map[string]componentSchema    // by type and version
}

// Every Dapr resource of the project has only fields, settings and values that Dapr knows,
// and all that Dapr requires. A sidecar ignores what it does not know.
func TestDaprTakesEveryResource(t *testing.T) {
	t.Parallel()
	rules := readDaprRules(t)
	files := slices.DeleteFunc(projectFiles(t, "components/*.yaml", "components/*/*.yaml"), func(file string) bool {
		return file == "components/compose.yaml" || file == "components/run/dapr.yaml" || strings.HasPrefix(file, kubernetesFolder)
	})
	for _, file := range files {
		if err := rules.check(harness.Document(t, file)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if len(files) < 32 {
		t.Errorf("there are only the files %q", files)
	}
}

// Each rule is broken once.
func TestDaprResourcesThatAreWrongAreNoticed(t *testing.T) {
	t.Parallel()
	rules := readDaprRules(t)
	mistakes := []mistake{
		{"redis/pubsub.yaml", "kind: Component", "kind: Komponent", "Komponent"},
		{"redis/statestore.yaml", "scopes:", "scope:", "'scope'"},
		{"redis/resiliency.yaml", "maxRetries:", "maxRetry:", "'maxRetry'"},
		{"redis/resiliency.yaml", "maxRetries: 0", "maxRetries: none", "maxRetries"},
		{"config.yaml", "handlers:", "handler:", "'handler'"},
		{"redis/answered.yaml", "name: url", "name: path", "path"},
		{"redis/pubsub.yaml", `value: "50"`, `value: "many"`, "many"},
		{"redis/pubsub.yaml", `value: "1000"`, `value: "1s"`, "redeliverInterval"},
		{"redis/pubsub.yaml", "type: pubsub.redis", "type: pubsub.reddis", "pubsub.reddis"},
		{"redis/pubsub.yaml", "name: redisHost", "name: redisDB", "redisHost"},
		{"rabbitmq-postgres/statestore.yaml", "name: connectionString", "name: host", "log in"},
		{"azure/statestore.yaml", "auth:\n  secretStore: secrets\n", "", "secret store"},
	}
	areNoticed(t, "components/", mistakes, func(_, text string) error { return rules.check(text) })
}

// A mistake replaces a text in a file. The check of the file reports an error with the text want.
type mistake struct{ file, old, new, want string }

// areNoticed tests a check of files with mistakes.
func areNoticed(t *testing.T, folder string, mistakes []mistake, check func(file, text string) error) {
	t.Helper()
	for _, m := range mistakes {
		text := harness.Document(t, folder+m.file)
		changed := strings.ReplaceAll(text, m.old, m.new)
		if changed == text {
			t.Errorf("%s does not have %q", m.file, m.old)
		}
		if err := check(m.file, changed); err == nil || !strings.Contains(err.Error(), m.want) {
			t.Errorf("%s with %q for %q: got %v, want an error with %q", m.file, m.new, m.old, err, m.want)
		}
	}
}

// projectFiles returns the names of the project's files that match one of the patterns.
func projectFiles(t *testing.T, patterns ...string) (names []string) {
	t.Helper()
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(harness.Project.Root, filepath.FromSlash(pattern)))
		harness.Must(t, err)
		for _, file := range files {
			name, err := filepath.Rel(harness.Project.Root, file)
			harness.Must(t, err)
			names = append(names, filepath.ToSlash(name))
		}
	}
	return names
}

// check returns every fault of a resource.
func (d *daprRules) check(document string) error {
	var resource map[string]any
	if err := yaml.UnmarshalStrict([]byte(document), &resource); err != nil {
		return err
	}
	schema := d.resources[fmt.Sprint(resource["kind"])]
	if schema == nil || resource["apiVersion"] != "dapr.io/v1alpha1" {
		return fmt.Errorf("Dapr has no %v in %v", resource["kind"], resource["apiVersion"])
	}
	if err := schema.Validate(resource); err != nil || resource["kind"] != "Component" {
		return err
	}
	var c component
	if err := yaml.Unmarshal([]byte(document), &c); err != nil {
		return err
	}
	return d.checkSettings(c)
}

// checkSettings returns every fault of the settings of a component.
func (d *daprRules) checkSettings(c component) error {
	schema, ok := d.components[c.Spec.Type+" "+c.Spec.Version]
	if !ok {
		return fmt.Errorf("there is no component of type %s and version %s", c.Spec.Type, c.Spec.Version)
	}
	known := slices.Clone(schema.Metadata)
	profiles := slices.Concat(schema.AuthenticationProfiles, schema.BuiltinProfiles)
	for _, profile := range profiles {
		known = append(known, profile.Metadata...)
	}
	if schema.Type == "pubsub" { // Dapr itself reads these
		known = append(known, setting{Name: "allowedTopics"}, setting{Name: "protectedTopics"}, setting{Name: "consumerID"},
			setting{Name: "publishingScopes"}, setting{Name: "subscriptionScopes"})
	}

	var wrong []error
	given := make(map[string]bool)
	for _, m := range c.Spec.Metadata {
		given[m.Name] = true
		i := slices.IndexFunc(known, func(s setting) bool { return s.Name == m.Name })
		switch {
		case i < 0:
			wrong = append(wrong, fmt.Errorf("%s has no setting %s", c.Spec.Type, m.Name))
		case m.Value != nil:
			wrong = append(wrong, known[i].check(*m.Value))
		case m.SecretKeyRef != nil && c.Auth.SecretStore == "":
			wrong = append(wrong, fmt.Errorf("%s is a secret, and the component names no secret store", m.Name))
		}
	}
	missing := func(s setting) bool { return s.Required && !given[s.Name] }
	for _, s := range schema.Metadata {
		if missing(s) {
			wrong = append(wrong, fmt.Errorf("%s is missing", s.Name))
		}
	}
	if len(profiles) > 0 && !slices.ContainsFunc(profiles, func(p struct{ Metadata []setting }) bool {
		return !slices.ContainsFunc(p.Metadata, missing)
	}) {
		wrong = append(wrong, errors.New("there is nothing to log in with"))
	}
	return errors.Join(wrong...)
}

// check returns what is wrong with a value.
func (s setting) check(value string) (err error) {
	switch {
	case s.Type == "bool":
		_, err = strconv.ParseBool(value)
	case s.Type == "number", s.Name == "redeliverInterval": // of pubsub.redis, which ignores a duration (1.18.2)
		_, err = strconv.Atoi(value)
	case s.Type == "duration":
		_, err = time.ParseDuration(value)
	}
	if len(s.AllowedValues) > 0 && !slices.Contains(s.AllowedValues, value) {
		err = fmt.Errorf("%q is not one of %q", value, s.AllowedValues)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return nil
}

func readDaprRules(t *testing.T) *daprRules {
	t.Helper()
	rules := &daprRules{make(map[string]*jsonschema.Schema), make(map[string]componentSchema)}
	read := func(file string, v any) {
		text, err := os.ReadFile(file)
		harness.Must(t, err)
		harness.Must(t, yaml.Unmarshal(text, v))
	}
	compiler := jsonschema.NewCompiler()
	definitions := filepath.Join(harness.DaprModule(t, "github.com/dapr/dapr"), "charts", "dapr", "crds")
	for kind, file := range map[string]string{
		"Component":     "components.yaml",
		"Configuration": "configuration.yaml",
		"Resiliency":    "resiliency.yaml",
	} {
		var definition struct {
			Spec struct {
				Versions []struct {
					Schema struct{ OpenAPIV3Schema map[string]any }
				}
			}
		}
		read(filepath.Join(definitions, file), &definition)
		schema := definition.Spec.Versions[0].Schema.OpenAPIV3Schema
		name := map[string]any{"name": map[string]any{"type": "string"}}
		schema["properties"].(map[string]any)["metadata"] = map[string]any{"properties": name}
		refuseUnknownFields(schema)
		harness.Must(t, compiler.AddResource(file, schema))
		compiled, err := compiler.Compile(file)
		harness.Must(t, err)
		rules.resources[kind] = compiled
	}
	contrib := harness.DaprModule(t, "github.com/dapr/components-contrib")
	harness.Must(t, filepath.WalkDir(contrib, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Name() == "metadata.yaml" {
			var s componentSchema
			read(path, &s)
			kind := strings.Replace(s.Type, "middleware", "middleware.http", 1)
			rules.components[kind+"."+s.Name+" "+s.Version] = s
		}
		return err
	}))
	return rules
}

// refuseUnknownFields changes the schema of a custom resource, which lets unknown fields
// pass, into one that refuses them.
func refuseUnknownFields(schema any) {
	switch s := schema.(type) {
	case map[string]any:
		if s["properties"] != nil && s["x-kubernetes-preserve-unknown-fields"] != true {
			s["additionalProperties"] = false
		}
		for _, part := range s {
			refuseUnknownFields(part)
		}
	case []any:
		for _, part := range s {
			refuseUnknownFields(part)
		}
	}
}

// Files that are the same for several backends stay the same.
func TestBackendsShareTheirFiles(t *testing.T) {
	t.Parallel()
	for shared, folders := range map[string][]string{
		"redis/answered.yaml":               {"azure", "mqtt-postgres", "rabbitmq-postgres", "replicated", "sqlite"},
		"redis/resiliency.yaml":             {"azure", "rabbitmq-postgres", "replicated", "sqlite"}, // mqtt-postgres has no retry topic
		"redis/pubsub.yaml":                 {"sqlite"},
		"redis/retry.yaml":                  {"sqlite"},
		"rabbitmq-postgres/statestore.yaml": {"mqtt-postgres"},
	} {
		for _, folder := range folders {
			file := "components/" + folder + "/" + filepath.Base(shared)
			if harness.Document(t, file) != harness.Document(t, "components/"+shared) {
				t.Errorf("%s differs from components/%s", file, shared)
			}
		}
	}
	scopes := func(file string) string {
		_, found, _ := strings.Cut(harness.Document(t, file), "    - name: allowedTopics\n")
		return strings.Join(regexp.MustCompile(`(?m)^    (?:- name|  value): .*$`).FindAllString(found, -1), "\n")
	}
	for _, base := range []string{"pubsub.yaml", "retry.yaml"} {
		for _, file := range projectFiles(t, "components/*/"+base) {
			if diff := cmp.Diff(scopes("components/redis/"+base), scopes(file)); diff != "" {
				t.Errorf("%s has other scopes than components/redis (-there +here):\n%s", file, diff)
			}
		}
	}
	for _, file := range projectFiles(t, "components/*/*") {
		if filepath.Ext(file) != ".yaml" && !strings.HasPrefix(file, kubernetesFolder) {
			t.Errorf("%s is not YAML: the Dapr CLI warns about such a file at each start", file)
		}
	}
}

// Every sidecar has the filter. Other apps may invoke the order service and no other app.
func TestConfigurationsHaveTheFilterAndDenyAccess(t *testing.T) {
	t.Parallel()
	access := make(map[string]any)
	for _, file := range []string{"components/config.yaml", "components/config-order.yaml", kubernetesFolder + "configurations.yaml"} {
		for document := range strings.SplitSeq(harness.Document(t, file), "\n---\n") {
			var configuration struct {
				Metadata struct{ Name string }
				Spec     struct {
					AppHTTPPipeline any            `json:"appHttpPipeline"`
					AccessControl   map[string]any `json:"accessControl"`
				}
			}
			harness.Must(t, yaml.Unmarshal([]byte(document), &configuration))
			filter := map[string]any{"handlers": []any{map[string]any{"name": "answered", "type": "middleware.http.wasm"}}}
			if diff := cmp.Diff(any(filter), configuration.Spec.AppHTTPPipeline); diff != "" {
				t.Errorf("%s: the filter of %s (-want +got):\n%s", file, configuration.Metadata.Name, diff)
			}
			access[filepath.Base(file)+" "+configuration.Metadata.Name] = configuration.Spec.AccessControl
		}
	}
	deny := map[string]any{"defaultAction": "deny"}
	if diff := cmp.Diff(map[string]any{
		"config.yaml orders":                    deny,
		"config-order.yaml order-service":       map[string]any(nil),
		"configurations.yaml inventory-service": deny,
		"configurations.yaml order-service":     map[string]any{"defaultAction": "allow"},
		"configurations.yaml dead-letters":      deny,
	}, access); diff != "" {
		t.Errorf("access (-want +got):\n%s", diff)
	}
}

// The services and daprhttp know nothing about the broker and the store behind their sidecars.
func TestNoBackendIsNamedInTheServices(t *testing.T) {
	t.Parallel()
	names := regexp.MustCompile(`(?i)redis|rabbit|postgres|sqlite|cosmos|service ?bus|kafka|azure`)
	files := projectFiles(t, "order/*.go", "inventory/*.go",
		"daprhttp/*.go", "daprhttp/deadletters/*.go", "daprhttp/once/*.go", "daprhttp/web/*.go")
	for _, file := range files {
		if name := names.FindString(strings.ReplaceAll(harness.Document(t, file), "components/redis", "")); name != "" { // the default's folder
			t.Errorf("%s names %s", file, name)
		}
	}
	if len(files) < 60 {
		t.Errorf("there are only the files %q", files)
	}
}

// The services run with the component files that `dapr init` leaves, too.
// TestComponentsOfDaprInit shows what is weaker then.
func TestDefaultComponentsOfDaprInit(t *testing.T) {
	t.Parallel()
	b := stack.Backends[0]
	b.Folder = "e2e/testdata/dapr-init"
	promiseWalkthrough(t, b)
}

// Of two sidecars that make the tables of a database at the same moment, one may end. So the
// second replica starts when the first has made them.
func TestOneSidecarMakesTheDatabase(t *testing.T) {
	t.Parallel()
	var file string
	var there []bool // when each replica was about to start
	harness.Start(t, harness.Options{
		Backend:  stack.Backends[2],
		Replicas: 3,
		Prepare: func(resources string) {
			file = filepath.Join(filepath.Dir(resources), "state", "inventory.db")
		},
		Each: func(o *stack.AppOptions) {
			if harness.IsInventory(o) {
				_, err := os.Stat(file)
				there = append(there, err == nil)
			}
		},
	})
	if want := []bool{false, true, true}; !slices.Equal(there, want) {
		t.Errorf("the database was there: %v, want %v", there, want)
	}
}
