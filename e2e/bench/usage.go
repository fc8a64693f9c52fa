package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"

	"example.com/dapr-orders/e2e/stack"
)

// usage is what orders have cost: in a result, 1,000 of them.
type usage [5]float64

// The parts of usage. The first three are milliseconds of processor time.
const (
	service = iota
	sidecar
	redis
	calls // of the state API
	peak  // the most memory that any service ever had, MiB
)

func (u usage) String() string {
	return fmt.Sprintf("processor time: service %.0f ms, its sidecar %.0f ms, Redis %.0f ms; state calls: %.0f; most memory of the service: %.0f MiB",
		u[service], u[sidecar], u[redis], u[calls], u[peak])
}

// use returns what apps and Redis use while work is done.
func (r *rig) use(apps []*stack.App, work func() error) (u usage, err error) {
	before, err := r.used(apps)
	if err == nil {
		err = work()
	}
	if err != nil {
		return u, err
	}
	u, err = r.used(apps)
	for part := range peak {
		u[part] -= before[part]
	}
	return u, err
}

// used returns what apps and Redis have used since they were started.
func (r *rig) used(apps []*stack.App) (u usage, err error) {
	u[redis] = processorTime(r.redis.Process)
	for _, app := range apps {
		u[service] += processorTime(app.Service)
		u[sidecar] += processorTime(app.Sidecar)
		u[peak] = max(u[peak], peakMemory(app.Service))
		n, err := stateCalls(app.MetricsPort)
		if err != nil {
			return u, err
		}
		u[calls] += n
	}
	return u, nil
}

// stateCalls returns how often the state API of a sidecar was called, as its metrics tell.
func stateCalls(port int) (calls float64, err error) {
	resp, err := http.Get("http://127.0.0.1:" + strconv.Itoa(port) + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "dapr_component_state_count{") {
			n, err := strconv.ParseFloat(lines.Text()[strings.LastIndexByte(lines.Text(), ' ')+1:], 64)
			if err != nil {
				return 0, err
			}
			calls += n
		}
	}
	return calls, lines.Err()
}

// longestRecord returns how many bytes the longest record of a task's items has.
func (r *rig) longestRecord(t task) (longest int64, err error) {
	for i := range t.items {
		const field = "data" // of the hash that Dapr keeps for a key
		n, err := r.redis.Client().HStrLen(context.Background(), fmt.Sprintf("%s||%s-%d", stack.Inventory.AppID, t.item, i), field).Result()
		if err != nil {
			return 0, err
		}
		longest = max(longest, n)
	}
	return longest, nil
}

// processorTime returns the processor time that a process has used, in milliseconds.
func processorTime(p *stack.Process) float64 {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // behind the name
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	const msPerTick = 10 // of USER_HZ, which Linux fixes for /proc
	return float64(user+system) * msPerTick
}

// peakMemory returns the most resident memory that a process ever had, in MiB.
func peakMemory(p *stack.Process) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kib float64
	_, _ = fmt.Sscan(rest, &kib)
	return kib / 1024
}
