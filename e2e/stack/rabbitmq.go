package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A RabbitMQ is a RabbitMQ server of one node, or a cluster of several behind a load
// balancer. It has data folders, ports and an Erlang port mapper of its own, and shares
// nothing with another RabbitMQ on this machine.
type RabbitMQ struct {
	naming
	Nodes []*RabbitMQNode

	balancer *Link // nil for a single node
	mapper   *Process
}

// A RabbitMQNode is one node of a RabbitMQ.
type RabbitMQNode struct {
	server
	name string // in Erlang
}

// rabbitMQAddr is where the project's component files expect RabbitMQ.
const rabbitMQAddr = "localhost:5672"

// startRabbitMQ starts a RabbitMQ with a number of nodes on free ports, its data in dir, and
// the exchanges, queues and bindings of components/rabbitmq-definitions.json.
func startRabbitMQ(ctx context.Context, dir string, nodes int) (_ Broker, err error) {
	r := &RabbitMQ{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Stop(time.Second))
		}
	}()
	if err := r.startNodes(ctx, dir, nodes); err != nil {
		return nil, err
	}
	root, err := Root()
	if err != nil {
		return nil, err
	}
	definitions := filepath.Join(root, "components", "rabbitmq-definitions.json")
	if nodes > 1 {
		if _, err := r.Control(ctx, "await_online_nodes", strconv.Itoa(nodes)); err != nil {
			return nil, err
		}
		var addrs []string
		for _, n := range r.Nodes {
			addrs = append(addrs, n.Addr)
		}
		if r.balancer, err = NewLink(addrs...); err != nil {
			return nil, err
		}
		// As components/replicated/pubsub.yaml asks.
		if _, err := r.Control(ctx, "set_policy", "--apply-to", "queues", "deliveries", ".*", `{"delivery-limit":1000000}`); err != nil {
			return nil, err
		}
		if definitions, err = quorumDefinitions(definitions, dir); err != nil {
			return nil, err
		}
	}
	r.naming = naming{rabbitMQAddr, r.Address()}
	_, err = r.Control(ctx, "import_definitions", definitions)
	return r, err
}

// startNodes starts the port mapper and the nodes, and waits until they take connections.
func (r *RabbitMQ) startNodes(ctx context.Context, dir string, nodes int) error {
	mapperPort, err := FreePort()
	if err != nil {
		return err
	}
	var cluster strings.Builder // of rabbitmq.conf
	for i := range nodes {
		n, err := newRabbitMQNode(filepath.Join(dir, strconv.Itoa(i+1)), dir, mapperPort)
		if err != nil {
			return err
		}
		r.Nodes = append(r.Nodes, n)
		fmt.Fprintf(&cluster, "cluster_formation.classic_config.nodes.%d = %s\n", i+1, n.name)
	}
	// The first line of rabbitmq.conf is what components/replicated/pubsub.yaml asks for.
	config := "cluster_partition_handling = pause_minority\n" + cluster.String()
	if nodes == 1 {
		config = ""
	}
	for name, text := range map[string]string{"plugins": "[].\n", "none": "", "rabbitmq.conf": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	// Erlang would start the port mapper by itself and leave it running.
	first := r.Nodes[0]
	mapper := Command{Name: "the Erlang port mapper", Path: "epmd", Env: first.command.Env}
	if r.mapper, err = startReady(ctx, mapper, tcpReady(fmt.Sprintf("127.0.0.1:%d", mapperPort))); err != nil {
		return err
	}
	if err := first.Restart(ctx); err != nil { // It makes the cookie that lets the other nodes in.
		return err
	}
	return each(r.Nodes[1:], func(n *RabbitMQNode) error { return n.Restart(ctx) })
}

// newRabbitMQNode prepares a node with its data in dir. The nodes of one home let each
// other in.
func newRabbitMQNode(dir, home string, mapperPort int) (*RabbitMQNode, error) {
	s, err := newServer(RabbitMQServer, 0, dir)
	if err != nil {
		return nil, err
	}
	distribution, err := FreePort()
	if err != nil {
		return nil, err
	}
	n := &RabbitMQNode{server: s, name: "orders-" + port(s.Addr) + "@localhost"}
	n.command.Env = []string{
		"HOME=" + home, // where Erlang keeps the cookie, which lets rabbitmqctl in, too
		"ERL_EPMD_PORT=" + strconv.Itoa(mapperPort),
		"ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_NODENAME=" + n.name,
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		"RABBITMQ_NODE_PORT=" + port(s.Addr),
		"RABBITMQ_DIST_PORT=" + strconv.Itoa(distribution),
		"RABBITMQ_MNESIA_BASE=" + filepath.Join(dir, "data"),
		"RABBITMQ_LOG_BASE=" + filepath.Join(dir, "log"),
		"RABBITMQ_LOGS=-",
		"RABBITMQ_CONF_ENV_FILE=" + filepath.Join(home, "none"),
		"RABBITMQ_CONFIG_FILE=" + filepath.Join(home, "rabbitmq"),
		"RABBITMQ_GENERATED_CONFIG_DIR=" + filepath.Join(dir, "generated"),
		"RABBITMQ_SCHEMA_DIR=" + filepath.Join(dir, "schema"),
		"RABBITMQ_FEATURE_FLAGS_FILE=" + filepath.Join(dir, "feature-flags"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(home, "plugins"),
	}
	return n, nil
}

// quorumDefinitions copies a file of definitions into dir, with quorum queues as
// components/replicated/pubsub.yaml asks for, and returns the name of the copy.
func quorumDefinitions(definitions, dir string) (string, error) {
	text, err := os.ReadFile(definitions)
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "quorum-definitions.json")
	return file, os.WriteFile(file, bytes.ReplaceAll(text, []byte("classic"), []byte("quorum")), 0o644)
}

// Address returns the host and port where the node or the load balancer listens.
func (r *RabbitMQ) Address() string {
	if r.balancer != nil {
		return r.balancer.Addr()
	}
	return r.Nodes[0].Addr
}

// Kill kills every node.
func (r *RabbitMQ) Kill() {
	for _, n := range r.Nodes {
		n.Kill()
	}
}

// Restart starts every node again after Kill.
func (r *RabbitMQ) Restart(ctx context.Context) error {
	return each(r.Nodes, func(n *RabbitMQNode) error { return n.Restart(ctx) })
}

// Stop ends the nodes, the load balancer and the port mapper.
func (r *RabbitMQ) Stop(grace time.Duration) error {
	if r.balancer != nil {
		r.balancer.Close()
	}
	err := each(r.Nodes, func(n *RabbitMQNode) error { return n.Stop(grace) })
	r.mapper.Kill()
	return err
}

// Drained returns nil once an app has acknowledged every message of a topic.
func (r *RabbitMQ) Drained(topic, appID string) error {
	n, err := r.Len(topic, appID)
	if err == nil && n > 0 {
		err = fmt.Errorf("%s has %d messages of %s waiting or not acknowledged", appID, n, topic)
	}
	return err
}

// Len returns how many messages of a topic wait for an app, including the delivered
// messages that are not acknowledged.
func (r *RabbitMQ) Len(topic, appID string) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	q, err := r.queue(ctx, topic, appID)
	return q.Messages, err
}

// Leader returns the node that leads the queue of a topic for an app.
func (r *RabbitMQ) Leader(ctx context.Context, topic, appID string) (*RabbitMQNode, error) {
	q, err := r.queue(ctx, topic, appID)
	if err != nil {
		return nil, err
	}
	for _, n := range r.Nodes {
		if n.name == q.Leader {
			return n, nil
		}
	}
	return nil, fmt.Errorf("no node leads the queue %s", q.Name)
}

// A queue is what rabbitmqctl tells of a queue.
type queue struct {
	Name     string
	Messages int
	Leader   string // the name of a node; empty for a classic queue
}

// queue returns the queue of a topic for an app.
func (r *RabbitMQ) queue(ctx context.Context, topic, appID string) (queue, error) {
	name := appID + "-" + topic
	answer, err := r.Control(ctx, "--silent", "--formatter", "json", "list_queues", "name", "messages", "leader")
	if err != nil {
		return queue{}, err
	}
	var queues []queue
	if err := json.Unmarshal(answer, &queues); err != nil {
		return queue{}, fmt.Errorf("rabbitmqctl list_queues: %w", err)
	}
	for _, q := range queues {
		if q.Name == name {
			return q, nil
		}
	}
	return queue{}, fmt.Errorf("there is no queue %s", name)
}

// Control runs rabbitmqctl for a node that runs, and returns what it prints.
func (r *RabbitMQ) Control(ctx context.Context, args ...string) ([]byte, error) {
	node := r.Nodes[0]
	for _, n := range r.Nodes {
		if n.Ended() == nil {
			node = n
			break
		}
	}
	c := exec.CommandContext(ctx, filepath.Join(filepath.Dir(node.command.Path), "rabbitmqctl"), args...)
	c.Env = append(os.Environ(), node.command.Env...)
	var diagnostics bytes.Buffer
	c.Stderr = &diagnostics
	output, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("rabbitmqctl %s: %w: %s%s", strings.Join(args, " "), err, output, &diagnostics)
	}
	return output, nil
}
