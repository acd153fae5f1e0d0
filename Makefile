# Two commands: `make demo` shows the main job, `make test` passes every test. `make help` lists the rest.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
GO := go
export GOFLAGS := -buildvcs=false -trimpath
SHIM := engine/runtime/embedded/berth-shim
SHIM_FLAGS := -tags 'netgo osusergo seccomp' -ldflags '-s -w -linkmode external -extldflags -static'
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install what is missing to build, run and test (apt; root or sudo)
	@test/setup

.PHONY: build
build: setup bin/berth bin/berth-full bin/berth-switch bin/berthd ## build berth, its helpers and berthd into bin/

# Go decides what is stale: the recipes always run and are quick when nothing has changed.
.PHONY: bin/berth bin/berth-full bin/berth-switch bin/berthd bin/guest-init bin/guest-sshd bin/registry $(SHIM)
bin/berth:
	@CGO_ENABLED=0 $(GO) build -ldflags '-s -w' -o $@ ./cmd/berth-quick

bin/berth-full:
	@CGO_ENABLED=0 $(GO) build -ldflags '$(LDFLAGS)' -o $@ ./cmd/berth

bin/berth-switch:
	@CGO_ENABLED=0 $(GO) build -ldflags '-s -w' -o $@ ./cmd/berth-switch

$(SHIM):
	@CGO_ENABLED=1 $(GO) build $(SHIM_FLAGS) -o $@ ./cmd/berth-shim

bin/berthd: $(SHIM)
	@CGO_ENABLED=0 $(GO) build -ldflags '$(LDFLAGS)' -o $@ ./cmd/berthd

# The engine for arm64 hosts, made on amd64. The supervisor for arm64 takes the place of this computer's while it is embedded. Go's
# cache does not see what pkg-config is told, and would link with a folder that has moved, but for CGO_LDFLAGS.
.PHONY: berthd-arm64
berthd-arm64: build ## build the engine for arm64 hosts into bin/, from where berth takes it
	@test/setup cross
	@root=$$(cmd/berth-shim/sysroot arm64); \
	  export PKG_CONFIG_LIBDIR=$$root/usr/lib/aarch64-linux-gnu/pkgconfig PKG_CONFIG_SYSROOT_DIR=$$root PKG_CONFIG_ALLOW_SYSTEM_LIBS=1 PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1; \
	  export CGO_LDFLAGS=-L$$root/usr/lib/aarch64-linux-gnu; \
	  CC=aarch64-linux-gnu-gcc GOARCH=arm64 CGO_ENABLED=1 $(GO) build $(SHIM_FLAGS) -o bin/berth-shim-linux-arm64 ./cmd/berth-shim
	@echo '{"Replace":{"$(CURDIR)/$(SHIM)":"$(CURDIR)/bin/berth-shim-linux-arm64"}}' >bin/arm64.json
	@GOARCH=arm64 CGO_ENABLED=0 $(GO) build -overlay bin/arm64.json -ldflags '$(LDFLAGS)' -o bin/berthd-linux-arm64 ./cmd/berthd

bin/guest-init:
	@CGO_ENABLED=0 $(GO) build -ldflags '-s -w' -o $@ ./guest/init

bin/guest-sshd:
	@CGO_ENABLED=0 $(GO) build -ldflags '-s -w' -o $@ ./guest/sshd/cmd/sshd

bin/registry:
	@CGO_ENABLED=0 $(GO) build -o $@ ./test/images/cmd/registry

.PHONY: guest
guest: build bin/guest-init bin/guest-sshd ## make the light VM's image in bin/guest
	@$(GO) run ./guest/image -berthd bin/berthd -init bin/guest-init -sshd bin/guest-sshd -out bin/guest

.PHONY: clients
clients: setup ## build the stock docker client into bin/clients when the machine has none
	@test/clients/build

.PHONY: demo
demo: guest clients bin/registry ## from nothing to containers in a light VM; leaves the machine "dev" running
	@test/demo

.PHONY: dosim
dosim: ## run a simulated DigitalOcean whose droplets boot, until Ctrl-C; eval the line it prints
	@test/setup test >&2
	@$(GO) build -o bin/dosim ./test/dosim/cmd/dosim
	@if [[ $$EUID == 0 ]]; then exec bin/dosim $(DOSIM_FLAGS); else exec sudo bin/dosim $(DOSIM_FLAGS); fi

.PHONY: test
test: guest clients ## run every test: units, scenarios, the engine on this host, a real VM
	@test/setup test
	@PATH="$(CURDIR)/bin/clients:$$PATH" $(GO) test -count=1 -timeout 40m ./...

.PHONY: compat
compat: build clients ## run other people's suites against berthd and compare with the lists in test/compat; SUITES="moby/image cli" for some
	@$(GO) build -o bin/compat/compat ./test/compat
	@PATH="$(CURDIR)/bin/clients:$$PATH" bin/compat/compat $(COMPAT_FLAGS) $(SUITES)

.PHONY: compat-ci
compat-ci: ## the part of compat that each change is to pass
	@$(MAKE) --no-print-directory compat COMPAT_FLAGS=-ci

.PHONY: hosts
hosts: berthd-arm64 clients ## adopt hosts with Ubuntu, OpenRC, busybox and on arm64; HOSTS=name,… chooses
	@test/setup hosts
	@PATH="$(CURDIR)/bin/clients:$$PATH" BERTH_HOSTS="$(or $(HOSTS),all)" $(GO) test -v -count=1 -timeout 2h -run TestSystems ./test/hosts

.PHONY: host
host: ## boot one of those hosts, until Ctrl-C, and say how to reach it: HOST=ubuntu
	@test/setup hosts
	@$(GO) build -o bin/host ./test/hosts/system/cmd/host
	@if [[ $$EUID == 0 ]]; then exec bin/host $(HOST); else exec sudo bin/host $(HOST); fi

.PHONY: bench
bench: guest clients bin/registry ## run the benchmarks with their peers; print ratios of medians
	@PATH="$(CURDIR)/bin/clients:$$PATH" test/bench/run

.PHONY: cross
cross: ## build and vet berth for every platform
	@for p in $(PLATFORMS); do \
	  echo "berth for $$p"; \
	  for c in berth berth-quick berth-switch; do CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build -o /dev/null ./cmd/$$c; done; \
	  CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) vet ./cmd/berth ./cmd/berth-quick ./cmd/berth-switch ./machine ./drivers/... ./sshutil ./provision ./certs ./hostdb ./background ./engine/config ./guest/seed; \
	done

.PHONY: fmt
fmt: ## format the code
	@gofmt -w $$(git ls-files '*.go')

.PHONY: lint
lint: $(SHIM) ## check formatting and vet
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [[ -z $$bad ]] || { printf 'not formatted (make fmt):\n%s\n' "$$bad" >&2; exit 1; }
	@$(GO) vet ./...

.PHONY: clean
clean: ## remove what was built
	@rm -rf bin $(SHIM)
