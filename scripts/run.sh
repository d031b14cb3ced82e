#!/usr/bin/env bash
# Owns: `make run`: set up, build, start, import the demo school into an empty database, print links to click.
# Refuses to know: how a link is made.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh run
scripts/web.sh
cargo build --release --locked -p homeroom
homeroom=target/release/homeroom
data=${HOMEROOM_DATA_DIR:-./data}
export HOMEROOM_DATA_DIR=$data
export HOMEROOM_LISTEN=${HOMEROOM_LISTEN:-127.0.0.1:8080}

"$homeroom" serve &
server=$!
# Ctrl-C reaches the server too; this waits until it has said good-bye to its sessions.
trap 'kill -TERM "$server" 2>/dev/null; wait "$server" || true; exit 0' INT TERM
for _ in $(seq 100); do
  if "$homeroom" status >/dev/null 2>&1; then break; fi
  if ! kill -0 "$server" 2>/dev/null; then wait "$server"; exit 1; fi
  sleep 0.1
done
if "$homeroom" status | grep -q ' has 0 people'; then
  echo "The database is empty: importing the demo school."
  "$homeroom" import demo/school
fi
echo
echo "Click, each in a browser (or private window) of its own. A link works once; the next start prints new ones."
while IFS=$'\t' read -r username label; do
  case "$username" in ''|'#'*) continue ;; esac
  if link=$("$homeroom" invite "$username" 2>/dev/null | awk '$1 == "link" {print $2}') && [ -n "$link" ]; then
    printf '\n  %s\n    %s\n' "$label" "$link"
  fi
done < demo/people.txt
printf '\nCtrl-C stops the server. The data stays in %s.\n\n' "$data"
wait "$server"
