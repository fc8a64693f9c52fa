package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// A Given is a server that runs already and that a user's component file names. It is
// never stopped: Kill breaks the network to it.
type Given struct {
	Observer

	kind  string // what the component's type begins with: "pubsub." or "state."
	redis bool   // the component's type is one of Redis
	addr  string // host and port, or empty where the file does not say
	run   string // the prefix of everything that is put into the server
	link  *Link  // nil without an address
}

// GivenBackend returns a backend of the component files in a folder, whose servers run
// already, with the settings of the services that this process has in its environment.
// Everything that is put into them begins with run: app IDs, and so keys and consumer groups,
// and topics.
func GivenBackend(folder, run string) (Backend, error) {
	broker, err := given(folder, "pubsub.", "pubsub", run)
	if err != nil {
		return Backend{}, err
	}
	state, err := given(folder, "state.", "statestore", run)
	if err != nil {
		return Backend{}, err
	}
	var env []string
	for _, name := range []string{"PUBLISH_TWICE", "STATE_CONSISTENCY", "SUBSCRIPTION_METADATA"} {
		if value := os.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return Backend{
		Name:   folder,
		Folder: folder,
		Env:    env,
		Broker: func(context.Context, string) (Broker, error) { return broker, broker.connect() },
		State:  func(context.Context, string) (Server, error) { return state, state.connect() },
		Given:  run, Reachable: state.addr != "",
	}, nil
}

var hostAndPort = regexp.MustCompile(`[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]{2,5}\b`)

// addressIn returns the first host and port in a setting, after a user and a password, or "".
func addressIn(setting string) string {
	return hostAndPort.FindString(setting[strings.LastIndex(setting, "@")+1:])
}

// given finds the component of a kind in a folder, under the name that the services know.
func given(folder, kind, name, run string) (*Given, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var c component
		if err := yaml.Unmarshal(text, &c); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if !c.is(kind) || c.Metadata["name"] != name {
			continue
		}
		g := &Given{kind: kind, redis: c.is(kind + "redis"), run: run}
		for _, item := range c.Spec.Metadata {
			if value, ok := item["value"].(string); ok && g.addr == "" {
				g.addr = addressIn(value)
			}
		}
		return g, nil
	}
	return nil, fmt.Errorf("no file in %s has a component named %s of a type %s…, which the services need", folder, name, kind)
}

// A component is a component file of Dapr's.
type component struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   map[string]any `json:"metadata"`
	Spec       struct {
		Type     string           `json:"type"`
		Version  string           `json:"version"`
		Metadata []map[string]any `json:"metadata"`
		Init     string           `json:"initTimeout,omitempty"`
	} `json:"spec"`
	Auth map[string]any `json:"auth,omitempty"`
}

// is reports whether the file is a Component whose type begins with kind.
func (c *component) is(kind string) bool {
	return c.Kind == "Component" && strings.HasPrefix(c.Spec.Type, kind)
}

// writeGiven is WriteComponents for a backend whose servers run already. It adds the filter,
// because the given servers can't help what Dapr loses without it.
func writeGiven(b Backend, root, dir string, broker, state Named) error {
	err := copyFiles(filepath.Join(b.Folder, "*.yaml"), dir, func(_, text string) (string, error) {
		text = state.In(broker.In(text))
		for _, s := range Services {
			text = strings.ReplaceAll(text, s.AppID, b.Given+s.AppID) // as in scopes
		}
		return text, nil
	})
	if err != nil {
		return err
	}
	filter := filepath.Join(root, filepath.FromSlash(Backends[0].Folder), FilterFile)
	return copyFiles(filter, dir, func(_, text string) (string, error) { return filterIn(text) })
}

// connect opens the link to the server.
func (g *Given) connect() (err error) {
	if g.addr != "" {
		g.link, err = NewLink(g.addr)
	}
	return err
}

// In returns a component file that reaches the server over a link, whose topics are the
// run's own, and which admits the run's own apps.
func (g *Given) In(text string) string {
	var c component
	if err := yaml.Unmarshal([]byte(text), &c); err != nil || !c.is(g.kind) {
		return text
	}
	c.Spec.Metadata = slices.DeleteFunc(c.Spec.Metadata, func(item map[string]any) bool {
		switch item["name"] {
		case "protectedTopics", "allowedTopics", "publishingScopes", "subscriptionScopes", // by names that are not the run's
			"keyPrefix": // Keys begin with the app ID.
			return true
		}
		return false
	})
	for _, item := range c.Spec.Metadata {
		if value, ok := item["value"].(string); ok && g.link != nil {
			item["value"] = strings.ReplaceAll(value, g.addr, g.link.Addr())
		}
	}
	if c.is("pubsub.") {
		// If any setting contains {namespace}, the topics begin with the sidecar's namespace.
		c.Spec.Metadata = append(c.Spec.Metadata, map[string]any{"name": "run", "value": "{namespace}"})
	}
	edited, err := yaml.Marshal(c)
	if err != nil {
		return text
	}
	return string(edited)
}

// Address returns the host and port of the server, or "" where the file does not say.
func (g *Given) Address() string { return g.addr }

// Kill breaks the network to the server.
func (g *Given) Kill() { g.link.Close() }

// Restart repairs the network to the server.
func (g *Given) Restart(context.Context) error { return g.link.open(g.link.Addr()) }

// Stop leaves the server as it is, but for a Redis: there it deletes what the run has
// left.
func (g *Given) Stop(grace time.Duration) error {
	if g.link == nil {
		return nil
	}
	g.link.Close()
	if !g.redis {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	redis := RedisAt(g.addr).Client()
	defer redis.Close()
	var failed error
	for keys := redis.Scan(ctx, 0, g.run+"*", 1000).Iterator(); keys.Next(ctx); {
		failed = errors.Join(failed, redis.Del(ctx, keys.Val()).Err())
	}
	return failed
}
