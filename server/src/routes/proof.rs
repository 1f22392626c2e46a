//! `POST …/prove`, `/why-not` and `/plan`: what an answer rests on, what keeps a row out of
//! it, and what a query would do.
//!
//! 1. A row is written as answers show it. JSON and EDN show a reference as a number, so a
//!    whole number is tried as itself and, where an entity can have it, as that entity; what
//!    explains more is told.
//! 2. Values in a proof carry their type where a number may be a reference.
//! 3. A proof is drawn to a bounded number of levels; below, the number of steps left out stands.
//! 4. `/plan` runs nothing.

use crate::{
    answer::Answer,
    ask::Ask,
    call::Call,
    routes::{examine::examined, query::nested, transact::datom},
    wire::{
        problem::{Class, Problem},
        tree::{Doc, Tree},
    },
};
use annals::{EntityId, Missing, Proof, ProofStep, Schema, Value};

/// Levels of a proof that are told: readers bound the depth of what they read.
const DEEPEST: usize = 48;
/// Steps of a proof that are told.
const MOST: usize = 10_000;

/// The row a request asks about, as it is and with its whole numbers as entities.
fn rows(ask: &Ask) -> Result<Vec<Vec<Value>>, Problem> {
    let row = ask.row.clone().ok_or_else(|| {
        Problem::new(Class::Syntax, "request/member", "member \"row\" is missing")
            .hint("one value for each element of :find, as the answer shows them")
    })?;
    let entity = |v: &Value| match v {
        Value::Long(n) => match u64::try_from(*n).map(EntityId::from_raw) {
            Ok(e) if e.partition().is_some() => Value::Ref(e),
            _ => v.clone(),
        },
        v => v.clone(),
    };
    let as_entities: Vec<Value> = row.iter().map(entity).collect();
    Ok(if as_entities == row { vec![row] } else { vec![as_entities, row] })
}

/// `POST …/prove` `{query, args, rules, as_of, row}`: why a row is in the answer.
pub async fn prove(call: Call) -> Answer {
    examined(call, |asked, doc| {
        let options = asked.options();
        for row in &rows(&asked.ask)? {
            let proof = asked.db.prove_with(&asked.query, asked.inputs(), row, &options);
            if let Some(proof) = proof.map_err(|e| asked.refused(e))? {
                let mut left = MOST;
                return Ok(doc
                    .with("row", Value::vector(row.iter().cloned()))
                    .with("because", because(&proof, asked.db.schema(), 0, &mut left)));
            }
        }
        Err(Problem::new(Class::NotFound, "query/no-such-row", "the row is not in the answer")
            .hint("ask /why-not for the clause that keeps it out"))
    })
    .await
}

/// `POST …/why-not` `{query, args, rules, as_of, row}`: the clause that keeps a row out.
pub async fn why_not(call: Call) -> Answer {
    examined(call, |asked, doc| {
        let options = asked.options();
        let mut furthest: Option<Missing> = None;
        let mut present = false;
        for row in &rows(&asked.ask)? {
            let found = asked.db.why_not_with(&asked.query, asked.inputs(), row, &options);
            match found.map_err(|e| asked.refused(e))? {
                None => present = true,
                Some(m) if furthest.as_ref().is_none_or(|f| m.satisfied.len() > f.satisfied.len()) => {
                    furthest = Some(m);
                }
                Some(_) => {}
            }
        }
        let doc = doc.with("present", present);
        Ok(match furthest.filter(|_| !present) {
            None => doc,
            Some(m) => missing(doc, &m, asked.ask.query.offset),
        })
    })
    .await
}

fn missing(doc: Doc, m: &Missing, offset: usize) -> Doc {
    doc.with("clause", m.clause.as_str())
        .with("span", Doc::new().with("start", m.span.start + offset).with("end", m.span.end + offset))
        .with("rows-before", m.rows_before)
        .with("satisfied", m.satisfied.iter().map(|c| Tree::from(c.as_str())).collect::<Tree>())
}

/// `POST …/plan` `{query, args, rules, as_of}`: the steps a query would take. Nothing is run.
pub async fn plan(call: Call) -> Answer {
    examined(call, |asked, doc| {
        let plan = asked.db.explain_with(&asked.query, asked.inputs(), &asked.options());
        let plan = plan.map_err(|e| asked.refused(e))?;
        let steps: Vec<(u32, Doc)> = plan
            .steps
            .iter()
            .map(|s| {
                let doc =
                    Doc::new().with("op", s.how).with("detail", &*s.clause).with("expected", s.estimated);
                (s.depth, doc)
            })
            .collect();
        Ok(doc.with("text", plan.to_string()).with("plan", nested(&steps)))
    })
    .await
}

fn because(p: &Proof, schema: &Schema, depth: usize, left: &mut usize) -> Tree {
    let mut steps = Vec::new();
    for (i, step) in p.steps.iter().enumerate() {
        if depth >= DEEPEST || *left == 0 {
            steps.push(Doc::new().with("left-out", p.steps.len() - i));
            break;
        }
        *left -= 1;
        steps.push(self::step(step, schema, depth, left));
    }
    Tree::from_iter(steps)
}

fn step(s: &ProofStep, schema: &Schema, depth: usize, left: &mut usize) -> Doc {
    match s {
        ProofStep::Fact { clause, datom: d } => {
            Doc::new().with("clause", clause.as_str()).with("fact", datom(d, schema))
        }
        ProofStep::Test { clause, bindings } => {
            let one = |(name, v): &(String, Value)| {
                Doc::new().with("name", name.as_str()).with("value", v.clone()).with("type", v.kind())
            };
            Doc::new()
                .with("clause", clause.as_str())
                .with("bindings", bindings.iter().map(one).collect::<Tree>())
        }
        ProofStep::Absent { clause } => Doc::new().with("clause", clause.as_str()).with("absent", true),
        ProofStep::Branch { rule, clause, proof } => Doc::new()
            .with("clause", clause.as_str())
            .maybe("rule", rule.as_deref())
            .with("because", because(proof, schema, depth + 1, left)),
        ProofStep::Rule { name, args, proof } => Doc::new()
            .with("rule", name.as_str())
            .with("args", Value::vector(args.iter().cloned()))
            .with("types", args.iter().map(|v| Tree::from(v.kind())).collect::<Tree>())
            .with("because", because(proof, schema, depth + 1, left)),
    }
}
