#!/usr/bin/env bash
# Owns: `make bench` and `make bench-full`: every figure beside its yardstick, into docs/bench/REPORT.md, and browser to browser.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh test
scripts/web.sh
cargo build --release --locked --workspace
outcome=0
target/release/homeroom-loadtest --pin bench "$@" || outcome=$?
HOMEROOM_BIN=$PWD/target/release/homeroom npm --prefix clients/web run --silent bench
exit "$outcome"
