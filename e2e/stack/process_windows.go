package stack

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

func setProcessGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// terminationSignal ends a program at once: Windows has no way to ask one that
// has no window and no console of its own.
var terminationSignal = os.Kill

func killGroup(p *os.Process) error {
	return p.Kill()
}

// Freeze and Thaw are what no program can do to another on Windows.
func (p *Process) Freeze() error { return errors.ErrUnsupported }
func (p *Process) Thaw() error   { return errors.ErrUnsupported }

// What only servers need that the project does not start on Windows.

var immediateSignal = os.Kill

func asServer(*exec.Cmd) {}

func forServer(string) error { return nil }

func lockByte(*os.File, int64) error { return errors.ErrUnsupported }
