package main

import (
	"example.com/dapr-orders/daprhttp/once"
	"example.com/dapr-orders/daprhttp/web"
)

// metrics are what GET /metrics shows.
type metrics struct {
	all *web.Metrics

	counted, repeated, handedBack, moved, dead *web.Counter
}

func newMetrics(stocks *once.Inbox[stock]) metrics {
	all := new(web.Metrics)
	events := func(outcome string) *web.Counter {
		return all.Counter("inventory_events_total", `outcome="`+outcome+`"`, "OrderPlaced events that were delivered, by what became of them.")
	}
	m := metrics{
		all:        all,
		counted:    events("counted"),
		repeated:   events("repeated"),    // had been counted already
		handedBack: events("handed_back"), // could not be counted, and are delivered again
		moved:      events("moved"),       // to the retry topic, of those handed back
		dead:       events("dead"),        // can never be counted
	}
	all.CounterFunc("inventory_commits_total", "Records saved, each with the orders of one item or many.",
		func() float64 { return float64(stocks.Stats().Commits) })
	all.CounterFunc("inventory_conflicts_total", "Saves that failed because another replica had saved the record.",
		func() float64 { return float64(stocks.Stats().Conflicts) })
	all.GaugeFunc("inventory_waiting_orders", "Orders that are waiting to be counted.",
		func() float64 { return float64(stocks.Stats().Waiting) })
	all.GaugeFunc("inventory_oldest_waiting_seconds", "How long the oldest of them has waited, since it was delivered.",
		func() float64 { return stocks.Stats().Oldest.Seconds() })
	return m
}
