package stack

import (
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"sync"
)

// The watchdog kills what this process has started and left running when it ends,
// however it ends: a test binary that gets Ctrl-C, or that its time has run out, does
// not come to its cleanups, and the processes it has started do not see the Ctrl-C. It
// deletes folders, too.
//
// It is a shell in a process group of its own, which keeps a list that it reads from a
// pipe. When this process ends, for whatever reason, the pipe does.
var watchdog dog

type dog struct {
	mu    sync.Mutex
	pipe  io.Writer
	tried bool
}

const watchdogScript = `
while read -r what which; do
	case $what in
	add) pids="$pids $which " ;;
	remove) pids=${pids%%" $which "*}${pids#*" $which "} ;;
	delete) folders="$folders
$which" ;;
	esac
done
for pid in $pids; do kill -s KILL -- "-$pid" 2>/dev/null; done
[ -z "$pids" ] || sleep 1
echo "$folders" | while read -r folder; do [ -z "$folder" ] || rm -rf -- "$folder"; done
`

// DeleteAtEnd deletes a folder when this process has ended, however it ends.
func DeleteAtEnd(folder string) { watchdog.tell("delete", folder) }

func (d *dog) add(pid int)    { d.tell("add", fmt.Sprint(pid)) }
func (d *dog) remove(pid int) { d.tell("remove", fmt.Sprint(pid)) }

// tell does nothing where there is no watchdog: on Windows, whose process groups can't
// be killed so.
func (d *dog) tell(what, which string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.tried {
		d.tried = true
		d.start()
	}
	if d.pipe != nil {
		fmt.Fprintln(d.pipe, what, which)
	}
}

func (d *dog) start() {
	if runtime.GOOS == "windows" {
		return
	}
	shell := exec.Command("sh", "-c", watchdogScript)
	setProcessGroup(shell)
	pipe, err := shell.StdinPipe()
	if err != nil {
		return
	}
	if shell.Start() == nil {
		d.pipe = pipe
		go func() { _ = shell.Wait() }()
	}
}
