#!/usr/bin/env bash
# Owns: `make run`: set up, build, start, import the demo school into an empty database, print links to click.
# Refuses to know: how a link is made.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh run
scripts/web.sh
cargo build --release --locked -p homeroom
homeroom=target/release/homeroom
export HOMEROOM_DATA_DIR=${HOMEROOM_DATA_DIR:-./data}
export HOMEROOM_LISTEN=${HOMEROOM_LISTEN:-127.0.0.1:8080}

# welcome SERVER: once it answers, fill an empty database and print links.
welcome() {
  local server=$1 username label link
  until "$homeroom" status >/dev/null 2>&1; do
    kill -0 "$server" 2>/dev/null || return 0 # it has said why
    sleep 0.1
  done
  if "$homeroom" status | grep -q ' has 0 people'; then
    echo "The database is empty: importing the demo school."
    "$homeroom" import demo/school
  fi
  printf '\nClick, each in a browser (or private window) of its own. A link works once; the next start prints new ones.\n'
  while IFS=$'\t' read -r username label; do
    case "$username" in '' | '#'*) continue ;; esac
    # Somebody else's school has none of these people: then there is nothing to print.
    link=$("$homeroom" invite "$username" 2>/dev/null | awk '$1 == "link" {print $2}') || continue
    printf '\n  %s\n    %s\n' "$label" "$link"
  done <demo/people.txt
  printf '\nCtrl-C stops the server. The data stays in %s.\n\n' "$HOMEROOM_DATA_DIR"
}

if "$homeroom" status >/dev/null 2>&1; then
  echo "A server runs on $HOMEROOM_DATA_DIR already; stop it first." >&2
  exit 1
fi
# This process becomes the server, so that Ctrl-C reaches it once: a second signal would not let it say good-bye.
welcome $$ &
exec "$homeroom" serve
