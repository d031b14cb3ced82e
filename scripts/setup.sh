#!/usr/bin/env bash
# Owns: what a machine needs: checks Rust and Node, installs the rest from Debian without starting services.
# Refuses to know: what is built with it.
# usage: scripts/setup.sh run|test
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:-run}

# Whether version $1 is at least $2.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

rust=$(rustc --version 2>/dev/null | awk '{print $2}' || true)
if [ -z "$rust" ] || ! at_least "$rust" 1.95.0; then
  echo "Rust ${rust:-is missing}; Homeroom needs 1.95 or newer. This mends it:" >&2
  if command -v rustup >/dev/null; then echo "  rustup update stable" >&2; else
    echo "  sudo apt-get install -y rustup && rustup default stable    # or see https://rustup.rs" >&2; fi
  exit 1
fi
node=$(node --version 2>/dev/null | tr -d v || true)
if [ -z "$node" ] || ! at_least "$node" 20.19.0; then
  echo "Node ${node:-is missing}; Homeroom needs 20.19 or newer. This mends it (with nvm, see https://github.com/nvm-sh/nvm):" >&2
  echo "  nvm install 22 && nvm use 22" >&2
  exit 1
fi

missing=()
need() { # command-or-file package
  if ! command -v "$1" >/dev/null 2>&1 && [ ! -e "$1" ]; then missing+=("$2"); fi
}
need cc build-essential
need make make
need curl curl
need git git
if [ "$purpose" = test ]; then
  need /usr/lib/postgresql/15/bin/initdb postgresql-15
  need /usr/bin/chromium chromium
  need /usr/share/fonts/truetype/noto/NotoSans-Regular.ttf fonts-noto-core
  need /usr/bin/python3 python3
fi
if [ ${#missing[@]} -eq 0 ]; then exit 0; fi

install=(apt-get install -y --no-install-recommends "${missing[@]}")
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! sudo -n true 2>/dev/null; then
    echo "Missing from Debian: ${missing[*]}. This mends it:" >&2
    echo "  sudo ${install[*]}" >&2
    exit 1
  fi
  as_root=(sudo -n)
fi
echo "installing from Debian: ${missing[*]}"
# Debian's packages start their services when they are installed; while this file says 101 they do not.
policy=/usr/sbin/policy-rc.d
kept=
if [ -e "$policy" ]; then kept=$(mktemp); "${as_root[@]}" cp -p "$policy" "$kept"; fi
restore() { if [ -n "$kept" ]; then "${as_root[@]}" mv "$kept" "$policy"; else "${as_root[@]}" rm -f "$policy"; fi; }
trap restore EXIT
printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
"${as_root[@]}" chmod 755 "$policy"
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
# PostgreSQL's package would make and start a cluster of its own.
if [[ " ${missing[*]} " == *" postgresql-15 "* ]]; then
  "${as_root[@]}" mkdir -p /etc/postgresql-common
  if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    echo "create_main_cluster = false" | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
fi
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}" >/dev/null
