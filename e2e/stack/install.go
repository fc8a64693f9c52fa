package stack

import (
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

// A Program is one that the tests or the launcher start, and how to get it.
type Program struct {
	name     string
	commands []string          // its names, the best first
	folders  []string          // patterns of where it may be, beside the PATH
	packages map[string]string // by package manager
	advice   string            // another way, for systems without one of these above all
}

// The programs that the project starts and does not build.
var (
	RedisServer = Program{
		name:     "Redis",
		commands: []string{"redis-server", "valkey-server"}, // many systems have Valkey in its place
		folders:  []string{"/usr/sbin"},
		packages: map[string]string{"apt-get": "redis-server", "dnf": "/usr/bin/redis-server", "apk": "redis", "pacman": "valkey", "zypper": "redis", "brew": "redis"},
		advice:   "run `dapr init`, which starts one in Docker, or see https://redis.io/docs/latest/operate/oss_and_stack/install/",
	}
	RabbitMQServer = Program{
		name:     "RabbitMQ",
		commands: []string{"rabbitmq-server"},
		// First where Debian has the program itself: the one in the PATH only
		// starts the system's own instance.
		folders:  []string{"/usr/lib/rabbitmq/bin", "/opt/homebrew/sbin", "/usr/local/sbin"},
		packages: map[string]string{"apt-get": "rabbitmq-server", "dnf": "rabbitmq-server", "apk": "rabbitmq-server", "pacman": "rabbitmq", "zypper": "rabbitmq-server", "brew": "rabbitmq"},
		advice:   "see https://www.rabbitmq.com/docs/download",
	}
	MosquittoServer = Program{
		name:     "Mosquitto",
		commands: []string{"mosquitto"},
		folders:  []string{"/usr/sbin", "/opt/homebrew/sbin", "/usr/local/sbin"},
		packages: map[string]string{"apt-get": "mosquitto", "dnf": "mosquitto", "apk": "mosquitto", "pacman": "mosquitto", "zypper": "mosquitto", "brew": "mosquitto"},
		advice:   "see https://mosquitto.org/download/",
	}
	// Chromium is no server: with it the tests look at the launcher's page.
	Chromium = Program{
		name:     "Chromium",
		commands: []string{"chromium", "chromium-browser", "google-chrome", "Google Chrome"},
		folders:  []string{"/usr/lib64/chromium-browser", "/Applications/Google Chrome.app/Contents/MacOS"},
		packages: map[string]string{"apt-get": "chromium", "dnf": "chromium", "apk": "chromium", "pacman": "chromium", "zypper": "chromium", "brew": "google-chrome"},
		advice:   "see https://www.google.com/chrome/",
	}
	PostgreSQLServer = Program{
		name:     "PostgreSQL",
		commands: []string{"postgres"},
		folders:  []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin"},
		packages: map[string]string{"apt-get": "postgresql", "dnf": "postgresql-server", "apk": "postgresql", "pacman": "postgresql", "zypper": "postgresql-server", "brew": "postgresql"},
		advice:   "see https://www.postgresql.org/download/",
	}
)

// Install makes sure that there is a program to start. Where it may, it installs
// it with the system's package manager; where it may not, its error is ErrNotInstalled
// with the command that does.
func (p Program) Install(ctx context.Context, progress io.Writer) error {
	if _, err := p.Find(); err == nil {
		return nil
	}
	_, install := p.install()
	if runtime.GOOS != "darwin" && os.Geteuid() != 0 {
		install = nil // a package manager of the system wants its administrator
	}
	for _, command := range install {
		fmt.Fprintf(progress, "Installing %s: %s\n", p.name, strings.Join(command, " "))
		c := exec.CommandContext(ctx, command[0], command[1:]...)
		c.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if output, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%s failed (%w):\n%s", strings.Join(command, " "), err, tail(string(output), 10))
		}
	}
	_, err := p.Find()
	return err
}

// ErrNotInstalled matches the error of a program that is not on this machine. The error
// says how to get it.
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
	words, _ := p.install()
	return "", fmt.Errorf("%s is %w on this machine: %s", p.commands[0], ErrNotInstalled, words)
}

// install returns how to install the program on this system, in words and in
// commands.
func (p Program) install() (words string, commands [][]string) {
	managers := []struct {
		program string
		before  []string // what is done once before
		install []string // and then, with the package's name behind it
	}{
		{"apt-get", []string{"apt-get", "update"}, []string{"apt-get", "install", "-y"}},
		{"dnf", nil, []string{"dnf", "install", "-y"}},
		{"apk", nil, []string{"apk", "add"}},
		{"pacman", nil, []string{"pacman", "-S", "--noconfirm"}},
		{"zypper", nil, []string{"zypper", "--non-interactive", "install"}},
		{"brew", nil, []string{"brew", "install"}},
	}
	for _, m := range managers {
		if _, err := exec.LookPath(m.program); err != nil {
			continue
		}
		if m.before != nil {
			commands = append(commands, m.before)
		}
		commands = append(commands, append(m.install, p.packages[m.program]))
		var lines []string
		for _, c := range commands {
			line := strings.Join(c, " ")
			if m.program != "brew" {
				line = "sudo " + line
			}
			lines = append(lines, line)
		}
		return "install it with `" + strings.Join(lines, " && ") + "`, or " + p.advice, commands
	}
	return p.advice, nil
}
