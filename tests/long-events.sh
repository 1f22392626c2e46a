#!/bin/sh
# The scenarios of events that are too long for every run, at the counts of the acceptance list:
# 20,000 events and 50 consumers (A9), a cut at every byte of a record (A8), 100 kills (A11),
# a rebuild over 3,000 events under load (A14). Results are recorded in docs/reliability.md.
set -eu
cd "$(dirname "$0")/.."
ANNALS_FULL=1 exec cargo test --release -p annals-tests --test events_scenarios -- --nocapture "$@"
