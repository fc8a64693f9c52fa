package once

import (
	cryptorand "crypto/rand"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Replicas that change the same value at the same time get into each other's way:
// of those that have read one record only the first can save, and the others have
// done their work for nothing. Left to themselves, the one that has just won has
// also just read, and goes on winning.
//
// So they take turns. A record names the authors of its latest commits, and from
// that each replica knows its place in the line: before it are those that saved
// less recently than it did. It gives each of them the time of one commit, once,
// and then takes its own turn whoever else has taken theirs. Whoever has just
// saved has all the others before it, and whoever has not saved for long none.
// What arrives meanwhile is committed together, so that no throughput is lost.

// commits are the names of a record's latest commits, the newest first, with
// spaces between them.
type commits string

// maxCommits is how many of its commits a record names: of more replicas than
// this, those that are not named have nobody before them.
const maxCommits = 16

// An author makes commits. Their names begin with its own.
type author struct {
	name string
	made atomic.Int64 // commits so far
}

func newAuthor() *author { return &author{name: cryptorand.Text()[:8]} }

// next returns the name of the author's next commit.
func (a *author) next() string {
	return a.name + "." + strconv.FormatInt(a.made.Add(1), 36)
}

// authorOf returns who made a commit.
func authorOf(commit string) string {
	name, _, _ := strings.Cut(commit, ".")
	return name
}

// has reports whether a commit is one of those named.
func (c commits) has(commit string) bool {
	return commit != "" && slices.Contains(strings.Fields(string(c)), commit)
}

// with returns the names with that of a new commit. Where all are by one author,
// nobody needs but the newest.
func (c commits) with(commit string) commits {
	names := append([]string{commit}, strings.Fields(string(c))...)
	names = names[:min(len(names), maxCommits)]
	if !slices.ContainsFunc(names, func(name string) bool { return authorOf(name) != authorOf(commit) }) {
		names = names[:1]
	}
	return commits(strings.Join(names, " "))
}

// authors returns who made the commits, whoever made the newest first.
func (c commits) authors() (authors []string) {
	for _, name := range strings.Fields(string(c)) {
		if a := authorOf(name); !slices.Contains(authors, a) {
			authors = append(authors, a)
		}
	}
	return authors
}

// newestBy reports whether the newest commit is by an author.
func (c commits) newestBy(author string) bool {
	return c != "" && authorOf(string(c)) == author
}

// before returns how many other authors are before this one in the line.
func (c commits) before(author string) int {
	authors := c.authors()
	place := slices.Index(authors, author)
	if place < 0 {
		return 0
	}
	return len(authors) - 1 - place
}

// A pace says when the changes of one key may be committed.
type pace struct {
	due    time.Time     // not before
	paused bool          // the pause before the next save is over
	took   time.Duration // the last commit
	faults int           // saves that failed, one after another, though nobody else had saved
	lost   *lostSave     // the last save, if it failed
}

// A lostSave is a save that failed, against an ETag.
type lostSave struct {
	etag string
	err  error
}

// read takes in what ETag a record has now, whether its newest commit is this
// author's own, and how many are before this one in the line. It returns how long to
// pause before a save, if at all, and when saves fail and nobody else is the reason,
// why.
func (p *pace) read(etag string, own bool, before int) (pause time.Duration, fault error) {
	if p.lost != nil {
		if p.lost.etag != etag && !own {
			p.faults = 0 // somebody else was faster
		} else if !p.paused {
			p.faults++
		}
	}
	switch {
	case p.paused:
		return 0, nil
	case p.faults > 0:
		pause, fault = backoff(p.faults), p.lost.err
	default:
		pause = turns(before, p.took)
	}
	p.pause(pause)
	return pause, fault
}

// maxPause bounds how long to wait for others: a commit that hung says nothing of
// the next ones.
const maxPause = 5 * time.Second

// turns returns how long so many others may take.
func turns(others int, took time.Duration) time.Duration {
	return min(time.Duration(others)*took, maxPause)
}

func (p *pace) pause(d time.Duration) {
	p.paused = true
	p.due = time.Now().Add(d)
}

// saved takes in that a commit has got through, and how many are before this
// author in the line now.
func (p *pace) saved(took time.Duration, before int) {
	p.took, p.faults, p.lost = took, 0, nil
	p.pause(turns(before, took))
}

// failed takes in that a save against an ETag has failed.
func (p *pace) failed(took time.Duration, etag string, err error) {
	p.took, p.paused, p.lost = took, false, &lostSave{etag, err}
}

// backoff returns how long to wait after so many faults: a random time, so that
// replicas that met do not meet again.
func backoff(faults int) time.Duration {
	return rand.N(min(4*time.Millisecond<<min(faults, 10), 500*time.Millisecond)) + 1
}
