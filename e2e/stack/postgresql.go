package stack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A PostgreSQL is a PostgreSQL server with a data folder and a port of its own.
type PostgreSQL struct {
	*Process

	program, dir string
	port         int
}

// postgreSQLPort is where the project's component files expect PostgreSQL.
const postgreSQLPort = "port=5432"

// StartPostgreSQL starts a PostgreSQL server on a free port of the loopback
// interface, with its data in a new folder, and waits until it takes connections.
func StartPostgreSQL(ctx context.Context) (*PostgreSQL, error) {
	return startPostgreSQL(ctx, "initdb", "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
}

// startPostgreSQL starts a server whose data folder one of PostgreSQL's programs makes.
func startPostgreSQL(ctx context.Context, program string, args ...string) (*PostgreSQL, error) {
	server, err := PostgreSQLServer.Find()
	if err != nil {
		return nil, err
	}
	p := &PostgreSQL{program: server}
	if p.port, err = FreePort(); err != nil {
		return nil, err
	}
	if p.dir, err = os.MkdirTemp("", "dapr-orders-postgresql"); err != nil {
		return nil, err
	}
	err = p.create(ctx, program, args)
	if err == nil {
		err = p.Restart(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, p.Stop(time.Second))
	}
	return p, nil
}

// create makes the data folder.
func (p *PostgreSQL) create(ctx context.Context, program string, args []string) error {
	if err := forServer(p.dir); err != nil {
		return err
	}
	create := exec.CommandContext(ctx, filepath.Join(filepath.Dir(p.program), program), append(args, "--pgdata", p.dir)...)
	asServer(create)
	if output, err := create.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, tail(string(output), 10))
	}
	return nil
}

// Restart starts the server, or starts it again after it was killed.
func (p *PostgreSQL) Restart(ctx context.Context) error {
	process, err := Start(Command{
		Name:    "PostgreSQL",
		Path:    p.program,
		Args:    []string{"-D", p.dir, "-p", strconv.Itoa(p.port), "-h", "127.0.0.1", "-c", "unix_socket_directories="},
		prepare: asServer,
	})
	if err != nil {
		return err
	}
	p.Process = process
	return process.WaitReady(ctx, func(ctx context.Context) error {
		_, err := p.Query(ctx, "select 1")
		return err
	})
}

// Kill ends the server at once, without writing anything out. It is what
// `pg_ctl stop -m immediate` does: the processes of a server that is killed with
// -9 would live on for a moment and keep it from starting again.
func (p *PostgreSQL) Kill() {
	if err := p.cmd.Process.Signal(immediateSignal); err != nil {
		p.Process.Kill()
	}
	<-p.Done()
}

// Stop ends the server and deletes its data.
func (p *PostgreSQL) Stop(grace time.Duration) error {
	defer os.RemoveAll(p.dir)
	if p.Process == nil || p.Ended() != nil {
		return nil
	}
	return p.Process.end(os.Interrupt, grace) // SIGTERM would wait for its clients to go
}

// Address returns where the server listens.
func (p *PostgreSQL) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

// In returns the text of a component file with this server in the place of the
// one that the project's files name.
func (p *PostgreSQL) In(component string) string {
	return strings.ReplaceAll(component, postgreSQLPort, "port="+strconv.Itoa(p.port))
}

// Query runs SQL in psql and returns what it prints.
func (p *PostgreSQL) Query(ctx context.Context, sql string) (string, error) {
	output, err := p.psql(ctx, "-c", sql).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, output)
	}
	return strings.TrimSpace(string(output)), nil
}

// Lock keeps everyone from a table until release.
func (p *PostgreSQL) Lock(ctx context.Context, table string) (release func() error, err error) {
	return p.hold(ctx, "lock table "+table+" in access exclusive mode")
}

// LockRow lets nobody write a row of a state store's table, who may all read it, until
// release: it does not refuse, it has them wait.
func (p *PostgreSQL) LockRow(ctx context.Context, table, key string) (release func() error, err error) {
	return p.hold(ctx, "do $$ begin perform from "+table+" where key = '"+key+"' for update; assert found; end $$")
}

// hold has a transaction do something, and stay open until release.
func (p *PostgreSQL) hold(ctx context.Context, statement string) (release func() error, err error) {
	psql := p.psql(ctx)
	statements, err := psql.StdinPipe()
	if err != nil {
		return nil, err
	}
	answers, err := psql.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := psql.Start(); err != nil {
		return nil, err
	}
	release = func() error { statements.Close(); return psql.Wait() }
	fmt.Fprintf(statements, "set statement_timeout = 0; begin; %s; select 'held';\n", statement)
	if answer, err := bufio.NewReader(answers).ReadString('\n'); err != nil || answer != "held\n" {
		return nil, errors.Join(fmt.Errorf("%s: psql answered %q", statement, answer), err, release())
	}
	return release, nil
}

func (p *PostgreSQL) psql(ctx context.Context, args ...string) *exec.Cmd {
	args = append([]string{"-h", "127.0.0.1", "-p", strconv.Itoa(p.port), "-U", "postgres", "-XAtq"}, args...)
	return exec.CommandContext(ctx, filepath.Join(filepath.Dir(p.program), "psql"), args...)
}
