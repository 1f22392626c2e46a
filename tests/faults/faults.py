#!/usr/bin/env python3
"""Fault tests of the `annals` binary: what was acknowledged is there, whatever happened.

    tests/faults/faults.py --annals target/release/annals kill --rounds 100 --seed 1
    tests/faults/faults.py kill syscalls sync-error files flips        # several, with their usual counts
    sudo tests/faults/faults.py power-cut disk-full memory             # need a loop device or a cgroup, so root
    tests/faults/faults.py --quick                                     # a few rounds of each, for CI

Each test runs `annals transact DB -`, whose report lines are the acknowledgements. Transaction i asserts three facts
about one new entity (`:k/n` i, `:k/a` -i, `:k/b` "v<i>"). After the fault, the check demands:
  1. `annals verify` exits 0 (unless the test damaged a file on purpose);
  2. every acknowledged i is there, exactly once;
  3. what is there is a prefix 0..m of what was sent: nothing skipped, nothing doubled;
  4. every i that is there has all three facts.

| test | fault |
|---|---|
| kill | SIGKILL after a random time, again and again on one database |
| syscalls | SIGKILL at the n-th call that writes, syncs, renames, cuts or removes, for every n of a script (strace) |
| sync-error | the n-th fdatasync fails with EIO (strace); writing must stop there |
| power-cut | an ext4 image is shut down without flushing; mounted again; with a control that must lose data |
| disk-full | a small file system fills up, is given room again |
| files | each file missing, empty, halved, garbage: exit 3, no empty database, no signal |
| flips | single flipped bits in the log: found by verify, every time |
| write-errors | the n-th write, truncation, rename or sync call fails with EIO or ENOSPC (strace): no panic, nothing lost |
| openers | twenty processes open one database at once: one wins, the others name it and leave; after kill -9 no help is needed |
| frozen | a server is stopped (SIGSTOP) under load and goes on; a frozen reader holds up nobody and no space |
| memory | a server in a memory cgroup: heavy queries are refused, small ones answered, nobody is killed |
| clock | the clock jumps back and forth (libfaketime): instants rise all the same |
| backup | backups while clients write: each restores to a whole prefix, with all that was acknowledged before it |
| restore | a restore to any t holds what the database held at t |
| segments | log segments cut, swapped, of another database, or missing: found and named, never passed over |

Prints a line a test: `name: N rounds, A acknowledged, L lost, …`, and exits 1 if anything was lost or wrong.
"""
import argparse, fcntl, os, random, shutil, struct, subprocess, sys, threading, time

from copies import Copies
from harness import SCHEMA, Failure, Harness
from processes import Processes

ALL = ["kill", "syscalls", "sync-error", "files", "flips", "power-cut", "disk-full",
       "write-errors", "openers", "frozen", "memory", "clock", "backup", "restore", "segments"]
# What CI runs, with so few rounds that each takes seconds.
QUICK = {"kill": 3, "syscalls": 2, "sync-error": 3, "write-errors": 2, "files": None, "flips": 15, "openers": None, "frozen": 1, "memory": 1,
         "clock": 1, "backup": 1, "restore": 3, "segments": 2}


class Faults(Harness, Processes, Copies):
    # -- the tests ---------------------------------------------------------------------------------

    def kill(self):
        rnd = random.Random(self.o.seed)
        db, have, lost, total = self.fresh("kill"), 0, 0, 0
        for _ in range(self.o.rounds or 100):
            acks, _, _ = self.load(db, have, 20000, kill_after=rnd.uniform(0.01, 0.4))
            gone, now = self.check(db, have + acks, have + 20000)
            lost, total, have = lost + gone, total + acks, now
        return f"{self.o.rounds or 100} rounds, {total} acknowledged, {lost} lost", lost

    def syscalls(self):
        """Two scripts, killed at every call that writes, syncs, renames, cuts or removes, until they end unharmed:
        one makes a database with a schema, one opens it, commits, and checkpoints as it closes. (strace counts by
        thread.) `--rounds` bounds the calls tried of each kind."""
        if not shutil.which("strace"):
            return "skipped: strace is not installed", 0
        lost = total = rounds = 0
        kinds = []
        for call in ("pwrite64", "write", "pwritev", "writev", "fdatasync", "fsync", "msync", "rename", "renameat2", "ftruncate",
                     "unlink", "unlinkat", "mkdir"):
            for making in (True, False):
                n, unharmed = 0, False
                while not unharmed and (self.o.rounds is None or n < self.o.rounds):
                    n += 1
                    prefix = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={n}")
                    if making:
                        db, acks, sent = os.path.join(self.dir, "sys-make"), 0, 0
                        shutil.rmtree(db, ignore_errors=True)
                        p = subprocess.run([*prefix, self.annals, "transact", db, "-"], input=SCHEMA, capture_output=True, text=True, timeout=120)
                        unharmed = p.returncode == 0
                    else:
                        db, sent = self.fresh("sys-load"), 25
                        acks, code, _ = self.load(db, 0, sent, prefix=prefix)
                        unharmed = code == 0
                    rounds, total = rounds + 1, total + acks
                    if not self.whole_or_nothing(db, acks, sent):
                        lost += 1
                kinds.append(f"{n - 1} {call} {'making' if making else 'loading'}")
        kinds = [k for k in kinds if not k.startswith("0 ")]
        return f"{rounds} rounds (killed at each of {', '.join(kinds)}), {total} acknowledged, {lost} lost", lost

    def whole_or_nothing(self, db, acks, sent):
        """After a kill: sound with all that was acknowledged, or never made (and can be made now)."""
        v = self.cmd("verify", db)
        if sent == 0 and v.returncode != 0:
            if "panicked" in v.stderr or v.returncode < 0:
                raise Failure(f"verify of a half-made database: exit {v.returncode}: {v.stderr}")
            r = self.cmd("transact", db, "-", input=SCHEMA)
            if r.returncode != 0:
                raise Failure(f"a half-made database cannot be made: {r.stderr}")
            return True
        if sent == 0:
            return True
        gone, _ = self.check(db, acks, sent)
        return gone == 0

    def sync_error(self):
        if not shutil.which("strace"):
            return "skipped: strace is not installed", 0
        lost = total = refused = 0
        rounds = self.o.rounds or 20
        for n in range(1, rounds + 1):
            db = self.fresh("sync")
            acks, code, err = self.load(db, 0, 60, prefix=("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync",
                                                            "-e", f"inject=fdatasync:error=EIO:when={n}"))
            if code != 0:
                refused += 1
                if "panicked" in err:
                    raise Failure(f"panic: {err}")
            gone, have = self.check(db, acks, 60)
            if have > acks + 1:
                raise Failure(f"{have} there after {acks} acknowledgements: writing went on behind a failed sync")
            lost, total = lost + gone, total + acks
        return f"{rounds} rounds ({refused} ended by the error), {total} acknowledged, {lost} lost", lost

    def write_errors(self):
        if not shutil.which("strace"):
            return "skipped: strace is not installed", 0
        lost = total = rounds = refused = 0
        for call in ("pwrite64", "pwritev", "write", "ftruncate", "fallocate", "rename", "fdatasync", "fsync", "msync"):
            for error in ("EIO", "ENOSPC"):
                for n in range(1, (self.o.rounds or 8) + 1):
                    db = self.fresh("werr")
                    # `write` is also how acknowledgements leave: only those into the database count.
                    where = ("-P", os.path.join(db, "log"), "-P", db) if call == "write" else ()
                    acks, code, err = self.load(db, 0, 40, prefix=("strace", "-f", "-qq", "-o", "/dev/null", *where, "-e", f"trace={call}",
                                                                    "-e", f"inject={call}:error={error}:when={n}"))
                    if "panicked" in err or code < 0:
                        raise Failure(f"{call} {error} at {n}: exit {code}: {err[:300]}")
                    gone, _ = self.check(db, acks, 40)
                    lost, total, rounds, refused = lost + gone, total + acks, rounds + 1, refused + (code != 0)
                    if code == 0 and acks == 40:
                        break  # fewer than n such calls, or one that does not matter
        return f"{rounds} rounds ({refused} ended by the error), {total} acknowledged, {lost} lost", lost

    def files(self):
        made = self.fresh("files")
        self.load(made, 0, 200)
        names = [os.path.relpath(os.path.join(r, f), made) for r, _, fs in os.walk(made) for f in fs]
        wrong = rounds = 0
        for name in names:
            if name.endswith("lock") or "lock." in name:
                continue
            for how in ("missing", "empty", "half", "garbage"):
                db = os.path.join(self.dir, "files-copy")
                shutil.rmtree(db, ignore_errors=True)
                shutil.copytree(made, db)
                path = os.path.join(db, name)
                size = os.path.getsize(path)
                if how == "missing":
                    os.remove(path)
                elif how == "empty":
                    open(path, "w").close()
                elif how == "half":
                    os.truncate(path, size // 2)
                else:
                    with open(path, "r+b") as f:
                        f.write(os.urandom(min(size, 65536)))
                rounds += 1
                r = self.cmd("query", db, "[:find (count ?e) . :where [?e :k/n]]")
                healthy = r.returncode == 0 and r.stdout.strip() == "200"
                named = r.returncode == 3 and r.stderr.strip() and "panicked" not in r.stderr
                if not (healthy or named):
                    wrong += 1
                    print(f"  {name} {how}: exit {r.returncode}, {r.stdout.strip()!r} {r.stderr.strip()[:200]!r}")
        return f"{rounds} rounds, {wrong} wrong", wrong

    def flips(self):
        rnd = random.Random(self.o.seed)
        made = self.fresh("flips")
        self.load(made, 0, 2000)
        logs = [os.path.join(r, f) for r, _, fs in os.walk(made) for f in fs if "log" in os.path.relpath(os.path.join(r, f), made) and "lock" not in f]
        missed = rounds = 0
        used = {p: self.used(p) for p in logs}
        for _ in range(self.o.rounds or 200):
            db = os.path.join(self.dir, "flips-copy")
            shutil.rmtree(db, ignore_errors=True)
            shutil.copytree(made, db)
            path = rnd.choice([p for p in logs if used[p] > 0])
            at, bit = rnd.randrange(used[path]), rnd.randrange(8)
            with open(os.path.join(db, os.path.relpath(path, made)), "r+b") as f:
                f.seek(at)
                byte = f.read(1)[0]
                f.seek(at)
                f.write(bytes([byte ^ (1 << bit)]))
            rounds += 1
            r = self.cmd("verify", db)
            if r.returncode not in (3, 4):
                missed += 1
                print(f"  {os.path.basename(path)} byte {at} bit {bit}: verify exit {r.returncode} {r.stdout[:100]!r}")
        return f"{rounds} flipped bits, {missed} missed", missed

    @staticmethod
    def used(path):
        """Length of a preallocated file without the zeros at its end."""
        data = open(path, "rb").read()
        return len(data.rstrip(b"\0"))

    def power_cut(self):
        if os.geteuid() != 0:
            return "skipped: needs root", 0
        rnd, lost, total, control = random.Random(self.o.seed), 0, 0, 0
        rounds = self.o.rounds or 12
        for relaxed in (False, True):
            for _ in range(rounds):
                img, mnt = self.image(256)
                db = os.path.join(mnt, "db")
                try:
                    self.cmd("transact", db, "-", input=SCHEMA)
                    subprocess.run(["sync", "-f", mnt], check=True)
                    extra = ("--durability", "relaxed") if relaxed else ()
                    cut = threading.Timer(rnd.uniform(0.2, 0.8), self.shut_down, [mnt])
                    cut.start()
                    acks, _, _ = self.load(db, 0, 200000, kill_after=2.0, extra=extra)
                    cut.join()
                finally:
                    subprocess.run(["umount", "-l", mnt], check=True)
                time.sleep(0.2)
                subprocess.run(["mount", "-o", "loop", img, mnt], check=True)
                try:
                    gone, _ = self.check(db, acks, 200000)
                finally:
                    subprocess.run(["umount", mnt], check=True)
                if relaxed:
                    control += gone > 0
                else:
                    lost, total = lost + gone, total + acks
        if control == 0:
            return f"{rounds} cuts, but the relaxed control lost nothing: the test proves nothing", 1
        return f"{rounds} cuts, {total} acknowledged, {lost} lost (control without syncs lost data in {control} of {rounds})", lost

    @staticmethod
    def shut_down(mnt):
        fd = os.open(mnt, os.O_RDONLY)
        fcntl.ioctl(fd, 0x8004587D, struct.pack("I", 2))  # EXT4_IOC_SHUTDOWN, no log flush
        os.close(fd)

    def disk_full(self):
        if os.geteuid() != 0:
            return "skipped: needs root", 0
        img, mnt = self.image(48)
        try:
            db = os.path.join(mnt, "db")
            filler = os.path.join(mnt, "filler")
            r = self.cmd("transact", db, "-", input=SCHEMA)
            if r.returncode != 0:
                raise Failure(f"no room even for an empty database: {r.stderr}")
            free = os.statvfs(mnt).f_bavail * os.statvfs(mnt).f_frsize
            with open(filler, "wb") as f:
                f.write(b"x" * max(0, free - (1 << 20)))
            acks, code, err = self.load(db, 0, 400000)
            if code == 0:
                raise Failure("the disk never filled")
            if "panicked" in err or code < 0:
                raise Failure(f"exit {code}: {err[:300]}")
            os.remove(filler)
            gone, have = self.check(db, acks, 400000)
            more, code, err = self.load(db, have, 100)
            if more != 100:
                raise Failure(f"after room was made only {more} of 100 went in: exit {code}: {err[:300]}")
            gone2, _ = self.check(db, have + more, have + 100)
            return f"{acks} acknowledged before the disk was full, {gone + gone2} lost, writing resumed", gone + gone2
        finally:
            subprocess.run(["umount", "-l", mnt])


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("tests", nargs="*", metavar="TEST", help=" ".join(ALL))
    a.add_argument("--annals", default="target/release/annals")
    a.add_argument("--rounds", type=int, help="instead of each test's usual count")
    a.add_argument("--quick", action="store_true", help="a few rounds of the tests that need no disk of their own")
    a.add_argument("--seed", type=int, default=int(time.time()))
    o = a.parse_args()
    if unknown := set(o.tests) - set(ALL):
        a.error(f"no test {', '.join(unknown)}; there are {' '.join(ALL)}")
    print(f"seed {o.seed}", flush=True)
    faults, bad = Faults(o), 0
    try:
        for name in o.tests or (list(QUICK) if o.quick else ALL):
            begun = time.time()
            if o.quick:
                o.rounds = QUICK.get(name)
            try:
                line, wrong = getattr(faults, name.replace("-", "_"))()
            except Failure as e:
                line, wrong = f"FAILED: {e}", 1
            bad += bool(wrong)
            print(f"{name}: {line} ({time.time() - begun:.0f} s)", flush=True)
    finally:
        shutil.rmtree(faults.dir, ignore_errors=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
