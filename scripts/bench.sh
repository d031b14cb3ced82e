#!/usr/bin/env bash
# Owns: `make bench`: the load test against a local node, and browser to browser.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh test
scripts/web.sh
cargo build --release --locked -p homeroom -p homeroom-loadtest
target/release/homeroom-loadtest fanout "$@"
HOMEROOM_BIN=$PWD/target/release/homeroom npm --prefix clients/web run --silent bench
