package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// A Program is a program that the tests or the launcher start, and how to get it.
type Program struct {
	name     string            // for people
	commands []string          // the names of its file, the best first
	folders  []string          // patterns of where the file may be, in addition to the PATH
	pkg      string            // its package
	packages map[string]string // its package by package manager, where that has another name
	advice   string            // another way to get it
}

// The programs that the project starts and does not build.
var (
	RedisServer = Program{
		name:     "Redis",
		commands: []string{"redis-server", "valkey-server"}, // many systems have Valkey instead
		folders:  []string{"/usr/sbin"},
		pkg:      "redis",
		packages: map[string]string{"apt-get": "redis-server", "dnf": "/usr/bin/redis-server", "pacman": "valkey"},
		advice:   "run `dapr init`, which starts one in Docker, or see https://redis.io/docs/latest/operate/oss_and_stack/install/",
	}
	RabbitMQServer = Program{
		name:     "RabbitMQ",
		commands: []string{"rabbitmq-server"},
		// First where Debian has the program itself: the program in the PATH only starts
		// the system's own instance.
		folders:  []string{"/usr/lib/rabbitmq/bin", "/opt/homebrew/sbin", "/usr/local/sbin"},
		pkg:      "rabbitmq-server",
		packages: map[string]string{"pacman": "rabbitmq", "brew": "rabbitmq"},
		advice:   "see https://www.rabbitmq.com/docs/download",
	}
	MosquittoServer = Program{
		name:     "Mosquitto",
		commands: []string{"mosquitto"},
		folders:  []string{"/usr/sbin", "/opt/homebrew/sbin", "/usr/local/sbin"},
		pkg:      "mosquitto",
		advice:   "see https://mosquitto.org/download/",
	}
	// Chromium is no server: with it the tests look at the launcher's page.
	Chromium = Program{
		name:     "Chromium",
		commands: []string{"chromium", "chromium-browser", "google-chrome", "Google Chrome"},
		folders:  []string{"/usr/lib64/chromium-browser", "/Applications/Google Chrome.app/Contents/MacOS"},
		pkg:      "chromium",
		packages: map[string]string{"brew": "google-chrome"},
		advice:   "see https://www.google.com/chrome/",
	}
	PostgreSQLServer = Program{
		name:     "PostgreSQL",
		commands: []string{"postgres"},
		folders:  []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin"},
		pkg:      "postgresql",
		packages: map[string]string{"dnf": "postgresql-server", "zypper": "postgresql-server"},
		advice:   "see https://www.postgresql.org/download/",
	}
)

// managers are the package managers that can install a Program, and the commands with
// which they do, without the package's name.
var managers = []struct {
	name     string
	commands []string
}{
	{"apt-get", []string{"apt-get update", "apt-get install -y"}},
	{"dnf", []string{"dnf install -y"}},
	{"apk", []string{"apk add"}},
	{"pacman", []string{"pacman -S --noconfirm"}},
	{"zypper", []string{"zypper --non-interactive install"}},
	{"brew", []string{"brew install"}},
}

// Install makes sure that the program is on this machine: where it may, it installs it
// with the system's package manager, and says so on progress. Where it may not, it returns
// ErrNotInstalled with the command that installs the program.
func (p Program) Install(ctx context.Context, progress io.Writer) error {
	_, err := p.Find()
	if err == nil {
		return nil
	}
	if runtime.GOOS != "darwin" && os.Geteuid() != 0 {
		return err // The package manager needs root.
	}
	for _, command := range p.installCommands() {
		fmt.Fprintf(progress, "Installing %s: %s\n", p.name, command)
		words := strings.Fields(command)
		c := exec.CommandContext(ctx, words[0], words[1:]...)
		c.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if output, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%s failed (%w):\n%s", command, err, tail(string(output)))
		}
	}
	_, err = p.Find()
	return err
}

// ErrNotInstalled matches the error of a program that is not on this machine. The error
// says how to get the program.
var ErrNotInstalled = errors.New("not installed")

// Find returns the program's path, or ErrNotInstalled.
func (p Program) Find() (string, error) {
	for _, command := range p.commands {
		for _, pattern := range p.folders {
			found, err := filepath.Glob(filepath.Join(pattern, command))
			if err != nil {
				return "", err
			}
			slices.Sort(found) // the newest version last
			for _, path := range slices.Backward(found) {
				if isFile(path) {
					return path, nil
				}
			}
		}
		if path, err := exec.LookPath(command); err == nil {
			return path, nil
		}
	}
	advice := p.advice
	if commands := p.installCommands(); len(commands) > 0 {
		command := strings.Join(commands, " && ")
		if !strings.HasPrefix(command, "brew ") {
			command = "sudo " + strings.Join(commands, " && sudo ")
		}
		advice = "install it with `" + command + "`, or " + advice
	}
	return "", fmt.Errorf("%s is %w on this machine: %s", p.commands[0], ErrNotInstalled, advice)
}

// installCommands returns the commands that install the program on this system, or nil
// where there is no package manager that can.
func (p Program) installCommands() []string {
	for _, m := range managers {
		if _, err := exec.LookPath(m.name); err == nil {
			commands := slices.Clone(m.commands)
			commands[len(commands)-1] += " " + cmp.Or(p.packages[m.name], p.pkg)
			return commands
		}
	}
	return nil
}
