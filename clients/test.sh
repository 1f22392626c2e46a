#!/bin/sh
# Tests both clients against a server of their own: the example shop in memory.
set -eu
cd "$(dirname "$0")"
port=${PORT:-7461}
cargo build -q -p annals-server --example serve
target=${CARGO_TARGET_DIR:-$(cd .. && pwd)/target}
"$target/debug/examples/serve" "127.0.0.1:$port" 20 2>/dev/null &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
export ANNALS_URL="http://127.0.0.1:$port" ANNALS_DB=shop
i=0
until curl -sf "$ANNALS_URL/ready" >/dev/null; do i=$((i + 1)); [ $i -lt 100 ] || exit 1; sleep 0.1; done
(cd python && python3 -m unittest -q tests.test_client)
if command -v npm >/dev/null; then
  (cd typescript && { [ -d node_modules ] || npm install --no-audit --no-fund --silent; } && npm test --silent)
else
  echo "npm is not here: the TypeScript client was not tested"
fi
