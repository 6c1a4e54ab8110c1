# What people and CI run. Every target is a short script in scripts/, which says what it does and why.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
CARGO ?= cargo
# rustup puts cargo here; a shell opened before it was installed does not know yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help
help: ## List these targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
	  printf '  make %-14s %s\n' "$$name" "$$text"; done

.PHONY: up
up: ## Build and run Longshore here, and deploy examples/hello with it (Ctrl-C stops; apps go on)
	@scripts/up.sh

.PHONY: down
down: ## Remove everything that `make up` made: deployments, data, a Docker Engine it started
	@scripts/down.sh

.PHONY: test
test: ## Everything CI checks, against a real PostgreSQL, RabbitMQ and Docker Engine
	@scripts/test.sh

.PHONY: faults
faults: ## Try every fault on real services, also the slow ones, and print a table
	@scripts/install.sh test
	@scripts/services.sh start
	@scripts/base-images.sh busybox
	@scripts/faults.sh

N ?= 500
.PHONY: chaos
chaos: ## Kill every process in turn while N=500 deployments are requested
	@scripts/install.sh test
	@scripts/services.sh start
	@scripts/base-images.sh busybox
	@LONGSHORE_CHAOS_DEPLOYMENTS=$(N) scripts/faults.sh 'test(chaos)'

.PHONY: clean-test
clean-test: ## Stop the test services and remove what an interrupted `make test` left
	@scripts/services.sh stop
	@rm -rf .longshore/dev tests/audit/node_modules

.PHONY: build
build: ## Build the binary: target/debug/longshore
	@$(CARGO) build --locked --bin longshore

.PHONY: fmt
fmt: ## Format the Rust code
	@$(CARGO) fmt --all

.PHONY: lint
lint: ## Check format and lints, without running a test
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

.PHONY: sdl
sdl: ## Write schema/schema.graphql from the code
	@$(CARGO) run --quiet --locked --bin longshore -- sdl > schema/schema.graphql.new
	@mv schema/schema.graphql.new schema/schema.graphql

.PHONY: simulate
simulate: ## Run the control plane in bad weather: SEEDS=10000 of them, or SEED=123 alone with its trace
	@$(CARGO) run --quiet --profile simulate --locked -p simulation -- \
	  $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000))

.PHONY: bench-deploy
bench-deploy: ## Time a deploy against the same steps by hand (see bench/)
	@scripts/install.sh up
	@scripts/services.sh start docker
	@scripts/base-images.sh busybox
	@$(CARGO) build --release --locked --bin longshore
	@$(CARGO) run --quiet --release --locked -p bench -- deploy

.PHONY: bench-memory
bench-memory: ## Measure what each role holds while idle (see bench/)
	@scripts/install.sh test
	@scripts/services.sh start
	@$(CARGO) build --release --locked --bin longshore
	@. "$$(scripts/services.sh env)" && $(CARGO) run --quiet --release --locked -p bench -- memory

# The database syncs to disk here, which those of the tests do not: it has a state of its own.
bench-control bench-events: export LONGSHORE_DEV_STATE := $(CURDIR)/.longshore/bench
bench-control bench-events: export LONGSHORE_POSTGRES_DURABLE := 1
.PHONY: bench-control
bench-control: ## Deployments a second through the control plane, against a bare pipeline (see bench/)
	@scripts/install.sh test
	@$(CARGO) build --release --locked --bin longshore
	@$(CARGO) build --release --locked -p bench
	@scripts/services.sh start postgres rabbitmq
	@trap 'scripts/services.sh stop postgres rabbitmq' EXIT; . "$$(scripts/services.sh env)"; \
	  for nodes in 10 100; do target/release/bench control --nodes $$nodes --deployments 10000; done

.PHONY: bench-events
bench-events: ## Events to a thousand subscribers, and mutations, against a bare server (see bench/)
	@scripts/install.sh test
	@$(CARGO) build --release --locked --bin longshore
	@$(CARGO) build --release --locked -p bench
	@scripts/services.sh start postgres rabbitmq
	@trap 'scripts/services.sh stop postgres rabbitmq' EXIT; . "$$(scripts/services.sh env)"; target/release/bench api
