package once

import (
	"crypto/rand"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// maxCommits is how many of its commits a record names.
const maxCommits = 16

// commits are the names of a record's latest commits, the newest first, separated by
// spaces.
type commits string

// An author is a replica that makes commits. The names of its commits begin with its own.
type author struct {
	name string
	made *atomic.Int64 // commits so far
}

func newAuthor() author { return author{rand.Text()[:12], new(atomic.Int64)} }

// next returns the name of the author's next commit. No other commit has that name.
func (a author) next() string {
	return a.name + "." + strconv.FormatInt(a.made.Add(1), 36)
}

// authorOf returns the name of the author of a commit.
func authorOf(commit string) string {
	name, _, _ := strings.Cut(commit, ".")
	return name
}

// has tells whether a commit is among those named.
func (c commits) has(commit string) bool {
	return commit != "" && slices.Contains(strings.Fields(string(c)), commit)
}

// with returns the names and that of a new commit. If one author made all commits, only
// the newest is named.
func (c commits) with(commit string) commits {
	names := append([]string{commit}, strings.Fields(string(c))...)
	all := commits(strings.Join(names[:min(len(names), maxCommits)], " "))
	if all.rivals(authorOf(commit)) == 0 {
		return commits(commit)
	}
	return all
}

// rivals returns how many authors besides this one made these commits.
func (c commits) rivals(author string) int {
	seen := []string{author}
	for _, commit := range strings.Fields(string(c)) {
		if name := authorOf(commit); !slices.Contains(seen, name) {
			seen = append(seen, name)
		}
	}
	return len(seen) - 1
}

// newestBy tells whether an author made the newest commit.
func (c commits) newestBy(author string) bool { return c != "" && authorOf(string(c)) == author }
