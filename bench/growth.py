#!/usr/bin/env python3
"""How cost grows: runs `annals-bench growth` for each curve, and draws docs/img/growth-*.svg and docs/growth.md.

    bench/growth.py                          # 10^4..10^7 facts, 1..500 versions, 1..1,000 streams, 1..256 clients: 15 minutes
    bench/growth.py --small                  # the same to a tenth or less: a smoke test
    bench/growth.py --report                 # only draw, from bench/out/growth.jsonl

One process a point, so that memory is that of the point alone. The plots are plain SVG, written here.
"""
import argparse, json, math, os, subprocess, sys

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "out", "growth.jsonl")
DOCS = os.path.join(HERE, "..", "docs")
CURVES = {  # curve: (points, what x is, points of --small)
    "facts": ([10_000, 31_620, 100_000, 316_200, 1_000_000, 3_162_000, 10_000_000], "facts in the database", 3),
    "versions": ([1, 2, 5, 10, 20, 50, 100, 200, 500], "versions of each fact", 4),
    "streams": ([1, 3, 10, 30, 100, 300, 1_000], "streams", 3),
    "clients": ([1, 2, 4, 8, 16, 32, 64, 128, 256], "clients at a time", 3),
    "replay": ([10_000, 31_620, 100_000, 316_200, 1_000_000], "events in the log", 2),
}
INKS = ["#1b6ca8", "#c1442e", "#2e7d4f", "#8a5a00", "#6a4c93", "#5b6470", "#b0307a", "#00798c"]


def measure(small, only):
    os.makedirs(os.path.dirname(OUT), exist_ok=True)
    binary = os.path.join(os.environ.get("CARGO_TARGET_DIR", f"{HERE}/annals/target"), "release", "annals-bench")
    if not os.path.exists(binary):
        sys.exit(f"{binary} is not there: (cd bench/annals && cargo build --release)")
    env = dict(os.environ, PERF_SCRATCH=os.environ.get("PERF_SCRATCH", f"{HERE}/tmp"))
    kept = [p for p in points() if only and p["curve"] not in only] if os.path.exists(OUT) else []
    with open(OUT, "w") as f:
        for p in kept:
            f.write(json.dumps(p) + "\n")
        for curve, (xs, _, few) in CURVES.items():
            if only and curve not in only:
                continue
            for x in xs[:few] if small else xs:
                r = subprocess.run([binary, "growth", curve, str(x)], env=env, capture_output=True, text=True, timeout=1200)
                lines = [l for l in r.stdout.splitlines() if l.startswith("{")]
                print(f"{curve} {x}: {len(lines)} figures", flush=True)
                if r.returncode != 0 or not lines:
                    sys.exit(f"{curve} {x}: exit {r.returncode}: {r.stderr[-500:]}")
                f.write("\n".join(lines) + "\n")
                f.flush()


def points():
    return [json.loads(l) for l in open(OUT) if l.startswith("{")]


def short(n):
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return f"{n:.3g}"


def svg(title, xlabel, series):
    """A log-log plot. series: name -> [(x, y)], in the order drawn; names stand beside the ends of their lines."""
    w, h, left, right, top, bottom = 760, 380, 64, 250, 34, 48
    xs = [x for s in series.values() for x, _ in s]
    ys = [y for s in series.values() for _, y in s if y > 0]
    x0, x1 = math.log10(min(xs)), math.log10(max(max(xs), min(xs) * 1.01))
    y0, y1 = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)) + 1e-9)
    y1 = max(y1, y0 + 1)
    px = lambda x: left + (math.log10(x) - x0) / (x1 - x0) * (w - left - right)
    py = lambda y: h - bottom - (math.log10(max(y, 10**y0)) - y0) / (y1 - y0) * (h - top - bottom)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" font-family="system-ui, sans-serif" font-size="12">',
           f'<rect width="{w}" height="{h}" fill="#ffffff"/><text x="{left}" y="20" font-size="14" fill="#222">{title}</text>']
    for e in range(y0, y1 + 1):
        y = py(10**e)
        out.append(f'<line x1="{left}" x2="{w - right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e3e3e3"/>'
                   f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{short(10.0**e)}</text>')
    last = -100
    for x in sorted(set(xs)):
        if px(x) - last > 44:
            last = px(x)
            out.append(f'<line x1="{last:.1f}" x2="{last:.1f}" y1="{h - bottom}" y2="{h - bottom + 5}" stroke="#999"/>'
                       f'<text x="{last:.1f}" y="{h - bottom + 18}" text-anchor="middle" fill="#555">{short(x)}</text>')
    out.append(f'<text x="{(left + w - right) / 2}" y="{h - 10}" text-anchor="middle" fill="#333">{xlabel}</text>')
    names = sorted(((py(s[-1][1]), name) for name, s in series.items()))
    at, placed = top, {}
    for y, name in names:  # labels that would overlap move down
        at = max(at, y)
        placed[name] = at
        at += 15
    over = max(0, at - (h - bottom))
    for (name, s), ink in zip(series.items(), INKS * 2):
        path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in s)
        out.append(f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="2"/>')
        out += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="2.6" fill="{ink}"/>' for x, y in s]
        out.append(f'<text x="{w - right + 10}" y="{placed[name] - over + 4:.1f}" fill="{ink}">{name}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


def report():
    from compare import machine
    os.makedirs(f"{DOCS}/img", exist_ok=True)
    text = ["# How cost grows", "", "Drawn by `bench/growth.py` from one run; both axes are logarithmic. Each point is a database of its own. A time is a median;",
            "clients are threads of one process with synced transactions of two facts.", "", f"Machine: {machine()}.", ""]
    for curve, (_, xlabel, _) in CURVES.items():
        series = {}
        for p in points():
            if p["curve"] == curve:
                series.setdefault(p["metric"], []).append((p["x"], p["y"]))
        if not series:
            continue
        with open(f"{DOCS}/img/growth-{curve}.svg", "w") as f:
            f.write(svg(f"Annals by {xlabel}", xlabel, series))
        xs = sorted({x for s in series.values() for x, _ in s})
        text += [f"## By {xlabel}", "", f"![Annals by {xlabel}](img/growth-{curve}.svg)", "",
                 "| | " + " | ".join(f"{x:,}" for x in xs) + " |", "|---|" + "---:|" * len(xs)]
        for name, s in series.items():
            by = dict(s)
            text.append(f"| {name} | " + " | ".join(cell(by[x]) if x in by else "" for x in xs) + " |")
        text.append("")
    with open(f"{DOCS}/growth.md", "w") as f:
        f.write("\n".join(text))
    print("wrote docs/growth.md and docs/img/growth-*.svg")


def cell(y):
    return f"{y:,.0f}" if y >= 100 else f"{y:.1f}" if y >= 1 else f"{y:.3f}"


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("curves", nargs="*", help=" ".join(CURVES))
    a.add_argument("--small", action="store_true")
    a.add_argument("--report", action="store_true")
    o = a.parse_args()
    if unknown := set(o.curves) - set(CURVES):
        a.error(f"no curve {unknown}")
    if not o.report:
        measure(o.small, o.curves)
    report()


if __name__ == "__main__":
    main()
