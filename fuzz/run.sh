#!/usr/bin/env bash
# A fuzzing campaign: fuzz/run.sh [SECONDS=600] [TARGET…]. Needs cargo-fuzz and python3, and a nightly
# toolchain, or else the stable one told to take nightly flags.
# Seeds first, then each target in turn for SECONDS; a line a target at the end. Findings lie in fuzz/artifacts.
# KEEP=1 packs the inputs that cover most into fuzz/corpus/TARGET.tar.xz, which CI replays.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-600}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(edn query tx key log http)
fuzz=(cargo +nightly fuzz)
cargo +nightly --version >/dev/null 2>&1 || { fuzz=(cargo fuzz); export RUSTC_BOOTSTRAP=1; }
python3 seeds.py ../../shared/conformance/*.edn 2>/dev/null || python3 seeds.py
for t in "${targets[@]}"; do "${fuzz[@]}" build --release "$t" >/dev/null; done
for t in "${targets[@]}"; do
    mkdir -p "corpus/$t" "artifacts/$t"
    # The log target makes a database an input: in memory, or it measures the disk.
    status=0
    TMPDIR=/dev/shm "${fuzz[@]}" run "$t" -- -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4000 -max_len=2048 \
        -print_final_stats=1 >"artifacts/$t.log" 2>&1 || status=$?
    echo "$t: $(grep -o 'number_of_executed_units: .*' "artifacts/$t.log" | tr -dc 0-9) inputs in $seconds s," \
        "$(grep -o 'cov: [0-9]*' "artifacts/$t.log" | tail -1), $(find "artifacts/$t" -type f | wc -l) findings, exit $status"
    if [ -n "${KEEP:-}" ]; then
        small=$(mktemp -d)
        "${fuzz[@]}" run "$t" -- -set_cover_merge=1 "$small" "corpus/$t" >/dev/null 2>&1 || true
        tar --sort=name --mtime=@0 --owner=0 --group=0 -cJf "corpus/$t.tar.xz" -C "$small" .
        rm -rf "$small"
    fi
done
