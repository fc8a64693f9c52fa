package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A PostgreSQL is a PostgreSQL server with a data folder and a port of its own.
type PostgreSQL struct {
	server
	dir string
}

// Where the project's component files expect PostgreSQL, and a server with its standby.
const (
	postgreSQLPort  = "port=5432"
	postgreSQLPorts = "port=5432,5433"
)

// StartPostgreSQL starts a PostgreSQL server on a free port of the loopback interface,
// with its data in a new folder, and waits until it answers.
func StartPostgreSQL(ctx context.Context) (*PostgreSQL, error) {
	return startPostgreSQL(ctx, "initdb", "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
}

// startPostgreSQL starts a server whose data folder is made by another of PostgreSQL's
// programs.
func startPostgreSQL(ctx context.Context, program string, args ...string) (*PostgreSQL, error) {
	dir, err := os.MkdirTemp("", "dapr-orders-postgresql")
	if err != nil {
		return nil, err
	}
	p := &PostgreSQL{dir: dir}
	if p.server, err = newServer(PostgreSQLServer, 0, dir); err == nil {
		err = p.start(ctx, program, args)
	}
	if err != nil {
		return nil, errors.Join(err, p.Stop(time.Second))
	}
	return p, nil
}

func (p *PostgreSQL) start(ctx context.Context, program string, args []string) error {
	asServer := func(c *exec.Cmd) { asServer(c, p.dir) }
	if err := run(ctx, Command{
		Name:    program,
		Path:    filepath.Join(filepath.Dir(p.command.Path), program),
		Args:    append(args, "--pgdata", p.dir),
		prepare: asServer,
	}); err != nil {
		return err
	}
	port := port(p.Addr)
	p.naming = naming{postgreSQLPort, "port=" + port}
	p.command.Args = []string{"-D", p.dir, "-p", port, "-h", "127.0.0.1", "-c", "unix_socket_directories="}
	p.command.prepare = asServer
	p.ready = func(ctx context.Context) error {
		_, err := p.Query(ctx, "select 1")
		return err
	}
	return p.Restart(ctx)
}

// Kill ends the server at once, without writing anything out. It does what
// `pg_ctl stop -m immediate` does: after kill -9, the server's own processes would live on
// for a moment and keep it from starting again.
func (p *PostgreSQL) Kill() { _ = p.end(syscall.SIGQUIT, time.Minute) }

// Stop ends the server and deletes its data.
func (p *PostgreSQL) Stop(grace time.Duration) error {
	defer os.RemoveAll(p.dir)
	return p.end(os.Interrupt, grace) // SIGTERM would wait for the clients to go
}

// connect opens a connection to the server.
func (p *PostgreSQL) connect(ctx context.Context) (*pgconn.PgConn, error) {
	return pgconn.Connect(ctx, "postgres://postgres@"+p.Addr+"/postgres?sslmode=disable&statement_timeout=0")
}

// Query runs SQL statements and returns the first value of the last answer, or "".
func (p *PostgreSQL) Query(ctx context.Context, sql string) (value string, err error) {
	conn, err := p.connect(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, sql).ReadAll()
	for _, result := range results {
		for _, row := range result.Rows {
			value = string(row[0])
		}
	}
	return value, err
}

// Hold runs a statement, such as one that takes a lock, in a transaction that stays open
// until release.
func (p *PostgreSQL) Hold(ctx context.Context, statement string) (release func() error, err error) {
	conn, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	release = func() error { return conn.Close(context.Background()) }
	if _, err := conn.Exec(ctx, "begin; "+statement).ReadAll(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", statement, err), release())
	}
	return release, nil
}

// Promote makes a standby a primary.
func (p *PostgreSQL) Promote(ctx context.Context) error {
	promoted, err := p.Query(ctx, "select pg_promote()")
	if err == nil && promoted != "t" {
		err = fmt.Errorf("pg_promote answered %q", promoted)
	}
	return err
}

// A PostgreSQLPair is a PostgreSQL server and its synchronous standby: what the primary
// acknowledges, the standby has.
type PostgreSQLPair struct {
	naming
	Primary, Standby *PostgreSQL

	Between *Link // the network over which the standby follows the primary
}

// startPostgreSQLPair starts a primary and its standby, and waits until the standby is
// synchronous.
func startPostgreSQLPair(ctx context.Context) (_ Server, err error) {
	p := &PostgreSQLPair{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Stop(time.Second))
		}
	}()
	if p.Primary, err = StartPostgreSQL(ctx); err != nil {
		return nil, err
	}
	if p.Between, err = NewLink(p.Primary.Addr); err != nil {
		return nil, err
	}
	if p.Standby, err = startPostgreSQL(ctx, "pg_basebackup", "--host", "127.0.0.1", "--port", port(p.Between.Addr()), "--username", "postgres",
		"--write-recovery-conf", "--checkpoint", "fast", "--no-sync"); err != nil {
		return nil, err
	}
	p.naming = naming{postgreSQLPorts, "port=" + port(p.Primary.Addr) + "," + port(p.Standby.Addr)}
	// Only now: a primary that waits for a standby could not make one. The standby has the
	// default name.
	for _, statement := range []string{"alter system set synchronous_standby_names = 'walreceiver'", "select pg_reload_conf()"} {
		if _, err := p.Primary.Query(ctx, statement); err != nil {
			return nil, err
		}
	}
	return p, p.Primary.waitReady(ctx, func(ctx context.Context) error {
		state, err := p.Primary.Query(ctx, "select sync_state from pg_stat_replication")
		if err == nil && state != "sync" {
			err = fmt.Errorf("the standby is %q", state)
		}
		return err
	})
}

// Address returns where the primary listens.
func (p *PostgreSQLPair) Address() string { return p.Primary.Addr }

// Kill kills the primary.
func (p *PostgreSQLPair) Kill() { p.Primary.Kill() }

// Restart starts the primary again after Kill.
func (p *PostgreSQLPair) Restart(ctx context.Context) error { return p.Primary.Restart(ctx) }

// Stop ends both, the primary first: without its standby it would wait for it.
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
