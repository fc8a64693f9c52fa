package e2e

import (
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/stack"
)

// links are the network of one app: its sidecar reaches the broker and the state store
// over two, and the service over a third; over the fourth the service reaches the
// sidecar. Where the state store has a standby, the sidecar reaches that over a link of
// its own.
type links struct{ broker, state, service, sidecar, standby *stack.Link }

func (l *links) all() []*stack.Link {
	all := []*stack.Link{l.broker, l.state, l.service, l.sidecar}
	if l.standby != nil {
		all = append(all, l.standby)
	}
	return all
}

// linksOf returns the network of an app in a system that has one.
func (s *system) linksOf(app *stack.App) *links { return s.links[app.DaprPort] }

// network puts links between an app and all that it talks to.
func (s *system) network(app *stack.AppOptions, folder string) {
	s.t.Helper()
	l := &links{}
	link := func(server string) *stack.Link {
		link, err := stack.NewLink(server)
		must(s.t, err)
		return link
	}
	for _, port := range []*int{&app.Port, &app.DaprPort} {
		if *port == 0 {
			free, err := stack.FreePort()
			must(s.t, err)
			*port = free
		}
	}
	l.broker, l.state = link(s.Broker.Address()), link(s.State.Address())
	l.service = link(net.JoinHostPort("127.0.0.1", strconv.Itoa(app.Port)))
	l.sidecar = link(net.JoinHostPort("127.0.0.1", strconv.Itoa(app.DaprPort)))

	state := stack.Through(s.State, l.state.Addr())
	if pair, ok := s.State.(*stack.PostgreSQLPair); ok {
		l.standby = link(pair.Standby.Address())
		state = pair.Through(l.state.Addr(), l.standby.Addr())
	}

	app.Resources = filepath.Join(s.t.TempDir(), "components")
	must(s.t, stack.WriteComponents(folder, app.Resources, stack.Through(s.Broker, l.broker.Addr()), state))
	_, port, err := net.SplitHostPort(l.service.Addr())
	must(s.t, err)
	app.SidecarArgs = append(app.SidecarArgs, "--app-port", port)
	app.Env = append(app.Env, "DAPR_HTTP_ENDPOINT=http://"+l.sidecar.Addr())
	if s.links == nil {
		s.links = make(map[int]*links)
	}
	s.links[app.DaprPort] = l
}

// A storm is a fault of the network, which no process dies of.
type storm struct {
	text    string // in e2e/README.md
	core    bool   // always tried
	lasts   time.Duration
	weather stack.Weather
	links   func(s *system) []*stack.Link
}

var storms = []storm{
	{"packets to and from the broker dropped for 20 s", false, 20 * time.Second, stack.Cut, (*system).brokerLinks},
	{"packets to and from the state store dropped for 20 s", false, 20 * time.Second, stack.Cut, (*system).stateLinks},
	{"packets to the broker dropped for 10 s, none from it", false, 10 * time.Second, stack.Weather{CutThere: true}, (*system).brokerLinks},
	{"packets from the broker dropped for 10 s, none to it", false, 10 * time.Second, stack.Weather{CutBack: true}, (*system).brokerLinks},
	{"packets to the state store dropped for 10 s, none from it", false, 10 * time.Second, stack.Weather{CutThere: true}, (*system).stateLinks},
	{"packets from the state store dropped for 10 s, none to it", true, 10 * time.Second, stack.Weather{CutBack: true}, (*system).stateLinks},
	{"30 % of all packets lost for 20 s, wherever they go", true, 20 * time.Second, stack.Weather{Loss: 0.3}, (*system).allLinks},
	{"the state store's answers 2 s late, for 20 s", false, 20 * time.Second, stack.Weather{Delay: 2 * time.Second}, (*system).stateLinks},
	{"the broker's answers 2 s late, for 20 s", false, 20 * time.Second, stack.Weather{Delay: 2 * time.Second}, (*system).brokerLinks},
	{"all answers 2 s late, wherever they come from, for 20 s", false, 20 * time.Second, stack.Weather{Delay: 2 * time.Second}, (*system).allLinks},
	{"one replica cut off from the state store for 30 s, not from the broker", true, 30 * time.Second, stack.Cut, func(s *system) []*stack.Link {
		return []*stack.Link{s.linksOf(s.inventory[1]).state}
	}},
	{"one replica cut off from the broker for 30 s, not from the state store", false, 30 * time.Second, stack.Cut, func(s *system) []*stack.Link {
		return []*stack.Link{s.linksOf(s.inventory[1]).broker}
	}},
	{"one inventory service and its sidecar cut off from each other for 30 s", false, 30 * time.Second, stack.Cut, func(s *system) []*stack.Link {
		l := s.linksOf(s.inventory[1])
		return []*stack.Link{l.service, l.sidecar}
	}},
	{"the order service cut off from its sidecar for 10 s", false, 10 * time.Second, stack.Cut, func(s *system) []*stack.Link {
		return []*stack.Link{s.linksOf(s.order).sidecar}
	}},
}

// brokerLinks returns every app's link to the broker.
func (s *system) brokerLinks() (all []*stack.Link) {
	for _, l := range s.links {
		all = append(all, l.broker)
	}
	return all
}

// stateLinks returns the links of all replicas to the state store.
func (s *system) stateLinks() (all []*stack.Link) {
	for _, app := range s.inventory {
		all = append(all, s.linksOf(app).state)
	}
	return all
}

// allLinks returns the whole network of the system.
func (s *system) allLinks() (all []*stack.Link) {
	for _, l := range s.links {
		all = append(all, l.all()...)
	}
	return all
}

// rage lets links have a weather for a while.
func rage(w stack.Weather, lasts time.Duration, links ...*stack.Link) {
	for _, l := range links {
		l.Set(w)
	}
	time.Sleep(lasts) // the fault itself
	for _, l := range links {
		l.Set(stack.Weather{})
	}
}

// TestNetwork lets each storm rage under load: what was accepted is counted, once.
func TestNetwork(t *testing.T) {
	for _, st := range storms {
		if !st.core && *promisesFile == "" {
			continue
		}
		t.Run(strings.ReplaceAll(st.text, ",", ""), func(t *testing.T) {
			t.Parallel()
			needsOwnRedis(t)
			s := startSystem(t, systemOptions{replicas: 2, separateState: true, network: true})
			l := s.startLoad("item1", 50, nil)
			l.goesOn(t, 50)
			rage(st.weather, st.lasts, st.links(s)...)
			l.goesOn(t, 50)
			l.endsExact(t)
			_, latest := l.latest()
			t.Logf("| %s | %d accepted | %d refusals | the latest counted after %v |", st.text, l.numAccepted(), l.refused.Load(), latest.Round(100*time.Millisecond))
		})
	}
}
