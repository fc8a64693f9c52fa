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

// A Given is a server that runs already, of which somebody's component file tells. It is
// never stopped: Kill breaks the network to it.
type Given struct {
	Type string // of Dapr's component, such as "pubsub.redis"
	Addr string // host and port, or empty where the file does not say

	Observer

	run  string
	link *Link
}

var _ Broker = (*Given)(nil)

// GivenBackend returns a backend of the component files in a folder, whose servers run
// already. run is what all that is put into them begins with: app IDs, and so keys and
// consumer groups, and topics.
func GivenBackend(folder, run string) (Backend, error) {
	broker, err := given(folder, "pubsub.", "pubsub", run)
	if err != nil {
		return Backend{}, err
	}
	state, err := given(folder, "state.", "statestore", run)
	if err != nil {
		return Backend{}, err
	}
	return Backend{
		Name:   folder,
		Folder: folder,
		Broker: func(context.Context, *Project, string) (Broker, error) { return broker, broker.connect() },
		State:  func(context.Context, string) (Server, error) { return state, state.connect() },
		Given:  run, Reachable: state.Addr != "",
	}, nil
}

// address is a host and a port, wherever they stand in a setting.
var address = regexp.MustCompile(`[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]{2,5}\b`)

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
		c, err := parseComponent(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if c == nil || !strings.HasPrefix(c.Spec.Type, kind) || c.Metadata["name"] != name {
			continue
		}
		g := &Given{Type: c.Spec.Type, run: run}
		for _, item := range c.Spec.Metadata {
			if value, ok := item["value"].(string); ok && g.Addr == "" {
				g.Addr = address.FindString(value)
			}
		}
		return g, nil
	}
	return nil, fmt.Errorf("no file in %s is of a component of the type %s… that is called %s, as the services expect it", folder, kind, name)
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

// parseComponent returns nil for what is another resource than a component.
func parseComponent(text string) (*component, error) {
	var c component
	if err := yaml.Unmarshal([]byte(text), &c); err != nil || c.Kind != "Component" {
		return nil, err
	}
	return &c, nil
}

// writeGiven is WriteComponents for a folder of somebody's. Each component names its
// server itself.
func writeGiven(folder, dir, run string, broker, state Named) error {
	return copyComponents(folder, dir, func(file, text string) (string, error) {
		c, err := parseComponent(text)
		if err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
		switch {
		case c != nil && strings.HasPrefix(c.Spec.Type, "pubsub."):
			text = broker.In(text)
		case c != nil && strings.HasPrefix(c.Spec.Type, "state."):
			text = state.In(text)
		}
		for _, s := range Services {
			text = strings.ReplaceAll(text, s.AppID, run+s.AppID) // as in scopes
		}
		return text, nil
	})
}

func (g *Given) connect() (err error) {
	if g.Addr == "" {
		return nil
	}
	g.link, err = NewLink(g.Addr)
	return err
}

// In returns a component file that reaches the server over a link, whose topics are the
// run's own, and which admits the run's own apps.
func (g *Given) In(text string) string {
	c, err := parseComponent(text)
	if err != nil || c == nil {
		return text
	}
	c.Spec.Metadata = slices.DeleteFunc(c.Spec.Metadata, func(item map[string]any) bool {
		// Who may do what, by names that are not the run's; and where keys begin.
		return slices.Contains([]string{"protectedTopics", "allowedTopics", "publishingScopes", "subscriptionScopes", "keyPrefix"}, fmt.Sprint(item["name"]))
	})
	for _, item := range c.Spec.Metadata {
		if value, ok := item["value"].(string); ok && g.link != nil {
			item["value"] = strings.ReplaceAll(value, g.Addr, g.link.Addr())
		}
	}
	if strings.HasPrefix(c.Spec.Type, "pubsub.") {
		// Topics of a component with {namespace} in any setting begin with the sidecar's.
		c.Spec.Metadata = append(c.Spec.Metadata, map[string]any{"name": "run", "value": "{namespace}"})
	}
	edited, err := yaml.Marshal(c)
	if err != nil {
		return text
	}
	return string(edited)
}

// Address returns where the server is.
func (g *Given) Address() string { return g.Addr }

// Kill breaks the network to the server.
func (g *Given) Kill() { g.link.Set(Weather{Broken: true}) }

// Restart mends the network to the server.
func (g *Given) Restart(context.Context) error { g.link.Set(Weather{}); return nil }

// Stop leaves the server as it is. Where it is a Redis, it takes away what the run has
// left in it.
func (g *Given) Stop(grace time.Duration) error {
	if g.link == nil {
		return nil
	}
	g.link.Close()
	if !strings.HasSuffix(g.Type, ".redis") {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	redis := RedisAt(g.Addr, 0)
	defer redis.Client().Close()
	var failed error
	for keys := redis.Client().Scan(ctx, 0, g.run+"*", 1000).Iterator(); keys.Next(ctx); {
		failed = errors.Join(failed, redis.Client().Del(ctx, keys.Val()).Err())
	}
	return failed
}
