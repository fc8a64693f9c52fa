package stack

import (
	"slices"
	"testing"

	"github.com/matryer/is"
)

// The services get the settings that the user's broker and state store need.
func TestGivenBackendHasTheUsersSettings(t *testing.T) {
	is := is.New(t)
	t.Setenv("PUBLISH_TWICE", "true")
	t.Setenv("STATE_CONSISTENCY", "")
	t.Setenv("SUBSCRIPTION_METADATA", "queueType=quorum")
	t.Setenv("PORT", "1")
	b, err := GivenBackend("../../components/redis", "run-1-")
	is.NoErr(err)
	is.True(slices.Equal(b.Env, []string{"PUBLISH_TWICE=true", "SUBSCRIPTION_METADATA=queueType=quorum"}))
}

func TestAddressOfAGivenServer(t *testing.T) {
	for value, want := range map[string]string{
		"localhost:6379": "localhost:6379",
		"amqp://guest:guest@rabbit.example:5672/": "rabbit.example:5672",
		"amqp://guest:1234@rabbit:5672":           "rabbit:5672", // a password may look like a port
		"postgres://postgres:55@10.0.0.1:5432/db": "10.0.0.1:5432",
		"host=localhost user=postgres":            "",
	} {
		if got := addressIn(value); got != want {
			t.Errorf("%s: got %q, want %q", value, got, want)
		}
	}
}
