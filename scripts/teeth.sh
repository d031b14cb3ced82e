#!/usr/bin/env bash
# Owns: `make teeth`: build a server that can break its word, and hand over. Refuses to know: how it breaks it.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh test
cargo build --workspace --locked
cargo build --workspace --locked --features homeroom/sabotage --bin homeroom-sabotaged
exec target/debug/homeroom-loadtest --server target/debug/homeroom-sabotaged teeth "$@"
