package e2e

import (
	"go/scanner"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"example.com/dapr-orders/e2e/harness"
)

// documents returns the names of the project's documents.
func documents(t *testing.T) []string { return filesOf(t, ".md") }

// filesOf returns the names of the project's files with an extension.
func filesOf(t *testing.T, extension string) (names []string) {
	t.Helper()
	harness.Must(t, filepath.WalkDir(harness.Project.Root, func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && file != harness.Project.Root:
			return fs.SkipDir
		case path.Ext(file) == extension:
			name, err := filepath.Rel(harness.Project.Root, file)
			names = append(names, filepath.ToSlash(name))
			return err
		}
		return nil
	}))
	if len(names) < 15 {
		t.Fatalf("the project has only the files %q", names)
	}
	return names
}

// notPlain finds words and phrases for which there is a plainer one.
var notPlain = regexp.MustCompile(`(?i)\b(` + strings.Join([]string{
	"nobody", "somebody", "whoever", "else", "that which", "of which", "of whom", "so many", "as far as",
	"for ever", "mends?", "mended", "is let to", "are let to", "what becomes of", "all that is", "what is no",
	"comes? again", "stands? in", "beside", "some [0-9]+ ms", "counts? once", "counted,? once", "a machine may go",
}, "|") + `)\b`)

// Documents and comments are in plain words.
func TestDocumentsUsePlainWords(t *testing.T) {
	t.Parallel()
	without := func(code *regexp.Regexp) func(string) string {
		return func(text string) string {
			return code.ReplaceAllStringFunc(text, func(s string) string { return strings.Repeat("\n", strings.Count(s, "\n")) })
		}
	}
	for extension, words := range map[string]func(string) string{
		".md":   without(regexp.MustCompile("(?ms)^```.*?^```$|`[^`\n]*`|\\]\\([^)]*\\)")),
		".go":   commentsOf,
		".yaml": without(regexp.MustCompile(`(?m)^(?:.*?\s)??#|^.*$`)),
	} {
		for _, name := range filesOf(t, extension) {
			number := 0
			for line := range strings.Lines(words(harness.Document(t, name))) {
				number++
				if found := notPlain.FindString(line); found != "" {
					t.Errorf("%s:%d has the words %q: say it in plainer ones", name, number, found)
				}
			}
		}
	}
}

// commentsOf returns the comments of Go code, each in its line.
func commentsOf(code string) string {
	file := token.NewFileSet().AddFile("", -1, len(code))
	var tokens scanner.Scanner
	tokens.Init(file, []byte(code), nil, scanner.ScanComments)
	var comments strings.Builder
	for line := 1; ; {
		pos, kind, text := tokens.Scan()
		switch kind {
		case token.EOF:
			return comments.String()
		case token.COMMENT:
			comments.WriteString(strings.Repeat("\n", file.Line(pos)-line) + text)
			line = file.Line(pos) + strings.Count(text, "\n")
		}
	}
}

// The README is short, so that it is read.
func TestReadmeIsShort(t *testing.T) {
	t.Parallel()
	const budget = 262 // 67 of these lines are Go
	if lines := strings.Count(harness.Document(t, "README.md"), "\n"); lines > budget {
		t.Errorf("the README has %d lines, and its budget is %d: move details to another page", lines, budget)
	}
}

// A figure in the README is the figure on the page that it is from.
func TestReadmeHasTheFiguresOfOtherPages(t *testing.T) {
	t.Parallel()
	measured := harness.Document(t, "e2e/README.md")
	figures := harness.TableOf(t, "README.md", "load")
	for _, row := range figures {
		there := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(row[0]) + `[^|]*\| ` + regexp.QuoteMeta(row[1]) + ` \|`)
		if !there.MatchString(measured) {
			t.Errorf("e2e/README.md does not have %q for: %s", row[1], row[0])
		}
	}
	if len(figures) != 3 {
		t.Errorf("the README has %d figures of performance, want 3", len(figures))
	}
	lost := regexp.MustCompile(`applied ([0-9]+ to [0-9]+)`).FindStringSubmatch(harness.Document(t, "README.md"))
	if lost == nil || !strings.Contains(harness.Document(t, shortest), "| "+lost[1]+" applied |") {
		t.Errorf("%s does not say how many orders the shortest version applied: %q", shortest, lost)
	}
}
