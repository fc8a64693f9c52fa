package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// A componentFile is a Dapr component as
// https://docs.dapr.io/reference/resource-specs/component-schema/ describes it.
type componentFile struct {
	APIVersion string `json:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	Spec       struct {
		Type     string
		Version  string
		Metadata []struct {
			Name         string
			Value        *string
			SecretKeyRef *struct{ Name, Key string } `json:"secretKeyRef"`
			EnvRef       string                      `json:"envRef"`
		}
	}
	Auth struct {
		SecretStore string `json:"secretStore"`
	}
	Scopes []string
}

// A componentSchema is what components-contrib says of a component, in the file
// metadata.yaml beside its source.
type componentSchema struct {
	Type, Name, Version    string
	Capabilities           []string
	Metadata               []setting
	AuthenticationProfiles []struct{ Metadata []setting } `json:"authenticationProfiles"`
	BuiltinProfiles        []struct{ Metadata []setting } `json:"builtinAuthenticationProfiles"`
}

type setting struct {
	Name          string
	Required      bool
	Sensitive     bool
	Type          string
	AllowedValues []string `json:"allowedValues"`
}

// What Dapr itself reads of every pub/sub component.
var pubsubSettings = []setting{{Name: "protectedTopics"}, {Name: "allowedTopics"}, {Name: "publishingScopes"}, {Name: "subscriptionScopes"}, {Name: "consumerID"}}

// Every component file of the project says only what its component knows, with
// values that it takes, and leaves nothing out that it needs.
func TestComponentFilesAreWhatTheirComponentsTake(t *testing.T) {
	t.Parallel()
	schemas := readSchemas(t)
	var files []string
	harness.Must(t, filepath.WalkDir(filepath.Join(harness.Project.Root, "components"), func(path string, entry os.DirEntry, err error) error {
		switch name := entry.Name(); {
		case name == "run" || name == "kubernetes": // apps, not components
			return filepath.SkipDir
		case strings.HasSuffix(name, ".yaml") && name != "resiliency.yaml" && name != "compose.yaml" && !strings.HasPrefix(name, "config"):
			files = append(files, path)
		}
		return err
	}))
	if len(files) < 24 {
		t.Errorf("there are only the component files %v", files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		harness.Must(t, err)
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
		{"redis/answered.yaml", "name: url", "name: path", "path"},
		{"redis/pubsub.yaml", "name: concurrency", "name: concurency", "concurency"},
		{"redis/pubsub.yaml", `value: "50"`, `value: "many"`, "many"},
		{"redis/pubsub.yaml", `value: "1000"`, `value: "1s"`, "redeliverInterval"},
		{"redis/pubsub.yaml", "type: pubsub.redis", "type: pubsub.reddis", "pubsub.reddis"},
		{"redis/pubsub.yaml", "name: redisHost", "name: redisDB", "redisHost"},
		{"redis/pubsub.yaml", "kind: Component", "kind: Komponent", "Komponent"},
		{"redis/pubsub.yaml", "    - name: redisPassword\n      value: \"\"\n", "    - name: redisHost\n      value: \"\"\n", "twice"},
		{"redis/statestore.yaml", "scopes:", "scope:", "scope"},
		{"rabbitmq-postgres/statestore.yaml", "version: v2", "version: v3", "v3"},
		{"rabbitmq-postgres/statestore.yaml", "name: connectionString", "name: host", "log in"},
		{"azure/statestore.yaml", "name: database", "name: collection", "database"},
		{"azure/statestore.yaml", "      secretKeyRef:\n        name: COSMOS_KEY\n        key: COSMOS_KEY\n", "      value: \"a secret\"\n", "a secret is written out"},
		{"azure/statestore.yaml", "auth:\n  secretStore: secrets\n", "", "secret"},
	} {
		text, err := os.ReadFile(filepath.Join(harness.Project.Root, "components", wrong.file))
		harness.Must(t, err)
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
	if bytes.Contains(text, []byte("\n---")) {
		return fmt.Errorf("it has more than one document")
	}
	var c componentFile
	if err := yaml.UnmarshalStrict(text, &c); err != nil {
		return err
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
		sources := 0
		for _, has := range []bool{m.Value != nil, m.SecretKeyRef != nil, m.EnvRef != ""} {
			if has {
				sources++
			}
		}
		switch {
		case sources != 1:
			wrong = append(wrong, fmt.Errorf("%s has to have a value or a secret", m.Name))
		case m.EnvRef != "": // its value is not known here
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
		if s.Name == "redeliverInterval" { // pubsub.redis (1.18.2) ignores a duration here
			_, err = strconv.Atoi(value)
		} else {
			_, err = time.ParseDuration(value)
		}
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
	schemas := make(map[string]componentSchema)
	harness.Must(t, filepath.WalkDir(harness.DaprModule(t, "github.com/dapr/components-contrib"), func(path string, entry os.DirEntry, err error) error {
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
		kind := s.Type
		if kind == "middleware" { // whose components' types are middleware.http.…
			kind = "middleware.http"
		}
		schemas[kind+"."+s.Name+" "+s.Version] = s
		return nil
	}))
	return schemas
}

// Dapr's other resources say only what Dapr knows: a sidecar passes over what it does
// not.
func TestResourcesAreWhatDaprTakes(t *testing.T) {
	t.Parallel()
	for file, definition := range map[string]string{
		"redis/resiliency.yaml":         "resiliency.yaml", // the others are the same, as a test says
		"mqtt-postgres/resiliency.yaml": "resiliency.yaml",
		"config.yaml":                   "configuration.yaml",
		"config-order.yaml":             "configuration.yaml",
	} {
		schema := readResourceSchema(t, definition)
		text, err := os.ReadFile(filepath.Join(harness.Project.Root, "components", file))
		harness.Must(t, err)
		check := func(text []byte) error {
			var resource any
			if err := yaml.UnmarshalStrict(text, &resource); err != nil {
				return err
			}
			return schema.check("", resource)
		}
		if err := check(text); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		// Each field that is misspelt is noticed.
		for _, field := range regexp.MustCompile(`(?m)^\s*(?:- )?(policy|duration|maxRetries|targets|apps|inbound|accessControl|defaultAction|operations|httpVerb|name|appHttpPipeline|handlers|samplingRate):`).FindAllSubmatch(text, -1) {
			if check(bytes.ReplaceAll(text, append(field[1], ':'), append(field[1], "x:"...))) == nil {
				t.Errorf("%s: %sx is not noticed", file, field[1])
			}
		}
	}
}

// readResourceSchema returns the schema of a custom resource of Dapr's.
func readResourceSchema(t *testing.T, definition string) resourceSchema {
	t.Helper()
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema resourceSchema
				}
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(harness.DaprModule(t, "github.com/dapr/dapr"), "charts", "dapr", "crds", definition))
	harness.Must(t, err)
	harness.Must(t, yaml.Unmarshal(text, &crd))
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	schema.Properties["metadata"] = resourceSchema{Properties: map[string]resourceSchema{"name": {Type: "string"}}}
	return schema
}

// A resourceSchema is a part of a CustomResourceDefinition,
// https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema.
type resourceSchema struct {
	Type                 string
	Properties           map[string]resourceSchema
	AdditionalProperties *resourceSchema
	Items                *resourceSchema
	Required             []string
	Any                  bool `json:"x-kubernetes-preserve-unknown-fields"`
}

// check returns what a resource says that the schema does not know, or leaves out
// that it requires.
func (s resourceSchema) check(path string, value any) error {
	if s.Any {
		return nil
	}
	var wrong []error
	switch v := value.(type) {
	case map[string]any:
		for name, value := range v {
			field, known := s.Properties[name]
			if !known && s.AdditionalProperties != nil {
				field, known = *s.AdditionalProperties, true
			}
			if !known {
				wrong = append(wrong, fmt.Errorf("%s has no field %s", path, name))
				continue
			}
			wrong = append(wrong, field.check(path+"."+name, value))
		}
		for _, name := range s.Required {
			if v[name] == nil {
				wrong = append(wrong, fmt.Errorf("%s needs %s", path, name))
			}
		}
	case []any:
		for i, value := range v {
			if s.Items == nil {
				return fmt.Errorf("%s is no list", path)
			}
			wrong = append(wrong, s.Items.check(fmt.Sprintf("%s[%d]", path, i), value))
		}
	default:
		kind := "" // of which no field is
		switch value.(type) {
		case string:
			kind = "string"
		case float64:
			kind = "integer"
		case bool:
			kind = "boolean"
		}
		if kind == "" || kind != s.Type {
			wrong = append(wrong, fmt.Errorf("%s is %v, and not of type %s", path, value, s.Type))
		}
	}
	return errors.Join(wrong...)
}

// Files that are the same for several backends have not been changed for one of
// them alone.
func TestBackendsShareTheirFiles(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(harness.Project.Root, "components", name))
		harness.Must(t, err)
		return string(text)
	}
	folders := map[string][]string{ // beside redis, and what is the same there
		"rabbitmq-postgres": nil,
		"mqtt-postgres":     nil,
		"replicated":        nil,
		"sqlite":            {"pubsub.yaml", "retry.yaml"},
		"azure":             nil,
	}
	for folder, files := range folders {
		for _, file := range append(files, "resiliency.yaml", stack.FilterFile) {
			own := folder == "mqtt-postgres" && file == "resiliency.yaml" // has no retry topic
			if !own && read(folder+"/"+file) != read("redis/"+file) {
				t.Errorf("components/%s/%s differs from components/redis/%s", folder, file, file)
			}
		}
	}
	if read("rabbitmq-postgres/statestore.yaml") != read("mqtt-postgres/statestore.yaml") {
		t.Error("the folders with PostgreSQL have different statestore.yaml")
	}

	// Nothing but YAML stands in a backend's folder: the Dapr CLI warns of anything else.
	entries, err := os.ReadDir(filepath.Join(harness.Project.Root, "components"))
	harness.Must(t, err)
	for _, folder := range entries {
		_, backend := folders[folder.Name()]
		if !folder.IsDir() || folder.Name() == "run" || folder.Name() == "kubernetes" {
			continue
		}
		if !backend && folder.Name() != "redis" {
			t.Errorf("it is not known what is in components/%s", folder.Name())
		}
		files, err := os.ReadDir(filepath.Join(harness.Project.Root, "components", folder.Name()))
		harness.Must(t, err)
		for _, file := range files {
			if file.IsDir() || filepath.Ext(file.Name()) != ".yaml" {
				t.Errorf("components/%s/%s is not YAML", folder.Name(), file.Name())
			}
		}
	}
}

// The order service's Configuration differs from that of the other apps in access control
// alone: other apps may call it.
func TestConfigurationsDifferInAccessControl(t *testing.T) {
	t.Parallel()
	read := func(name string) (metadata any, spec map[string]any) {
		var configuration struct {
			Metadata any
			Spec     map[string]any
		}
		text, err := os.ReadFile(filepath.Join(harness.Project.Root, "components", name))
		harness.Must(t, err)
		harness.Must(t, yaml.Unmarshal(text, &configuration))
		return configuration.Metadata, configuration.Spec
	}
	name, denies := read(stack.DefaultConfig)
	other, allows := read(stack.Order.Config)
	if diff := cmp.Diff(map[string]any{"defaultAction": "deny"}, denies["accessControl"]); diff != "" {
		t.Errorf("access control (-want +got):\n%s", diff)
	}
	delete(denies, "accessControl")
	if diff := cmp.Diff(denies, allows); diff != "" || cmp.Equal(name, other) {
		t.Errorf("the names are %v and %v; the Configurations (-others +order):\n%s", name, other, diff)
	}
}

// The two services and daprhttp know nothing of what is behind their sidecars.
func TestNoBackendIsNamedInTheServices(t *testing.T) {
	t.Parallel()
	names := regexp.MustCompile(`(?i)redis|rabbit|postgres|sqlite|cosmos|service ?bus|kafka|azure`)
	for _, folder := range []string{"order", "inventory", "daprhttp"} {
		files := 0
		harness.Must(t, filepath.WalkDir(filepath.Join(harness.Project.Root, folder), func(file string, entry fs.DirEntry, err error) error {
			switch {
			case err == nil && entry.Name() == "daprtest": // says whose answers it gives
				return filepath.SkipDir
			case err != nil || filepath.Ext(file) != ".go":
				return err
			}
			files++
			text, err := os.ReadFile(file)
			if name := names.Find(bytes.ReplaceAll(text, []byte("components/redis"), nil)); name != nil { // the default's folder
				t.Errorf("%s names %s", file, name)
			}
			return err
		}))
		if files < 3 {
			t.Errorf("there are %d files in %s", files, folder)
		}
	}
}

// The services run with the component files that `dapr init` leaves, too. What is
// weaker then is what the README says: an order that can't be counted at once is
// not tried again, and goes to the dead-letter topic.
func TestDefaultComponentsOfDaprInit(t *testing.T) {
	t.Parallel()
	harness.NeedsOwnRedis(t)
	b := stack.Backends[0]
	b.Folder = "e2e/testdata/dapr-init"
	promiseWalkthrough(t, b)

	const orders = 20
	s := harness.Start(t, harness.Options{Backend: b, SeparateState: true})
	if s.Configs != "" {
		t.Error("the sidecars have a Configuration; `dapr run` with these files has none of the project's")
	}
	s.SetStock("item1", orders)
	s.State.Kill()
	harness.InParallel(orders, 4, func(i int) { s.Place(fmt.Sprint("order-", i), "item1", 1) })
	s.Drained("inventory-service")
	harness.Must(t, s.State.Restart(t.Context()))
	var stock int
	harness.WaitFor(t, time.Minute, func() (err error) { stock, err = s.Stock("item1"); return err })
	t.Logf("%d of %d orders counted, %d in the dead-letter topic", orders-stock, orders, s.DeadLetters())
	if counted := orders - stock; counted+s.DeadLetters() != orders {
		t.Errorf("of %d orders %d are counted and %d in the dead-letter topic", orders, counted, s.DeadLetters())
	}
}

// Of two sidecars that make the tables of a database at the same moment, one may end: the
// second replica is started when the first has made them.
func TestOneSidecarMakesTheDatabase(t *testing.T) {
	t.Parallel()
	harness.NeedsOwnRedis(t)
	var file string
	var there []bool // when each replica was about to be started
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
