"""Copies of a database: backups under load, restores to any t, segments of the log that were cut, swapped or lost."""
import os, random, shutil, time

from harness import Failure, Load, Server


class Copies:
    def backup(self):
        rounds, folder = self.o.rounds or 8, os.path.join(self.dir, "backups")
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        db = self.fresh("backed")
        server = Server(self, db, env={"ANNALS_BACKUP_DIR": folder})
        lost = total = 0
        load = Load(server, 4)
        try:
            for round_ in range(rounds):
                time.sleep(0.4)
                before = dict(load.acked)  # all of this the backup must hold
                status, answer = server.post("/backup", "", timeout=60)
                if status != 200:
                    raise Failure(f"backup: {status} {answer}")
                made = os.path.join(folder, server.name)
                db2 = os.path.join(self.dir, f"restored-{round_}")
                r = self.cmd("restore", made, db2)
                if r.returncode != 0:
                    raise Failure(f"restore: exit {r.returncode}: {r.stderr}")
                gone, have = self.check_any(db2, before, range(10**9))
                lost, total = lost + gone, have
                shutil.rmtree(db2)
        finally:
            load.stop()
            server.stop()
        gone, _ = self.check_any(db, load.acked, range(load.next))
        return f"{rounds} backups beside 4 writers, {len(load.acked)} acknowledged ({total} in the last backup), {lost + gone} lost", lost + gone

    def restore(self):
        rnd, n = random.Random(self.o.seed), 60
        db = self.fresh("whole")
        self.load(db, 0, n)
        made = os.path.join(self.dir, "whole-backup")
        shutil.rmtree(made, ignore_errors=True)
        r = self.cmd("backup", db, made)
        if r.returncode != 0:
            raise Failure(f"backup: exit {r.returncode}: {r.stderr}")
        first = self.first_t(db)
        points = list(range(-1, n)) if not self.o.rounds else [-1, n - 1] + [rnd.randrange(n) for _ in range(self.o.rounds)]
        for i in points:  # the last transaction to be there
            to = os.path.join(self.dir, "restored")
            shutil.rmtree(to, ignore_errors=True)
            r = self.cmd("restore", made, to, "--to", str(first + i))
            if r.returncode != 0:
                raise Failure(f"restore --to {first + i}: exit {r.returncode}: {r.stderr}")
            self.check(to, 0, n)
            have = self.state(to)
            if have != list(range(i + 1)):
                raise Failure(f"restored to t {first + i}: {len(have)} transactions, not {i + 1}")
            more, code, err = self.load(to, i + 1, 3)
            if more != 3:
                raise Failure(f"a restored database does not go on: exit {code}: {err}")
        r = self.cmd("restore", made, to)
        if r.returncode == 0:
            raise Failure("a restore over a database that exists was not refused")
        return f"{len(points)} restores to chosen t, each a whole prefix that goes on; a restore over a database refused", 0

    def first_t(self, db):
        """The t of transaction 0."""
        r = self.cmd("query", db, "[:find ?t . :where [_ :k/n 0 ?t]]", "--format", "csv")
        digits = "".join(c for c in r.stdout.split("\n")[-2] if c.isdigit())
        t = int(digits)
        return t & ((1 << 44) - 1)  # the number in a transaction's entity id

    def segments(self):
        rnd = random.Random(self.o.seed)
        made, other = self.fresh("segments"), self.fresh("other")
        self.load(made, 0, 1500)
        self.load(other, 0, 1500)
        log = self.log_files(made)
        missed = rounds = healthy = 0
        said = {}
        for how in ("cut", "cut to nothing", "missing", "of another database", "swapped blocks", "zeros inside", "doubled"):
            for _ in range(self.o.rounds or 12):
                db = os.path.join(self.dir, "segments-copy")
                shutil.rmtree(db, ignore_errors=True)
                shutil.copytree(made, db)
                name = rnd.choice(log)
                path, used = os.path.join(db, name), self.used(os.path.join(made, name))
                if how == "cut":
                    os.truncate(path, rnd.randrange(1, used - 4096))
                elif how == "cut to nothing":
                    os.truncate(path, 0)
                elif how == "missing":
                    os.remove(path)
                elif how == "of another database":
                    shutil.copyfile(os.path.join(other, self.log_files(other)[0]), path)
                else:
                    with open(path, "r+b") as f:
                        size = 512
                        a, b = (rnd.randrange(0, (used - 4096) // size) * size for _ in "ab")
                        f.seek(a)
                        one = f.read(size)
                        f.seek(b)
                        two = f.read(size)
                        if a == b or one == two:
                            continue
                        f.seek(a)
                        f.write({"swapped blocks": two, "zeros inside": bytes(size), "doubled": two}[how])
                        if how == "swapped blocks":
                            f.seek(b)
                            f.write(one)
                rounds += 1
                r = self.cmd("verify", db)
                if r.returncode in (3, 4) and "panicked" not in r.stderr:
                    said[how] = said.get(how, 0) + 1
                else:
                    missed += 1
                    print(f"  {how}: verify exit {r.returncode}: {r.stdout[:120]!r} {r.stderr[:200]!r}")
        return f"{rounds} damaged logs, {missed} missed ({', '.join(f'{k} {v}' for k, v in said.items())})", missed

    @staticmethod
    def log_files(db):
        """The segments that have records, by path within the folder."""
        found = [os.path.relpath(os.path.join(r, f), db) for r, _, fs in os.walk(db) for f in fs]
        return sorted(f for f in found if f.startswith("log") and "lock" not in f and os.path.getsize(os.path.join(db, f)) > 4096)
