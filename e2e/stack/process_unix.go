//go:build unix

package stack

import (
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

func setProcessGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}

// killGroup kills a program and the programs that it has started, as the build of the
// sidecar starts compilers.
func killGroup(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGKILL) }

// Freeze makes the program stand still, as kill -STOP does, until Thaw.
func (p *Process) Freeze() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen program go on.
func (p *Process) Thaw() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// asServer lets a command run as the user that the package of PostgreSQL has made, and
// gives that user the folder dir: PostgreSQL refuses to run as root.
func asServer(cmd *exec.Cmd, dir string) {
	u, err := user.Lookup("postgres")
	if os.Geteuid() != 0 || err != nil {
		return // PostgreSQL says what is wrong.
	}
	uid, _ := strconv.Atoi(u.Uid) // a number on Unix
	gid, _ := strconv.Atoi(u.Gid)
	_ = os.Chown(dir, uid, gid)
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// lockByte waits until it has the lock for writing of one byte of a file. Closing the
// file gives it back.
func lockByte(file *os.File, at int64) error {
	return syscall.FcntlFlock(file.Fd(), syscall.F_SETLKW, &syscall.Flock_t{Type: syscall.F_WRLCK, Start: at, Len: 1})
}
