//! The OpenAPI 3.1 document, made of the route table and the schemas of `schema`.
//!
//! 1. Every route and method of the table is in it, and nothing else.
//! 2. What a grammar of ours says (EDN, queries) is a string here: a document can be
//!    right by its schema and be refused, with 400 or 422.

mod schema;

use schema::{edn_example, example, header as header_schema, parameter, schemas};

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
            "id" if path.contains("/entity/") => json!({"type": "string", "minLength": 1, "maxLength": 400}),
            "verb" => json!({"enum": crate::routes::projections::VERBS}),
            _ => parameter("name"),
        };
        parameters.push(
            json!({"name": name.trim_start_matches('*'), "in": "path", "required": true, "schema": schema}),
        );
    }
    for (name, kind, meaning) in &o.params {
        parameters.push(
            json!({"name": name, "in": "query", "required": false, "description": meaning, "schema": parameter(kind)}),
        );
    }
    for (name, meaning) in &o.headers {
        parameters.push(json!({"name": name, "in": "header", "required": false, "description": meaning, "schema": header_schema(name)}));
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
        let mut content = json!({
            "application/edn": {"schema": {"type": "string", "minLength": 1}, "example": edn_example(name)},
        });
        // A projection is written in EDN alone.
        if name != "Projection" {
            content["application/json"] =
                json!({"schema": {"$ref": format!("#/components/schemas/{name}")}, "example": example(name)});
        }
        doc["requestBody"] = json!({"required": true, "content": content});
    }
    doc
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
