package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// TestHTTPReferenceHeaders compares the headers on the page with those that the code names.
func TestHTTPReferenceHeaders(t *testing.T) {
	t.Parallel()
	documented := make(map[string]bool)
	for _, row := range tableOf(t, httpPage, "header") {
		for _, name := range code(row[0]) {
			documented[http.CanonicalHeaderKey(name)] = true
		}
	}
	used := map[string]bool{"Origin": true, "Sec-Fetch-Site": true, "Allow": true} // in net/http
	for _, name := range sources(t, "order", "inventory", "daprhttp", "daprhttp/web", "daprhttp/deadletters") {
		source, err := os.ReadFile(name)
		harness.Must(t, err)
		for _, match := range regexp.MustCompile(`\.(?:Get|Values|Set)\("([\w-]+)"[,)]|\w+Header += "([\w-]+)"`).FindAllSubmatch(source, -1) {
			used[http.CanonicalHeaderKey(string(match[1])+string(match[2]))] = true
		}
	}
	if diff := cmp.Diff(documented, used); diff != "" {
		t.Errorf("headers (-page +code):\n%s", diff)
	}
}

// TestHTTPReferenceVariables compares the environment variables on the page with those
// that each program asks for, with the list above its main function, and with what the
// program says of a wrong value.
func TestHTTPReferenceVariables(t *testing.T) {
	t.Parallel()
	order, inventory, keeper := programs()
	for i, p := range []*referred{order, inventory, keeper} {
		documented, rules := make(map[string]string), make(map[string]string)
		for _, row := range tableOf(t, httpPage, "variable") {
			for _, name := range code(row[0]) {
				if row[1+i] != "" {
					documented[name], rules[name] = row[1+i], row[4]
				}
			}
		}
		asked, main := askedFor(t, p.service.Folder)
		if diff := cmp.Diff(documented, asked); diff != "" {
			t.Errorf("variables of the %s (-page +code):\n%s", p.name, diff)
		}
		delete(documented, "GOGC") // not the program's own
		listed := inComment(main)
		for name, value := range listed {
			if value == "" {
				listed[name] = documented[name]
			}
		}
		if diff := cmp.Diff(documented, listed); diff != "" {
			t.Errorf("variables of the %s (-page +comment of main.go):\n%s", p.name, diff)
		}
		for name := range documented {
			t.Run(p.column+" "+name, func(t *testing.T) {
				t.Parallel()
				program := stack.Command{Name: p.name, Path: harness.Project.App(p.service).Program, Env: []string{name + "=" + os.DevNull + "/é"}}
				if p == keeper {
					program.Args = []string{"serve", "a", "b"}
				}
				process, err := stack.Start(program)
				harness.Must(t, err)
				defer process.Kill()
				select {
				case <-process.Done():
				case <-time.After(time.Minute):
				}
				if want := "must be " + rules[name]; !regexp.MustCompile(regexp.QuoteMeta(name) + ` .*` + regexp.QuoteMeta(want) + `(:|\n)`).MatchString(process.Log()) {
					t.Errorf("with a wrong %s it does not say %q:\n%s", name, want, process.Log())
				}
			})
		}
	}
}

// askedFor returns the variables that the code of a program asks for, with their
// defaults, and its main file.
func askedFor(t *testing.T, folder string) (variables map[string]string, main *ast.File) {
	variables = make(map[string]string)
	library := make(map[string]ast.Node) // the functions that ask for variables in the caller's place
	for _, file := range parsed(t, "daprhttp", "daprhttp/web") {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && slices.Contains([]string{"Main", "Addr", "ClientFromEnv"}, f.Name.Name) {
				library[f.Name.Name] = f.Body
			}
		}
	}
	value := func(e ast.Expr, fallback string) string {
		switch v := text(e); v {
		case "…":
			return fallback // a parameter
		case "":
			return "none"
		default:
			return v
		}
	}
	var walk func(in ast.Node, fallback string)
	walk = func(in ast.Node, fallback string) {
		calls(in, func(receiver, name string, args []ast.Expr) {
			switch {
			case receiver == "os" && name == "Getenv":
				variables[text(args[0])] = fallback
			case receiver == "debug" && name == "SetGCPercent":
				variables["GOGC"] = text(args[0])
			case receiver == "web" && name == "Main" || receiver == "env" && name == "Addr" || receiver == "daprhttp" && name == "ClientFromEnv":
				walk(library[name], text(args[len(args)-1]))
			case receiver == "" && name == "getenv":
				if _, withRule := variables[text(args[0])]; !withRule {
					variables[text(args[0])] = "read without a rule"
				}
			case receiver != "env" && !(receiver == "e" && in == library["Addr"]):
			case name == "Port":
				for _, variable := range args[1:] {
					variables[text(variable)] = value(args[0], fallback)
				}
			case name == "Secret" || name == "Pairs" || name == "URL":
				variables[text(args[0])] = "none"
			case name == "Flag":
				variables[text(args[0])] = "false"
			case name == "Duration":
				variables[text(args[0])] = strings.TrimSuffix(text(args[1]), "…") + "h" // 24*time.Hour
			case name == "Text" || name == "Name" || name == "OneOf":
				variables[text(args[0])] = value(args[1], fallback)
			case name == "Err" || name == "Fail" || name == "wrong":
			default:
				t.Errorf("%s calls %s.%s, which this test does not know", folder, receiver, name)
			}
		})
	}
	for _, file := range parsed(t, folder) {
		walk(file, "")
		if file.Doc != nil {
			main = file
		}
	}
	return variables, main
}

// inComment returns the variables in the comment of a command, with those defaults that
// stand there, in parentheses behind the last variable of a line.
func inComment(main *ast.File) map[string]string {
	variables := make(map[string]string)
	line := regexp.MustCompile(`(?m)^\t([A-Z]+(?:_[A-Z]+)*)(?:, or else (\w+))?  +[^/ ].*?(?:\(([^()]+)\))?$`)
	for _, match := range line.FindAllStringSubmatch(main.Doc.Text(), -1) {
		variables[match[1]] = match[3]
		if match[2] != "" {
			variables[match[1]], variables[match[2]] = "", match[3]
		}
	}
	return variables
}

// sources returns the names of the Go files of folders, without tests.
func sources(t *testing.T, folders ...string) (names []string) {
	t.Helper()
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(harness.Project.Root, filepath.FromSlash(folder), "*.go"))
		harness.Must(t, err)
		names = append(names, files...)
	}
	return slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, "_test.go") })
}

// parsed returns the Go files of folders, without tests.
func parsed(t *testing.T, folders ...string) (files []*ast.File) {
	t.Helper()
	for _, name := range sources(t, folders...) {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		harness.Must(t, err)
		files = append(files, file)
	}
	return files
}

// calls calls do for each call of a function or method in code.
func calls(in ast.Node, do func(receiver, name string, args []ast.Expr)) {
	ast.Inspect(in, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			switch f := call.Fun.(type) {
			case *ast.Ident:
				do("", f.Name, call.Args)
			case *ast.SelectorExpr:
				receiver, _ := f.X.(*ast.Ident)
				if receiver == nil {
					receiver = new(ast.Ident)
				}
				do(receiver.Name, f.Sel.Name, call.Args)
			}
		}
		return true
	})
}

// text returns the value of a text in code, with … for each part that is not constant.
func text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if value, err := strconv.Unquote(e.Value); err == nil {
			return value
		}
		return e.Value
	case *ast.BinaryExpr:
		return text(e.X) + text(e.Y)
	case *ast.CallExpr: // of fmt.Sprintf
		return regexp.MustCompile(`%\w`).ReplaceAllString(text(e.Args[0]), "…")
	}
	return "…"
}
