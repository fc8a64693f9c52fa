package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"example.com/dapr-orders/e2e/stack"
)

// usage is what orders have cost. In a result, it is the cost of 1,000 orders.
type usage [5]float64

// The parts of usage. The first three are milliseconds of processor time.
const (
	service = iota
	sidecar
	redis
	calls // of the state API
	peak  // the most memory that a service ever had, in MiB
)

func (u usage) String() string {
	return fmt.Sprintf("processor time: service %.0f ms, its sidecar %.0f ms, Redis %.0f ms; state calls: %.0f; most memory of the service: %.0f MiB",
		u[service], u[sidecar], u[redis], u[calls], u[peak])
}

// used returns what apps and Redis have used since they were started.
func (r *rig) used(apps []*stack.App) (u usage) {
	u[redis] = processorTime(r.redis.Process)
	for _, app := range apps {
		u[service] += processorTime(app.Service)
		u[sidecar] += processorTime(app.Sidecar)
		u[calls] += stateCalls(app.MetricsPort)
		u[peak] = max(u[peak], peakMemory(app.Service))
	}
	return u
}

// stateCalls returns how often the state API of a sidecar was called, from its metrics.
func stateCalls(port int) (calls float64) {
	for line := range strings.Lines(string(get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port)))) {
		if strings.HasPrefix(line, "dapr_component_state_count{") {
			calls += must(strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64))
		}
	}
	return calls
}

func get(url string) []byte {
	resp := must(http.Get(url))
	defer resp.Body.Close()
	return must(io.ReadAll(resp.Body))
}

// longestRecord returns the length of the longest record of a task's items, in bytes.
func (r *rig) longestRecord(t task) (longest int64) {
	for i := range t.items {
		key := fmt.Sprintf("%s||%s-%d", stack.Inventory.AppID, t.item, i)
		longest = max(longest, must(r.redis.Client().HStrLen(context.Background(), key, "data").Result()))
	}
	return longest
}

// processorTime returns the processor time that a process has used, in milliseconds.
func processorTime(p *stack.Process) float64 {
	stat := must(os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID())))
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // behind the name
	user, system := must(strconv.Atoi(fields[11])), must(strconv.Atoi(fields[12]))
	const msPerTick = 10 // of USER_HZ, which Linux fixes for /proc
	return float64(user+system) * msPerTick
}

// peakMemory returns the most resident memory that a process ever had, in MiB.
func peakMemory(p *stack.Process) (kib float64) {
	_, rest, _ := strings.Cut(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID())))), "VmHWM:")
	must(fmt.Sscan(rest, &kib))
	return kib / 1024
}
