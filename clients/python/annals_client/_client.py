"""Requests and answers. One persistent connection a :class:`Database` and thread."""

from __future__ import annotations

import dataclasses
import datetime as dt
import http.client
import json
import ssl
import threading
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any

from ._values import Keyword, to_json, to_tx

TimePoint = int | str | dt.datetime


class Problem(Exception):
    """A refusal: ``status``, stable ``code``, ``detail``, perhaps ``span``, ``hint`` and more in ``document``."""

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        self.status = status
        self.document = document
        self.code: str = document.get("code", f"http/{status}")
        self.detail: str = document.get("detail", "")
        self.hint: str | None = document.get("hint")
        span = document.get("span")
        self.span: tuple[int, int] | None = (span["start"], span["end"]) if span else None
        super().__init__(f"{self.code}: {self.detail}" + (f" ({self.hint})" if self.hint else ""))


@dataclasses.dataclass(frozen=True)
class Report:
    """What a transaction did."""

    t: int
    tx_instant: str
    tempids: dict[str, int]
    datoms: int
    replayed: bool = False


class Rows(Sequence[list[Any]]):
    """Rows of an answer, with the names of the columns and the basis."""

    def __init__(self, columns: list[str], rows: list[list[Any]], basis_t: int) -> None:
        self.columns, self.basis_t, self._rows = columns, basis_t, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: Any) -> Any:
        return self._rows[i]

    def __eq__(self, other: object) -> bool:
        return self._rows == (other._rows if isinstance(other, Rows) else other)

    def __repr__(self) -> str:
        return f"Rows({self.columns}, {len(self)} rows, t{self.basis_t})"

    def dicts(self) -> list[dict[str, Any]]:
        """Each row by column, the question marks dropped."""
        names = [c.lstrip("?:") for c in self.columns]
        return [dict(zip(names, r)) for r in self._rows]

    def pandas(self) -> Any:
        """A ``pandas.DataFrame``; needs pandas."""
        import pandas

        return pandas.DataFrame(self._rows, columns=[c.lstrip("?:") for c in self.columns])


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The rows a live query begins with."""

    t: int
    rows: list[list[Any]]


@dataclasses.dataclass(frozen=True)
class Change:
    """What one transaction did to the rows of a live query."""

    t: int
    added: list[list[Any]]
    removed: list[list[Any]]


def connect(url: str, database: str, token: str | None = None, timeout: float = 65.0, context: ssl.SSLContext | None = None) -> "Database":
    """A database on a server. Nothing is sent until something is asked."""
    return Database(_Wire(url, token, timeout, context), database, {})


class _Wire:
    def __init__(self, url: str, token: str | None, timeout: float, context: ssl.SSLContext | None) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not a server address: {url!r}")
        self.parts, self.token, self.timeout, self.context = parts, token, timeout, context
        self.local = threading.local()

    def fresh(self) -> http.client.HTTPConnection:
        host, port = self.parts.hostname or "", self.parts.port
        if self.parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=self.timeout, context=self.context)
        return http.client.HTTPConnection(host, port, timeout=self.timeout)

    def headers(self, more: dict[str, str]) -> dict[str, str]:
        base = {"accept": "application/json", "user-agent": "annals-client/0.1"}
        if self.token:
            base["authorization"] = f"Bearer {self.token}"
        return {**base, **more}

    def ask(self, method: str, path: str, body: bytes | None = None, more: dict[str, str] | None = None, again: bool = True) -> Any:
        """Sends a request and reads its JSON. A connection the server closed meanwhile is replaced
        when the request may be sent twice."""
        connection = getattr(self.local, "connection", None)
        fresh = connection is None
        if connection is None:
            connection = self.local.connection = self.fresh()
        try:
            connection.request(method, path, body, self.headers(more or {}))
            response = connection.getresponse()
            data = response.read()
        except (http.client.HTTPException, OSError):
            connection.close()
            self.local.connection = None
            if fresh or not again:
                raise
            return self.ask(method, path, body, more, again=False)
        document = json.loads(data) if data else None
        if response.status >= 400:
            raise Problem(response.status, document if isinstance(document, dict) else {})
        return document


class Database:
    """A database, or a view of it at another time.

    What a view cannot answer for, as a transaction or a history of its own, raises ``ValueError`` before anything is sent.
    """

    def __init__(self, wire: _Wire, name: str, view: dict[str, Any]) -> None:
        self._wire, self.name, self._view = wire, name, view

    def close(self) -> None:
        """Closes this thread's connection; the next request opens another."""
        connection = getattr(self._wire.local, "connection", None)
        if connection is not None:
            connection.close()
            self._wire.local.connection = None

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _path(self, rest: str, **params: Any) -> str:
        query = urllib.parse.urlencode({k: v for k, v in params.items() if v is not None})
        return f"/v1/db/{urllib.parse.quote(self.name)}{rest}" + (f"?{query}" if query else "")

    def _post(self, rest: str, body: Any, again: bool = True, **headers: str) -> Any:
        data = body.encode() if isinstance(body, str) else json.dumps(body, allow_nan=False).encode()
        kind = "application/edn" if isinstance(body, str) else "application/json"
        return self._wire.ask("POST", self._path(rest), data, {"content-type": kind, **headers}, again)

    # Views

    def as_of(self, point: TimePoint) -> "Database":
        """The database as it was right after a t, a transaction, or at an instant."""
        return Database(self._wire, self.name, {**self._view, "as_of": _point(point)})

    def since(self, point: TimePoint) -> "Database":
        """Only what was asserted after a point in time."""
        return Database(self._wire, self.name, {**self._view, "since": _point(point)})

    def history(self) -> "Database":
        """Assertions and retractions instead of what holds."""
        return Database(self._wire, self.name, {**self._view, "history": True})

    def _needs(self, what: str, *allowed: str) -> None:
        """Refuses what would pass over the view, rather than to answer of another time."""
        wrong = [name for name in self._view if name not in allowed]
        if wrong:
            raise ValueError(f"{what} is not for a view with {', '.join(wrong)}: ask the database itself")

    # Questions

    def basis_t(self) -> int:
        """The newest transaction."""
        return int(self._wire.ask("GET", self._path(""))["basis-t"])

    def query(self, query: str, *args: Any, rules: str | None = None, min_t: int | None = None, timeout_ms: int | None = None, limit: int | None = None) -> Any:
        """Rows of a relation or collection as :class:`Rows` or a list; a tuple, scalar or map as itself, or None."""
        body: dict[str, Any] = {"query": query, "args": [to_json(a) for a in args], **self._view}
        for name, value in (("rules", rules), ("min_t", min_t), ("timeout_ms", timeout_ms), ("limit", limit)):
            if value is not None:
                body[name] = value
        answer = self._post("/query", body)
        if answer["shape"] == "rel":
            return Rows(answer["columns"], answer["rows"], answer["basis-t"])
        return answer["rows"]

    def pull(self, pattern: str, entity: Any) -> dict[str, Any]:
        """A tree of what an entity says. ``entity`` is an id, ``":ident"`` or ``("order/id", "A-1")``."""
        self._needs("pull", "as_of")
        body = {"pattern": pattern, "entity": _entity(entity)}
        if "as_of" in self._view:
            body["as_of"] = self._view["as_of"]
        return self._post("/pull", body)["entity"]

    def diff(self, query: str, t1: TimePoint, t2: TimePoint | None = None, *args: Any) -> tuple[list[Any], list[Any]]:
        """Rows gained and lost between two times, each ``{"row": …, "t": …}``."""
        self._needs("diff")
        body: dict[str, Any] = {"query": query, "args": [to_json(a) for a in args], "t1": _point(t1)}
        if t2 is not None:
            body["t2"] = _point(t2)
        answer = self._post("/diff", body)
        return answer["added"], answer["removed"]

    def entity_history(self, entity: Any, attr: str | None = None) -> list[dict[str, Any]]:
        """The values an entity had, each with the times it held."""
        self._needs("entity_history")
        eid = _entity(entity)
        text = f'[{eid[0]} {json.dumps(eid[1])}]' if isinstance(eid, list) else str(eid)
        return self._wire.ask("GET", self._path(f"/entity/{urllib.parse.quote(text, safe='')}/history", attr=attr))["values"]

    def log(self, start: int = 0, end: int | None = None) -> Iterator[dict[str, Any]]:
        """Transactions ``[start, end)``, page by page."""
        self._needs("log")
        at: int | None = start
        while at is not None:
            page = self._wire.ask("GET", self._path("/log", **{"from": at, "to": end}))
            yield from page["transactions"]
            at = page.get("next")

    def schema(self) -> dict[str, Any]:
        """Attributes and idents."""
        self._needs("schema", "as_of")
        return self._wire.ask("GET", self._path("/schema", as_of=self._view.get("as_of")))

    # Changes

    def transact(self, tx: str | Sequence[Any], key: str | None = None) -> Report:
        """Makes a transaction, from EDN text or a list of maps and lists. With a ``key`` it may be sent again."""
        self._needs("transact")
        headers = {"idempotency-key": key} if key else {}
        answer = self._post("/transact", tx if isinstance(tx, str) else to_tx(list(tx)), again=key is not None, **headers)
        return Report(answer["t"], answer["tx-instant"], answer["tempids"], answer["datoms"], answer.get("replayed", False))

    def with_(self, tx: str | Sequence[Any]) -> dict[str, Any]:
        """What a transaction would do; nothing is written."""
        self._needs("with_")
        return self._post("/with", tx if isinstance(tx, str) else to_tx(list(tx)))

    # Events and commands

    def append(self, stream: str, events: Sequence[dict[str, Any]], expected: int | str = "any") -> dict[str, Any]:
        """Appends events ``{"type", "data", …}`` to a stream that is at the version ``expected``, or ``any``, ``none``, ``exists``."""
        self._needs("append")
        return self._post("/append", {"writes": [{"stream": stream, "expected": expected, "events": list(events)}]}, again=False)

    def command(self, category: str, type: str, payload: Any = None, id: str | None = None, key: str | None = None, if_version: int | None = None) -> dict[str, Any]:
        """Asks the domain to do something. With a ``key`` it happens once, however often it is sent."""
        self._needs("command")
        body = {"category": category, "type": type, "payload": payload, "id": id, "if_version": if_version}
        headers = {"idempotency-key": key} if key else {}
        return self._post("/commands", {k: v for k, v in body.items() if v is not None}, again=key is not None, **headers)

    def command_status(self, key: str, wait: str | None = None) -> dict[str, Any]:
        """What came of a command: ``status`` is accepted, running, done, rejected or failed. ``wait="5s"`` waits for the end."""
        return self._wire.ask("GET", self._path(f"/commands/{urllib.parse.quote(key, safe='')}", wait=wait))

    def why(self, entity: Any, attr: str) -> list[dict[str, Any]]:
        """For each value of an attribute: its transaction, and the events, projection and commands behind it."""
        self._needs("why", "as_of")
        eid = _entity(entity)
        text = f"[{eid[0]} {json.dumps(eid[1])}]" if isinstance(eid, list) else str(eid)
        quote = lambda t: urllib.parse.quote(t, safe="")
        return self._wire.ask("GET", self._path(f"/facts/{quote(text)}/{quote(attr)}/why", as_of=self._view.get("as_of")))["facts"]

    # Live

    def changes(self, after: int | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Every transaction after ``after`` (default: from now on), for as long as one reads."""
        self._needs("changes")
        path = self._path("/changes", after=after)
        for event, ident, data in self._events("GET", path, None):
            if event == "transaction":
                yield ident, data

    def subscribe(self, query: str, *args: Any, after: int | None = None) -> Iterator[Snapshot | Change]:
        """A live query: its rows (unless resumed ``after`` a t), then what each transaction changes."""
        self._needs("subscribe")
        body = json.dumps({"query": query, "args": [to_json(a) for a in args]}, allow_nan=False).encode()
        for event, ident, data in self._events("POST", self._path("/subscribe", after=after), body):
            if event == "snapshot":
                yield Snapshot(ident, data["rows"])
            elif event == "change":
                yield Change(ident, data["added"], data["removed"])

    def _events(self, method: str, path: str, body: bytes | None) -> Iterator[tuple[str, int, Any]]:
        connection = self._wire.fresh()
        more = {"accept": "text/event-stream"}
        if body is not None:
            more["content-type"] = "application/json"
        try:
            connection.request(method, path, body, self._wire.headers(more))
            response = connection.getresponse()
            if response.status >= 400:
                raise Problem(response.status, json.loads(response.read() or b"{}"))
            event, ident, data = "message", 0, []
            for raw in response:
                line = raw.decode().rstrip("\n")
                if not line:
                    if data:
                        document = json.loads("\n".join(data))
                        if event == "problem":
                            raise Problem(document.get("status", 500), document)
                        yield event, ident, document
                    event, data = "message", []
                elif line.startswith("id: "):
                    ident = int(line[4:])
                elif line.startswith("event: "):
                    event = line[7:]
                elif line.startswith("data: "):
                    data.append(line[6:])
        finally:
            connection.close()


def _point(point: TimePoint) -> int | str:
    if isinstance(point, dt.datetime):
        if point.tzinfo is None:
            raise ValueError("a datetime needs a time zone")
        return point.astimezone(dt.timezone.utc).isoformat().replace("+00:00", "Z")
    return point


def _entity(entity: Any) -> Any:
    if isinstance(entity, tuple):
        attr, value = entity
        return [attr if attr.startswith(":") else f":{attr}", to_json(value)]
    if isinstance(entity, str) and not isinstance(entity, Keyword):
        return entity if entity.startswith(":") else f":{entity}"
    return entity
