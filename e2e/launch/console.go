package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// A console shows one terminal what several programs write: the services' lines
// as they are, behind the service's name; of the sidecars' only errors, since
// they write much. All that a sidecar writes goes to a file.
type console struct {
	mu   sync.Mutex
	w    io.Writer
	dir  string // of the log files
	logs map[string]*os.File
}

// printf shows one line of the launcher's own.
func (c *console) printf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.w, format+"\n", args...)
}

// Write shows what others report of their progress.
func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.w.Write(b)
}

// process takes a line that a service or a sidecar has written.
func (c *console) process(name, line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.HasSuffix(name, " sidecar") {
		c.log(name, line)
		if !strings.Contains(line, "level=error") && !strings.Contains(line, "level=fatal") {
			return
		}
	}
	fmt.Fprintf(c.w, "%s | %s\n", name, line)
}

// log adds a line to the file of a process, which begins anew with the launcher.
func (c *console) log(name, line string) {
	if c.logs == nil {
		c.logs = make(map[string]*os.File)
	}
	file, opened := c.logs[name]
	if !opened {
		var err error
		file, err = os.Create(filepath.Join(c.dir, strings.ReplaceAll(name, " ", "-")+".log"))
		if err != nil {
			fmt.Fprintf(c.w, "no log of %s is kept: %v\n", name, err)
		}
		c.logs[name] = file
	}
	if file != nil {
		fmt.Fprintln(file, line)
	}
}
