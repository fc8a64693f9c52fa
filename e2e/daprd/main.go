// Command daprd is Dapr's sidecar with two sets of components: those that Dapr calls
// stable, and the WebAssembly middleware, which the sidecar of `dapr init` has. A build with
// all components of a release would take several times as long.
package main

import (
	"context"

	"github.com/dapr/components-contrib/middleware"
	"github.com/dapr/components-contrib/middleware/http/wasm"
	"github.com/dapr/dapr/cmd/daprd/app"
	"github.com/dapr/dapr/pkg/components"
	"github.com/dapr/dapr/pkg/components/middleware/http"
	handler "github.com/dapr/dapr/pkg/middleware"
	"github.com/dapr/kit/logger"
)

func main() {
	// As in cmd/daprd/components/middleware_http_webassembly.go of Dapr, which only
	// the build tag "allcomponents" compiles.
	http.DefaultRegistry.RegisterComponent(func(log logger.Logger) http.FactoryMethod {
		return func(m middleware.Metadata) (handler.HTTP, error) {
			return wasm.NewMiddleware(log).GetHandler(context.Background(), m)
		}
	}, "wasm")
	components.RegisterWasmComponentType(components.CategoryMiddleware, "wasm")
	app.Run()
}
