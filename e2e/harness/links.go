package harness

import (
	"net"
	"path/filepath"
	"strconv"
	"time"

	"example.com/dapr-orders/e2e/stack"
)

// Links are the network of one app. Its sidecar reaches the broker, the state store, the
// service and the standby of the state store, if there is one, each over a link. The service
// reaches its sidecar over the link Sidecar.
type Links struct{ Broker, State, Service, Sidecar, Standby *stack.Link }

// LinksOf returns the network of an app in a system that has one.
func (s *System) LinksOf(app *stack.App) *Links { return s.links[app.DaprPort] }

// network puts links between an app and all that it talks to.
func (s *System) network(app *stack.AppOptions, folder string) {
	s.T.Helper()
	link := func(server string) *stack.Link {
		link, err := stack.NewLink(server)
		Must(s.T, err)
		return link
	}
	toPort := func(port *int) *stack.Link {
		if *port == 0 {
			*port = FreePort(s.T)
		}
		return link(net.JoinHostPort("127.0.0.1", strconv.Itoa(*port)))
	}
	l := &Links{
		Broker: link(s.Broker.Address()), State: link(s.State.Address()),
		Service: toPort(&app.Port), Sidecar: toPort(&app.DaprPort),
	}
	state := []*stack.Link{l.State}
	if pair, ok := s.State.(*stack.PostgreSQLPair); ok {
		l.Standby = link(pair.Standby.Address())
		state = append(state, l.Standby)
	}

	app.Resources = filepath.Join(s.T.TempDir(), "components")
	Must(s.T, stack.WriteComponents(folder, app.Resources, stack.Through(s.Broker, l.Broker), stack.Through(s.State, state...)))
	_, port, err := net.SplitHostPort(l.Service.Addr())
	Must(s.T, err)
	app.SidecarArgs = append(app.SidecarArgs, "--app-port", port)
	app.Env = append(app.Env, "DAPR_HTTP_ENDPOINT=http://"+l.Sidecar.Addr())
	if s.links == nil {
		s.links = make(map[int]*Links)
	}
	s.links[app.DaprPort] = l
}

// BrokerLinks returns every app's link to the broker.
func (s *System) BrokerLinks() (all []*stack.Link) {
	for _, l := range s.links {
		all = append(all, l.Broker)
	}
	return all
}

// StateLinks returns the links of all replicas to the state store.
func (s *System) StateLinks() (all []*stack.Link) {
	for _, app := range s.Inventory {
		all = append(all, s.LinksOf(app).State)
	}
	return all
}

// AllLinks returns the whole network of the system.
func (s *System) AllLinks() (all []*stack.Link) {
	for _, l := range s.links {
		all = append(all, l.Broker, l.State, l.Service, l.Sidecar)
		if l.Standby != nil {
			all = append(all, l.Standby)
		}
	}
	return all
}

// Rage gives links a weather for some time.
func Rage(w stack.Weather, lasts time.Duration, links ...*stack.Link) {
	for _, l := range links {
		l.Set(w)
	}
	time.Sleep(lasts) // the fault itself
	for _, l := range links {
		l.Set(stack.Weather{})
	}
}
