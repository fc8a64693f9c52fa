package main

import (
	"context"
	"errors"
	"log"
	"strconv"
	"sync"

	"github.com/dapr/go-sdk/client"
	"github.com/dapr/go-sdk/service/common"
	"github.com/dapr/go-sdk/service/grpc"
)

const storeName = "statestore"

// careful applies orders as a careful team would: one order of an item at a time, with a
// compare-and-swap of the item's stock, and a marker for each event in the same
// transaction. With one replica that is right. Two could lose orders on Redis, where Dapr's
// transactions are not atomic.
type careful struct {
	sidecar func() (client.Client, error)
	items   sync.Map // of *sync.Mutex, by item
}

// serve has the sidecar deliver over gRPC.
func (c *careful) serve(addr string) error {
	service, err := grpc.NewService(addr)
	if err != nil {
		return err
	}
	subscription := &common.Subscription{PubsubName: "pubsub", Topic: "OrderPlaced", Route: "orders"}
	if err := service.AddTopicEventHandler(subscription, func(ctx context.Context, e *common.TopicEvent) (retry bool, err error) {
		err = c.apply(ctx, e)
		return err != nil, err
	}); err != nil {
		return err
	}
	return service.Start()
}

func (c *careful) apply(ctx context.Context, e *common.TopicEvent) error {
	var o orderPlaced
	if err := e.Struct(&o); err != nil {
		return err
	}
	lock, _ := c.items.LoadOrStore(o.ItemID, new(sync.Mutex))
	lock.(*sync.Mutex).Lock()
	defer lock.(*sync.Mutex).Unlock()
	marker := "seen-" + e.Source + "-" + e.ID
	for {
		stock, etag, seen, err := c.read(ctx, o.ItemID, marker)
		if err != nil || seen {
			return err
		}
		stock -= o.Quantity
		item := &client.SetStateItem{Key: o.ItemID, Value: []byte(strconv.FormatInt(stock, 10)), Etag: etag,
			Options: &client.StateOptions{Concurrency: client.StateConcurrencyFirstWrite, Consistency: client.StateConsistencyStrong}}
		sidecar, err := c.sidecar()
		if err != nil {
			return err
		}
		err = sidecar.ExecuteStateTransaction(ctx, storeName, nil, []*client.StateOperation{
			{Type: client.StateOperationTypeUpsert, Item: item},
			{Type: client.StateOperationTypeUpsert, Item: &client.SetStateItem{Key: marker, Value: []byte("1"), Metadata: map[string]string{"ttlInSeconds": "86400"}}},
		})
		if err == nil {
			log.Printf("Processed OrderPlaced event. orderId=%s, itemId=%s, ordered=%d, remaining=%d", o.OrderID, o.ItemID, o.Quantity, stock)
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
	}
}

// read returns the stock of an item, its ETag, and whether there is a marker, all with
// one call.
func (c *careful) read(ctx context.Context, itemID, marker string) (stock int64, etag *client.ETag, seen bool, err error) {
	sidecar, err := c.sidecar()
	if err != nil {
		return 0, nil, false, err
	}
	values, err := sidecar.GetBulkState(ctx, storeName, []string{itemID, marker}, nil, 2)
	for _, v := range values {
		switch {
		case v.Error != "":
			err = errors.New(v.Error)
		case len(v.Value) == 0: // the store has no such key
		case v.Key == marker:
			seen = true
		default:
			etag = &client.ETag{Value: v.Etag}
			stock, err = strconv.ParseInt(string(v.Value), 10, 64)
		}
		if err != nil {
			return 0, nil, false, err
		}
	}
	return stock, etag, seen, err
}
