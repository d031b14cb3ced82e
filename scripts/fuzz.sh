#!/usr/bin/env bash
# Owns: `make fuzz`: builds fuzz/ with the instrumentation of libFuzzer on the stable compiler, and runs it within bounds.
# Refuses to know: what the targets promise (fuzz/src).
# usage: scripts/fuzz.sh [TARGET|all] [SECONDS]   look for new inputs; TARGET is frame, command or roster
#        scripts/fuzz.sh million                  the committed inputs, and a million made of them, over all targets
#        scripts/fuzz.sh replay TARGET FILE       run one input again, and show where it breaks
set -euo pipefail
cd "$(dirname "$0")/.."

targets=(frame command roster)
what=${1:-all}
machine=$(rustc -vV | sed -n 's/^host: //p')
built=target/fuzz/$machine/release
found=fuzz-artifacts
kept=target/fuzz/corpus

usage() {
  sed -n 's/^# usage: /usage: /p; s/^#        scripts/       scripts/p' scripts/fuzz.sh >&2
  exit 2
}

build() {
  # Edges are counted and comparisons traced, so that an input which comes further is kept and built upon. --target keeps
  # build scripts and macros free of it. No address sanitizer: it needs another compiler, and no code here is unsafe.
  local flags="-Dwarnings -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
  flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
  flags+=" -Cllvm-args=-sanitizer-coverage-trace-compares"
  RUSTFLAGS=$flags cargo build --quiet --release --locked --manifest-path fuzz/Cargo.toml --target "$machine" --target-dir target/fuzz
}

# fuzz TARGET FLAG…: new inputs go to $kept, the committed ones are only read.
fuzz() {
  local target=$1 status=0 log=$kept/$1.log
  shift
  local seeds=("fuzz/corpus/$target")
  if [ -d "fuzz/regressions/$target" ]; then seeds+=("fuzz/regressions/$target"); fi
  if [ "$target" = command ]; then seeds+=(protocol/fixtures); fi
  mkdir -p "$kept/$target" "$found"
  "$built/$target" "$@" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
    -dict="fuzz/dictionaries/$target.dict" -artifact_prefix="$found/$target-" \
    "$kept/$target" "${seeds[@]}" >"$log" 2>&1 || status=$?
  grep -E 'INITED|DONE|stat::(number_of_executed_units|average_exec_per_sec|peak_rss_mb)' "$log" |
    sed "s/^/$target: /" || true
  if [ "$status" -eq 0 ]; then return 0; fi
  grep -E -A 2 'panicked at|^==[0-9]+== ERROR|Failed to' "$log" || tail -n 20 "$log"
  local input
  input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
  if [ -n "$input" ]; then
    printf '\n%s broke a promise on %s\n' "$target" "$input"
    printf 'run it again:    scripts/fuzz.sh replay %s %s\n' "$target" "$input"
    printf 'once mended:     copy it to fuzz/regressions/%s/NAME, and commit it\n' "$target"
  fi
  return 1
}

case $what in
  all)
    [[ ${2:-60} =~ ^[1-9][0-9]*$ ]] || usage
    build
    failed=0
    for target in "${targets[@]}"; do fuzz "$target" "-max_total_time=${2:-60}" || failed=1; done
    exit "$failed"
    ;;
  frame | command | roster)
    [[ ${2:-60} =~ ^[1-9][0-9]*$ ]] || usage
    build
    fuzz "$what" "-max_total_time=${2:-60}"
    ;;
  million)
    build
    # From the committed inputs alone, and by one seed, so that two runs of one commit try the same.
    kept=target/fuzz/million
    rm -rf "$kept"
    failed=0
    # A roster takes thirty times as long as a frame: it is read three times, by a reader that is built anew each time.
    fuzz frame -runs=485000 -seed=1 || failed=1
    fuzz command -runs=485000 -seed=1 || failed=1
    fuzz roster -runs=30000 -seed=1 || failed=1
    exit "$failed"
    ;;
  replay)
    if [[ " ${targets[*]} " != *" ${2:-} "* ]] || [ ! -f "${3:-}" ]; then usage; fi
    build
    RUST_BACKTRACE=1 "$built/$2" "$3"
    ;;
  *) usage ;;
esac
