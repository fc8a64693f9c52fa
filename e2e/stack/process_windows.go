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

func killGroup(p *os.Process) error { return p.Kill() }

// Freeze returns an error: on Windows no program can do that to another.
func (p *Process) Freeze() error { return errors.ErrUnsupported }

// Thaw returns an error, as Freeze does.
func (p *Process) Thaw() error { return errors.ErrUnsupported }

// The servers that need these do not run on Windows.

func asServer(*exec.Cmd, string) {}

func lockByte(*os.File, int64) error { return errors.ErrUnsupported }
