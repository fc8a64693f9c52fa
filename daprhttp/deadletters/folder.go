package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// A folder keeps letters on the disk, each in a file.
type folder struct {
	dir string

	mu    sync.Mutex      // held while files are renamed or removed
	count int             // of the letters: listing a million takes seconds
	inUse map[string]*use // by the ID of the letter
}

// A use is the time during which take sends or drops a letter.
type use struct {
	cameBack bool // the same event came as a letter again
}

const letterSuffix = ".letter"

// partName returns the name of a file in which a letter is being written. [os.CreateTemp]
// puts digits in the place of the asterisk.
func partName(id string) string { return id + ".*.part" }

var partPattern = regexp.MustCompile(`^[a-z2-7]{16}\.[0-9]+\.part$`)

// idOf returns the ID of the letter in a file. A file of another name has none.
func idOf(fileName string) (id string, ok bool) {
	id, ok = strings.CutSuffix(fileName, letterSuffix)
	return id, ok && idPattern.MatchString(id)
}

var idPattern = regexp.MustCompile(`^[a-z2-7]{16}$`)

var errNoLetter = errors.New("there is no such letter")

// openFolder opens a folder, which it makes if there is none. It removes the letters
// that a keeper has left half written, and no file of another program.
func openFolder(dir string) (*folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	part, err := os.CreateTemp(dir, partName(letter{}.id())) // fail now, and not with the first letter
	if err != nil {
		return nil, err
	}
	part.Close()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	f := &folder{dir: dir, inUse: make(map[string]*use)}
	for _, e := range entries {
		if _, ok := idOf(e.Name()); ok {
			f.count++
		}
		if e.Type().IsRegular() && partPattern.MatchString(e.Name()) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

func (f *folder) path(id string) string { return filepath.Join(f.dir, id+letterSuffix) }

// keep keeps a letter, and reports whether the letter is new. A copy replaces a letter that
// has no reason or can't be read. A copy of a letter that is being sent is a new letter: its
// event has failed again.
func (f *folder) keep(id string, body []byte) (isNew bool, err error) {
	part, err := os.CreateTemp(f.dir, partName(id))
	if err != nil {
		return false, err
	}
	defer os.Remove(part.Name()) // it fails after the file was renamed
	_, err = part.Write(body)
	if err == nil {
		err = part.Sync()
	}
	if err := errors.Join(err, part.Close()); err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	before, err := f.read(id)
	u := f.inUse[id]
	failedAgain := u != nil && !u.cameBack
	if err == nil && !failedAgain && readLetter(before).Reason != "" {
		return false, f.sync() // a program that was killed may not have done so
	}
	if err := os.Rename(part.Name(), f.path(id)); err != nil {
		return false, err
	}
	if err == errNoLetter {
		f.count++
	}
	if failedAgain {
		u.cameBack = true
	}
	return err == errNoLetter || failedAgain, f.sync()
}

// sync writes the names of the files to the disk, on systems that can do so.
func (f *folder) sync() error {
	dir, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	_ = dir.Sync() // Windows can't sync a folder
	return dir.Close()
}

// size returns how many letters are kept.
func (f *folder) size() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// A keptLetter is a letter in the folder.
type keptLetter struct {
	id         string
	receivedAt time.Time
}

// list returns the letters, the oldest first.
func (f *folder) list() ([]keptLetter, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, err
	}
	var letters []keptLetter
	for _, e := range entries {
		id, ok := idOf(e.Name())
		if !ok {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) { // just sent, or dropped
			continue
		}
		if err != nil {
			return nil, err
		}
		letters = append(letters, keptLetter{id, info.ModTime()})
	}
	slices.SortStableFunc(letters, func(a, b keptLetter) int { return a.receivedAt.Compare(b.receivedAt) })
	return letters, nil
}

func (f *folder) read(id string) ([]byte, error) {
	if !idPattern.MatchString(id) { // it may lead out of the folder
		return nil, errNoLetter
	}
	body, err := os.ReadFile(f.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoLetter
	}
	return body, err
}

// take calls do with a letter. When do returns nil, take deletes the letter, unless the
// same event has come back as another letter.
func (f *folder) take(id string, do func(body []byte) error) error {
	f.mu.Lock()
	u := new(use)
	taken := f.inUse[id] != nil
	body, err := f.read(id)
	if err == nil && !taken {
		f.inUse[id] = u
	}
	f.mu.Unlock()
	switch {
	case err != nil:
		return err
	case taken:
		return errors.New("the letter is being sent already")
	}
	err = do(body)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.inUse, id)
	if err != nil || u.cameBack {
		return err
	}
	if err := os.Remove(f.path(id)); err != nil {
		return fmt.Errorf("the letter was sent or dropped, but can't be deleted: %w", err)
	}
	f.count--
	return nil
}
