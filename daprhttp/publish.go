package daprhttp

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"mime"
	"net/http"
)

// MetadataRawPayload is the name of the metadata with which a subscription gets messages
// as they are in the broker: its value is "true". The sidecar puts each into the data of
// an event.
//
// See https://docs.dapr.io/developing-applications/building-blocks/pubsub/pubsub-raw/.
const MetadataRawPayload = "rawPayload"

// A Message is what is published to a topic.
//
// See https://docs.dapr.io/reference/api/pubsub_api/#metadata.
type Message struct {
	// Data is the payload. The sidecar puts it into the envelope of a
	// CloudEvent, unless ContentType says that it is one already, or Raw is set.
	//
	// The sidecar accepts malformed JSON without complaint: check the data
	// before publishing it.
	Data []byte

	// ContentType is the media type of Data. Empty means "application/json".
	ContentType string

	// ID and Type are attributes of the CloudEvent. Empty leaves them to the sidecar.
	// A message with the ID of another, published by the same app, is the same event.
	ID, Type string

	// PartitionKey keeps messages that have the same key in order, on a broker that
	// has partitions.
	PartitionKey string

	// Raw publishes Data as it is, without an envelope.
	Raw bool

	// Metadata tells the pub/sub component more of how to publish. A field above wins.
	Metadata map[string]string
}

// metadata returns the metadata that the fields of m stand for.
func (m Message) metadata() map[string]string {
	metadata := make(map[string]string, len(m.Metadata)+3)
	maps.Copy(metadata, m.Metadata)
	raw := ""
	if m.Raw {
		raw = "true"
	}
	for name, value := range map[string]string{
		"cloudevent.id": m.ID, "cloudevent.type": m.Type, "partitionKey": m.PartitionKey, MetadataRawPayload: raw,
	} {
		if value != "" {
			metadata[name] = value
		}
	}
	return metadata
}

func (m Message) contentType() string {
	return cmp.Or(m.ContentType, "application/json")
}

// Publish publishes m to a topic of the pub/sub component called pubsubName.
// When it returns nil the broker has the message.
//
//	POST /v1.0/publish/<pubsubname>/<topic>[?<metadata>]
//
// See https://docs.dapr.io/reference/api/pubsub_api/#publish-a-message-to-a-given-topic.
func (c *Client) Publish(ctx context.Context, pubsubName, topic string, m Message) error {
	publish := request{
		method:      http.MethodPost,
		path:        "/v1.0/publish/" + segment(pubsubName) + "/" + segment(topic),
		query:       metadataQuery(m.metadata()),
		contentType: m.contentType(),
		body:        m.Data,
	}
	_, err := c.do(ctx, publish)
	if err == nil && c.PublishTwice {
		_, err = c.do(ctx, publish)
	}
	return err
}

// A BulkMessage is one message of many that are published by one call.
type BulkMessage struct {
	EntryID string // unique among the messages of the call
	Message
}

// A FailedEntry is a message of a bulk publish that the broker did not take.
type FailedEntry struct {
	EntryID string `json:"entryId"`
	Error   string `json:"error"`
}

// BulkPublish publishes messages to one topic with one call. metadata applies
// to all of them; a message's own metadata wins.
//
// When it fails, the entries say which messages were not published. No entries
// beside an error mean that nothing is known of any of them.
//
//	POST /v1.0/publish/bulk/<pubsubname>/<topic>[?<metadata>]
//
// See https://docs.dapr.io/reference/api/pubsub_api/#publish-multiple-messages-to-a-given-topic.
func (c *Client) BulkPublish(ctx context.Context, pubsubName, topic string, messages []BulkMessage, metadata map[string]string) ([]FailedEntry, error) {
	type entry struct {
		EntryID     string            `json:"entryId"`
		Event       any               `json:"event"`
		ContentType string            `json:"contentType"`
		Metadata    map[string]string `json:"metadata,omitempty"`
	}
	entries := make([]entry, len(messages))
	for i, m := range messages {
		entries[i] = entry{m.EntryID, m.event(), m.contentType(), m.metadata()}
	}
	a, err := c.doJSON(ctx, request{
		method: http.MethodPost,
		path:   "/v1.0/publish/bulk/" + segment(pubsubName) + "/" + segment(topic),
		query:  metadataQuery(metadata),
	}, entries)
	var failed struct {
		FailedEntries []FailedEntry `json:"failedEntries"`
	}
	if err != nil {
		_ = json.Unmarshal(a.body, &failed) // any other answer has no entries
	}
	return failed.FailedEntries, err
}

// event returns the data in the form in which the JSON of a bulk publish holds
// it: JSON as it is, bytes in base64, and all else as text.
func (m Message) event() any {
	mediaType, _, _ := mime.ParseMediaType(m.contentType())
	switch {
	case isJSON(mediaType):
		return json.RawMessage(m.Data)
	case mediaType == "application/octet-stream":
		return base64.StdEncoding.EncodeToString(m.Data)
	default:
		return string(m.Data)
	}
}

// isJSON reports whether a media type, without parameters, is one of the two
// that Dapr reads as JSON. The data of any other it treats as text or bytes.
func isJSON(mediaType string) bool {
	return mediaType == "application/json" || mediaType == eventContentType
}
