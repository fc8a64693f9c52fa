package daprhttp

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/http"
)

// Names of message metadata that Dapr itself understands, or many components do.
// Components know more.
//
// See https://docs.dapr.io/reference/api/pubsub_api/#metadata.
const (
	MetadataEventID      = "cloudevent.id"   // the id attribute of the event
	MetadataEventType    = "cloudevent.type" // the type attribute of the event
	MetadataTTL          = "ttlInSeconds"    // how long the message may wait, or the value be kept
	MetadataRawPayload   = "rawPayload"      // "true": no CloudEvents envelope
	MetadataPartitionKey = "partitionKey"    // messages that have the same stay in order, where there are partitions
)

// A Message is what is published to a topic.
type Message struct {
	// Data is the payload. The sidecar puts it into the envelope of a
	// CloudEvent, unless ContentType says that it is one already or Metadata
	// asks for a raw payload.
	//
	// The sidecar accepts malformed JSON without complaint: check the data
	// before publishing it.
	Data []byte

	// ContentType is the media type of Data. Empty means "application/json".
	ContentType string

	// Metadata tells the sidecar and the pub/sub component how to publish.
	Metadata map[string]string
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
	publish := call{
		method:      http.MethodPost,
		path:        "/v1.0/publish/" + segment(pubsubName) + "/" + segment(topic),
		query:       metadataQuery(m.Metadata),
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
		entries[i] = entry{m.EntryID, m.event(), m.contentType(), m.Metadata}
	}
	a, err := c.doJSON(ctx, call{
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
