//! The OpenAPI 3.1 document, made of the route table and the schemas below.

use crate::{
    routes::{self, Operation},
    wire::problem::Class,
};
use serde_json::{Map, Value as Json, json};
use std::sync::LazyLock;

/// The document.
pub fn document() -> &'static Json {
    static DOCUMENT: LazyLock<Json> = LazyLock::new(build);
    &DOCUMENT
}

fn build() -> Json {
    let mut paths = Map::new();
    for route in routes::table() {
        let mut item = Map::new();
        for operation in &route.operations {
            item.insert(operation.method.to_owned(), describe(route.path, operation));
        }
        if !item.is_empty() {
            let path = route.path.replace("{*", "{");
            paths.insert(path, Json::Object(item));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Annals",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A temporal fact database over HTTP. Bodies and answers are EDN or JSON by content type; every answer names its basis in X-Basis-T; every failure is a problem document with a stable code.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "annals_<id>_<secret>; not needed on a server without tokens"}},
        },
        "security": [{"token": []}, {}],
    })
}

fn describe(path: &str, o: &Operation) -> Json {
    let mut parameters = Vec::new();
    for name in path.split('/').filter_map(|p| p.strip_prefix('{')?.strip_suffix('}')) {
        let schema = match name {
            "name" => json!({"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$"}),
            _ => json!({"type": "string", "minLength": 1}),
        };
        parameters.push(
            json!({"name": name.trim_start_matches('*'), "in": "path", "required": true, "schema": schema}),
        );
    }
    for (name, kind, meaning) in &o.params {
        let schema = match *kind {
            "integer" => json!({"type": "integer", "minimum": 0}),
            kind => json!({"type": kind}),
        };
        parameters.push(
            json!({"name": name, "in": "query", "required": false, "description": meaning, "schema": schema}),
        );
    }
    for (name, meaning) in &o.headers {
        parameters.push(json!({"name": name, "in": "header", "required": false, "description": meaning, "schema": {"type": "string"}}));
    }
    let mut responses = Map::new();
    for status in &o.ok {
        let mut response = json!({
            "description": match status { 201 => "Created.", 202 => "Accepted.", 204 => "Done.", 304 => "Not modified.", _ => "The answer." },
            "headers": {
                "X-Basis-T": {"description": "The transaction the answer is based on.", "schema": {"type": "integer"}},
                "X-Request-Id": {"schema": {"type": "string"}},
            },
        });
        if !matches!(status, 204 | 304) {
            let content: Map<String, Json> = o
                .media
                .iter()
                .map(|m| {
                    let schema = match (*m, o.answer) {
                        ("application/json", Some(name)) => {
                            json!({"$ref": format!("#/components/schemas/{name}")})
                        }
                        _ => json!({}),
                    };
                    ((*m).to_owned(), json!({"schema": schema}))
                })
                .collect();
            response["content"] = Json::Object(content);
        }
        responses.insert(status.to_string(), response);
    }
    let mut refusals = vec![400, 401, 403, 404, 406, 421, 429, 500, 503];
    if o.body.is_some() {
        refusals.extend([408, 413, 415]);
    }
    refusals.extend(&o.refusals);
    for status in refusals {
        let title = Class::ALL.into_iter().find(|c| c.status() == status).map_or("Refused", Class::title);
        responses.entry(status.to_string()).or_insert_with(|| {
            json!({
                "description": format!("{title}."),
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            })
        });
    }
    let mut doc = json!({
        "operationId": o.id,
        "summary": o.summary,
        "tags": [o.tag],
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(name) = o.body {
        doc["requestBody"] = json!({
            "required": true,
            "content": {
                "application/json": {"schema": {"$ref": format!("#/components/schemas/{name}")}, "example": example(name)},
                "application/edn": {"schema": {"type": "string"}, "example": edn_example(name)},
            },
        });
    }
    doc
}

/// A body that works on any database.
pub fn example(name: &str) -> Json {
    match name {
        "Transaction" => json!([{":db/id": "red", ":db/doc": "a colour"}]),
        "Query" => json!({"query": "[:find ?t ?at :where [?t :db/txInstant ?at]]"}),
        "Diff" => json!({"query": "[:find ?t :where [?t :db/txInstant _]]", "t1": 0, "t2": 0}),
        "Pull" => json!({"pattern": "[*]", "entity": ":db/ident"}),
        "Events" => json!([{"type": "OrderPlaced", "data": {"total": 12}}]),
        "Append" => {
            json!({"writes": [{"stream": "order-1", "expected": "any", "events": [{"type": "OrderPlaced", "data": {"total": 12}}]}]})
        }
        "Command" => json!({"category": "order", "type": "Place", "payload": {"total": 12}}),
        _ => json!({}),
    }
}

fn edn_example(name: &str) -> &'static str {
    match name {
        "Transaction" => "[{:db/id \"red\" :db/doc \"a colour\"}]",
        "Query" => "{:query [:find ?t ?at :where [?t :db/txInstant ?at]]}",
        "Diff" => "{:query [:find ?t :where [?t :db/txInstant _]] :t1 0 :t2 0}",
        "Pull" => "{:pattern [*] :entity :db/ident}",
        "Events" => "[{:type \"OrderPlaced\" :data {:total 12}}]",
        "Append" => "{:writes [{:stream \"order-1\" :events [{:type \"OrderPaid\" :data {:total 12}}]}]}",
        _ => "{}",
    }
}

fn schemas() -> Json {
    let time = json!({"description": "a t, a transaction's id, or a date-time", "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]});
    let count = json!({"type": "integer", "minimum": 0});
    let any = json!({});
    let list = |items: Json| json!({"type": "array", "items": items});
    let object = |required: &[&str], properties: Json| json!({"type": "object", "required": required, "properties": properties});
    let query = json!({
        "query": {"type": "string", "description": "EDN"},
        "args": {"type": "array", "description": "inputs in the order of :in, without $ and %"},
        "args_edn": {"type": "string", "description": "the same as one EDN vector"},
        "rules": {"type": "string", "description": "EDN, for %"},
        "as_of": time, "since": time, "history": {"type": "boolean"},
        "min_t": count, "min_position": count, "wait": {"anyOf": [{"type": "string"}, count]},
        "timeout_ms": count, "limit": count, "types": {"type": "boolean"}, "exact": {"type": "boolean"},
    });
    let mut diff = query.clone();
    diff["t1"] = time.clone();
    diff["t2"] = time.clone();
    let closed = |required: &[&str], properties: Json| json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false});
    json!({
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
        "Pull": closed(&["pattern", "entity"], json!({"pattern": {"type": "string", "description": "EDN"}, "entity": {"description": "an id, \":ident\", or [\":unique/attr\", value]"}, "as_of": time, "min_t": count})),
        "Rows": object(&["basis-t", "shape", "rows"], json!({"basis-t": count, "shape": {"enum": ["rel", "coll", "tuple", "scalar", "maps"]}, "columns": list(json!({"type": "string"})), "types": list(json!({"type": "string"})), "rows": any})),
        "Pulled": object(&["basis-t", "entity"], json!({"basis-t": count, "entity": any})),
        "Difference": object(&["basis-t", "added", "removed"], json!({"basis-t": count, "t1": count, "t2": count, "columns": list(any.clone()), "added": list(any.clone()), "removed": list(any.clone())})),
        "Plan": object(&["basis-t", "text"], json!({"basis-t": count, "text": {"type": "string"}})),
        "Datoms": object(&["basis-t", "datoms"], json!({"basis-t": count, "datoms": list(any.clone()), "next-offset": count})),
        "Log": object(&["basis-t", "transactions"], json!({"basis-t": count, "transactions": list(object(&["t", "tx-instant", "datoms"], json!({"t": count}))), "next": count})),
        "Entity": object(&["basis-t", "e", "entity"], json!({"basis-t": count, "e": count, "entity": {"type": "object"}})),
        "History": object(&["basis-t", "e", "values", "changes"], json!({"basis-t": count, "e": count, "values": list(any.clone()), "changes": list(any.clone())})),
        "Schema": object(&["basis-t", "attributes", "idents"], json!({"basis-t": count, "attributes": list(object(&["ident", "type", "cardinality"], json!({}))), "idents": list(json!({"type": "string"}))})),
        "Streams": object(&["basis-t", "streams"], json!({"basis-t": count, "streams": list(object(&["stream", "version"], json!({"stream": {"type": "string"}, "version": count})))})),
        "Events": {"anyOf": [list(object(&["type"], json!({"id": {"type": "string"}, "type": {"type": "string"}, "data": any, "tags": list(json!({"type": "string"})), "meta": {"type": "object"}}))), {"type": "object"}]},
        "Append": object(&["writes"], json!({"writes": list(object(&["stream", "events"], json!({"stream": {"type": "string"}, "expected": any, "events": list(any.clone())}))), "conditions": list(any.clone()), "facts": any, "tracking": {"type": "object"}})),
        "Appended": object(&["basis-t", "t", "first", "last", "replayed"], json!({"basis-t": count, "t": count, "first": count, "last": count, "version": count, "versions": {"type": "object"}, "replayed": {"type": "boolean"}})),
        "Projections": object(&["basis-t", "projections", "head"], json!({"basis-t": count, "head": count, "projections": list(any.clone())})),
        "Timeline": object(&["basis-t", "buckets"], json!({"basis-t": count, "buckets": list(any.clone())})),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_is_defined_and_every_id_unique() {
        let doc = document();
        let text = doc.to_string();
        for name in text.split("#/components/schemas/").skip(1).map(|p| p.split('"').next().unwrap()) {
            assert!(doc["components"]["schemas"].get(name).is_some(), "{name}");
        }
        let mut ids = std::collections::BTreeSet::new();
        for item in doc["paths"].as_object().unwrap().values() {
            for o in item.as_object().unwrap().values() {
                assert!(ids.insert(o["operationId"].as_str().unwrap().to_owned()));
            }
        }
        assert!(ids.len() > 10);
    }
}
