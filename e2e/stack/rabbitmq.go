package stack

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A RabbitMQ is a RabbitMQ server of one node, apart from any other on this
// machine: it has a data folder, ports and an Erlang port mapper of its own.
type RabbitMQ struct {
	*Process

	program string // rabbitmq-server; rabbitmqctl is beside it
	port    int
	env     []string

	mapperPort int
	mapper     *Process // of a node that is alone
}

// rabbitMQAddr is where the project's component files expect RabbitMQ.
const rabbitMQAddr = "localhost:5672"

// StartRabbitMQ starts a RabbitMQ server on free ports of the loopback interface,
// with its data in dir, and waits until it takes connections. definitions is a file
// of exchanges, queues and bindings that it is given.
func StartRabbitMQ(ctx context.Context, dir, definitions string) (*RabbitMQ, error) {
	nodes, err := newRabbitMQ(dir, 1)
	if err != nil {
		return nil, err
	}
	r := nodes[0]
	// Erlang would start the port mapper by itself and leave it running.
	if r.mapper, err = r.startMapper(ctx); err != nil {
		return nil, err
	}
	err = r.Restart(ctx)
	if err == nil {
		err = r.ImportDefinitions(ctx, definitions)
	}
	if err != nil {
		_ = r.Stop(time.Second)
		return nil, err
	}
	return r, nil
}

// newRabbitMQ prepares so many nodes of one cluster, with all their data in dir.
func newRabbitMQ(dir string, n int) (nodes []*RabbitMQ, err error) {
	program, err := RabbitMQServer.Find()
	if err != nil {
		return nil, err
	}
	mapper, err := FreePort()
	if err != nil {
		return nil, err
	}
	var config strings.Builder
	if n > 1 {
		// As components/replicated/pubsub.yaml says.
		config.WriteString("cluster_partition_handling = pause_minority\n")
	}
	for i := range n {
		r := &RabbitMQ{program: program, mapperPort: mapper}
		if r.port, err = FreePort(); err != nil {
			return nil, err
		}
		nodes = append(nodes, r)
		if n > 1 {
			fmt.Fprintf(&config, "cluster_formation.classic_config.nodes.%d = %s\n", i+1, r.name())
		}
	}
	for i, r := range nodes {
		if err := r.prepare(filepath.Join(dir, strconv.Itoa(i+1)), dir, config.String()); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

// name returns the node's name in Erlang.
func (r *RabbitMQ) name() string { return fmt.Sprintf("orders-%d@localhost", r.port) }

// prepare writes what a node needs into dir, and says how it is to be started. Nodes of
// one home let each other in.
func (r *RabbitMQ) prepare(dir, home, config string) error {
	distribution, err := FreePort()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{"plugins": "[].\n", "none": "", "rabbitmq.conf": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	r.env = []string{
		"HOME=" + home, // where Erlang keeps the cookie by which rabbitmqctl is let in
		"ERL_EPMD_PORT=" + strconv.Itoa(r.mapperPort),
		"ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_NODENAME=" + r.name(),
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		"RABBITMQ_NODE_PORT=" + strconv.Itoa(r.port),
		"RABBITMQ_DIST_PORT=" + strconv.Itoa(distribution),
		"RABBITMQ_MNESIA_BASE=" + filepath.Join(dir, "data"),
		"RABBITMQ_LOG_BASE=" + filepath.Join(dir, "log"),
		"RABBITMQ_LOGS=-",
		"RABBITMQ_CONF_ENV_FILE=" + filepath.Join(dir, "none"),
		"RABBITMQ_CONFIG_FILE=" + filepath.Join(dir, "rabbitmq"),
		"RABBITMQ_GENERATED_CONFIG_DIR=" + filepath.Join(dir, "generated"),
		"RABBITMQ_SCHEMA_DIR=" + filepath.Join(dir, "schema"),
		"RABBITMQ_FEATURE_FLAGS_FILE=" + filepath.Join(dir, "feature-flags"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(dir, "plugins"),
	}
	return nil
}

// startMapper starts the Erlang port mapper of a node and its cluster.
func (r *RabbitMQ) startMapper(ctx context.Context) (*Process, error) {
	p, err := Start(Command{Name: "the Erlang port mapper", Path: "epmd", Env: r.env})
	if err != nil {
		return nil, err
	}
	if err := p.WaitReady(ctx, tcpReady(r.mapperPort)); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// Restart starts the server, or starts it again after it was killed.
func (r *RabbitMQ) Restart(ctx context.Context) error {
	p, err := Start(Command{Name: "RabbitMQ", Path: r.program, Env: r.env})
	if err != nil {
		return err
	}
	r.Process = p
	return p.WaitReady(ctx, tcpReady(r.port))
}

// Stop ends the server and its port mapper.
func (r *RabbitMQ) Stop(grace time.Duration) error {
	defer r.mapper.Kill()
	return r.stop(grace)
}

// stop ends the server alone.
func (r *RabbitMQ) stop(grace time.Duration) error {
	if r.Process == nil {
		return nil
	}
	return r.Process.Stop(grace)
}

// Address returns where the server listens.
func (r *RabbitMQ) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)) }

// In returns the text of a component file with this server in the place of the
// one that the project's files name.
func (r *RabbitMQ) In(component string) string {
	return strings.ReplaceAll(component, rabbitMQAddr, r.Address())
}

// Drained returns nil once an app has nothing left of a topic: no message waiting,
// none delivered and not acknowledged.
func (r *RabbitMQ) Drained(topic, appID string) error {
	n, err := r.Len(topic, appID)
	if err == nil && n > 0 {
		err = fmt.Errorf("%s has %d messages of %s waiting or not acknowledged", appID, n, topic)
	}
	return err
}

// Len returns how many messages of a topic wait for an app, those included that were
// delivered and are not acknowledged.
func (r *RabbitMQ) Len(topic, appID string) (int, error) {
	queue := appID + "-" + topic
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	answer, err := r.control(ctx, "--silent", "--formatter", "json", "list_queues", "name", "messages")
	if err != nil {
		return 0, err
	}
	var queues []struct {
		Name     string
		Messages int
	}
	if err := json.Unmarshal(answer, &queues); err != nil {
		return 0, fmt.Errorf("rabbitmqctl list_queues: %w", err)
	}
	for _, q := range queues {
		if q.Name == queue {
			return q.Messages, nil
		}
	}
	return 0, fmt.Errorf("there is no queue %s", queue)
}

// ImportDefinitions makes the exchanges, queues and bindings that a file defines.
func (r *RabbitMQ) ImportDefinitions(ctx context.Context, file string) error {
	_, err := r.control(ctx, "import_definitions", file)
	return err
}

// SetMemoryWatermark sets the part of this machine's memory, as "0.4", beyond which
// the server takes nothing from publishers any more.
func (r *RabbitMQ) SetMemoryWatermark(ctx context.Context, part string) error {
	_, err := r.control(ctx, "set_vm_memory_high_watermark", part)
	return err
}

// control runs rabbitmqctl for this server.
func (r *RabbitMQ) control(ctx context.Context, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, filepath.Join(filepath.Dir(r.program), "rabbitmqctl"), args...)
	c.Env = append(os.Environ(), r.env...)
	output, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("rabbitmqctl %s: %w: %s", strings.Join(args, " "), err, output)
	}
	return output, nil
}

// tcpReady returns a readiness check: something accepts connections on a port of
// the loopback interface.
func tcpReady(port int) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return err
		}
		return conn.Close()
	}
}
