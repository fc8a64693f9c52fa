//go:build unix

package stack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matryer/is"
)

func TestRabbitMQControlSaysWhyItFailed(t *testing.T) {
	is, dir := is.New(t), t.TempDir()
	is.NoErr(os.WriteFile(filepath.Join(dir, "rabbitmqctl"), []byte("#!/bin/sh\necho no such vhost >&2\nexit 65\n"), 0o755))
	node := &RabbitMQNode{server: server{command: Command{Path: filepath.Join(dir, "rabbitmq-server")}}}
	_, err := (&RabbitMQ{Nodes: []*RabbitMQNode{node}}).Control(t.Context(), "list_queues")
	is.True(err != nil && strings.Contains(err.Error(), "no such vhost"))
}
