//! The schemas of bodies, answers, parameters and headers, with examples.

use serde_json::{Value as Json, json};

/// The schema of a parameter in a URL, by its kind in the route table.
pub(super) fn parameter(kind: &str) -> Json {
    match kind {
        "integer" => count(),
        // `?counts` is the same as `?counts=true`.
        "boolean" => json!({"enum": ["true", "false", ""]}),
        "time" => time(),
        "duration" => json!({"type": "string", "pattern": "^[0-9]{1,9}(ms|s|m)?$"}),
        "edn" => json!({"type": "string", "minLength": 1, "description": "EDN"}),
        "name" => {
            json!({"type": "string", "minLength": 1, "maxLength": 400, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"})
        }
        "texts" => json!({"type": "string", "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"}),
        "names" => json!({"type": "string", "pattern": "^([A-Za-z0-9:._/-]+(,[A-Za-z0-9:._/-]+)*)?$"}),
        "index" => json!({"enum": ["eavt", "aevt", "avet", "vaet"]}),
        kind => json!({"type": kind}),
    }
}

/// The schema of a request header.
pub(super) fn header(name: &str) -> Json {
    match name {
        "If-Match" => json!({"type": "string", "pattern": "^(\\*|\"v[0-9]{1,15}\")$"}),
        "If-None-Match" => json!({"enum": ["*"]}),
        "Last-Event-ID" => json!({"type": "string", "pattern": "^[0-9]{1,15}$"}),
        "Idempotency-Key" => json!({"type": "string", "pattern": "^[!-~]{1,200}$"}),
        // Preferences that mean nothing here are passed over, as RFC 7240 wants it.
        _ => json!({"type": "string"}),
    }
}

/// A number that JSON holds exactly.
fn count() -> Json {
    json!({"type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991_u64})
}

/// A t, a transaction's id, or a date-time, as text.
fn time() -> Json {
    json!({
        "description": "a t, a transaction's id, or a date-time",
        "type": "string",
        "pattern": "^([0-9]{1,15}|[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])(T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z)?)$",
    })
}

/// A body that works on any database.
pub(super) fn example(name: &str) -> Json {
    match name {
        "Transaction" => json!([{":db/id": "red", ":db/doc": "a colour"}]),
        "Query" => json!({"query": "[:find ?t ?at :where [?t :db/txInstant ?at]]"}),
        "Diff" => json!({"query": "[:find ?t :where [?t :db/txInstant _]]", "t1": 0, "t2": 0}),
        "Pull" => json!({"pattern": "[*]", "entity": ":db/ident"}),
        "Events" => json!([{"type": "OrderPlaced", "data": {"total": 12}}]),
        "Append" => {
            json!({"writes": [{"stream": "order-1", "expected": "any", "events": [{"type": "OrderPlaced", "data": {"total": 12}}]}]})
        }
        "Row" => json!({"query": "[:find ?i :where [?e :db/ident ?i]]", "row": [":db/ident"]}),
        "Copy" => {
            json!({"to": "order-10", "types": ["OrderPlaced"], "rename": {"OrderPlaced": "OrderReceived"}})
        }
        "Skip" => json!({"position": 1, "why": "recorded by mistake"}),
        "Restore" => json!({"as": "orders-last-week"}),
        "Command" => json!({"category": "order", "type": "Place", "payload": {"total": 12}}),
        _ => json!({}),
    }
}

pub(super) fn edn_example(name: &str) -> &'static str {
    match name {
        "Transaction" => "[{:db/id \"red\" :db/doc \"a colour\"}]",
        "Query" => "{:query [:find ?t ?at :where [?t :db/txInstant ?at]]}",
        "Diff" => "{:query [:find ?t :where [?t :db/txInstant _]] :t1 0 :t2 0}",
        "Pull" => "{:pattern [*] :entity :db/ident}",
        "Projection" => {
            "{:projection/name :arrivals :projection/version 1 :projection/schema [{:db/ident :arrival/order :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}] :projection/on [{:event \"OrderArrived\" :assert [{:arrival/order $stream.key}]}]}"
        }
        "Row" => "{:query [:find ?i :where [?e :db/ident ?i]] :row [:db/ident]}",
        "Copy" => "{:to \"order-10\" :types [\"OrderPlaced\"]}",
        "Skip" => "{:position 1 :why \"recorded by mistake\"}",
        "Restore" => "{:as \"orders-last-week\"}",
        "Command" => "{:category \"order\" :type \"Place\" :payload {:total 12}}",
        "Events" => "[{:type \"OrderPlaced\" :data {:total 12}}]",
        "Append" => "{:writes [{:stream \"order-1\" :events [{:type \"OrderPaid\" :data {:total 12}}]}]}",
        _ => "{}",
    }
}

pub(super) fn schemas() -> Json {
    // Of a time that is yet to come the newest is meant, however far it is.
    let time = json!({"anyOf": [{"type": "integer", "minimum": 0, "maximum": i64::MAX}, time()]});
    let count = count();
    let edn = json!({"type": "string", "minLength": 1, "description": "EDN"});
    // A member that is null is as good as one that is not there.
    let maybe = |of: &Json| json!({"anyOf": [of, {"type": "null"}]});
    let flag = json!({"type": "boolean"});
    let any = json!({});
    let list = |items: Json| json!({"type": "array", "items": items});
    let object = |required: &[&str], properties: Json| json!({"type": "object", "required": required, "properties": properties});
    let query = json!({
        "query": edn,
        "args": {"type": ["array", "null"], "description": "inputs in the order of :in, without $ and %"},
        "args_edn": {"type": ["string", "null"], "minLength": 2, "description": "the same as one EDN vector"},
        "rules": {"type": ["string", "null"], "minLength": 2, "description": "EDN, for %"},
        "as_of": maybe(&time), "since": maybe(&time), "history": maybe(&flag),
        "min_t": maybe(&count), "min_position": maybe(&count), "wait": {"anyOf": [parameter("duration"), {"type": "integer", "minimum": 0, "maximum": 60_000}, {"type": "null"}]},
        "timeout_ms": maybe(&count), "limit": maybe(&count), "types": maybe(&flag), "exact": maybe(&flag),
    });
    let mut row = query.clone();
    row["row"] = json!({"type": "array", "description": "one value for each element of :find, as the answer shows it"});
    let mut diff = query.clone();
    diff["t1"] = time.clone();
    diff["t2"] = maybe(&time);
    let closed = |required: &[&str], properties: Json| json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false});
    let mut all = json!({
        "Problem": object(&["type", "title", "status", "code", "detail"], json!({
            "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
            "code": {"type": "string", "description": "stable, for programs"}, "detail": {"type": "string"},
            "retryable": {"type": "boolean"}, "hint": {"type": "string"}, "path": {"type": "string"},
            "span": object(&["start", "end"], json!({"start": count, "end": count})),
            "of": {"type": "string", "description": "what the span points into"},
            "errors": list(json!({"type": "object"})),
            "basis-t": count, "actual_version": count, "witness": list(count.clone()),
        })),
        "Status": object(&["status"], json!({"status": {"type": "string"}, "version": {"type": "string"}})),
        "Limits": {"type": "object"},
        "Databases": object(&["databases"], json!({"databases": list(object(&["name", "basis-t"], json!({"name": {"type": "string"}, "basis-t": count}))), "open": {"type": "boolean"}})),
        "Database": object(&["name", "basis-t"], json!({"name": {"type": "string"}, "basis-t": count})),
        "Transaction": {"anyOf": [
            {"type": "array", "items": {"anyOf": [{"type": "object"}, {"type": "array"}]}},
            object(&["tx"], json!({"tx": {"type": "array"}})),
        ]},
        "Report": object(&["basis-t", "t", "tx-instant", "tempids", "datoms"], json!({
            "basis-t": count, "t": count, "tx": count, "tx-instant": {"type": "string"},
            "tempids": {"type": "object", "additionalProperties": count}, "datoms": count,
            "tx-data": list(any.clone()), "replayed": {"type": "boolean"}, "speculative": {"type": "boolean"},
        })),
        "Query": closed(&["query"], query),
        "Diff": closed(&["query", "t1"], diff),
        "Row": closed(&["query", "row"], row),
        "Proof": object(&["basis-t", "row", "because"], json!({"basis-t": count, "row": list(any.clone()), "because": list(json!({"type": "object"}))})),
        "WhyNot": object(&["basis-t", "present"], json!({"basis-t": count, "present": flag, "clause": {"type": "string"}, "span": {"type": "object"}, "rows-before": count, "satisfied": list(json!({"type": "string"}))})),
        "Copy": closed(&["to"], json!({"to": parameter("name"), "types": {"anyOf": [list(json!({"type": "string", "minLength": 1})), {"type": "null"}]}, "rename": {"anyOf": [{"type": "object", "additionalProperties": {"type": "string", "minLength": 1}}, {"type": "null"}]}})),
        "Preview": object(&["basis-t", "name", "events", "n-added", "n-removed", "same", "added", "removed", "refused"], json!({"basis-t": count, "name": {"type": "string"}, "live": count, "events": count, "n-added": count, "n-removed": count, "same": count, "added": list(json!({"type": "object"})), "removed": list(json!({"type": "object"})), "refused": list(json!({"type": "object"}))})),
        "Erased": object(&["basis-t", "events", "facts", "snapshots"], json!({"basis-t": count, "events": count, "facts": count, "snapshots": count, "t": count, "elsewhere": list(any.clone()), "processes": list(json!({"type": "string"})), "elsewhere-rows": list(json!({"type": "string"})), "elsewhere-events": list(count.clone())})),
        "Pull": closed(&["pattern", "entity"], json!({"pattern": edn, "entity": {"description": "an id, \":ident\", or [\":unique/attr\", value]", "anyOf": [{"type": "integer", "minimum": 0, "maximum": i64::MAX}, {"type": "string", "pattern": "^:[a-z]+(/[a-z]+)?$"}, {"type": "array", "minItems": 2, "maxItems": 2, "prefixItems": [{"type": "string", "pattern": "^:[a-z]+(/[a-z]+)?$"}]}]}, "as_of": maybe(&time), "min_t": maybe(&count)})),
        "Rows": object(&["basis-t", "shape", "rows"], json!({"basis-t": count, "shape": {"enum": ["rel", "coll", "tuple", "scalar", "maps", "map"]}, "columns": list(json!({"type": "string"})), "types": list(json!({"type": "string"})), "rows": any})),
        "Pulled": object(&["basis-t", "entity"], json!({"basis-t": count, "entity": any})),
        "Difference": object(&["basis-t", "added", "removed"], json!({"basis-t": count, "t1": count, "t2": count, "columns": list(any.clone()), "added": list(any.clone()), "removed": list(any.clone())})),
        "Plan": object(&["basis-t", "text"], json!({"basis-t": count, "text": {"type": "string"}})),
        "Datoms": object(&["basis-t", "datoms"], json!({"basis-t": count, "datoms": list(any.clone()), "next-offset": count})),
        "Log": object(&["basis-t", "transactions"], json!({"basis-t": count, "transactions": list(object(&["t", "tx-instant", "datoms"], json!({"t": count}))), "next": count})),
        "Entity": object(&["basis-t", "e", "entity"], json!({"basis-t": count, "e": count, "entity": {"type": "object"}})),
        "History": object(&["basis-t", "e", "values", "changes"], json!({"basis-t": count, "e": count, "values": list(any.clone()), "changes": list(any.clone())})),
        "Schema": object(&["basis-t", "attributes", "idents"], json!({"basis-t": count, "attributes": list(object(&["ident", "type", "cardinality"], json!({}))), "idents": list(json!({"type": "string"}))})),
    });
    // In two, because a macro unfolds only so deep.
    let of_events = json!({
        "Streams": object(&["basis-t", "streams"], json!({"basis-t": count, "streams": list(object(&["stream", "version"], json!({"stream": {"type": "string"}, "version": count})))})),
        "Events": {"anyOf": [list(object(&["type"], json!({"id": {"type": "string"}, "type": {"type": "string"}, "data": any, "tags": list(json!({"type": "string"})), "meta": {"type": "object"}}))), {"type": "object"}]},
        "Append": closed(&["writes"], json!({"writes": list(object(&["stream", "events"], json!({"stream": {"type": "string"}, "expected": any, "events": list(any.clone())}))), "conditions": list(any.clone()), "facts": any, "tracking": {"type": "object"}})),
        "Command": {"anyOf": [
            closed(&["category", "type"], json!({"category": {"type": "string", "minLength": 1}, "id": parameter("name"), "type": {"type": "string", "minLength": 1}, "payload": any, "if_version": maybe(&count)})),
            closed(&["aggregateName", "type"], json!({"aggregateName": {"type": "string", "minLength": 1}, "aggregateId": parameter("name"), "type": {"type": "string", "minLength": 1}, "payload": any, "if_version": maybe(&count)})),
        ]},
        "Commanded": object(&["basis-t", "command", "status"], json!({"basis-t": count, "command": {"type": "string"}, "status": {"enum": ["accepted", "running", "done", "rejected", "failed"]}, "id": {"type": "string"}, "stream": {"type": "string"}, "version": count, "t": count, "first": count, "last": count, "events": count, "retries": count, "replayed": {"type": "boolean"}})),
        "Queued": object(&["basis-t", "commands"], json!({"basis-t": count, "commands": list(object(&["command", "category", "id", "type", "status"], json!({})))})),
        "CommandStatus": object(&["basis-t", "command", "status", "views"], json!({"basis-t": count, "command": {"type": "string"}, "status": {"enum": ["accepted", "running", "done", "rejected", "failed"]}, "t": count, "code": {"type": "string"}, "views": {"type": "object", "additionalProperties": count}})),
        "Appended": object(&["basis-t", "t", "first", "last", "replayed"], json!({"basis-t": count, "t": count, "first": count, "last": count, "version": count, "versions": {"type": "object"}, "replayed": {"type": "boolean"}})),
        "Projections": object(&["basis-t", "projections", "head"], json!({"basis-t": count, "head": count, "projections": list(any.clone())})),
        "Parked": object(&["basis-t", "parked", "skipped"], json!({"basis-t": count, "parked": list(object(&["position", "stream", "id", "type", "why"], json!({"position": count}))), "skipped": list(object(&["position", "t", "by", "why"], json!({"position": count, "t": count})))})),
        "Replayed": object(&["basis-t", "taken", "left"], json!({"basis-t": count, "taken": count, "left": list(any.clone())})),
        "Skip": closed(&["position", "why"], json!({"position": count, "why": {"type": "string", "minLength": 1}})),
        "Restore": closed(&["as"], json!({"as": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$"}, "t": maybe(&count)})),
        "Why": object(&["basis-t", "e", "attr", "facts"], json!({"basis-t": count, "e": count, "attr": {"type": "string"}, "facts": list(object(&["value", "t", "support"], json!({"t": count, "support": list(object(&["event", "chain"], json!({})))})))})),
        "Timeline": object(&["basis-t", "buckets"], json!({"basis-t": count, "buckets": list(any.clone())})),
    });
    if let (Json::Object(all), Json::Object(more)) = (&mut all, of_events) {
        all.extend(more);
    }
    all
}
