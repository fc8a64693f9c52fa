package stack

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// DefaultRedisAddr is where `dapr init` starts Redis, and where the project's
// component files expect it.
const DefaultRedisAddr = "localhost:6379"

// A Redis is a Redis server, or one database of a server that others use too.
type Redis struct {
	Addr string
	DB   int // 0 in a server of one's own
	*Process

	// start starts a server whose files have so many bytes at the most, or no limit if
	// that is 0. It is nil where somebody else has started it.
	start  func(fileBytes int) (*Process, error)
	client func() *redis.Client
}

// RedisAt returns a database of the Redis server that runs at an address.
func RedisAt(addr string, db int) *Redis {
	return &Redis{Addr: addr, DB: db, client: sync.OnceValue(func() *redis.Client {
		return redis.NewClient(&redis.Options{
			Addr: addr, DB: db, DialTimeout: 2 * time.Second, ReadTimeout: 5 * time.Second,
			DisableIdentity:          true, // which an old server does not know, nor these
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
	})}
}

// StartRedis starts a Redis server on a port of the loopback interface, with its
// data in dir, and waits until it answers. What was acknowledged is still there
// when the server is killed and started again.
func StartRedis(ctx context.Context, dir string, port int, output func(line string)) (*Redis, error) {
	program, err := RedisServer.Find()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	r := RedisAt(net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), 0)
	r.start = func(fileBytes int) (*Process, error) {
		// "always": with "everysec", Redis puts off writing what it has
		// acknowledged while the disk is busy, and a kill loses it.
		c := Command{Name: "Redis", Path: program, Output: output,
			Args: []string{"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir,
				"--appendonly", "yes", "--appendfsync", "always", "--save", ""}}
		if fileBytes > 0 {
			// What is written beyond the limit fails, as on a disk that is full.
			const limited = `trap '' XFSZ; ulimit -f "$1" && shift && exec "$@"`
			c.Path, c.Args = "sh", slices.Concat([]string{"-c", limited, "sh", strconv.Itoa(fileBytes / 512), program}, c.Args)
		}
		return Start(c)
	}
	if err := r.Restart(ctx); err != nil {
		if r.Process != nil {
			r.Kill()
		}
		return nil, err
	}
	return r, nil
}

// OwnRedis returns a Redis that nobody else uses: a server with its data in dir, or,
// where there is none to start, an empty database of the one that runs already.
func OwnRedis(ctx context.Context, dir string) (*Redis, error) {
	if _, err := RedisServer.Find(); err != nil {
		r, borrowed := borrowRedis(ctx, DefaultRedisAddr)
		if borrowed != nil {
			return nil, fmt.Errorf("%w; %w", err, borrowed)
		}
		return r, nil
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	return StartRedis(ctx, dir, port, nil)
}

// borrowRedis returns an empty database of a Redis server that runs already. It
// never returns database 0, which is where a user's data are, nor one that holds
// anything.
func borrowRedis(ctx context.Context, addr string) (*Redis, error) {
	for db := 15; db > 0; db-- {
		r := RedisAt(addr, db)
		size, err := r.Client().DBSize(ctx).Result()
		if err != nil {
			return nil, err
		}
		if size == 0 {
			return r, nil
		}
	}
	return nil, fmt.Errorf("the Redis at %s has no empty database among 1 to 15", addr)
}

// Address returns where the server listens.
func (r *Redis) Address() string { return r.Addr }

// Client returns a client of this database.
func (r *Redis) Client() *redis.Client { return r.client() }

// Restart starts the server again after it was killed.
func (r *Redis) Restart(ctx context.Context) error { return r.RestartWithin(ctx, 0) }

// RestartWithin is Restart on a disk with little room: the server's files have so many
// bytes at the most. 0 is no limit.
func (r *Redis) RestartWithin(ctx context.Context, fileBytes int) error {
	p, err := r.start(fileBytes)
	if err != nil {
		return err
	}
	r.Process = p
	return p.WaitReady(ctx, r.Ping)
}

// Stop ends the server. Of one that somebody else has started it empties the database.
func (r *Redis) Stop(grace time.Duration) error {
	if r.start == nil {
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		return r.Client().FlushDB(ctx).Err()
	}
	_ = r.Client().Close()
	return r.Process.Stop(grace)
}

// In returns the text of a component file with this server in the place of the
// one that the project's files name.
func (r *Redis) In(component string) string {
	return strings.ReplaceAll(component, `"`+DefaultRedisAddr+`"`,
		fmt.Sprintf("%q\n    - name: redisDB\n      value: %q", r.Addr, fmt.Sprint(r.DB)))
}

// Ping returns nil if the server answers and has its data loaded.
func (r *Redis) Ping(ctx context.Context) error { return r.Client().Ping(ctx).Err() }

// Len returns how many entries a stream has, those that were handled included,
// whichever app they are for.
func (r *Redis) Len(stream, _ string) (int, error) {
	n, err := r.Client().XLen(context.Background(), stream).Result()
	return int(n), err
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
	if g.Pending != 0 || g.LastDeliveredID != last {
		return fmt.Errorf("stream %s: %d entries are not acknowledged; %s of up to %s are delivered", stream, g.Pending, g.LastDeliveredID, last)
	}
	return nil
}

// group returns what Redis tells of a consumer group of a stream.
func (r *Redis) group(stream, group string) (redis.XInfoGroup, error) {
	groups, err := r.Client().XInfoGroups(context.Background(), stream).Result()
	if err != nil {
		return redis.XInfoGroup{}, err
	}
	for _, g := range groups {
		if g.Name == group {
			return g, nil
		}
	}
	return redis.XInfoGroup{}, fmt.Errorf("stream %s has no consumer group %s", stream, group)
}

// LastDelivered returns the ID of the last entry of a stream that was delivered
// to a consumer group.
func (r *Redis) LastDelivered(stream, group string) (string, error) {
	g, err := r.group(stream, group)
	return g.LastDeliveredID, err
}

// LastEntry returns the ID of the last entry of a stream.
func (r *Redis) LastEntry(stream string) (string, error) {
	info, err := r.Client().XInfoStream(context.Background(), stream).Result()
	if err != nil {
		return "", err
	}
	return info.LastGeneratedID, nil
}

// Entry returns the data of the latest entry of a stream that has a text in them and was
// added within a minute before a time, or a second after it; or "" if there is none among
// the latest 5,000.
func (r *Redis) Entry(ctx context.Context, stream, text string, before time.Time) (string, error) {
	from, to := before.Add(-time.Minute).UnixMilli(), before.Add(time.Second).UnixMilli()
	entries, err := r.Client().XRevRangeN(ctx, stream, strconv.FormatInt(to, 10), strconv.FormatInt(from, 10), 5000).Result()
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		if data, _ := entry.Values["data"].(string); strings.Contains(data, text) {
			return data, nil
		}
	}
	return "", nil
}

// Acknowledged returns nil once a consumer group has acknowledged every entry of
// a stream up to the one with an ID.
func (r *Redis) Acknowledged(stream, group, id string) error {
	left, err := r.Client().XPendingExt(context.Background(), &redis.XPendingExtArgs{
		Stream: stream, Group: group, Start: "-", End: id, Count: 1,
	}).Result()
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("stream %s: an entry up to %s is not acknowledged: %v", stream, id, left[0])
	}
	return err
}
