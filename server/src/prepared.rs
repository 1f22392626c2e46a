//! Queries kept ready: reading a text once serves every request that sends it.

use crate::{
    ask::{Ask, Text, syntax},
    wire::problem::Problem,
};
use annals::{Input, Query, Value};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};

/// Texts remembered at a time. All are forgotten when there are more: a client
/// that writes its literals into the text should not push the others out one by one.
const MOST: usize = 1_024;

/// The cache.
#[derive(Default)]
pub struct Prepared(Mutex<HashMap<Arc<str>, Query>>);

impl Prepared {
    /// The query of a text.
    pub fn query(&self, text: &Text) -> Result<Query, Problem> {
        if let Some(query) = self.0.lock().get(&text.text) {
            return Ok(query.clone());
        }
        let query = Query::parse(&text.text).map_err(|e| placed(syntax(e, text.of), text))?;
        let mut map = self.0.lock();
        if map.len() >= MOST {
            map.clear();
        }
        map.insert(text.text.clone(), query.clone());
        Ok(query)
    }
}

/// Moves a span from the text of the query to what the client sent.
pub fn placed(mut p: Problem, text: &Text) -> Problem {
    if let Some((start, end)) = p.span {
        p.span = Some((start + text.offset, end + text.offset));
        p.more.insert("of".into(), text.of.into());
    }
    for d in &mut p.also {
        for label in &mut d.labels {
            label.span.start += text.offset;
            label.span.end += text.offset;
        }
    }
    p
}

/// The inputs in the order of `:in`: databases are filled in by the engine, rules
/// come from `rules` or stand among the arguments.
pub fn inputs(query: &Query, ask: &Ask) -> Vec<Input> {
    let mut args = ask.args.iter();
    let mut rules = ask.rules.as_ref();
    let mut out = Vec::new();
    for wanted in &query.ast().inputs {
        let name = wanted.node.to_string();
        match name.as_str() {
            "%" => match rules.take() {
                Some(text) => out.push(Input::Rules(text.clone())),
                None => out.extend(args.next().map(|v| match v {
                    Value::String(s) => Input::Rules(s.clone()),
                    v => Input::Rules(annals::edn::print(v).into()),
                })),
            },
            src if src.starts_with('$') => {}
            _ => out.extend(args.next().cloned().map(Input::Value)),
        }
    }
    // Too many are passed on, so that the engine says so.
    out.extend(args.cloned().map(Input::Value));
    out.extend(rules.map(|text| Input::Rules(text.clone())));
    out
}
