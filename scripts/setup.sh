#!/usr/bin/env bash
# Owns: what a machine needs: checks Rust and Node, installs the rest from Debian without starting services.
# Refuses to know: what is built with it.
# usage: scripts/setup.sh run|test
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:-run}

# Whether version $1 is at least $2.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# mend WHAT COMMAND: say both, and stop.
mend() {
  printf '%s This mends it:\n  %s\n' "$1" "$2" >&2
  exit 1
}

rust=$(rustc --version 2>/dev/null | awk '{print $2}' || true)
if [ -z "$rust" ] || ! at_least "$rust" 1.95.0 || ! command -v cargo >/dev/null; then
  why="Homeroom needs Rust 1.95 or newer; here it is ${rust:-missing}."
  if command -v rustup >/dev/null; then mend "$why" "rustup update stable && rustup default stable"; fi
  # The quotes keep $HOME for whoever runs the line.
  # shellcheck disable=SC2016
  mend "$why" 'curl --proto "=https" --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . "$HOME/.cargo/env"'
fi
if [ "$purpose" = test ] && ! { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1; then
  mend "The tests need rustfmt and clippy." "rustup component add rustfmt clippy"
fi
node=$(node --version 2>/dev/null | tr -d v || true)
if [ -z "$node" ] || ! at_least "$node" 20.19.0 || ! command -v npm >/dev/null; then
  why="Homeroom needs Node 20.19 or newer, with npm; here it is ${node:-missing}."
  if [ -s "${NVM_DIR:-$HOME/.nvm}/nvm.sh" ]; then mend "$why" "nvm install 22 && nvm use 22"; fi
  as_root='sudo '
  if [ "$(id -u)" -eq 0 ]; then as_root=''; fi
  mend "$why" "curl -fsSL https://deb.nodesource.com/setup_22.x | ${as_root}bash - && ${as_root}apt-get install -y nodejs"
fi

missing=()
need() { # command-or-file package
  if ! command -v "$1" >/dev/null 2>&1 && [ ! -e "$1" ]; then missing+=("$2"); fi
}
# ring and SQLite are compiled C.
need cc build-essential
need make make
need curl curl
need git git
if [ "$purpose" = test ]; then
  need /usr/lib/postgresql/15/bin/initdb postgresql-15
  need redis-server redis-server
  need setpriv util-linux
  need /usr/sbin/haproxy haproxy
  need /usr/sbin/nginx nginx
  need promtool prometheus
  need valgrind valgrind
  need openssl openssl
  need /usr/bin/chromium chromium
  need /usr/share/fonts/truetype/noto/NotoSans-Regular.ttf fonts-noto-core
  need /usr/bin/python3 python3
  need /usr/lib/python3/dist-packages/yaml/__init__.py python3-yaml
  need systemd-analyze systemd
  # libFuzzer is compiled C++.
  need c++ build-essential
  need shellcheck shellcheck
  need faketime faketime
fi
if [ ${#missing[@]} -eq 0 ]; then exit 0; fi

install=(apt-get install -y --no-install-recommends "${missing[@]}")
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  # With a terminal sudo may ask; without one it must not wait for an answer.
  if sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
  elif [ -t 0 ] && sudo -v; then
    as_root=(sudo)
  else
    mend "Missing from Debian: ${missing[*]}." "sudo apt-get update && sudo ${install[*]}"
  fi
fi
if ! command -v apt-get >/dev/null; then
  echo "Missing: ${missing[*]} (as Debian calls them); install them the way this system does." >&2
  exit 1
fi
echo "installing from Debian: ${missing[*]}"
# Debian's packages start their services when they are installed; while this file says 101 they do not.
policy=/usr/sbin/policy-rc.d
kept=
if [ -e "$policy" ]; then
  kept=$(mktemp -u "$policy.XXXXXX")
  "${as_root[@]}" mv "$policy" "$kept"
fi
restore() {
  if [ -n "$kept" ]; then "${as_root[@]}" mv "$kept" "$policy"; else "${as_root[@]}" rm -f "$policy"; fi
}
trap restore EXIT
printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
"${as_root[@]}" chmod 755 "$policy"
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
# PostgreSQL's package would make a cluster of its own, which would start with the machine. The tests bring theirs.
if [[ " ${missing[*]} " == *" postgresql-15 "* ]] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
  "${as_root[@]}" mkdir -p /etc/postgresql-common
  echo "create_main_cluster = false" | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
fi
said=$(mktemp)
if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}" >"$said" 2>&1; then
  tail -n 30 "$said" >&2
  mend "Debian's packages could not be installed." "${as_root[*]:+sudo }${install[*]}"
fi
rm -f "$said"
