package stack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// A SQLite is a SQLite database in a file of its own. It has no server that could be away;
// while it is locked, nothing can be written to it.
type SQLite struct {
	naming
	File string // the database
	lock *os.File
}

// sqliteFile is how the project's component files name the database.
const sqliteFile = `"inventory.db`

// NewSQLite returns the database in dir, which the first sidecar will create.
func NewSQLite(dir string) (*SQLite, error) {
	file := filepath.Join(dir, "inventory.db")
	return &SQLite{File: file, naming: naming{sqliteFile, `"` + filepath.ToSlash(file)}}, os.MkdirAll(dir, 0o755)
}

// Address returns "": the database has no port.
func (s *SQLite) Address() string { return "" }

// Kill takes the database's write lock, as another program does that writes for long.
// Restart gives the lock back.
func (s *SQLite) Kill() {
	lock, err := os.OpenFile(s.File+"-shm", os.O_RDWR, 0)
	if err == nil {
		err = lockByte(lock, 120) // with which SQLite's writers lock each other out
	}
	if err != nil {
		panic(fmt.Sprintf("the database can't be locked: %v", err))
	}
	s.lock = lock
}

// Restart gives back the lock that Kill has taken.
func (s *SQLite) Restart(context.Context) error { return s.lock.Close() }

// Stop does nothing: the database is closed when its last sidecar ends.
func (s *SQLite) Stop(time.Duration) error { return nil }
