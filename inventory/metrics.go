package main

import (
	"example.com/dapr-orders/daprhttp/once"
	"example.com/dapr-orders/daprhttp/web"
)

// metrics are the answer to GET /metrics.
type metrics struct {
	all *web.Metrics

	applied, duplicate, failed, retried, dead *web.Counter
}

func newMetrics(stocks *once.Inbox[stock]) metrics {
	all := new(web.Metrics)
	events := func(outcome string) *web.Counter {
		return all.Counter(`inventory_events_total{outcome="`+outcome+`"}`, "Delivered OrderPlaced events, by outcome.")
	}
	m := metrics{
		all:       all,
		applied:   events("applied"),
		duplicate: events("duplicate"), // applied before
		failed:    events("failed"),    // tries that failed
		retried:   events("retried"),   // moved to the retry topic
		dead:      events("dead"),      // moved to the dead-letter topic
	}
	all.CounterFunc("inventory_commits_total", "Saves of records. One save may apply many orders.",
		func() float64 { return float64(stocks.Stats().Commits) })
	all.CounterFunc("inventory_conflicts_total", "Saves that failed because another replica saved the record first.",
		func() float64 { return float64(stocks.Stats().Conflicts) })
	all.GaugeFunc("inventory_waiting_orders", "Orders that wait to be applied, and stocks that wait to be set.",
		func() float64 { return float64(stocks.Stats().Waiting) })
	all.GaugeFunc("inventory_oldest_waiting_seconds", "Seconds that the oldest waiting order or stock has waited.",
		func() float64 { return stocks.Stats().Oldest.Seconds() })
	return m
}
