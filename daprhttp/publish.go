package daprhttp

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"strings"

	"example.com/dapr-orders/daprhttp/web"
)

// MetadataRawPayload is a name in the metadata of a subscription. With the value "true" the
// sidecar does not decode messages, and puts each into the data of an event. To publish
// without an event around the data, set Raw of a [Message].
//
// See https://docs.dapr.io/developing-applications/building-blocks/pubsub/pubsub-raw/.
const MetadataRawPayload = "rawPayload"

// BrokerMetadata returns the metadata of a subscription without [MetadataRawPayload]. The
// rest is for the broker.
func BrokerMetadata(metadata map[string]string) map[string]string {
	metadata = maps.Clone(metadata)
	delete(metadata, MetadataRawPayload)
	return metadata
}

// A Message is published to a topic.
//
// See https://docs.dapr.io/reference/api/pubsub_api/#metadata.
type Message struct {
	// Data is the payload. The sidecar puts it into the envelope of a
	// CloudEvent, unless ContentType says that Data is a CloudEvent, or Raw is set.
	//
	// The sidecar accepts malformed JSON: check the data before publishing it.
	Data []byte

	// ContentType is the media type of Data. Empty means "application/json".
	ContentType string

	// ID and Type are attributes of the CloudEvent. Empty leaves them to the sidecar.
	// Two messages of the same app with the same ID are the same event.
	ID, Type string

	// PartitionKey keeps messages with the same key in order, on a broker with
	// partitions.
	PartitionKey string

	// Raw publishes Data as it is, without an envelope.
	Raw bool

	// Metadata holds options of the pub/sub component. A field above that is set overrides
	// its option.
	Metadata map[string]string
}

// metadata returns the metadata of the request that publishes m.
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

func (m Message) hasID() bool {
	for name, value := range m.Metadata {
		if strings.EqualFold(name, "cloudevent.id") && value != "" { // a sidecar ignores the case
			return true
		}
	}
	return m.ID != ""
}

// Publish publishes m to a topic of the pub/sub component called pubsubName.
// When it returns nil, the sidecar reports the message as published. The broker may lack it:
// see PublishTwice of [Client].
//
//	POST /v1.0/publish/<pubsubname>/<topic>[?<metadata>]
//
// See https://docs.dapr.io/reference/api/pubsub_api/#publish-a-message-to-a-given-topic.
func (c *Client) Publish(ctx context.Context, pubsubName, topic string, m Message) error {
	if c.PublishTwice && !m.Raw && !m.hasID() && !web.IsCloudEvent(http.Header{"Content-Type": {m.ContentType}}) {
		m.ID = NewEventID() // a sidecar would give each copy an ID of its own
	}
	publish := request{
		method:      http.MethodPost,
		path:        "/v1.0/publish/" + segment(pubsubName) + "/" + segment(topic),
		query:       metadataQuery(m.metadata()),
		contentType: cmp.Or(m.ContentType, "application/json"),
		body:        m.Data,
	}
	_, err := c.do(ctx, publish)
	if err == nil && c.PublishTwice {
		_, err = c.do(ctx, publish)
	}
	return err
}
