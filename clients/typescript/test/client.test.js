// Against a running server: ANNALS_URL, ANNALS_DB (see clients/test.sh).
import test from "node:test";
import assert from "node:assert/strict";
import { connect, Refused } from "../dist/index.js";

const db = connect(process.env.ANNALS_URL, process.env.ANNALS_DB);
const STATUS = "[:find ?s . :in $ ?id :where [?o :order/id ?id] [?o :order/status ?s]]";

test("facts, time, diff", async () => {
  const first = await db.transact([{ ":db/id": "new", ":order/id": "TS-1", ":order/status": ":placed" }]);
  assert.equal(typeof first.tempids.new, "number");
  const second = await db.transact('[{:order/id "TS-1" :order/status :shipped}]');
  assert.equal(await db.scalar(STATUS, ["TS-1"]), ":shipped");
  assert.equal(await db.asOf(first.t).scalar(STATUS, ["TS-1"]), ":placed");
  assert.deepEqual(await db.pull("[:order/status]", [":order/id", "TS-1"]), { ":order/status": ":shipped" });
  const { added } = await db.diff("[:find ?id ?s :where [?o :order/id ?id] [?o :order/status ?s]]", first.t, second.t);
  assert.deepEqual(added, [{ row: ["TS-1", ":shipped"], t: second.t }]);
  const log = [];
  for await (const tx of db.log(first.t, second.t + 1)) log.push(tx.t);
  assert.deepEqual(log, [first.t, second.t]);
});

test("what JSON or a view cannot say is not sent as something else", async () => {
  assert.equal(await db.scalar("[:find ?x . :in ?x]", [-Infinity]), "##-Inf");
  await assert.rejects(db.scalar("[:find ?x . :in ?x]", [NaN]), /not-a-number/);
  const then = db.asOf(3);
  const basis = await db.basisT();
  for (const wrong of [() => then.transact("[]"), () => then.with("[]"), () => then.diff(STATUS, 1), () => then.log().next(), () => then.changes().next(), () => then.subscribe(STATUS, ["x"]).next(), () => db.history().pull("[*]", 1)]) {
    await assert.rejects(wrong, /is not for a view with/);
  }
  assert.equal(await db.basisT(), basis);
});

test("refusals carry their code", async () => {
  await assert.rejects(db.query("[:find ?x :where [?x :order/idd _]]"), (e) => e instanceof Refused && e.code === "query/unknown-attribute" && e.status === 422);
});

test("a key makes one transaction", async () => {
  const once = await db.transact('[{:order/id "TS-2"}]', "ts-key");
  const again = await db.transact('[{:order/id "TS-2"}]', "ts-key");
  assert.equal(again.t, once.t);
  assert.equal(again.replayed, true);
});

test("a live query", async () => {
  const stop = new AbortController();
  const seen = [];
  for await (const e of db.subscribe("[:find ?id :where [?o :order/id ?id] [?o :order/status :live]]", [], undefined, stop.signal)) {
    seen.push(e.kind);
    if (e.kind === "snapshot") await db.transact('[{:order/id "TS-3" :order/status :live}]');
    else { assert.deepEqual(e.added, [["TS-3"]]); break; }
  }
  assert.deepEqual(seen, ["snapshot", "change"]);
});

test("commands happen once and rules refuse", async () => {
  const done = await db.command("order", "Place", { total: 5 }, { id: "ts-1", key: "ts-c1" });
  assert.equal(done.stream, "order-ts-1");
  assert.equal((await db.command("order", "Place", { total: 5 }, { id: "ts-1", key: "ts-c1" })).replayed, true);
  assert.equal((await db.commandStatus("ts-c1", "1s")).status, "done");
  await assert.rejects(db.command("order", "Ship", { carrier: "DHL" }, { id: "ts-2" }), (e) => e instanceof Refused && e.status === 422 && e.code === "order/not-placed");
});
