package stack

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// A Service is a program of the project that runs next to a sidecar.
type Service struct {
	AppID          string // Dapr app ID
	Folder         string // in the project, where `go run .` starts it
	Port, DaprPort int    // its own and its sidecar's, as the README has them
	Config         string // the file of its sidecar's Configuration, in components/
}

// The project's services.
var (
	Inventory   = Service{AppID: "inventory-service", Folder: "inventory", Port: 5001, DaprPort: 3500, Config: DefaultConfig}
	Order       = Service{AppID: "order-service", Folder: "order", Port: 5002, DaprPort: 3501, Config: "config-order.yaml"}
	DeadLetters = Service{AppID: "dead-letters", Folder: "daprhttp/deadletters", Port: 5004, DaprPort: 3504, Config: DefaultConfig}

	Services = []Service{Inventory, Order, DeadLetters}
)

// A Project has what every system is started from.
type Project struct {
	Root  string // the folder of the project
	Bin   string // the folder of its services' programs
	Daprd string // the sidecar's program
}

// Open finds the project, builds its services into bin, and finds the sidecar's
// program or builds that, too. It says on progress what takes long.
func Open(ctx context.Context, bin string, progress io.Writer) (*Project, error) {
	p := &Project{Bin: bin}
	var err error
	if p.Root, err = Root(); err != nil {
		return nil, err
	}
	if p.Daprd, err = Daprd(ctx, p.Root, progress); err != nil {
		return nil, err
	}
	for _, s := range Services {
		if err := Build(ctx, filepath.Join(p.Root, filepath.FromSlash(s.Folder)), p.program(s)); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// App returns the options with which a service runs on free ports.
func (p *Project) App(s Service) AppOptions {
	return AppOptions{ID: s.AppID, Program: p.program(s), Config: s.Config}
}

func (p *Project) program(s Service) string {
	return filepath.Join(p.Bin, executable(filepath.Base(s.Folder)))
}

// Build builds the program whose source is in a folder. env is added to this process's
// own environment, as "NAME=value".
func Build(ctx context.Context, folder, program string, env ...string) error {
	name := filepath.Base(folder)
	err := run(ctx, Command{Name: "the build of " + name, Path: "go", Args: []string{"build", "-o", program, "."}, Dir: folder, Env: env})
	if err != nil {
		return fmt.Errorf("%s could not be built: %w", name, err)
	}
	return nil
}

// Root returns the folder of the project: the nearest one, from the working
// directory up, that has components/config.yaml.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if isFile(filepath.Join(dir, "components", "config.yaml")) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("the working directory is not inside the project")
		}
		dir = parent
	}
}

func executable(name string) string {
	if runtime.GOOS == "windows" {
		return name + ".exe"
	}
	return name
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}
