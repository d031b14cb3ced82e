# Owns: the names of what can be done here. The work is in scripts/.
.DEFAULT_GOAL := help
.PHONY: help run test lint web types bench bench-full kills cluster chaos rolling teeth fuzz instructions clean

TIMES ?= 100
SEED ?= 1
TARGET ?= all
SECONDS ?= 60
ONLY ?=

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: ## set up, build, and start Homeroom with the demo school on http://127.0.0.1:8080
	@scripts/run.sh

test: ## set up, and pass every test
	@scripts/test.sh

lint: ## formatting, clippy, TypeScript
	@scripts/lint.sh

web: ## build the web app
	@scripts/web.sh

types: ## make the TypeScript types again from the protocol crate
	@clients/web/scripts/types.sh

bench: ## every figure beside its yardstick, into docs/bench/REPORT.md, in less than 20 minutes; a part: ONLY="school idle"
	@scripts/bench.sh $(addprefix --only ,$(ONLY))

bench-full: ## the same with all cells, and more rounds
	@scripts/bench.sh --full

kills: ## kill -9 under load, TIMES=100 SEED=1, and check every acknowledgement
	@cargo build --release -p homeroom -p homeroom-loadtest
	@target/release/homeroom-loadtest kill --times $(TIMES) --seed $(SEED)

cluster: ## PostgreSQL, Redis, three nodes and HAProxy on http://127.0.0.1:8080, with the demo school
	@scripts/cluster.sh

chaos: ## break a cluster's parts under load, SECONDS=1800 SEED=7, and check every acknowledgement
	@scripts/chaos.sh --seconds $(SECONDS) --seed $(SEED)

rolling: ## restart three nodes one after the other under load, and show that nobody notices more than a reconnect
	@scripts/rolling.sh

teeth: ## show that the checker notices a server that breaks its word on purpose, three seeds each
	@scripts/teeth.sh

fuzz: ## look for inputs that break a parser, TARGET=all SECONDS=60 for each
	@scripts/fuzz.sh $(TARGET) $(SECONDS)

instructions: ## count the instructions of the hot paths, and hold them against what was accepted
	@scripts/instructions.py check

clean: ## remove what was built; the data folder stays
	@rm -rf target clients/web/dist clients/web/node_modules clients/web/test-results fuzz-artifacts
