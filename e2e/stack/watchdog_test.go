//go:build unix

package stack

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What a test has started is gone when its process ends, even if that is killed.
func TestNothingOutlivesTheProcessThatStartedIt(t *testing.T) {
	if folder := os.Getenv("DELETE_AT_END"); folder != "" {
		DeleteAtEnd(folder)
		for i := range 3 {
			// Each holds the pipe open, and so does what it starts itself.
			p, err := Start(Command{Name: "a program", Path: "sh", Args: []string{"-c",
				`trap '' TERM INT HUP; exec 3>"$DELETE_AT_END/pipe"; sleep 600 & echo >&3; wait`}})
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 { // what has ended by itself is no longer anybody's
				p.Kill()
			}
		}
		if err := os.WriteFile(filepath.Join(folder, "pipe"), []byte("all are started\n"), 0); err != nil {
			t.Fatal(err)
		}
		<-make(chan struct{})
	}
	folder := filepath.Join(t.TempDir(), "a folder")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(folder, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	// For reading and writing, so as not to wait for the others.
	pipe, err := os.OpenFile(filepath.Join(folder, "pipe"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	reader, err := os.Open(filepath.Join(folder, "pipe"))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()

	other := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	other.Env = append(os.Environ(), "DELETE_AT_END="+folder)
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for !strings.Contains(said.String(), "all are started") || strings.Count(said.String(), "\n") < 3 {
		if _, err := io.CopyN(&said, reader, 1); err != nil {
			t.Fatal(err)
		}
	}
	_ = other.Process.Kill()
	_ = other.Wait()
	pipe.Close()
	if err := reader.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(reader); err != nil { // up to where nobody holds it any more
		t.Fatalf("what was started goes on: %v", err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(folder); os.IsNotExist(err) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the folder is still there")
		}
	}
}
