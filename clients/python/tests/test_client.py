"""Against a running server: ANNALS_URL, ANNALS_DB (see clients/test.sh)."""

import datetime as dt
import os
import unittest
import uuid

import annals_client
from annals_client import Change, Edn, Keyword, Problem, Snapshot

STATUS = "[:find ?s . :in $ ?id :where [?o :order/id ?id] [?o :order/status ?s]]"


class Client(unittest.TestCase):
    def setUp(self) -> None:
        self.db = annals_client.connect(os.environ["ANNALS_URL"], os.environ["ANNALS_DB"])
        self.addCleanup(self.db.close)

    def test_facts_time_and_diff(self) -> None:
        first = self.db.transact([{":db/id": "new", ":order/id": "PY-1", ":order/status": ":placed", ":order/total": 9.5}])
        self.assertIn("new", first.tempids)
        second = self.db.transact('[{:order/id "PY-1" :order/status :shipped}]')
        self.assertEqual(self.db.query(STATUS, "PY-1"), ":shipped")
        self.assertEqual(self.db.as_of(first.t).query(STATUS, "PY-1"), ":placed")
        self.assertEqual(self.db.pull("[:order/status]", ("order/id", "PY-1")), {":order/status": ":shipped"})
        added, removed = self.db.diff("[:find ?id ?s :where [?o :order/id ?id] [?o :order/status ?s]]", first.t, second.t)
        self.assertEqual(added, [{"row": ["PY-1", ":shipped"], "t": second.t}])
        self.assertEqual(len(removed), 1)
        self.assertEqual([tx["t"] for tx in self.db.log(first.t, second.t + 1)], [first.t, second.t])
        lanes = self.db.entity_history(("order/id", "PY-1"), ":order/status")
        self.assertEqual([(v["value"], v["to-t"]) for v in lanes], [(":placed", second.t), (":shipped", None)])
        rows = self.db.query("[:find ?id ?s :in $ [?s ...] :where [?o :order/id ?id] [?o :order/status ?s]]", [Keyword(":shipped")], limit=5)
        self.assertEqual(rows.columns, ["?id", "?s"])
        self.assertEqual(set(rows.dicts()[0]), {"id", "s"})

    def test_values_are_sent_exactly(self) -> None:
        for value, kind in [
            (2**60, str(2**60)), (":text", ":text"), (uuid.UUID(int=7), str(uuid.UUID(int=7))), (True, True), (1.5, 1.5),
            (dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc), "2026-01-01T00:00:00.000Z"), (Edn("#{1 2}"), [1, 2]),
        ]:
            self.assertEqual(self.db.query("[:find ?x . :in ?x]", value), kind)

    def test_floats_without_json_are_sent_or_refused(self) -> None:
        self.assertEqual(self.db.query("[:find ?x . :in ?x]", float("-inf")), "##-Inf")
        self.assertEqual(self.db.with_([{":order/id": "PY-7", ":order/total": float("inf")}])["datoms"], 3)
        for bad in (lambda: self.db.query("[:find ?x . :in ?x]", float("nan")), lambda: self.db.transact([{":order/total": float("nan")}])):
            with self.assertRaisesRegex(ValueError, "not-a-number"):
                bad()

    def test_a_view_answers_for_itself_or_not_at_all(self) -> None:
        then, basis = self.db.as_of(3), self.db.basis_t()
        for wrong in (
            lambda: then.transact("[]"), lambda: then.with_("[]"), lambda: then.append("a-1", []), lambda: next(then.log()), lambda: next(then.changes()),
            lambda: next(then.subscribe(STATUS, "x")), lambda: then.entity_history(1), lambda: then.diff(STATUS, 1), lambda: then.command("order", "Place"),
            lambda: self.db.since(3).pull("[*]", 1), lambda: self.db.history().pull("[*]", 1),
        ):
            with self.assertRaisesRegex(ValueError, "is not for a view with"):
                wrong()
        self.assertEqual(self.db.basis_t(), basis)

    def test_refusals_carry_their_code(self) -> None:
        with self.assertRaises(Problem) as caught:
            self.db.query("[:find ?x :where [?x :order/idd _]]")
        self.assertEqual((caught.exception.status, caught.exception.code), (422, "query/unknown-attribute"))
        self.assertIsNotNone(caught.exception.span)

    def test_a_key_makes_one_transaction(self) -> None:
        once = self.db.transact('[{:order/id "PY-2"}]', key="py-key")
        again = self.db.transact('[{:order/id "PY-2"}]', key="py-key")
        self.assertEqual((again.t, again.replayed), (once.t, True))

    def test_commands_happen_once_and_rules_refuse(self) -> None:
        done = self.db.command("order", "Place", {"total": 5}, id="py-1", key="py-c1")
        self.assertEqual((done["stream"], done["events"]), ("order-py-1", 1))
        self.assertTrue(self.db.command("order", "Place", {"total": 5}, id="py-1", key="py-c1")["replayed"])
        self.assertEqual(self.db.command_status("py-c1", wait="1s")["status"], "done")
        with self.assertRaises(Problem) as caught:
            self.db.command("order", "Ship", {"carrier": "DHL"}, id="py-2")
        self.assertEqual((caught.exception.status, caught.exception.code), (422, "order/not-placed"))

    def test_why_names_the_event(self) -> None:
        self.db.append("order-PY-9", [{"type": "OrderShipped", "data": {"carrier": "Post"}}], expected="none")
        deadline = dt.datetime.now() + dt.timedelta(seconds=20)
        while not (facts := self._why_or_nothing()):
            self.assertLess(dt.datetime.now(), deadline)
        self.assertEqual(facts[0]["support"][0]["event"]["subject"], "order-PY-9")
        self.assertEqual(facts[0]["support"][0]["projection"]["name"], "parcels")

    def _why_or_nothing(self) -> list:
        try:
            return self.db.why(("parcel/order", "PY-9"), "parcel/carrier")
        except Problem as problem:
            if problem.status != 404:
                raise
            return []

    def test_live(self) -> None:
        live = self.db.subscribe("[:find ?id :where [?o :order/id ?id] [?o :order/status :live-py]]")
        first = next(live)
        self.assertIsInstance(first, Snapshot)
        self.db.transact('[{:order/id "PY-3" :order/status :live-py}]')
        change = next(live)
        self.assertEqual((type(change), change.added), (Change, [["PY-3"]]))
        live.close()
        resumed = self.db.changes(after=change.t - 1)
        self.assertEqual(next(resumed)[0], change.t)
        resumed.close()


if __name__ == "__main__":
    unittest.main()
