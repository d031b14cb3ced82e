#!/usr/bin/env bash
# Owns: `make rolling`: set up, build, and hand over. Refuses to know: what is restarted, and what is right.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh test
scripts/web.sh
cargo build --release --locked -p homeroom -p homeroom-loadtest
exec target/release/homeroom-loadtest rolling "$@"
