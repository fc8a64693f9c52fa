package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/harness"
)

// TestHTTPReferenceVariables compares the environment variables on the page with what each
// program says about a wrong value, with its code, and with the comment above its main function.
func TestHTTPReferenceVariables(t *testing.T) {
	t.Parallel()
	for i, p := range describedPrograms() {
		source := sourceOf(t, p.service.Folder, "daprhttp/web") + harness.Document(t, "daprhttp/client.go")
		var documented []string
		for _, row := range harness.TableOf(t, httpPage, "variable") {
			value, rule := row[1+i], row[4]
			for _, name := range harness.Code(row[0]) {
				if value != "" {
					documented = append(documented, name)
				}
				t.Run(p.column+" "+name, func(t *testing.T) {
					t.Parallel()
					checkWrongValue(t, p, name, value, rule)
					checkDefault(t, source, name, value)
				})
			}
		}
		for _, match := range regexp.MustCompile(`\b(?:env|e)\.[A-Z]\w+\("([A-Z_]+)"`).FindAllStringSubmatch(source, -1) {
			if !slices.Contains(documented, match[1]) {
				t.Errorf("the page does not say that the %s reads %s", p.name, match[1])
			}
		}
		for _, match := range regexp.MustCompile(`(?m)^//\t([A-Z_]+),? +\w`).FindAllStringSubmatch(source, -1) {
			if !slices.Contains(documented, match[1]) {
				t.Errorf("the page does not have %s, which the comment of the %s has", match[1], p.name)
			}
		}
	}
}

// checkWrongValue checks that a program refuses a wrong value with the page's rule, or does
// not read the variable when the page has no default for it.
func checkWrongValue(t *testing.T, p *described, name, value, rule string) {
	process := startAlone(t, p.service, "APP_HOST=192.0.2.1", name+"=/dev/null/é") // no machine has this address: the program ends
	select {
	case <-process.Done():
	case <-time.After(time.Minute):
		t.Errorf("with a wrong %s the %s does not end", name, p.name)
	}
	says := regexp.MustCompile(name + ` .*must be ` + regexp.QuoteMeta(rule) + `(:|\n)`)
	switch {
	case value == "" && strings.Contains(process.Log(), name):
		t.Errorf("the page says that the %s does not read %s:\n%s", p.name, name, process.Log())
	case value != "" && rule != "" && !says.MatchString(process.Log()):
		t.Errorf("with a wrong %s it does not say %q:\n%s", name, "must be "+rule, process.Log())
	}
}

// checkDefault checks that the code and its comment have the page's default.
func checkDefault(t *testing.T, source, name, value string) {
	if value == "" {
		return
	}
	comment, code := `(?m)^//\t.*\b`+name+`\b.*`, `"`+name+`"`
	if value != "none" && value != "false" {
		comment += `\(` + value + `\)$`
		code = map[string]string{
			"PORT": "env.Addr(%s)", "APP_PORT": "env.Addr(%s)", "DAPR_HTTP_PORT": "ClientFromEnv(getenv, %s)",
			"MARKER_TTL": `"MARKER_TTL", %.2s*time.Hour`, "GOGC": "SetGCPercent(%s)",
		}[name]
		if code == "" {
			code = `"` + name + `", "%s"`
		}
		code = fmt.Sprintf(code, value)
	}
	if !strings.Contains(source, code) {
		t.Errorf("the code does not have %s, as the page has it", code)
	}
	if name != "GOGC" && !regexp.MustCompile(comment).MatchString(source) { // the runtime's own variable
		t.Errorf("the comment of the program does not have %s with the default %s", name, value)
	}
}
