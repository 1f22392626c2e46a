#!/bin/sh
# Tests the console in headless Chromium against a server of its own.
#
#   server/tests/browser/run.sh [orders, default 300] [folder for screenshots]
#
# Needs node, npm and Chromium (CHROMIUM=/usr/bin/chromium). With 15000 orders the database has more than
# 100,000 facts; PROFILE=release measures what users have. DRAG_MS and LOAD_MS are the limits in ms.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
port=${PORT:-7463} profile=${PROFILE:-dev}
(cd "$here/../../.." && cargo build -q --profile "$profile" -p annals-server --example serve)
case $profile in dev) folder=debug ;; *) folder=$profile ;; esac
target=${CARGO_TARGET_DIR:-$here/../../../target}
[ -d "$here/node_modules" ] || (cd "$here" && npm install --no-audit --no-fund --silent)
"$target/$folder/examples/serve" "127.0.0.1:$port" "${1:-300}" 2>/dev/null &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
i=0
until curl -sf "http://127.0.0.1:$port/ready" >/dev/null; do i=$((i + 1)); [ $i -lt 600 ] || exit 1; sleep 0.2; done
cd "$here" && node console.mjs "http://127.0.0.1:$port" shop "${2:-}"
