//! From forms to the trees of the dialect, with every complaint of the stage.
//!
//! One file a section of the grammar in docs/query.md: `query` with `find`,
//! `input` and `order`; `clause` with `call`, `binding` and `scope`; `rule`,
//! `pull`, and `tx` for transaction data.
//!
//! 1. A tree comes out only if there was no complaint.
//! 2. Functions and aggregates are looked up by name here only to suggest a
//!    better one; attributes and rules need a database and wait for `resolve`.

mod binding;
mod call;
mod clause;
mod find;
mod input;
mod order;
mod pull;
mod query;
mod rule;
mod scope;
#[cfg(test)]
mod tests;
mod tx;

use crate::ast::{PullPattern, Query, RuleSet, Spanned, Src, Var};
use crate::edn::{self, Form};
use crate::error::{Complaints, ParseErrors};
use annals_model::{Diagnostic, Value, tx::TxData};
use std::sync::Arc;

/// Reads a query, in list or map form.
pub fn query(text: &str) -> Result<Query, ParseErrors> {
    let form = edn::read_one(text)?;
    let mut c = Complaints::default();
    let q = query::query(&form, &mut c);
    let mut q = c.or(q)?;
    q.text = Some(Arc::from(text));
    Ok(q)
}

/// A query from EDN data; a string is read first.
pub fn query_value(v: &Value) -> Result<Query, ParseErrors> {
    if let Value::String(text) = v {
        return query(text);
    }
    let mut c = Complaints::default();
    let q = query::query(&Form::of_value(v), &mut c);
    c.or(q)
}

/// Reads a rule set.
pub fn rules(text: &str) -> Result<RuleSet, ParseErrors> {
    let form = edn::read_one(text)?;
    let mut c = Complaints::default();
    let set = rule::rules(&form, &mut c);
    let mut set = c.or(set)?;
    set.text = Some(Arc::from(text));
    Ok(set)
}

/// A rule set from EDN data; a string is read first.
pub fn rules_value(v: &Value) -> Result<RuleSet, ParseErrors> {
    if let Value::String(text) = v {
        return rules(text);
    }
    let mut c = Complaints::default();
    let set = rule::rules(&Form::of_value(v), &mut c);
    c.or(set)
}

/// Reads a pull pattern.
pub fn pull(text: &str) -> Result<PullPattern, ParseErrors> {
    let form = edn::read_one(text)?;
    let mut c = Complaints::default();
    let p = pull::pattern(&form, &mut c);
    c.or(p)
}

/// A pull pattern from EDN data; a string is read first.
pub fn pull_value(v: &Value) -> Result<PullPattern, ParseErrors> {
    if let Value::String(text) = v {
        return pull(text);
    }
    let mut c = Complaints::default();
    let p = pull::pattern(&Form::of_value(v), &mut c);
    c.or(p)
}

/// Reads transactions: each top-level vector or list is one.
pub fn transactions(text: &str) -> Result<Vec<TxData>, ParseErrors> {
    tx::transactions(text)
}

/// The variable that a form is.
fn var_of(f: &Form) -> Option<Spanned<Var>> {
    f.as_symbol().and_then(Var::of).map(|v| Spanned::new(v, f.span))
}

/// The source that a form names.
fn src_of(f: &Form) -> Option<Spanned<Src>> {
    f.as_symbol().and_then(Src::of).map(|s| Spanned::new(s, f.span))
}

/// A complaint at a form.
fn complain(
    c: &mut Complaints,
    code: &'static str,
    f: &Form,
    message: impl Into<String>,
    help: impl Into<String>,
) {
    c.push(Diagnostic::new(code, message).at(f.span, format!("this {}", f.noun())).help(help));
}
