#!/usr/bin/env bash
# Owns: `make cluster`: set up, build, and hand over to the program that starts and stops all parts.
# Refuses to know: how a part is started.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh test
scripts/web.sh
cargo build --release --locked -p homeroom -p homeroom-loadtest
exec target/release/homeroom-loadtest cluster "$@"
