package stack

import (
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"sync"
)

// The watchdog kills the programs that this process has started and left running when it
// ends, and deletes folders. A test binary that gets Ctrl-C or that runs out of time does
// not come to its cleanups, and the programs that it has started do not see the Ctrl-C.
//
// The watchdog is a shell in a process group of its own, which keeps a list that it reads
// from a pipe. When this process ends, even by kill -9, the pipe ends too.
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

// watchdog starts the watchdog the first time, and returns its pipe. On Windows, whose
// process groups can't be killed so, there is no watchdog.
var watchdog = sync.OnceValue(func() io.Writer {
	if runtime.GOOS == "windows" {
		return io.Discard
	}
	shell := exec.Command("sh", "-c", watchdogScript)
	setProcessGroup(shell)
	pipe, err := shell.StdinPipe()
	if err == nil {
		err = shell.Start()
	}
	if err != nil {
		return io.Discard
	}
	go func() { _ = shell.Wait() }()
	return pipe
})

// tellWatchdog writes one line of the watchdog's list: what it shall do, and to which
// process or folder.
func tellWatchdog(what string, which any) { fmt.Fprintln(watchdog(), what, which) }

// DeleteAtEnd deletes a folder when this process has ended, however it ends.
func DeleteAtEnd(folder string) { tellWatchdog("delete", folder) }
