#!/usr/bin/env python3
"""How fast the shell feels: start to prompt, key to paint, completion, Ctrl-C.

    cargo build --release && python3 repl/tests/speeds.py target/release/annals

Runs the binary on a pseudo-terminal of 100 columns, with a database of 2,000 attributes, and prints
a median and a 95th percentile for each, beside what is asked for (docs/performance.md). Exit code 1
when a median misses it. Needs nothing but Python and a quiet machine.
"""

import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time

ATTRIBUTES = 2000
FORM_BYTES = 5000


class Shell:
    """The shell on a terminal of its own."""

    def __init__(self, binary, db, home):
        self.began = time.perf_counter()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            env = {"HOME": home, "PATH": os.environ["PATH"], "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
            os.execve(binary, [binary, db], env)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 100, 0, 0))

    def read(self, wait):
        """What comes within so many seconds; None when nothing does."""
        if not select.select([self.fd], [], [], wait)[0]:
            return None
        try:
            return os.read(self.fd, 1 << 16)
        except OSError:
            return b""

    def until(self, text, wait=30):
        """Reads until a text was seen; gives the moment."""
        seen, end = b"", time.perf_counter() + wait
        while text not in seen:
            piece = self.read(max(0, end - time.perf_counter()))
            if not piece:
                raise SystemExit(f"waited for {text!r}; got {seen[-2000:]!r}")
            seen += piece
        return time.perf_counter()

    def settle(self, quiet):
        """Reads until nothing comes for so long; gives the moment of the last byte, and the bytes."""
        last, seen = None, b""
        while True:
            piece = self.read(quiet if last else 5)
            if not piece:
                return last, seen
            last, seen = time.perf_counter(), seen + piece

    def write(self, data):
        os.write(self.fd, data)

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


def database(binary, folder):
    db = os.path.join(folder, "wide")
    kinds = ["string", "long", "keyword", "instant", "boolean"]
    forms = "\n".join(
        f"{{:db/ident :area{i // 40}/field-{i} :db/valueType :db.type/{kinds[i % 5]} :db/cardinality :db.cardinality/one}}"
        for i in range(ATTRIBUTES)
    )
    subprocess.run([binary, "transact", db, "-", "-q"], input=f"[{forms}]", text=True, check=True, stdout=subprocess.DEVNULL)
    return db


def start(binary, db, home):
    times = []
    for _ in range(15):
        s = Shell(binary, db, home)
        times.append(s.until(b"@now>") - s.began)
        s.close()
    return times


def long_form():
    clauses = []
    i = 0
    while sum(map(len, clauses)) < FORM_BYTES:
        clauses.append(f'[?e{i % 7} :area{i % 50}/field-{i * 37 % ATTRIBUTES} "some text {i}"]')
        i += 1
    return "[:find ?e0 :where\n " + "\n ".join(clauses)


def paint(binary, db, home):
    s = Shell(binary, db, home)
    s.until(b"@now>")
    # Pasted, as one does with a form of this size.
    s.write(b"\x1b[200~" + long_form().encode() + b"\x1b[201~")
    s.settle(0.5)
    times = []
    for key in b"abcdefghijklmnopqrstuvwxyz" * 2:
        begin = time.perf_counter()
        s.write(bytes([key]))
        last, _ = s.settle(0.05)
        times.append(last - begin)
    s.close()
    return times


def completion(binary, db, home):
    times = []
    s = Shell(binary, db, home)
    s.until(b"@now>")
    for i in range(20):
        s.write(f"[:find ?x :where [?x :area{i}/field-{i * 40 + 3}".encode()[:-2])
        s.settle(0.1)
        begin = time.perf_counter()
        s.write(b"\t")
        last, seen = s.settle(0.05)
        assert b"field-" in seen, seen
        times.append(last - begin)
        s.write(b"\x03")
        s.until(b"@now>")
        s.settle(0.1)
    s.close()
    return times


def stop(binary, db, home):
    times = []
    s = Shell(binary, db, home)
    s.until(b"@now>")
    s.write(b":rules [[(up ?a) [(ground 0) ?a]] [(up ?b) (up ?a) [(inc ?a) ?b] [(< ?b 100000000)]]]\r")
    s.until(b"stored up")
    s.settle(0.2)
    for _ in range(5):
        s.write(b"[:find (count ?b) . :where (up ?b)]\r")
        s.until(b"Ctrl-C stops it")
        time.sleep(0.5)
        begin = time.perf_counter()
        s.write(b"\x03")
        times.append(s.until(b"@now>") - begin)
        s.settle(0.2)
    s.close()
    return times


def main():
    binary = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "target/release/annals")
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        db = database(binary, folder)
        for name, measure, asked in [
            ("start to prompt", start, 100),
            (f"key to paint, {FORM_BYTES // 1000} KB form", paint, 16),
            (f"completion, {ATTRIBUTES:,} attributes", completion, 30),
            ("Ctrl-C to prompt", stop, 200),
        ]:
            times = sorted(t * 1000 for t in measure(binary, db, folder))
            median, p95 = statistics.median(times), times[int(len(times) * 0.95) - 1]
            missed |= median > asked
            print(f"{name:32} median {median:7.1f} ms   p95 {p95:7.1f} ms   best {times[0]:7.1f} ms   asked {asked} ms")
    sys.exit(1 if missed else 0)


main()
