package main

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
)

// pagesFilter is the name of the component that refuses what pages in a browser send to a
// sidecar.
const pagesFilter = "pages"

//go:embed pages.wasm
var pagesModule []byte

// writePagesFilter writes the component and its module to a folder in dir, and returns that
// folder, for --resources-path.
//
// The module is beside it: sidecars warn of whatever is not YAML in their folders.
func writePagesFilter(dir string) (string, error) {
	module := filepath.Join(dir, "pages.wasm")
	if err := os.WriteFile(module, pagesModule, 0o644); err != nil {
		return "", err
	}
	folder := filepath.Join(dir, "pages")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	component := fmt.Sprintf(`apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: %s
spec:
  type: middleware.http.wasm
  version: v1
  metadata:
    - name: url
      value: %q
`, pagesFilter, "file://"+filepath.ToSlash(module))
	return folder, os.WriteFile(filepath.Join(folder, "pages.yaml"), []byte(component), 0o644)
}
