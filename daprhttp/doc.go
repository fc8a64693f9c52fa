// Package daprhttp is the Dapr HTTP API in Go, as far as an event-driven
// service needs it: publishing, state management, and the receiving side of
// pub/sub. It is built on net/http and encoding/json alone and follows the
// names and the order of the Dapr HTTP reference,
// https://docs.dapr.io/reference/api/.
//
// A [Client] speaks to the sidecar (daprd) that runs beside the program. The
// sidecar speaks back to the program over HTTP too: it reads the program's
// subscriptions ([Subscription], [SubscribeHandler]), delivers events, one or many
// at a time ([DeliveryHandler]), and proves who it is with a token
// ([RequireAppToken]). Others in the mesh, for whom it would do so too, are kept out
// by their names ([RequireCaller]).
//
// Package [example.com/dapr-orders/daprhttp/once] applies each event to a value in
// a state store, once; package [example.com/dapr-orders/daprhttp/web] has what
// every small HTTP service needs and is not Dapr's.
package daprhttp
