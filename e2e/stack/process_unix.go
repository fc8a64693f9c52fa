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

// terminationSignal asks a program to end.
var terminationSignal os.Signal = syscall.SIGTERM

// killGroup kills a program and those that it has started itself, as the build
// of the sidecar starts compilers.
func killGroup(p *os.Process) error {
	return syscall.Kill(-p.Pid, syscall.SIGKILL)
}

// Freeze stops the program in its tracks, as kill -STOP does, until Thaw.
func (p *Process) Freeze() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen program go on.
func (p *Process) Thaw() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// immediateSignal ends a PostgreSQL server at once.
var immediateSignal os.Signal = syscall.SIGQUIT

// asServer lets a command run as a user other than root, as whom PostgreSQL
// refuses to run.
func asServer(c *exec.Cmd) {
	if os.Geteuid() != 0 {
		return
	}
	if uid, gid, err := serverUser(); err == nil { // if not, PostgreSQL says so
		if c.SysProcAttr == nil {
			c.SysProcAttr = &syscall.SysProcAttr{}
		}
		c.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
}

// serverUser returns the user whom the package of PostgreSQL has made.
func serverUser() (uid, gid int, err error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return 0, 0, err
	}
	uid, err = strconv.Atoi(u.Uid)
	if err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(u.Gid)
	return uid, gid, err
}

// forServer gives a folder to the user that asServer lets a command run as.
func forServer(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := serverUser()
	if err != nil {
		return err
	}
	return os.Chown(dir, uid, gid)
}

// lockByte waits until it has the lock for writing of one byte of a file. Closing the
// file gives it back.
func lockByte(file *os.File, at int64) error {
	return syscall.FcntlFlock(file.Fd(), syscall.F_SETLKW, &syscall.Flock_t{Type: syscall.F_WRLCK, Start: at, Len: 1})
}
