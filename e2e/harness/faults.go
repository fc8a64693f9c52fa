package harness

import (
	"database/sql"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver

	"example.com/dapr-orders/e2e/stack"
)

// Refuse lets a state store refuse the inventory service's record of an item, by
// means of its own. accept ends it.
func Refuse(t *testing.T, state stack.Server, itemID string) (accept func()) {
	t.Helper()
	key := "inventory-service||" + itemID
	ctx := t.Context()
	switch s := state.(type) {
	case *stack.Redis: // knows no rule for one key: it refuses all that begin with the same letter
		Must(t, s.Client().Do(ctx, "ACL", "SETUSER", "default", "resetkeys", "~inventory-service||[^"+itemID[:1]+"]*").Err())
		return func() { Must(t, s.Client().Do(ctx, "ACL", "SETUSER", "default", "allkeys").Err()) }
	case *stack.PostgreSQL:
		_, err := s.Query(ctx, `create function refuse() returns trigger language plpgsql as 'begin raise exception ''refused''; end';
			create trigger refuse before insert or update on state for each row when (new.key = '`+key+`') execute function refuse()`)
		Must(t, err)
		return func() { _, err := s.Query(ctx, "drop trigger refuse on state; drop function refuse"); Must(t, err) }
	case *stack.SQLite:
		db, err := sql.Open("sqlite", "file:"+s.File+"?_pragma=busy_timeout(10000)")
		Must(t, err)
		t.Cleanup(func() { Must(t, db.Close()) })
		exec := func(statement string) { _, err := db.ExecContext(ctx, statement); Must(t, err) }
		for _, event := range []string{"insert", "update"} {
			exec(`create trigger refuse_` + event + ` before ` + event + ` on state when new.key = '` + key + `' begin select raise(abort, 'refused'); end`)
		}
		return func() { exec("drop trigger refuse_insert"); exec("drop trigger refuse_update") }
	}
	t.Fatalf("a %T can't refuse an item", state)
	return nil
}

// UnderLoad starts a system and lets a fault happen while clients place orders. It demands
// that orders are applied again after the fault, and that in the end each accepted order is
// applied once. It logs a row of a table in e2e/README.md, and returns the longest time from
// accepted to applied.
func UnderLoad(t *testing.T, row string, o Options, perSecond int, fault func(s *System, l *Load)) (latest time.Duration) {
	t.Helper()
	s := Start(t, o)
	l := s.StartLoad("item1", perSecond, nil)
	l.GoesOn(t, 50)
	began := time.Now()
	fault(s, l)
	l.GoesOn(t, 50)
	l.EndsExact(t)
	_, latest = l.Latest()
	t.Logf("| %s | %d accepted | %d refusals | the latest applied after %v | longest pauses: %v without an accepted order, %v without an applied order |",
		row, l.NumAccepted(), l.Refused.Load(), latest.Round(100*time.Millisecond),
		longestPause(l.Accepted(), began), longestPause(s.Applied(), began))
	return latest
}

// KillBroker kills the broker three times under load, and starts it again.
func (s *System) KillBroker(l *Load) {
	s.T.Helper()
	for range 3 {
		l.GoesOn(s.T, 50)
		s.Broker.Kill()
		Must(s.T, s.Broker.Restart(s.T.Context()))
	}
	l.GoesOn(s.T, 50)
}
