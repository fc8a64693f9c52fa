package web

import "fmt"

// Flag returns whether the environment variable called name is "true". Empty is
// "false". The error says what it may hold. getenv is usually [os.Getenv].
func Flag(getenv func(string) string, name string) (bool, error) {
	switch value := getenv(name); value {
	case "true":
		return true, nil
	case "", "false":
		return false, nil
	default:
		return false, fmt.Errorf("%s is %q: it must be true or false", name, value)
	}
}
