#!/usr/bin/env bash
# A long differential run: tests/long.sh [CASES=20000] [SEED=1]
# Prints the seeds, so that any failure can be run again alone. Results worth keeping go to docs/internals/proofs.md.
set -euo pipefail
cd "$(dirname "$0")/.."
export ANNALS_CASES_COUNT=${1:-20000} ANNALS_SEED=${2:-1}
echo "commit $(git rev-parse --short HEAD), $ANNALS_CASES_COUNT cases from seed $ANNALS_SEED, $(date -u +%F)"
cargo test --release -p annals-tests --test differential -- --nocapture --test-threads=2
