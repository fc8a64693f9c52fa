package stack

import (
	"os"
	"path/filepath"
)

// A Server is what a component file names.
type Server interface {
	// In returns the text of a component file with this server in the place of
	// the one that the project's files name.
	In(component string) string
}

// WriteComponents copies the component files in a folder of the project into
// dir, with the broker and the state store that are to be used in the place of
// those that they name. All else in them stays as users have it.
func WriteComponents(folder, dir string, broker, state Server) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		server := broker
		if filepath.Base(file) == "statestore.yaml" {
			server = state
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), []byte(server.In(string(text))), 0o644); err != nil {
			return err
		}
	}
	return nil
}
