"""Faults of processes rather than of disks: frozen, starved of memory, with a jumping clock, two at one database."""
import datetime, os, random, re, signal, subprocess, threading, time

from harness import Failure, Load, Server

# One that must be refused, one that fills most of what a query may have.
BOMBS = ["[:find ?a ?b ?c ?d :where [?a :k/n] [?b :k/n] [?c :k/n] [?d :k/n]]",
         "[:find (count ?a) . :where [?a :k/n ?x] [(< ?x 1000)] [?b :k/n ?y] [(< ?y 1000)] [(!= ?x ?y)]]"]
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
MEMORY = "/sys/fs/cgroup/memory"


class Processes:
    def openers(self):
        db = self.fresh("openers")
        self.load(db, 0, 50)
        everyone = [subprocess.Popen([self.annals, "serve", db, "--listen", "127.0.0.1:0"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.PIPE, text=True) for _ in range(20)]
        end = time.time() + 30
        while sum(p.poll() is None for p in everyone) > 1 and time.time() < end:
            time.sleep(0.05)
        time.sleep(0.3)
        alive = [p for p in everyone if p.poll() is None]
        try:
            if len(alive) != 1:
                raise Failure(f"{len(alive)} of 20 have the database")
            wrong = 0
            for p in everyone:
                if p is alive[0]:
                    continue
                said = p.stderr.read()
                wrong += p.returncode != 5 or "panicked" in said
            named = self.cmd("query", db, "[:find (count ?e) . :where [?e :k/n]]")
            if named.returncode != 5 or str(alive[0].pid) not in named.stderr:
                raise Failure(f"the owner {alive[0].pid} is not named: exit {named.returncode}: {named.stderr}")
            alive[0].send_signal(signal.SIGKILL)
            alive[0].wait()
            begun = time.time()
            again = self.cmd("query", db, "[:find (count ?e) . :where [?e :k/n]]")
            took = time.time() - begun
            if again.stdout.strip() != "50":
                raise Failure(f"after kill -9 of the owner: exit {again.returncode}: {again.stderr}")
            return f"1 of 20 won, 19 left naming it, opened {took * 1000:.0f} ms after kill -9 of the owner, {wrong} wrong", wrong
        finally:
            for p in everyone:
                if p.poll() is None:
                    p.kill()
                p.wait()
                p.stderr.close()

    def frozen(self):
        pause = 2 if self.o.quick else 15
        rounds, lost, total, grew = self.o.rounds or 4, 0, 0, 0.0
        db = self.fresh("frozen")
        rnd = random.Random(self.o.seed)
        acked, sent = {}, 0
        for _ in range(rounds):
            server = Server(self, db)
            load = Load(server, 6, start=sent)
            time.sleep(rnd.uniform(0.3, 1.0))
            os.kill(server.pid(), signal.SIGSTOP)
            time.sleep(pause)
            os.kill(server.pid(), signal.SIGCONT)
            time.sleep(1.0)
            load.stop()
            if load.refused:
                raise Failure(f"refused: {load.refused[:2]}")
            server.stop()
            acked.update(load.acked)
            sent = load.next
            gone, have = self.check_any(db, acked, range(sent))
            if have != len(acked):
                raise Failure(f"{have} there, {len(acked)} acknowledged: a request sent again counts once")
            lost, total = lost + gone, len(acked)
        # A client that reads half an answer and then nothing must not hold up writers, nor space.
        server = Server(self, db)
        try:
            server.post("/transact", "[" + " ".join(f'{{:k/n {10**7 + i} :k/a 1 :k/b "{"x" * 200}"}}' for i in range(5000)) + "]", timeout=60)
            reader = subprocess.Popen(["python3", "-c", f"""
import socket, time
s = socket.create_connection(("127.0.0.1", {server.port}))
body = b"[:find ?n ?b :where [?e :k/n ?n] [?e :k/b ?b]]"
s.sendall(b"POST /v1/db/{server.name}/query HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nContent-Type: application/edn\\r\\nAccept: application/x-ndjson\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
s.recv(1000)
time.sleep(600)"""])
            try:
                time.sleep(1)
                reader.send_signal(signal.SIGSTOP)
                size = folder_bytes(db)
                n, slowest = (200 if self.o.quick else 2000), 0.0
                for i in range(n):
                    begun = time.time()
                    status, answer = server.post("/transact", f'[{{:k/n {10**7} :k/b "{i}"}}]')
                    slowest = max(slowest, time.time() - begun)
                    if status != 200:
                        raise Failure(f"a frozen reader holds up writers: {status} {answer}")
                grew = folder_bytes(db) / size
            finally:
                reader.kill()
                reader.wait()
        finally:
            server.stop()
        wrong = lost + (grew > 2)
        return (f"{rounds} freezes of {pause} s, {total} acknowledged, {lost} lost; beside a frozen reader {n} writes, slowest "
                f"{slowest * 1000:.0f} ms, folder grew {grew:.2f} times"), wrong

    def memory(self):
        if os.geteuid() != 0 or not os.path.exists(f"{MEMORY}/memory.limit_in_bytes"):
            return "skipped: needs root and the memory controller of cgroup v1", 0
        group = f"{MEMORY}/annals-faults-{os.getpid()}"
        os.mkdir(group)
        try:
            with open(f"{group}/memory.limit_in_bytes", "w") as f:
                f.write(str(512 << 20))
            db = self.fresh("memory")
            self.load(db, 0, 3000)
            inside = ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")
            server = Server(self, db, prefix=inside, env={"ANNALS_LIMITS_QUERY_BYTES": str(48 << 20)})
            try:
                if str(server.pid()) not in open(f"{group}/cgroup.procs").read().split():
                    raise Failure("the server is not in the group")
                counts, small, worst = {}, 0, 0.0

                def heavy():
                    for i in range(4 if self.o.quick else 24):
                        status, answer = server.post("/query", BOMBS[i % 2], timeout=60)
                        key = f"{status} {answer.get('code', '')}"
                        counts[key] = counts.get(key, 0) + 1

                bombs = [threading.Thread(target=heavy) for _ in range(4)]
                for b in bombs:
                    b.start()
                while any(b.is_alive() for b in bombs):
                    begun = time.time()
                    status, answer = server.post("/query", "[:find ?a . :where [?e :k/n 7] [?e :k/a ?a]]", timeout=60)
                    worst = max(worst, time.time() - begun)
                    if status != 200:
                        raise Failure(f"a small query beside heavy ones: {status} {answer}")
                    small += 1
                if server.p.poll() is not None:
                    raise Failure(f"the server was killed: {server.p.returncode}")
                peak = int(open(f"{group}/memory.max_usage_in_bytes").read()) >> 20
                killed = int(re.search(r"oom_kill (\d+)", open(f"{group}/memory.oom_control").read()).group(1))
            finally:
                server.stop()
            wrong = killed + sum(n for k, n in counts.items() if not k.startswith(("422", "408", "200")))
            if not any(k.startswith("422") for k in counts) or not any(k.startswith("200") for k in counts):
                raise Failure(f"one kind of heavy query must be refused, the other answered: {counts}")
            return (f"limit 512 MiB, peak {peak} MiB with caches, heavy: {counts}, {small} small ones answered, slowest {worst * 1000:.0f} ms, "
                    f"{killed} killed"), wrong
        finally:
            time.sleep(0.2)
            os.rmdir(group)

    def clock(self):
        if not os.path.exists(FAKETIME):
            return "skipped: libfaketime is not installed (apt-get install faketime)", 0
        rnd, rounds = random.Random(self.o.seed), self.o.rounds or 10
        db, file = self.fresh("clock"), os.path.join(self.dir, "clock.now")
        total = lost = wrong = 0
        sent, acked = 0, {}
        env = {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": file, "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        for _ in range(rounds):
            open(file, "w").write("+0d\n")
            server = Server(self, db, env=env)
            load = Load(server, 4, start=sent)
            for _ in range(4):
                time.sleep(0.15)
                open(file + ".new", "w").write(rnd.choice(["-1h", "+3d", "-400d", "+0d", "-1s", "+20y"]) + "\n")
                os.replace(file + ".new", file)
            time.sleep(0.15)
            load.stop()
            if load.refused:
                raise Failure(f"refused: {load.refused[:2]}")
            server.stop()
            acked.update(load.acked)
            sent = load.next
            gone, _ = self.check_any(db, acked, range(sent))
            lost += gone
        total = len(acked)
        rows = self.cmd("query", db, "[:find ?t ?i :where [?t :db/txInstant ?i]]", "--format", "csv").stdout.split("\n")[1:]
        instants = [r.split(",") for r in rows if "," in r]
        instants.sort(key=lambda r: int(re.sub(r"\D", "", r[0])))
        instants = [datetime.datetime.fromisoformat(i.strip('"').replace("Z", "+00:00")) for _, i in instants]
        wrong = sum(a >= b for a, b in zip(instants, instants[1:]))
        if len(instants) < total:
            raise Failure(f"only {len(instants)} instants for {total} transactions")
        span = f"{instants[1]:%Y-%m-%d} to {instants[-1]:%Y-%m-%d}"
        return f"{rounds * 4} jumps of the clock, {total} acknowledged, {lost} lost, instants ({span}) out of order: {wrong}", lost + wrong


def folder_bytes(path):
    return sum(os.stat(os.path.join(r, f)).st_blocks * 512 for r, _, fs in os.walk(path) for f in fs)
