package daprhttp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// Metadata is what a sidecar tells of itself, as far as a subscriber needs it.
type Metadata struct {
	AppID         string        `json:"id"`
	AppConnection AppConnection `json:"appConnectionProperties"`
	Components    []Component   `json:"components"` // those that it has loaded
}

// A Component is a component that a sidecar has loaded.
type Component struct {
	Name string `json:"name"`
	Type string `json:"type"` // "pubsub." or "state." and what it is
}

// An AppConnection is how a sidecar reaches the program beside it.
type AppConnection struct {
	Port int `json:"port"`

	// Health is nil unless the sidecar checks the program's health.
	Health *AppHealth `json:"health"`
}

// AppHealth is how a sidecar checks the health of the program.
//
// See https://docs.dapr.io/operations/resiliency/health-checks/app-health/.
type AppHealth struct {
	Path      string `json:"healthCheckPath"`
	Interval  string `json:"healthProbeInterval"` // a duration, such as "5s"
	Timeout   string `json:"healthProbeTimeout"`
	Threshold int    `json:"healthThreshold"` // failures in a row
}

// Metadata asks the sidecar about itself.
//
//	GET /v1.0/metadata
//
// See https://docs.dapr.io/reference/api/metadata_api/#get-the-dapr-sidecar-information.
func (c *Client) Metadata(ctx context.Context) (Metadata, error) {
	const path = "/v1.0/metadata"
	a, err := c.do(ctx, call{method: http.MethodGet, path: path})
	if err != nil {
		return Metadata{}, err
	}
	var m Metadata
	if err := json.Unmarshal(a.body, &m); err != nil {
		return Metadata{}, fmt.Errorf("daprhttp: GET %s: the answer is not what the reference says: %w", path, err)
	}
	return m, nil
}
