#!/bin/sh
# Fuzzes the HTTP API against its own OpenAPI document: no 5xx but the documented 503,
# no undocumented status, media type or header, no answer that breaks its schema.
#
#   server/tests/api/run.sh [examples per operation, default 100]
#
# Needs schemathesis 4 (pip install schemathesis). Takes about a minute for each 10 examples.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
port=${PORT:-7462}
(cd "$here/../../.." && cargo build -q -p annals-server --example serve)
target=${CARGO_TARGET_DIR:-$here/../../../target}
# No wait longer than the fuzzer has patience for.
ANNALS_LIMITS_QUERY_MAX_MS=3000 "$target/debug/examples/serve" "127.0.0.1:$port" 20 2>/dev/null &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
i=0
until curl -sf "http://127.0.0.1:$port/ready" >/dev/null; do i=$((i + 1)); [ $i -lt 100 ] || exit 1; sleep 0.1; done
cd "$here"
SCHEMATHESIS_HOOKS=hooks schemathesis --config-file "$here/schemathesis.toml" run "http://127.0.0.1:$port/openapi.json" \
    --checks all --max-response-time 20 --request-timeout 30 --max-examples "${1:-100}" --workers 2 --continue-on-failure --seed "${SEED:-1}"
kill -0 $server # it is still there
