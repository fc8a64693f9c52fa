package stack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A SQLite is a SQLite database in a file of its own. It has no server that could
// be away; while it is locked, nothing can be written to it.
type SQLite struct {
	File string // where it is
	lock *os.File
}

// sqliteFile is how the project's component files name the database.
const sqliteFile = `"inventory.db`

// NewSQLite returns the database in dir, which the first sidecar will create.
func NewSQLite(dir string) (*SQLite, error) {
	return &SQLite{File: filepath.Join(dir, "inventory.db")}, os.MkdirAll(dir, 0o755)
}

// Address returns nothing: it has no port.
func (s *SQLite) Address() string { return "" }

// In returns the text of a component file with this database in the place of the
// one that the project's files name.
func (s *SQLite) In(component string) string {
	return strings.ReplaceAll(component, sqliteFile, `"`+filepath.ToSlash(s.File))
}

// Kill takes the database's write lock, as another program may that writes for
// long. Restart gives it back.
func (s *SQLite) Kill() {
	lock, err := os.OpenFile(s.File+"-shm", os.O_RDWR, 0)
	if err == nil {
		err = lockByte(lock, 120) // by which SQLite's writers lock each other out
	}
	if err != nil {
		panic(fmt.Sprintf("the database can't be locked: %v", err))
	}
	s.lock = lock
}

// Restart gives back what Kill has taken.
func (s *SQLite) Restart(context.Context) error { return s.lock.Close() }

// Stop does nothing: the database is closed when its last sidecar ends.
func (s *SQLite) Stop(time.Duration) error { return nil }
