module example.com/dapr-orders/e2e

go 1.25.0

replace example.com/dapr-orders/daprhttp => ../daprhttp

require (
	example.com/dapr-orders/daprhttp v0.0.0-00010101000000-000000000000
	github.com/google/go-cmp v0.7.0
	github.com/matryer/is v1.4.1
	go.yaml.in/yaml/v3 v3.0.4
	golang.org/x/perf v0.0.0-20250813145418-2f7363a06fe1
	modernc.org/sqlite v1.34.5
)

require (
	github.com/aclements/go-moremath v0.0.0-20210112150236-f10218a38794 // indirect
	github.com/dustin/go-humanize v1.0.1 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/mattn/go-isatty v0.0.20 // indirect
	github.com/ncruces/go-strftime v0.1.9 // indirect
	github.com/remyoudompheng/bigfft v0.0.0-20230129092748-24d4a6f8daec // indirect
	golang.org/x/sys v0.35.0 // indirect
	modernc.org/libc v1.55.3 // indirect
	modernc.org/mathutil v1.6.0 // indirect
	modernc.org/memory v1.8.0 // indirect
)
