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
	t.Setenv("SUBSCRIPTION_METADATA", "queueType=quorum")
	t.Setenv("PORT", "1")
	b, err := GivenBackend("../../components/redis", "run-1-")
	is.NoErr(err)
	is.True(slices.Equal(b.Env, []string{"PUBLISH_TWICE=true", "SUBSCRIPTION_METADATA=queueType=quorum"}))
}
