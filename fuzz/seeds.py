#!/usr/bin/env python3
"""Writes seeds for the fuzz targets into fuzz/corpus: the queries, transactions and bodies of the manual and of
the conformance cases. Deterministic; run it before a campaign.  fuzz/seeds.py [MORE_CASE_FILES…]"""
import glob, hashlib, json, os, re, sys

HERE = os.path.dirname(os.path.abspath(__file__))
texts = [open(p).read() for p in sorted(glob.glob(f"{HERE}/../docs/*.md") + glob.glob(f"{HERE}/../tests/cases/*.edn") + sys.argv[1:])]


def forms(text, opening):
    """Balanced forms that begin with a pattern."""
    for m in re.finditer(opening, text):
        depth, string, at = 0, False, m.start()
        while at < len(text) and at - m.start() < 3000:
            c = text[at]
            if string:
                at += c == "\\"
                string = c != '"'
            elif c == '"':
                string = True
            elif c in "[({":
                depth += 1
            elif c in "])}":
                depth -= 1
                if depth == 0:
                    yield text[m.start():at + 1]
                    break
            at += 1


def put(target, data):
    data = data.encode() if isinstance(data, str) else data
    folder = f"{HERE}/corpus/{target}"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/{hashlib.sha1(data).hexdigest()[:16]}", "wb") as f:
        f.write(data)


queries = sorted({f for t in texts for f in forms(t, r"\[:find")})
txs = sorted({f for t in texts for f in forms(t, r"\[\s*[\[{]\s*:db")})
pulls = sorted({f for t in texts for f in forms(t, r"\(pull |\[\*|\[:[a-z]+/[a-z]+ \{")})
others = sorted({f for t in texts for f in forms(t, r"\{:")})
for q in queries:
    put("edn", q), put("query", q)
    put("http", bytes([1, 1]) + q.encode()), put("http", bytes([1, 0]) + json.dumps({"query": q}).encode())
for t in txs:
    put("edn", t), put("tx", t), put("http", bytes([0, 1]) + t.encode())
for p in pulls:
    put("query", p), put("http", bytes([2, 0]) + json.dumps({"pattern": p, "entity": ["n", "x"]}).encode())
for o in others:
    put("edn", o)
put("http", bytes([0, 0]) + b'[{":n": "z", ":a": 3, ":i": "2026-01-01T00:00:00Z", ":y": "AAEC", ":b": [{":n": "w"}]}]')
put("http", bytes([7, 0]) + b'[{"id": "e1", "type": "Placed", "data": {"n": 1}, "tags": ["t:1"]}]')
put("http", bytes([6, 0]) + b'{"writes": [{"stream": "s", "expected": "any", "events": [{"type": "A", "data": {}}]}], "facts": []}')
put("http", bytes([4, 0]) + b'{"query": "[:find ?n :where [_ :n ?n]]", "t1": 0, "t2": 2}')
put("key", bytes(range(64))), put("log", bytes([0, 1, 255] * 4)), put("log", bytes([40, 0, 0, 9]))
kept = (e for e in sorted(os.scandir(f"{HERE}/corpus"), key=lambda e: e.name) if e.is_dir())
print({e.name: len(os.listdir(e.path)) for e in kept})
