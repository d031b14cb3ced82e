#!/usr/bin/env bash
# Owns: what is checked without running anything.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all --check
rustfmt --check --edition 2024 fuzz/src/check_*.rs fuzz/src/bin/*.rs
cargo clippy --workspace --all-targets --features homeroom/instructions --locked -- -D warnings
scripts/web.sh install
npm --prefix clients/web run --silent check
if command -v shellcheck >/dev/null; then shellcheck scripts/*.sh clients/web/scripts/*.sh .ci/run; fi
