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

	mu    sync.Mutex // held while files are renamed or removed
	count int        // of the letters: listing a million takes seconds
}

const (
	keptSuffix    = ".letter"
	sendingSuffix = ".sending" // the letter is being sent again
	partSuffix    = ".part"    // the letter is being written
)

var errNoLetter = errors.New("there is no such letter")

// openFolder opens a folder, which it makes if there is none. It keeps a letter that was
// being sent when the program ended: the letter may not have been sent.
func openFolder(dir string) (*folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	f := &folder{dir: dir}
	part, err := os.CreateTemp(dir, "*"+partSuffix) // fail now, and not with the first letter
	if err != nil {
		return nil, err
	}
	if err := errors.Join(part.Close(), os.Remove(part.Name())); err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		switch {
		case strings.HasSuffix(name, keptSuffix):
			f.count++
		case strings.HasSuffix(name, partSuffix):
			err = os.Remove(name)
		case strings.HasSuffix(name, sendingSuffix):
			err = f.keepAgain(strings.TrimSuffix(e.Name(), sendingSuffix))
		}
		if err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *folder) path(id, suffix string) string { return filepath.Join(f.dir, id+suffix) }

// keep keeps a letter, and reports whether the letter is new. A copy with a reason replaces
// one without.
func (f *folder) keep(id string, body []byte, reason bool) (isNew bool, err error) {
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
	before, err := os.ReadFile(f.path(id, keptSuffix))
	if err == nil && (!reason || readLetter(before).Reason != "") {
		return false, nil
	}
	isNew = err != nil
	if err := os.Rename(part.Name(), f.path(id, keptSuffix)); err != nil {
		return false, err
	}
	if isNew {
		f.count++
	}
	return isNew, f.sync()
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
		id, ok := strings.CutSuffix(e.Name(), keptSuffix)
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
	body, err := os.ReadFile(f.path(id, keptSuffix))
	return body, noLetter(err)
}

func noLetter(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errNoLetter
	}
	return err
}

// drop deletes a letter.
func (f *folder) drop(id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := os.Remove(f.path(id, keptSuffix))
	if err == nil {
		f.count--
	}
	return noLetter(err)
}

// take calls send with a letter, and deletes the letter when send returns nil. Meanwhile the
// same event may come back as another letter.
func (f *folder) take(id string, send func(body []byte) error) error {
	f.mu.Lock()
	err := os.Rename(f.path(id, keptSuffix), f.path(id, sendingSuffix))
	if err == nil {
		f.count--
	}
	f.mu.Unlock()
	if err != nil {
		return noLetter(err)
	}
	body, err := os.ReadFile(f.path(id, sendingSuffix))
	if err == nil {
		err = send(body)
	}
	if err != nil {
		return errors.Join(err, f.keepAgain(id))
	}
	if err := os.Remove(f.path(id, sendingSuffix)); err != nil {
		return fmt.Errorf("the letter was sent, but can't be deleted: %w", err)
	}
	return nil
}

// keepAgain keeps a letter that was not sent, unless the same letter has come back.
func (f *folder) keepAgain(id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := os.Stat(f.path(id, keptSuffix)); err == nil {
		return os.Remove(f.path(id, sendingSuffix))
	}
	err := os.Rename(f.path(id, sendingSuffix), f.path(id, keptSuffix))
	if err == nil {
		f.count++
	}
	return err
}
