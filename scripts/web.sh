#!/usr/bin/env bash
# Owns: building the web app, only when something of it changed.
# Refuses to know: how it is served.
set -euo pipefail
cd "$(dirname "$0")/../clients/web"
stamp=node_modules/.installed
if [ ! -e "$stamp" ] || ! cmp -s package-lock.json "$stamp"; then
  npm ci --no-audit --no-fund
  cp package-lock.json "$stamp"
fi
[ "${1:-}" = install ] && exit 0
newest=$(find src public index.html vite.config.ts tsconfig.json package-lock.json -newer dist/index.html -print -quit 2>/dev/null || echo all)
if [ ! -e dist/index.html ] || [ -n "$newest" ]; then
  npm run --silent build
  # The binary embeds the app: it has to be built again.
  touch ../../server/src/web.rs
fi
