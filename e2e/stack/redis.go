package stack

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// DefaultRedisAddr is where `dapr init` starts Redis, and where the project's
// component files expect it.
const DefaultRedisAddr = "localhost:6379"

// A Redis is a Redis server.
type Redis struct {
	server
	client *redis.Client
}

// RedisAt returns the Redis server at an address, where it runs already.
func RedisAt(addr string) *Redis {
	return newRedis(server{Addr: addr})
}

func newRedis(s server) *Redis {
	s.naming = naming{DefaultRedisAddr, s.Addr}
	return &Redis{server: s, client: redis.NewClient(&redis.Options{
		Addr: s.Addr, DialTimeout: 2 * time.Second, ReadTimeout: 5 * time.Second,
		// An old server knows neither of these.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})}
}

// StartRedis starts a Redis server on a port of the loopback interface, or on a free one
// for port 0, with its data in dir, and waits until it answers. What it acknowledged is
// still there when the server is killed and started again.
func StartRedis(ctx context.Context, dir string, port int) (*Redis, error) {
	s, err := newServer(RedisServer, port, dir)
	if err != nil {
		return nil, err
	}
	_, listens, _ := strings.Cut(s.Addr, ":")
	// "always": with "everysec", Redis puts off writing what it has acknowledged while
	// the disk is busy, and a kill loses it.
	s.command.Args = []string{"--bind", "127.0.0.1", "--port", listens, "--dir", dir,
		"--appendonly", "yes", "--appendfsync", "always", "--save", ""}
	r := newRedis(s)
	r.ready = r.Ping
	return r, r.Restart(ctx)
}

// Client returns a client of the server.
func (r *Redis) Client() *redis.Client { return r.client }

// Ping returns nil if the server answers and has its data loaded.
func (r *Redis) Ping(ctx context.Context) error { return r.client.Ping(ctx).Err() }

// RestartWithin is Restart on a disk with little room: each file of the server may grow to
// fileBytes.
func (r *Redis) RestartWithin(ctx context.Context, fileBytes int) error {
	unlimited := r.command
	defer func() { r.command = unlimited }()
	const limit = `trap '' XFSZ; ulimit -f "$1" && shift && exec "$@"` // a write beyond it fails, as on a full disk
	r.command.Path = "sh"
	r.command.Args = slices.Concat([]string{"-c", limit, "sh", strconv.Itoa(fileBytes / 512), unlimited.Path}, unlimited.Args)
	return r.Restart(ctx)
}

// Stop ends the server.
func (r *Redis) Stop(grace time.Duration) error {
	_ = r.client.Close()
	return r.Process.Stop(grace)
}

// Len returns how many entries a stream has for any app, including the entries that
// were handled.
func (r *Redis) Len(stream, _ string) (int, error) {
	n, err := r.client.XLen(context.Background(), stream).Result()
	return int(n), err
}

// Drained returns nil once a consumer group has acknowledged every entry of a stream.
// Dapr's topics are streams, and its app IDs consumer groups.
func (r *Redis) Drained(stream, group string) error {
	last, err := r.LastEntry(stream)
	if err != nil {
		return err
	}
	g, err := r.group(stream, group)
	if err == nil && (g.Pending != 0 || g.LastDeliveredID != last) {
		err = fmt.Errorf("stream %s: %d entries are not acknowledged; %s of up to %s are delivered", stream, g.Pending, g.LastDeliveredID, last)
	}
	return err
}

// Waiting returns how many entries of a stream a consumer group has not acknowledged.
func (r *Redis) Waiting(stream, group string) (int64, error) {
	g, err := r.group(stream, group)
	return g.Pending + g.Lag, err
}

// group returns what Redis tells of a consumer group of a stream.
func (r *Redis) group(stream, group string) (redis.XInfoGroup, error) {
	groups, err := r.client.XInfoGroups(context.Background(), stream).Result()
	for _, g := range groups {
		if g.Name == group {
			return g, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("stream %s has no consumer group %s", stream, group)
	}
	return redis.XInfoGroup{}, err
}

// LastEntry returns the ID of the latest entry of a stream.
func (r *Redis) LastEntry(stream string) (string, error) {
	info, err := r.client.XInfoStream(context.Background(), stream).Result()
	if err != nil {
		return "", err
	}
	return info.LastGeneratedID, nil
}

// Entry returns the data of the latest entry of a stream whose data contain a text and
// which was added within a minute before a time, or a second after it. It returns "" when
// the latest 5,000 entries of that time have none.
func (r *Redis) Entry(ctx context.Context, stream, text string, before time.Time) (string, error) {
	from, to := before.Add(-time.Minute).UnixMilli(), before.Add(time.Second).UnixMilli()
	entries, err := r.client.XRevRangeN(ctx, stream, strconv.FormatInt(to, 10), strconv.FormatInt(from, 10), 5000).Result()
	for _, entry := range entries {
		if data, _ := entry.Values["data"].(string); strings.Contains(data, text) {
			return data, nil
		}
	}
	return "", err
}

// Acknowledged returns nil once a consumer group has acknowledged every entry of a
// stream up to the entry with an ID.
func (r *Redis) Acknowledged(stream, group, id string) error {
	left, err := r.client.XPendingExt(context.Background(), &redis.XPendingExtArgs{
		Stream: stream, Group: group, Start: "-", End: id, Count: 1,
	}).Result()
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("stream %s: an entry up to %s is not acknowledged: %v", stream, id, left[0])
	}
	return err
}
