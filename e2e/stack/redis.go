package stack

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// DefaultRedisAddr is where `dapr init` starts Redis, and where the project's
// component files expect it.
const DefaultRedisAddr = "localhost:6379"

// A Redis is a Redis server, or one database of a server that others use too.
type Redis struct {
	Addr string
	DB   int // 0 in a server of one's own
	*Process

	start func() (*Process, error)
}

// StartRedis starts a Redis server on a port of the loopback interface, with its
// data in dir, and waits until it answers. What was acknowledged is still there
// when the server is killed and started again.
func StartRedis(ctx context.Context, dir string, port int, output func(line string)) (*Redis, error) {
	program, err := RedisServer.find()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	r := &Redis{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	r.start = func() (*Process, error) {
		return Start(Command{
			Name: "Redis",
			Path: program,
			// "always": with "everysec", Redis puts off writing what it has
			// acknowledged while the disk is busy, and a kill loses it.
			Args: []string{"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir,
				"--appendonly", "yes", "--appendfsync", "always", "--save", ""},
			Output: output,
		})
	}
	return r, r.Restart(ctx)
}

// Restart starts the server again after it was killed.
func (r *Redis) Restart(ctx context.Context) error {
	p, err := r.start()
	if err != nil {
		return err
	}
	r.Process = p
	return p.WaitReady(ctx, func(context.Context) error { return r.Ping() })
}

// BorrowRedis returns an empty database of a Redis server that runs already. It
// never returns database 0, which is where a user's data are, nor one that holds
// anything. release empties it again.
func BorrowRedis(addr string) (r *Redis, release func(), err error) {
	for db := 15; db > 0; db-- {
		r := &Redis{Addr: addr, DB: db}
		size, err := r.Do("DBSIZE")
		if err != nil {
			return nil, nil, err
		}
		if size == int64(0) {
			return r, func() { _, _ = r.Do("FLUSHDB") }, nil
		}
	}
	return nil, nil, fmt.Errorf("the Redis at %s has no empty database among 1 to 15", addr)
}

// In returns the text of a component file with this server in the place of the
// one that the project's files name.
func (r *Redis) In(component string) string {
	return strings.ReplaceAll(component, `"`+DefaultRedisAddr+`"`,
		fmt.Sprintf("%q\n    - name: redisDB\n      value: %q", r.Addr, fmt.Sprint(r.DB)))
}

// Len returns how many entries a stream has, those that were handled included,
// whichever app they are for.
func (r *Redis) Len(stream, _ string) (int, error) {
	n, err := r.Do("XLEN", stream)
	if err != nil {
		return 0, err
	}
	return int(n.(int64)), nil
}

// Ping returns nil if the server answers and has its data loaded.
func (r *Redis) Ping() error {
	_, err := r.Do("PING")
	return err
}

// Drained returns nil once a consumer group of a stream has nothing left: no
// entry waiting, none delivered and not acknowledged. Dapr's topics are streams,
// and its app IDs consumer groups.
func (r *Redis) Drained(stream, group string) error {
	last, err := r.LastEntry(stream)
	if err != nil {
		return err
	}
	g, err := r.group(stream, group)
	if err != nil {
		return err
	}
	if g["pending"] != int64(0) || g["last-delivered-id"] != last {
		return fmt.Errorf("stream %s: %v entries are not acknowledged; %v of up to %v are delivered", stream, g["pending"], g["last-delivered-id"], last)
	}
	return nil
}

// group returns what Redis tells of a consumer group of a stream.
func (r *Redis) group(stream, group string) (map[string]any, error) {
	groups, err := r.Do("XINFO", "GROUPS", stream)
	if err != nil {
		return nil, err
	}
	list, _ := groups.([]any)
	for _, g := range list {
		if g := fields(g); g["name"] == group {
			return g, nil
		}
	}
	return nil, fmt.Errorf("stream %s has no consumer group %s", stream, group)
}

// LastDelivered returns the ID of the last entry of a stream that was delivered
// to a consumer group.
func (r *Redis) LastDelivered(stream, group string) (string, error) {
	g, err := r.group(stream, group)
	if err != nil {
		return "", err
	}
	id, _ := g["last-delivered-id"].(string)
	return id, nil
}

// LastEntry returns the ID of the last entry of a stream.
func (r *Redis) LastEntry(stream string) (string, error) {
	info, err := r.Do("XINFO", "STREAM", stream)
	if err != nil {
		return "", err
	}
	id, _ := fields(info)["last-generated-id"].(string)
	return id, nil
}

// Acknowledged returns nil once a consumer group has acknowledged every entry of
// a stream up to the one with an ID.
func (r *Redis) Acknowledged(stream, group, id string) error {
	pending, err := r.Do("XPENDING", stream, group, "-", id, "1")
	if err != nil {
		return err
	}
	if left, _ := pending.([]any); len(left) > 0 {
		return fmt.Errorf("stream %s: an entry up to %s is not acknowledged: %v", stream, id, left[0])
	}
	return nil
}

// fields makes a map of an answer that is a list of names and values.
func fields(answer any) map[string]any {
	list, _ := answer.([]any)
	m := make(map[string]any)
	for i := 0; i+1 < len(list); i += 2 {
		name, _ := list[i].(string)
		m[name] = list[i+1]
	}
	return m
}

// Do sends one command and returns the answer: a string, an int64, nil, or a
// []any of these.
func (r *Redis) Do(args ...string) (any, error) {
	conn, err := net.DialTimeout("tcp", r.Addr, 2*time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	answers := bufio.NewReader(conn)
	if r.DB != 0 {
		if _, err := exchange(conn, answers, "SELECT", strconv.Itoa(r.DB)); err != nil {
			return nil, err
		}
	}
	return exchange(conn, answers, args...)
}

func exchange(w io.Writer, answers *bufio.Reader, args ...string) (any, error) {
	command := fmt.Sprintf("*%d\r\n", len(args))
	for _, arg := range args {
		command += fmt.Sprintf("$%d\r\n%s\r\n", len(arg), arg)
	}
	if _, err := io.WriteString(w, command); err != nil {
		return nil, err
	}
	return readAnswer(answers)
}

// readAnswer reads one value of the Redis protocol,
// https://redis.io/docs/latest/develop/reference/protocol-spec/.
func readAnswer(answers *bufio.Reader) (any, error) {
	line, err := answers.ReadString('\n')
	if err != nil {
		return nil, err
	}
	kind, text := line[0], strings.TrimSpace(line[1:])
	switch kind {
	case '+':
		return text, nil
	case '-':
		return nil, fmt.Errorf("redis answered %s", text)
	case ':':
		return strconv.ParseInt(text, 10, 64)
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return nil, err
	}
	if kind == '$' {
		value := make([]byte, n+len("\r\n"))
		_, err := io.ReadFull(answers, value)
		return string(value[:n]), err
	}
	list := make([]any, n)
	for i := range list {
		if list[i], err = readAnswer(answers); err != nil {
			return nil, err
		}
	}
	return list, nil
}
