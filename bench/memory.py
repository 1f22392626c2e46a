#!/usr/bin/env python3
"""What a peer holds in memory while it runs: sampled from outside, the same way for all of them.

    bench/memory.py sqlite w3 S          # one run of bench/run: a JSON line a sample that differs by 4 MiB, then the peaks
    bench/memory.py --peaks annals w1 M  # the peaks only: until the end of each operation, and of the run

Three figures, in MiB, that say different things:

- `peak`: the most that was resident at once (VmHWM), whatever it was;
- `anon`: the most memory of its own (RssAnon): heap, stacks, what a cache inside of the process holds. This is
  what a machine must have for the process to run;
- `mapped`: the most pages of files it had mapped (RssFile): its program text, and of databases that map their
  file, like ours, LMDB and SQLite with `mmap_size`, pages of the data. They are page cache: the system takes them
  back when it needs the room, and a database that reads its file through buffers has the same pages
  in the page cache, where nobody counts them.

The peaks of `anon` and `mapped` need not fall on the same moment.
"""
import json, os, subprocess, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
# A peer's state is read this often, in seconds.
EVERY = 0.02


def children(pid):
    try:
        return [int(p) for p in open(f"/proc/{pid}/task/{pid}/children").read().split()]
    except OSError:
        return []


def state(pid):
    """(peak, anon, mapped) of one process in KiB, or None when it has ended."""
    try:
        lines = open(f"/proc/{pid}/status").read().splitlines()
    except OSError:
        return None
    held = {l.split(":")[0]: int(l.split()[1]) for l in lines if l.startswith(("VmHWM", "RssAnon", "RssFile", "RssShmem"))}
    return held and (held["VmHWM"], held["RssAnon"] + held["RssShmem"], held["RssFile"])


class Watch:
    """Samples a process and all it starts until `stop`: of each figure, the most that any one process had."""

    def __init__(self, pid, each=None):
        self.pid, self.each, self.highest, self.done = pid, each, (0, 0, 0), threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.done.wait(EVERY):
            pids = [self.pid]
            for pid in pids:
                pids += children(pid)
            # The shell that starts the peer, `timeout` and the peer: the one that holds most is the peer.
            now = max((s for s in map(state, pids) if s), default=None)
            if now:
                self.highest = tuple(map(max, self.highest, now))
                if self.each:
                    self.each(now)

    def peaks(self):
        """The peaks so far, in MiB."""
        return dict(zip(("peak_mb", "anon_mb", "mapped_mb"), (k // 1024 for k in self.highest)))

    def stop(self):
        self.done.set()
        self.thread.join()


def run(args, env=None, each=None):
    """Runs `bench/run ARGS`: the objects it printed, each with the peaks until then, what it said on standard error,
    and the peaks of the whole run."""
    with tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen([os.path.join(HERE, "run"), *args], env=env, stdout=subprocess.PIPE, stderr=said, text=True)
        watch, found = Watch(child.pid, each), []
        for line in child.stdout:
            if line.startswith("{"):
                try:
                    found.append({**json.loads(line), **watch.peaks()})
                except ValueError:
                    continue
        child.wait()
        watch.stop()
        said.seek(0)
        return found, said.read(), watch.peaks()


def main():
    args = sys.argv[1:]
    only_peaks = "--peaks" in args
    args = [a for a in args if a != "--peaks"]
    if len(args) != 3:
        sys.exit(__doc__)
    begun, last = time.time(), [(0, 0, 0)]

    def each(now):
        if any(abs(a - b) > 4096 for a, b in zip(now, last[0])):
            last[0] = now
            print(json.dumps({"seconds": round(time.time() - begun, 2), "anon_mb": now[1] // 1024, "mapped_mb": now[2] // 1024}), flush=True)

    found, said, peaks = run(args, each=None if only_peaks else each)
    sys.stderr.write(said[-400:])
    for d in found:
        print(json.dumps({k: d[k] for k in ("op", "peak_mb", "anon_mb", "mapped_mb") if k in d}))
    print(json.dumps({"peer": args[0], "workload": args[1], "size": args[2], **peaks}))


if __name__ == "__main__":
    main()
