package daprhttp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// Metadata is the part of a sidecar's metadata that a subscriber needs.
type Metadata struct {
	AppID         string        `json:"id"`
	AppConnection AppConnection `json:"appConnectionProperties"`
}

// An AppConnection tells how a sidecar reaches its program.
type AppConnection struct {
	Port           int `json:"port"`
	MaxConcurrency int `json:"maxConcurrency"` // requests at a time; zero or less: no limit
}

// Metadata asks the sidecar about itself.
//
//	GET /v1.0/metadata
//
// See https://docs.dapr.io/reference/api/metadata_api/#get-the-dapr-sidecar-information.
func (c *Client) Metadata(ctx context.Context) (Metadata, error) {
	const path = "/v1.0/metadata"
	a, err := c.do(ctx, request{method: http.MethodGet, path: path})
	if err != nil {
		return Metadata{}, err
	}
	var m Metadata
	if err := json.Unmarshal(a.body, &m); err != nil {
		return Metadata{}, fmt.Errorf("daprhttp: GET %s: the answer is not the JSON that the Dapr reference describes: %w", path, err)
	}
	return m, nil
}
