#!/usr/bin/env python3
"""Runs workloads for us and for the peers, in turn, several rounds, and writes the tables of docs/performance.md.

    bench/compare.py w1:S w3:S                      # the named workloads
    bench/compare.py --rounds 3 --peers annals,sqlite,duckdb,floors w1:S w4:M
    bench/compare.py --all                          # every workload, both sizes, all peers: about 2 hours
    bench/compare.py --report                       # only the report, from bench/out

A round runs every peer once, one after another, never two at once; rounds repeat so that a noisy minute
does not fall on one peer alone. A cell is the median over rounds of each run's median. Row counts and
checksums of all peers must agree; a peer that disagrees is marked and left out of the ratios.
"""
import argparse, glob, json, os, platform, statistics, subprocess, sys, time
import memory

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "out")
PEERS = {
    "w0": ["floors"],
    "w1": ["annals", "sqlite", "duckdb", "cozo", "datascript-js", "datalevin", "floors"],
    "w2": ["annals", "sqlite", "duckdb", "cozo", "datalevin", "floors"],
    "w3": ["annals", "sqlite", "duckdb", "cozo", "datascript-js", "datalevin", "floors"],
    "w4": ["annals", "sqlite", "duckdb", "cozo", "floors"],
    "w5": ["annals", "sqlite", "duckdb", "cozo", "datalevin", "floors"],
    "w6": ["annals", "sqlite", "datalevin", "floors"],
}
TITLES = {
    "w0": "storage primitives",
    "w1": "people: lookups, joins, predicates, pull, loading",
    "w2": "transactions of five facts",
    "w3": "recursion",
    "w4": "time travel",
    "w5": "artists, releases, tracks; triangles",
    "w6": "events",
}
# What --all runs: (job, rounds, seconds a peer may take). At M a peer that does not finish is shown as failed.
EVERYTHING = [(f"w{w}:S", 3, 300) for w in range(1, 7)] + [("w1:M", 2, 600), ("w2:M", 2, 300), ("w3:M", 2, 240), ("w4:M", 2, 600), ("w5:M", 2, 400), ("w6:M", 2, 300)]
# Hand-written code over LMDB or in Rust: what the machine allows, not products. Never counted as "best peer".
FLOORS = {"lmdb", "heed", "file", "ascent", "datafrog", "hand"}
WRITES = ("load", "append", "add", "init", "durable", "nosync", "async", "wal")


def run(peer, workload, size, round_, timeout):
    env = dict(os.environ, TMO=str(timeout))
    t = time.time()
    found, said, peaks = memory.run([peer, workload, size], env=env)
    path = os.path.join(OUT, f"{workload}-{size}-{peer}-{round_}.jsonl")
    with open(path, "w") as f:
        f.writelines(json.dumps(d) + "\n" for d in found)
    print(f"  round {round_} {peer:14} {len(found):3} lines  {time.time() - t:6.1f} s  {peaks['peak_mb']} MB", flush=True)
    if not found:
        print(said[-400:], file=sys.stderr)


def collect():
    """(workload, size) -> op -> peer -> list of result dicts, one a round."""
    cells = {}
    for path in sorted(glob.glob(os.path.join(OUT, "*.jsonl"))):
        for line in open(path):
            try:
                d = json.loads(line)
            except ValueError:
                continue
            if "op" not in d or "peer" not in d:
                continue
            ops = cells.setdefault((d["workload"], d["size"]), {})
            ops.setdefault(d["op"], {}).setdefault(d["peer"], []).append(d)
    return cells


def fmt(ms):
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 1 else f"{ms:.3f}"


def agreed(op, peers):
    """The (rows, sum) most peers gave, or None where answers are not comparable (writes)."""
    if op.startswith(WRITES):
        return None
    votes = {}
    for runs in peers.values():
        d = runs[-1]
        if "median_ms" in d:
            votes[d["rows"]] = votes.get(d["rows"], 0) + 1
    return max(votes, key=votes.get) if votes else None


def table(ops):
    names = []
    for peers in ops.values():
        names += [p for p in peers if p not in names]
    products = [p for p in names if p not in FLOORS and p != "annals"]
    floors = [p for p in names if p in FLOORS]
    lines = ["| operation | rows | annals | " + " | ".join(products + floors) + " | annals ÷ best peer |",
             "|---|---|---|" + "---|" * (len(products) + len(floors) + 1)]
    wins = losses = 0
    for op, peers in ops.items():
        rows = agreed(op, peers)
        best, ours, row = None, None, []
        for p in ["annals"] + products + floors:
            runs = [d for d in peers.get(p, []) if "median_ms" in d]
            if not runs:
                row.append("" if p not in peers else "failed")
                continue
            ms = statistics.median(d["median_ms"] for d in runs)
            wrong = rows is not None and runs[-1]["rows"] != rows
            row.append(f"{fmt(ms)}" + (f" (≠ {runs[-1]['rows']})" if wrong else ""))
            if wrong:
                continue
            if p == "annals":
                ours = ms
            elif p in products and (best is None or ms < best[0]):
                best = (ms, p)
        ratio = ""
        if ours is not None and best is not None:
            r = ours / best[0]
            wins, losses = wins + (r <= 1), losses + (r > 1)
            ratio = f"{r:.2f} ({best[1]})" if r <= 1 else f"**{r:.2f}** ({best[1]})"
        lines.append(f"| {op} | {rows if rows is not None else ''} | " + " | ".join(row) + f" | {ratio} |")
    lines.append("")
    lines.append(f"Ahead of the best peer in {wins} rows, behind it in {losses} (bold).")
    lines += held(names, ops)
    disk = []
    for op, peers in ops.items():
        for p, runs in peers.items():
            size = runs[-1].get("bytes_per_fact") or runs[-1].get("bytes_per_event")
            if size:
                disk.append(f"{p} {op} {size:.0f}")
    if disk:
        lines.append(f"Bytes on disk per fact (W6: per event): {', '.join(disk)}.")
    return "\n".join(lines)


def held(names, ops):
    """Lines on peak memory. Figures are those until the last operation that another product has too: what only one
    peer does must not count against it."""
    shared = [peers for peers in ops.values() if sum(p not in FLOORS for p in peers) > 1]
    lines = []
    for field, title in [("peak_mb", "Peak memory of the process"), ("anon_mb", "of its own (heap, stacks)"), ("mapped_mb", "mapped pages of files")]:
        # Runs of before memory.py have the first only, as the peer reported it.
        peak = lambda d: d.get(field, d.get("rss_mb", 0) if field == "peak_mb" else 0)
        found = [(p, max((peak(d) for peers in shared for d in peers.get(p, [])), default=0)) for p in names]
        if any(mb for _, mb in found):
            lines.append(f"{title[0].upper() + title[1:]}, MB: {', '.join(f'{p} {mb}' for p, mb in found if mb)}.")
    return lines


def machine():
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")
    commit = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    mem = int(open("/proc/meminfo").readline().split()[1]) // 1024 // 1024
    return f"{os.cpu_count()} × {cpu}, {mem} GiB, Linux {platform.release()}, commit {commit}, {time.strftime('%Y-%m-%d')}"


def report():
    doc = os.path.join(HERE, "..", "docs", "performance.md")
    begin, end = "<!-- tables: bench/compare.py -->", "<!-- end of tables -->"
    parts = [begin, "", f"Machine: {machine()}.", "",
             "Milliseconds, median over rounds of each run's median; whole result built in the peer's own memory.",
             "Columns after the products are floors: code written by hand for one query, without parser, planner, types or history."]
    for (workload, size), ops in sorted(collect().items()):
        parts += ["", f"### {workload.upper()} {TITLES[workload]}, size {size}", "", table(ops)]
    parts += ["", end]
    text = open(doc).read() if os.path.exists(doc) else f"# Performance\n\n{begin}\n{end}\n"
    head, rest = text.split(begin)
    tail = rest.split(end)[1]
    with open(doc, "w") as f:
        f.write(head + "\n".join(parts) + tail)
    print(f"wrote {os.path.relpath(doc)}")


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("jobs", nargs="*", metavar="WORKLOAD:SIZE")
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--peers", help="only these, separated by commas")
    a.add_argument("--timeout", type=int, default=300, help="seconds a peer may take for one run")
    a.add_argument("--all", action="store_true", help="everything, with its own rounds and limits")
    a.add_argument("--report", action="store_true", help="only write the tables from bench/out")
    o = a.parse_args()
    os.makedirs(OUT, exist_ok=True)
    jobs = EVERYTHING if o.all else [(job, o.rounds, o.timeout) for job in o.jobs]
    for job, rounds, timeout in jobs:
        workload, size = job.split(":")
        peers = [p for p in PEERS[workload] if not o.peers or p in o.peers.split(",")]
        print(f"{workload} {size}: {', '.join(peers)}", flush=True)
        for stale in glob.glob(os.path.join(OUT, f"{workload}-{size}-*.jsonl")):
            if any(os.path.basename(stale).startswith(f"{workload}-{size}-{p}-") for p in peers):
                os.remove(stale)
        for round_ in range(1, rounds + 1):
            for peer in peers:
                run(peer, workload, size, round_, timeout)
    report()


if __name__ == "__main__":
    main()
