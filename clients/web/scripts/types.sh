#!/bin/sh
# Generates src/protocol/ from the Rust types. With --check it generates them elsewhere and fails when they differ.
set -eu
web=$(cd "$(dirname "$0")/.." && pwd)
root=$(cd "$web/../.." && pwd)
into=$web/src/protocol
if [ "${1:-}" = "--check" ]; then
  into=$(mktemp -d)
  trap 'rm -r "$into"' EXIT
else
  rm -rf "$into"
fi
cd "$root"
TS_RS_EXPORT_DIR=$into TS_RS_LARGE_INT=number cargo test --quiet --package homeroom-protocol --features ts --lib export_bindings >/dev/null
names=$(cd "$into" && ls -- *.ts)
for name in $names; do
  echo "export type { ${name%.ts} } from './${name%.ts}';"
done > "$into/index.ts"
if [ "${1:-}" = "--check" ]; then
  diff -r "$into" "$web/src/protocol" || { echo "src/protocol/ is not what the Rust types say: run 'npm run types'." >&2; exit 1; }
fi
