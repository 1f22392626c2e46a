"""What every fault test stands on: a database of numbered transactions, clients over a pipe and over HTTP, and the check."""
import http.client, json, os, shutil, signal, socket, subprocess, tempfile, threading, time

SCHEMA = """[{:db/ident :k/n :db/valueType :db.type/long :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
 {:db/ident :k/a :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
 {:db/ident :k/b :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]
"""


def tx(i):
    return f'[{{:k/n {i} :k/a {-i} :k/b "v{i}"}}]\n'


class Failure(Exception):
    pass


class Harness:
    def __init__(self, o):
        self.annals, self.o = os.path.abspath(o.annals), o
        self.dir = tempfile.mkdtemp(prefix="annals-faults-")

    def cmd(self, *args, **kw):
        return subprocess.run([self.annals, *args], capture_output=True, text=True, timeout=120, **kw)

    def fresh(self, name):
        path = os.path.join(self.dir, name)
        shutil.rmtree(path, ignore_errors=True)
        r = self.cmd("transact", path, "-", input=SCHEMA)
        if r.returncode != 0:
            raise Failure(f"cannot make a database: {r.stderr}")
        return path

    def load(self, db, start, count, prefix=(), kill_after=None, extra=()):
        """Sends transactions start.. and returns (how many were acknowledged, exit code, stderr)."""
        p = subprocess.Popen([*prefix, self.annals, "transact", db, "-", *extra], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
        errors = []
        reader = threading.Thread(target=lambda: errors.append(p.stderr.read()))
        reader.start()

        def feed():
            try:
                for i in range(start, start + count):
                    p.stdin.write(tx(i))
                p.stdin.close()
            except (BrokenPipeError, ValueError, OSError):
                pass

        feeder = threading.Thread(target=feed)
        feeder.start()
        if kill_after is not None:
            threading.Timer(kill_after, lambda: p.poll() is None and p.send_signal(signal.SIGKILL)).start()
        acks = sum(1 for line in p.stdout if line.startswith("{:t "))
        p.wait()
        feeder.join()
        reader.join()
        return acks, p.returncode, errors[0] if errors else ""

    def state(self, db):
        """The numbers present, after checking that each is whole."""
        r = self.cmd("query", db, "[:find ?n ?a ?b :where [?e :k/n ?n] [?e :k/a ?a] [?e :k/b ?b]]", "--format", "csv")
        if r.returncode != 0:
            raise Failure(f"query after the fault: exit {r.returncode}: {r.stderr}")
        rows = [l.split(",") for l in r.stdout.split() if l[:1].isdigit()]
        for n, a, b in rows:
            if int(a) != -int(n) or b.strip('"') != f"v{n}":
                raise Failure(f"transaction {n} is torn: {a} {b}")
        every = self.cmd("query", db, "[:find [?n ...] :where [_ :k/n ?n]]", "--format", "csv")
        alone = sorted(int(l) for l in every.stdout.split() if l.isdigit())
        if alone != sorted(int(n) for n, _, _ in rows):
            raise Failure("some transactions are partly there")
        return alone

    def check(self, db, acked, sent):
        v = self.cmd("verify", db)
        if v.returncode != 0:
            raise Failure(f"verify: exit {v.returncode}: {v.stdout}{v.stderr}")
        have = self.state(db)
        if have != list(range(len(have))):
            raise Failure(f"not a prefix: {have[:5]}…{have[-5:]}")
        if len(have) > sent:
            raise Failure(f"{len(have)} there, {sent} sent")
        return max(0, acked - len(have)), len(have)

    def check_any(self, db, acked, sent):
        """As `check`, for concurrent clients: what is there need not be a prefix. Returns (lost, there)."""
        v = self.cmd("verify", db)
        if v.returncode != 0:
            raise Failure(f"verify: exit {v.returncode}: {v.stdout}{v.stderr}")
        have = self.state(db)
        if len(set(have)) != len(have):
            raise Failure("a transaction is there twice")
        never = [i for i in have if i not in sent]
        if never:
            raise Failure(f"never sent: {never[:5]}")
        return len(set(acked) - set(have)), len(have)

    def image(self, mb):
        img, mnt = os.path.join(self.dir, "disk.img"), os.path.join(self.dir, "mnt")
        os.makedirs(mnt, exist_ok=True)
        with open(img, "wb") as f:
            f.truncate(mb << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", img], check=True)
        subprocess.run(["mount", "-o", "loop", img, mnt], check=True)
        return img, mnt


class Server:
    """`annals serve` over one folder, as a child of ours."""

    def __init__(self, harness, db, prefix=(), env=None, wait=20):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.name, self.err = os.path.basename(db), open(db + ".stderr", "ab+")
        self.p = subprocess.Popen([*prefix, harness.annals, "serve", db, "--listen", f"127.0.0.1:{self.port}"], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=self.err, env={**os.environ, **(env or {})})
        end = time.time() + wait
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.p.poll() is not None or time.time() > end:
                    self.stop()
                    raise Failure(f"the server does not start: exit {self.p.returncode}: {self.said()}")
                time.sleep(0.02)

    def said(self):
        self.err.seek(0)
        return self.err.read().decode(errors="replace")[-600:]

    def pid(self):
        """The server's own process, below whatever it was started through."""
        pid = self.p.pid
        while True:
            try:
                below = open(f"/proc/{pid}/task/{pid}/children").read().split()
            except OSError:
                return pid
            if not below:
                return pid
            pid = int(below[0])

    def post(self, path, body, timeout=20, headers=None, kind="application/edn"):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            c.request("POST", f"/v1/db/{self.name}{path}", body, {"content-type": kind, "accept": "application/json", **(headers or {})})
            r = c.getresponse()
            text = r.read().decode()
            try:
                return r.status, json.loads(text)
            except ValueError:
                return r.status, {"text": text}
        finally:
            c.close()

    def stop(self, sig=signal.SIGTERM, timeout=20):
        if self.p.poll() is None:
            self.p.send_signal(sig)
            try:
                self.p.wait(timeout)
            except subprocess.TimeoutExpired:
                self.p.kill()
                self.p.wait()
        return self.p.returncode


class Load:
    """Clients that send numbered transactions over HTTP until told to stop, each again under its key until answered."""

    def __init__(self, server, clients, start=0):
        self.server, self.over = server, threading.Event()
        self.lock, self.next = threading.Lock(), start
        self.acked, self.refused, self.slowest = {}, [], 0.0
        self.threads = [threading.Thread(target=self.client) for _ in range(clients)]
        for t in self.threads:
            t.start()

    def client(self):
        while not self.over.is_set():
            with self.lock:
                i, self.next = self.next, self.next + 1
            begun = time.time()
            for _ in range(200):
                try:
                    status, answer = self.server.post("/transact", tx(i), timeout=60, headers={"Idempotency-Key": f"n-{i}"})
                except (OSError, http.client.HTTPException):
                    if self.over.is_set():
                        break
                    time.sleep(0.02)
                    continue
                if status == 200:
                    with self.lock:
                        self.acked[i] = answer["t"]
                        self.slowest = max(self.slowest, time.time() - begun)
                    break
                if status in (409, 429, 503) and not self.over.is_set():
                    time.sleep(0.02)
                    continue
                with self.lock:
                    self.refused.append((i, status, answer))
                break

    def stop(self):
        self.over.set()
        for t in self.threads:
            t.join()
        return self
