# make run    start everything and place an order; Ctrl-C stops it
# make test   run every check and test, the end-to-end tests included
# make test-backends  test every promise on every backend, and print the table in
#             e2e/README.md; COMPONENTS=folder tests your component files and servers
# make soak   random faults for two minutes, or SOAK=10m; SEED=… repeats a run
# make bench  compare the performance with other programs, and write e2e/README.md
# make faults  show each fault of Dapr in the first table of components/dapr-issues.md, and
#             what Mosquitto and Redis lose; FAULT=an_event_whose shows the faults with this in their names
# make fuzz   run every fuzz target for half a minute, or FUZZ=10m
# make daprd  print the path of the Dapr sidecar that is used
# make help   print this

MODULES  := daprhttp order inventory e2e
PACKAGES := $(MODULES:%=./%/...)

.PHONY: help run test test-backends daprd unit e2e check vuln soak bench faults fuzz

help: # what plain `make` does
	@sed -n '/^#/!q; s/^# //p' $(firstword $(MAKEFILE_LIST))

# The launcher is started directly: `go run` would not pass a SIGTERM on to it.
run: .run/bin/launch
	@exec .run/bin/launch run

daprd: .run/bin/launch
	@.run/bin/launch daprd

.PHONY: .run/bin/launch
.run/bin/launch:
	@command -v go >/dev/null || { echo "Go is not installed: see https://go.dev/dl/"; exit 1; }
	@go build -o $@ ./e2e/launch

# Each part says when it begins and how long it took.
test:
	@for part in check vuln unit e2e; do \
		echo "== make $$part"; started=$$(date +%s); \
		$(MAKE) --no-print-directory $$part || exit 1; \
		echo "== make $$part took $$(($$(date +%s) - started)) s"; \
	done

# Formatting, vet, staticcheck, the workflows, and builds without the workspace and for other
# systems. The tools come through the Go module proxy.
STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
ACTIONLINT  := go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
check:
	@command -v go >/dev/null || { echo "Go is not installed: see https://go.dev/dl/"; exit 1; }
	@unformatted=$$(gofmt -l $(MODULES)); test -z "$$unformatted" || { echo "gofmt -w is needed for: $$unformatted"; exit 1; }
	go vet $(PACKAGES)
	go vet -tags soak,faults ./e2e
	$(STATICCHECK) $(PACKAGES)
	$(STATICCHECK) -tags soak,faults ./e2e
	cd e2e/bench/sdk && GOWORK=off $(STATICCHECK) ./...
	$(ACTIONLINT) -shellcheck= -pyflakes= .github/workflows/*.yml
	for module in $(MODULES) e2e/bench/sdk; do (cd $$module && GOWORK=off go build -o /dev/null ./...) || exit 1; done
	for os in windows darwin; do for program in ./order ./inventory ./daprhttp/deadletters ./e2e/launch; do GOOS=$$os go build -o /dev/null $$program || exit 1; done; done

# Known vulnerabilities in the code that the services call. govulncheck comes through the Go
# module proxy. Where its database can't be reached, nothing is checked, and this says so.
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
vuln:
	@GOBIN=$(CURDIR)/.run/bin go install $(GOVULNCHECK) || { echo "govulncheck can't be had: known vulnerabilities are NOT checked"; exit 0; }; \
	for module in daprhttp order inventory; do \
		output=$$(cd $$module && ../.run/bin/govulncheck ./... 2>&1); case "$$? $$output" in \
			"0 "*) echo "govulncheck: nothing known in $$module" ;; \
			*"fetching vulnerabilities: "*) echo "$$output"; echo "govulncheck has no database to ask: known vulnerabilities are NOT checked"; exit 0 ;; \
			*) echo "$$output"; exit 1 ;; \
		esac; \
	done

# The race detector is too slow for every interleaving of package once: they run without it.
unit:
	go test -race $(filter-out ./e2e/...,$(PACKAGES))
	go test ./daprhttp/once

# One package at a time, because two start too many sidecars for a small machine. Five tests
# at a time, because tests wait most of the time. Package is writes to the standard output,
# which `go test -json` assigns to any of the tests that run at the same time.
GOTESTSUM := go run gotest.tools/gotestsum@v1.13.0
e2e: .run/bin/launch
	.run/bin/launch setup
	@rm -f .run/e2e.json
	env -u NO_COLOR -u IS_NO_COLOR $(GOTESTSUM) --format testname --jsonfile .run/e2e.json -- -count=1 -p 1 -parallel 5 -timeout 20m ./e2e/... || \
		{ echo "Failed checks of package is:"; grep -o '\\u001b.*' .run/e2e.json; exit 1; }

# The table in e2e/README.md is the output of one run.
test-backends: .run/bin/launch
	.run/bin/launch setup
ifdef COMPONENTS
	go test -count=1 -v -timeout 30m -run '^TestGivenComponents$$' ./e2e -components $(abspath $(COMPONENTS))
else
	@rm -f .run/promises.md
	go test -count=1 -v -parallel 4 -timeout 40m -run '^(TestPromises|TestRetryTopic.*|TestItemOn.*|TestOutage|TestRabbitMQWithoutMemory|TestNetwork|TestFailover)$$' ./e2e -promises $(CURDIR)/.run/promises.md >.run/promises.log; \
		status=$$?; grep -E '^ .*_test.go:[0-9]+: \| ' .run/promises.log | sed 's/^[^|]*//' >>.run/promises.md; \
		grep -E '^(---|    ---|FAIL|ok)|_test.go' .run/promises.log; cat .run/promises.md; exit $$status
endif

SOAK ?= 2m
soak: .run/bin/launch
	.run/bin/launch setup
	go test -tags soak -count=1 -v -timeout 0 -run '^TestSoak$$' ./e2e -soak.for $(SOAK) $(if $(SEED),-soak.seed $(SEED))

faults: .run/bin/launch
	.run/bin/launch setup
	go test -tags faults -count=1 -v -timeout 15m -run '$(if $(FAULT),^TestFaultsOfDapr$$/$(FAULT),^Test(FaultsOfDapr|Mosquitto|RedisFailover))' ./e2e

# BENCH="-rounds 1 -write=false" is a quick look.
bench: .run/bin/launch
	.run/bin/launch setup
	go run ./e2e/bench $(BENCH)

FUZZ ?= 30s
fuzz:
	for target in daprhttp:FuzzDeadLetter daprhttp/web:FuzzObject daprhttp/once:FuzzDecodeRecord inventory:FuzzDelivery; do \
		go test -run '^$$' -fuzz "^$${target#*:}\$$" -fuzztime $(FUZZ) -fuzzminimizetime 1000x ./$${target%:*} || exit 1; \
	done
