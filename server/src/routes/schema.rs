//! `GET /v1/db/{name}/schema`: attributes and idents, as of any time.

use crate::{
    answer::{self, Answer},
    ask,
    call::Call,
    failure::OrProblem,
    token::Scope,
    wire::tree::{Doc, Tree},
};
use annals::{Attribute, Cardinality, Schema, TupleKind, Unique, Value};
use axum::http::StatusCode;

/// The route.
pub async fn schema(mut call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    let params = std::mem::take(&mut call.params).only(&["as_of", "counts", "names"])?;
    let counts = params.flag("counts")?;
    let names = params.flag("names")?;
    let format = call.accept_tree(None)?;
    let (basis, doc) = call
        .server
        .readers
        .run(move |_| {
            let db = ask::view(database.conn.db(), &params)?;
            let schema = db.schema();
            let mut attributes = Vec::new();
            for a in schema.attributes() {
                let rows = match counts {
                    true => Some(db.count("aevt", &[Value::Keyword(a.ident.clone())]).or_problem()?),
                    false => None,
                };
                attributes.push({
                    let flag = |set: bool| set.then_some(true);
                    Doc::new()
                        .with("ident", Value::Keyword(a.ident.clone()))
                        .with("id", Value::Ref(a.id.entity()))
                        .with("type", a.value_type.name())
                        .with(
                            "cardinality",
                            match a.cardinality {
                                Cardinality::One => "one",
                                Cardinality::Many => "many",
                            },
                        )
                        .maybe(
                            "unique",
                            a.unique.map(|u| match u {
                                Unique::Value => "value",
                                Unique::Identity => "identity",
                            }),
                        )
                        .maybe("index", flag(a.index))
                        .maybe("component", flag(a.is_component))
                        .maybe("no-history", flag(a.no_history))
                        .maybe(
                            "tuple-attrs",
                            slots(a, |kind| match kind {
                                TupleKind::Composite(attrs) => {
                                    Some(attrs.iter().map(|a| Value::Ref(a.entity())).collect())
                                }
                                _ => None,
                            }),
                        )
                        .maybe(
                            "tuple-types",
                            slots(a, |kind| match kind {
                                TupleKind::Heterogeneous(types) => {
                                    Some(types.iter().map(|t| t.name()).collect())
                                }
                                _ => None,
                            }),
                        )
                        .maybe(
                            "tuple-type",
                            slots(a, |kind| match kind {
                                TupleKind::Homogeneous(ty) => Some(ty.name().into()),
                                _ => None,
                            }),
                        )
                        .maybe(
                            "preds",
                            (!a.preds.is_empty())
                                .then(|| a.preds.iter().map(|k| Value::Keyword(k.clone())).collect::<Tree>()),
                        )
                        .maybe("doc", a.doc.as_deref())
                        .maybe("rows", rows)
                });
            }
            let idents: Tree = schema
                .idents()
                .filter(|(_, e)| schema.attribute_of(*e).is_none())
                .filter(|(k, _)| !k.namespace().is_some_and(|ns| ns == "db" || ns.starts_with("db.")))
                .map(|(k, _)| Tree::Value(Value::Keyword(k.clone())))
                .collect();
            Ok((
                db.t(),
                Doc::new()
                    .with("basis-t", db.t())
                    .with("attributes", Tree::from_iter(attributes))
                    .with("idents", idents)
                    .maybe("names", names.then(|| all_names(schema))),
            ))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, basis, doc))
}

/// What a tuple attribute is made of.
fn slots(a: &Attribute, of: impl Fn(&TupleKind) -> Option<Tree>) -> Option<Tree> {
    a.tuple.as_ref().and_then(of)
}

/// Every name, former ones included, with its entity; of one entity the present name last.
fn all_names(schema: &Schema) -> Tree {
    let mut names: Vec<_> = schema.idents().collect();
    names.sort_by_key(|(k, e)| schema.ident(*e) == Some(*k));
    names.into_iter().map(|(k, e)| Tree::from_iter([Value::Keyword(k.clone()), Value::Ref(e)])).collect()
}
