package stack

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// WriteComponents copies the project's component files into dir, with another
// Redis in the place of the default one: broker for pub/sub, state for the state
// store. All else in them stays as users have it.
func WriteComponents(root, dir string, broker, state *Redis) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(root, "components", "*.yaml"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		redis := broker
		if filepath.Base(file) == "statestore.yaml" {
			redis = state
		}
		out := strings.ReplaceAll(string(text), `"`+DefaultRedisAddr+`"`,
			fmt.Sprintf("%q\n    - name: redisDB\n      value: %q", redis.Addr, fmt.Sprint(redis.DB)))
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), []byte(out), 0o644); err != nil {
			return err
		}
	}
	return nil
}
