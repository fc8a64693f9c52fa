//go:build unix

package stack

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/matryer/is"
)

// What a test has started is gone when its process ends, even if that is killed. So is a
// folder that it wanted deleted.
func TestNothingOutlivesTheProcessThatStartedIt(t *testing.T) {
	is := is.New(t)
	if folder := os.Getenv("DELETE_AT_END"); folder != "" {
		startAndStay(t, folder)
	}
	folder := filepath.Join(t.TempDir(), "a folder")
	is.NoErr(os.Mkdir(folder, 0o755))
	fifo := filepath.Join(folder, "pipe")
	is.NoErr(syscall.Mkfifo(fifo, 0o600))
	writer, err := os.OpenFile(fifo, os.O_RDWR, 0) // so that opening the pipe does not wait for a program
	is.NoErr(err)
	reader, err := os.Open(fifo)
	is.NoErr(err)
	defer reader.Close()

	other := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	other.Env = append(os.Environ(), "DELETE_AT_END="+folder)
	is.NoErr(other.Start())
	lines := bufio.NewReader(reader)
	for range programs + 1 {
		_, err := lines.ReadString('\n')
		is.NoErr(err)
	}
	is.NoErr(other.Process.Kill())
	_ = other.Wait()
	writer.Close()
	is.NoErr(reader.SetReadDeadline(time.Now().Add(30 * time.Second)))
	_, err = io.ReadAll(lines)
	is.NoErr(err) // no program holds the pipe any more
	deadline := time.Now().Add(30 * time.Second)
	for _, err = os.Stat(folder); err == nil; _, err = os.Stat(folder) {
		is.True(time.Now().Before(deadline)) // the folder is deleted
		time.Sleep(20 * time.Millisecond)
	}
}

const programs = 2

// startAndStay starts programs that end at no signal but kill -9. Each holds the pipe in
// the folder open, and so does the program that it starts itself. Each writes a line to the
// pipe, and so does startAndStay when the watchdog knows the programs.
func startAndStay(t *testing.T, folder string) {
	is, pipe := is.New(t), filepath.Join(folder, "pipe")
	DeleteAtEnd(folder)
	ended, err := Start(Command{Name: "a program that ends before", Path: "sleep", Args: []string{"600"}})
	is.NoErr(err)
	ended.Kill()
	for range programs {
		_, err := Start(Command{Name: "a program", Path: "sh", Env: []string{"PIPE=" + pipe}, Args: []string{"-c",
			`trap '' TERM INT HUP; exec 3>"$PIPE"; sleep 600 & echo started >&3; wait`}})
		is.NoErr(err)
	}
	is.NoErr(os.WriteFile(pipe, []byte("started\n"), 0))
	select {}
}
