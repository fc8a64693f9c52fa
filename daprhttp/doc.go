// Package daprhttp is the Dapr HTTP API in Go for services that publish events, subscribe
// to them and keep state. It is built on net/http and encoding/json alone and follows the
// names of the Dapr HTTP reference, https://docs.dapr.io/reference/api/.
//
// A [Client] calls the sidecar (daprd) that runs next to the program. The sidecar calls the
// program on the routes that [Subscribe] registers: it asks for the subscriptions, and
// delivers many events at the same time, one in each request. A [Handler] handles one event.
// [DeadLetters] and [Retries] wrap a handler. [RequireAppToken] refuses requests that don't
// come through the program's sidecar.
//
// Package [example.com/dapr-orders/daprhttp/once] applies each event to a value in a state
// store once. Package [example.com/dapr-orders/daprhttp/web] has what every small HTTP
// service needs and is not Dapr's. Package [example.com/dapr-orders/daprhttp/daprtest] is a
// sidecar in memory, for unit tests.
package daprhttp
