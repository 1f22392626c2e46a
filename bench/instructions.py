#!/usr/bin/env python3
"""Instructions an operation takes, counted by callgrind: the same on a busy machine and a quiet one.

    bench/instructions.py                   # every operation below, at size S; writes docs/instructions.md (10 minutes)
    bench/instructions.py w1:q2 w5:agg      # only these, printed beside what docs/instructions.md says

Needs valgrind and `cargo build --release` in bench/annals. One run after five that are not counted, on one
thread. System calls and waiting do not count, so durable writes look cheaper here than they are.
"""
import os, platform, re, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
DOC = os.path.join(HERE, "..", "docs", "instructions.md")
OPS = {
    "w1": ["add-5", "add-all", "q1", "q2-switch", "q3", "q4", "qpred1", "qpred2", "pull"],
    "w3": ["tc-chain", "tc-rand", "tc-grid", "tc-tree", "sg", "reach-leftrec", "local", "local-rev", "andersen"],
    "w4": ["asof-point", "asof-point-query", "asof-scan-50", "history", "who", "changes"],
    "w5": ["artist-tracks", "collab", "collab-tracks", "collab-2hop", "agg", "triangles"],
    "w6": ["append-nosync", "read-stream", "replay"],
}


def count(workload, op):
    binary = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "annals/target")), "release/annals-bench")
    with tempfile.TemporaryDirectory() as scratch:
        env = dict(os.environ, ONLY=op + "$", PERF_COUNT="1", PERF_THREADS="1", PERF_MAP_BYTES=str(2 << 30),
                   PERF_DATA=os.path.join(HERE, "data"), PERF_SCRATCH=scratch)
        run = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted*",
                              binary, workload, "S"], env=env, capture_output=True, text=True, timeout=1200)
    found = re.search(r"Collected *: *(\d+)", run.stderr)
    rows = re.search(r'"op": "%s", "rows": (\d+)' % re.escape(op), run.stdout)
    if not found or not rows:
        sys.exit(f"{workload}:{op} was not counted:\n{run.stderr[-800:]}")
    return int(found[1]), int(rows[1])


def before():
    """What the document says: operation -> instructions."""
    if not os.path.exists(DOC):
        return {}
    return {m[1]: int(m[2].replace(",", "")) for m in re.finditer(r"^\| (w\d:[\w-]+) \| [\d,]+ \| ([\d,]+) \|", open(DOC).read(), re.M)}


def main():
    chosen = sys.argv[1:] or [f"{w}:{op}" for w, ops in OPS.items() for op in ops]
    old, lines = before(), []
    for name in chosen:
        n, rows = count(*name.split(":", 1))
        was = f", {n / old[name]:.3f} of the last record" if name in old else ""
        print(f"{name:22} {n:14,} instructions, {rows:,} rows{was}", flush=True)
        lines.append(f"| {name} | {rows:,} | {n:,} | {n / max(rows, 1):,.0f} |")
    if not sys.argv[1:]:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True).stdout.strip()
        with open(DOC, "w") as f:
            f.write(f"""# Instructions

What each operation of the benchmarks costs at size S in instructions, on one thread, the sixth run of a process: a number that
noise does not touch, to compare commits by. `bench/instructions.py` counts them with callgrind and rewrites this page;
`bench/instructions.py w5:agg` counts one and says what has changed.

Commit {commit}, {platform.machine()}. *Rows* are result rows, or facts and events written.

| operation | rows | instructions | per row |
|---|---|---|---|
""" + "\n".join(lines) + "\n")


main()
