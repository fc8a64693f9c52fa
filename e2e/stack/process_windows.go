package stack

import (
	"os"
	"os/exec"
	"syscall"
)

func setProcessGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// terminate ends the program at once: Windows has no way to ask a program that
// has no window and no console of its own.
func terminate(p *os.Process) error {
	return p.Kill()
}

func killGroup(p *os.Process) error {
	return p.Kill()
}
