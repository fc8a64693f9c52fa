package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	taken map[string]bool // the IDs of the letters that take uses; true: the letter has come back meanwhile
}

const (
	letterSuffix = ".letter"
	partSuffix   = ".part" // the letter is being written
)

var errNoLetter = errors.New("there is no such letter")

// openFolder opens a folder, which it makes if there is none. It removes the files that a
// program has left half written.
func openFolder(dir string) (*folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	part, err := os.CreateTemp(dir, "*"+partSuffix) // fail now, and not with the first letter
	if err != nil {
		return nil, err
	}
	part.Close()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	f := &folder{dir: dir, taken: make(map[string]bool)}
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case letterSuffix:
			f.count++
		case partSuffix:
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

func (f *folder) path(id string) string { return filepath.Join(f.dir, id+letterSuffix) }

// keep keeps a letter, and reports whether the letter is new. A copy replaces one without a
// reason. A copy of a letter that is being sent is a new letter: its event has failed
// again.
func (f *folder) keep(id string, body []byte) (isNew bool, err error) {
	part, err := os.CreateTemp(f.dir, id+".*"+partSuffix)
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
	before, err := os.ReadFile(f.path(id))
	back, taken := f.taken[id]
	again := taken && !back
	if err == nil && !again && readLetter(before).Reason != "" {
		return false, f.sync() // a program that was killed may not have done so
	}
	if err := os.Rename(part.Name(), f.path(id)); err != nil {
		return false, err
	}
	if err != nil {
		f.count++
	}
	if again {
		f.taken[id] = true
	}
	return err != nil || again, f.sync()
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
		id, ok := strings.CutSuffix(e.Name(), letterSuffix)
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

// read returns a letter.
func (f *folder) read(id string) ([]byte, error) {
	body, err := os.ReadFile(f.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoLetter
	}
	return body, err
}

// take calls use with a letter. When use returns nil, take deletes the letter, unless the
// same event has come back as another letter.
func (f *folder) take(id string, use func(body []byte) error) error {
	f.mu.Lock()
	_, taken := f.taken[id]
	body, err := f.read(id)
	if err == nil && !taken {
		f.taken[id] = false
	}
	f.mu.Unlock()
	switch {
	case err != nil:
		return err
	case taken:
		return errors.New("the letter is being sent already")
	}
	err = use(body)
	f.mu.Lock()
	defer f.mu.Unlock()
	back := f.taken[id]
	delete(f.taken, id)
	if err != nil || back {
		return err
	}
	if err := os.Remove(f.path(id)); err != nil {
		return fmt.Errorf("the letter was sent or dropped, but can't be deleted: %w", err)
	}
	f.count--
	return nil
}
