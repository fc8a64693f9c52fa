package e2e

import (
	"testing"
	"time"

	"example.com/dapr-orders/e2e/harness"
)

// What a stopped sidecar had fetched, other sidecars deliver soon. Each of three sidecars
// is stopped and started again, one after another, while orders for one item keep all of
// them busy.
func TestOthersTakeOverFromStoppedSidecars(t *testing.T) {
	t.Parallel()
	rounds, perSecond := 1, 300
	if *promisesFile != "" {
		rounds, perSecond = 4, 1000
	}
	s := harness.Start(t, harness.Options{Replicas: 3})
	l := s.StartLoad("item1", perSecond, nil)
	l.GoesOn(t, 50)
	for range rounds {
		for _, app := range s.Inventory {
			harness.Must(t, app.Sidecar.Stop(20*time.Second))
			harness.Must(t, app.StartSidecar(t.Context()))
			l.GoesOn(t, 20)
		}
	}
	ended := time.Now()
	figures := l.EndsExact(t)
	took := time.Since(ended)
	t.Logf("%s, the last %v after the load had ended", figures, took.Round(100*time.Millisecond))
	if took > 45*time.Second {
		t.Errorf("the last orders were applied %v after the load had ended", took)
	}
}
