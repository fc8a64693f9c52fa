package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Replicated is a backend that outlives its machines: RabbitMQ on three nodes, behind a
// load balancer, and PostgreSQL with a synchronous standby.
var Replicated = Backend{
	Name:   "RabbitMQ cluster + PostgreSQL with a standby",
	Folder: "components/replicated",
	Broker: func(ctx context.Context, p *Project, dir string) (Broker, error) {
		text, err := os.ReadFile(filepath.Join(p.Root, "components", "rabbitmq-definitions.json"))
		if err != nil {
			return nil, err
		}
		definitions := filepath.Join(dir, "quorum-definitions.json") // as components/replicated/pubsub.yaml says
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(definitions, bytes.ReplaceAll(text, []byte("classic"), []byte("quorum")), 0o644)); err != nil {
			return nil, err
		}
		return StartRabbitMQCluster(ctx, dir, definitions)
	},
	State: func(ctx context.Context, _ string) (Server, error) { return StartPostgreSQLPair(ctx) },
	Env:   []string{"PUBLISH_TWICE=true", "SUBSCRIPTION_METADATA=queueType=quorum"},
}

// A RabbitMQCluster is three RabbitMQ servers, behind a load balancer.
type RabbitMQCluster struct {
	Nodes []*RabbitMQ

	balancer *Link
	mapper   *Process
}

var _ Broker = (*RabbitMQCluster)(nil)

// StartRabbitMQCluster is StartRabbitMQ for three nodes that are one cluster.
func StartRabbitMQCluster(ctx context.Context, dir, definitions string) (*RabbitMQCluster, error) {
	nodes, err := newRabbitMQ(dir, 3)
	if err != nil {
		return nil, err
	}
	c := &RabbitMQCluster{Nodes: nodes}
	if c.mapper, err = nodes[0].startMapper(ctx); err != nil {
		return nil, err
	}
	// The first makes the secret by which the others are let in.
	err = nodes[0].Restart(ctx)
	if err == nil {
		err = each(nodes[1:], func(r *RabbitMQ) error { return r.Restart(ctx) })
	}
	if err == nil {
		err = c.formed(ctx)
	}
	if err == nil {
		err = nodes[0].ImportDefinitions(ctx, definitions)
	}
	if err == nil {
		var addrs []string
		for _, r := range nodes {
			addrs = append(addrs, r.Address())
		}
		c.balancer, err = NewLink(addrs...)
	}
	if err != nil {
		return nil, errors.Join(err, c.Stop(time.Second))
	}
	return c, nil
}

// formed returns nil if all nodes are in the cluster.
func (c *RabbitMQCluster) formed(ctx context.Context) error {
	answer, err := c.Nodes[0].control(ctx, "--silent", "--formatter", "json", "cluster_status")
	if err != nil {
		return err
	}
	var status struct {
		Running []string `json:"running_nodes"`
	}
	if err := json.Unmarshal(answer, &status); err != nil || len(status.Running) != len(c.Nodes) {
		return fmt.Errorf("the RabbitMQ cluster has the nodes %q (%v)", status.Running, err)
	}
	return nil
}

// Leader returns the node that leads the queue of a topic for an app.
func (c *RabbitMQCluster) Leader(ctx context.Context, topic, appID string) (*RabbitMQ, error) {
	answer, err := c.running().control(ctx, "--silent", "--formatter", "json", "list_queues", "name", "leader")
	if err != nil {
		return nil, err
	}
	var queues []struct{ Name, Leader string }
	if err := json.Unmarshal(answer, &queues); err != nil {
		return nil, err
	}
	for _, q := range queues {
		for _, r := range c.Nodes {
			if q.Name == appID+"-"+topic && q.Leader == r.name() {
				return r, nil
			}
		}
	}
	return nil, fmt.Errorf("no node leads the queue %s-%s: %s", appID, topic, answer)
}

// running returns a node that runs.
func (c *RabbitMQCluster) running() *RabbitMQ {
	for _, r := range c.Nodes {
		if r.Process != nil && r.Ended() == nil {
			return r
		}
	}
	return c.Nodes[0]
}

// Address returns where the load balancer listens.
func (c *RabbitMQCluster) Address() string { return c.balancer.Addr() }

// In names the load balancer.
func (c *RabbitMQCluster) In(component string) string {
	return strings.ReplaceAll(component, rabbitMQAddr, c.Address())
}

// Kill kills all nodes.
func (c *RabbitMQCluster) Kill() {
	for _, r := range c.Nodes {
		r.Kill()
	}
}

// Restart starts all nodes again.
func (c *RabbitMQCluster) Restart(ctx context.Context) error {
	return each(c.Nodes, func(r *RabbitMQ) error { return r.Restart(ctx) })
}

// Stop ends the nodes that run, the load balancer and the port mapper.
func (c *RabbitMQCluster) Stop(grace time.Duration) error {
	defer c.mapper.Kill()
	if c.balancer != nil {
		c.balancer.Close()
	}
	return each(c.Nodes, func(r *RabbitMQ) error { return r.stop(grace) })
}

// Drained returns nil once an app has nothing left of a topic.
func (c *RabbitMQCluster) Drained(topic, appID string) error {
	return c.running().Drained(topic, appID)
}

// Len returns how many messages of a topic wait for an app.
func (c *RabbitMQCluster) Len(topic, appID string) (int, error) { return c.running().Len(topic, appID) }

// each calls do for all, at the same time.
func each[T any](all []T, do func(T) error) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, one := range all {
		wg.Go(func() { errs[i] = do(one) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// A PostgreSQLPair is a PostgreSQL server and its synchronous standby: what the primary
// acknowledges, the standby has.
type PostgreSQLPair struct {
	Primary, Standby *PostgreSQL

	// Between is the network over which the standby follows the primary.
	Between *Link
}

var _ Server = (*PostgreSQLPair)(nil)

// postgreSQLPorts is where the project's component files expect both.
const postgreSQLPorts = "port=5432,5433"

// StartPostgreSQLPair starts a primary and its standby, and waits until that is
// synchronous.
func StartPostgreSQLPair(ctx context.Context) (_ *PostgreSQLPair, err error) {
	p := &PostgreSQLPair{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Stop(time.Second))
		}
	}()
	if p.Primary, err = StartPostgreSQL(ctx); err != nil {
		return p, err
	}
	if p.Between, err = NewLink(p.Primary.Address()); err != nil {
		return p, err
	}
	host, port, _ := strings.Cut(p.Between.Addr(), ":")
	if p.Standby, err = startPostgreSQL(ctx, "pg_basebackup", "--host", host, "--port", port, "--username", "postgres",
		"--write-recovery-conf", "--checkpoint", "fast", "--no-sync"); err != nil {
		return p, err
	}
	// After the standby was made: it must not wait for one of its own.
	for _, statement := range []string{"alter system set synchronous_standby_names = '*'", "select pg_reload_conf()"} {
		if _, err = p.Primary.Query(ctx, statement); err != nil {
			return p, err
		}
	}
	return p, p.Primary.WaitReady(ctx, func(ctx context.Context) error {
		state, err := p.Primary.Query(ctx, "select sync_state from pg_stat_replication")
		if err == nil && state != "sync" {
			err = fmt.Errorf("the standby is %q", state)
		}
		return err
	})
}

// Promote lets a standby become a primary.
func (p *PostgreSQL) Promote(ctx context.Context) error {
	promoted, err := p.Query(ctx, "select pg_promote()")
	if err == nil && promoted != "t" {
		err = fmt.Errorf("pg_promote answered %q", promoted)
	}
	return err
}

// Address returns where the primary listens.
func (p *PostgreSQLPair) Address() string { return p.Primary.Address() }

// In names both.
func (p *PostgreSQLPair) In(component string) string {
	return p.Through(p.Primary.Address(), p.Standby.Address()).In(component)
}

// Through returns the pair as component files name it that reach both at other
// addresses.
func (p *PostgreSQLPair) Through(primary, standby string) Named { return pairThrough{primary, standby} }

type pairThrough struct{ primary, standby string }

func (t pairThrough) In(component string) string {
	_, primary, _ := strings.Cut(t.primary, ":")
	_, standby, _ := strings.Cut(t.standby, ":")
	return strings.ReplaceAll(component, postgreSQLPorts, "port="+primary+","+standby)
}

// Kill kills the primary.
func (p *PostgreSQLPair) Kill() { p.Primary.Kill() }

// Restart starts the primary again.
func (p *PostgreSQLPair) Restart(ctx context.Context) error { return p.Primary.Restart(ctx) }

// Stop ends both. A primary whose standby has gone would wait for it with what it is
// just saving.
func (p *PostgreSQLPair) Stop(grace time.Duration) (err error) {
	for _, server := range []*PostgreSQL{p.Primary, p.Standby} {
		if server != nil {
			err = errors.Join(err, server.Stop(grace))
		}
	}
	if p.Between != nil {
		p.Between.Close()
	}
	return err
}
