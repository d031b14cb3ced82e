#!/usr/bin/env bash
# Owns: `make test`: set up what is missing, run every check, and end with one line over all of them.
# Refuses to know: what the checks are about. Each one's whole output is in target/test-logs.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
if ! scripts/setup.sh test; then
  printf '\n0 passed, 1 failed\n'
  exit 1
fi
logs=target/test-logs
rm -rf "$logs"
mkdir -p "$logs"
started=$SECONDS

# No check may hang for ever; the longest, a first build, takes minutes.
most=1500

# check NAME KIND COMMAND…: KIND is how scripts/tally.py reads the result: cargo, vitest, unittest, or one (a check by itself).
check() {
  local name=$1 kind=$2
  shift 2
  printf '\n== %s\n' "$name"
  local from=$SECONDS
  timeout --kill-after=10 "$most" "$@" 2>&1 | tee "$logs/$name.log"
  local status=${PIPESTATUS[0]}
  printf '%s\t%s\t%s\t%s\n' "$name" "$kind" "$status" "$((SECONDS - from))" >> "$logs/results.tsv"
}

check web-install one scripts/web.sh install
check types one npm --prefix clients/web run --silent types:check
check web-build one scripts/web.sh
check web-size one npm --prefix clients/web run --silent size
check format one cargo fmt --all --check
check build one cargo build --workspace --locked
check cargo cargo cargo test --workspace --locked --no-fail-fast
check clippy one cargo clippy --workspace --all-targets --features homeroom/instructions --locked -- -D warnings
check instructions one scripts/instructions.py check
# cargo fmt would follow fuzz/src/lib.rs into the server's files, and miss their tests.
check fuzz-format one rustfmt --check --edition 2024 fuzz/src/check_*.rs fuzz/src/bin/*.rs
check fuzz one scripts/fuzz.sh million
check web-unit vitest npm --prefix clients/web test
export HOMEROOM_BIN=$PWD/target/debug/homeroom
check web-browser vitest npm --prefix clients/web run test:browser
check python unittest /usr/bin/python3 -m unittest discover -v -s clients/python
check deploy unittest /usr/bin/python3 -m unittest discover -v -s deploy
check kill-9 one target/debug/homeroom-loadtest kill --times 10
check chaos one target/debug/homeroom-loadtest chaos --seconds 60
# One build for both: a server that can break its word, and one that knows more than this version.
check other-builds one cargo build --workspace --locked --features homeroom/sabotage,homeroom/next --bin homeroom-sabotaged --bin homeroom-next
check versions one target/debug/homeroom-loadtest versions --next target/debug/homeroom-next
check rolling one target/debug/homeroom-loadtest rolling --next target/debug/homeroom-next
check teeth one target/debug/homeroom-loadtest --server target/debug/homeroom-sabotaged teeth --seconds 60 --seeds 1
check shell one shellcheck scripts/*.sh clients/web/scripts/*.sh .ci/run
check scripts unittest /usr/bin/python3 -m unittest discover -v -s scripts

echo
echo "$((SECONDS - started)) seconds in all"
exec /usr/bin/python3 scripts/tally.py "$logs"
