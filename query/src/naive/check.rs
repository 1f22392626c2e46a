//! An answer of the engine, compared with the naive evaluator's.
//!
//! 1. What cannot be compared (pulls, random aggregates, `:having`, databases
//!    too large to read whole) is said to be skipped, never said to agree.
//! 2. Doubles agree to eleven digits: sums may be added up in another order.

use super::{Given, NaiveDb, NaiveError, Shape, run};
use crate::ast;
use crate::edn::read_value;
use crate::error::QueryError;
use crate::eval::function::Library;
use crate::query::{Input, QueryOptions};
use crate::rows::Answer;
use annals_model::Value;
use std::{collections::BTreeMap, sync::Arc};

/// Datoms that the evaluator is willing to read and loop over.
const DATOMS_MAX: u64 = 200_000;

/// What a comparison found, when it found no disagreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both gave the same rows.
    Agrees,
    /// Not compared, and why.
    Skipped(String),
}

/// Rows and how often each occurs.
type Bag = BTreeMap<Vec<Value>, usize>;

/// Rows as a bag, doubles rounded to eleven digits.
pub fn bag(rows: impl Iterator<Item = Vec<Value>>) -> Bag {
    let mut bag = Bag::new();
    for row in rows {
        *bag.entry(row.into_iter().map(rounded).collect()).or_default() += 1;
    }
    bag
}

fn rounded(v: Value) -> Value {
    match v {
        Value::Double(d) => {
            format!("{d:.11e}").parse().ok().and_then(Value::double).unwrap_or(Value::Double(d))
        }
        Value::Vector(items) => Value::vector(items.iter().cloned().map(rounded)),
        Value::Set(items) => Value::set(items.iter().cloned().map(rounded)),
        v => v,
    }
}

/// Compares an answer with what the naive evaluator says.
///
/// # Errors
/// [`QueryError::Disagreement`] with the rows that only one of them has.
pub fn check(
    query: &ast::Query,
    inputs: &[Input],
    options: &QueryOptions,
    library: &Arc<Library>,
    answer: &Answer,
) -> Result<Verdict, QueryError> {
    let skipped = |why: &str| Ok(Verdict::Skipped(why.to_owned()));
    if !query.having.is_empty() || !query.rules.is_empty() {
        return skipped("the query has :having or :rules");
    }
    let Some(given) = given(query, inputs)? else { return skipped("a database is too large to read whole") };
    let Ok(form) = read_value(&query.to_string()) else { return skipped("the query does not print as one") };
    let functions =
        |name: &str, args: &[Value]| library.function(name).map(|f| f.call(args).map_err(|e| e.to_string()));
    let naive = match run(&form, &given, &functions) {
        Ok(naive) => naive,
        Err(NaiveError::TooLarge) => return skipped("the naive evaluator makes too many rows"),
        Err(NaiveError::Unsupported(what)) => return skipped(&format!("{what} is not evaluated naively")),
        Err(e) => return Err(disagree(format!("the naive evaluator fails: {e:?}"))),
    };
    let (expected, actual) = (bag(naive.rows.into_iter()), bag(answer.rows.iter()));
    let n: usize = expected.values().sum();
    let one = matches!(naive.shape, Shape::Tuple | Shape::Scalar);
    let offset = options.offset.or(query.offset.as_ref().map(|o| o.node)).unwrap_or(0);
    let limit = options.limit.or(query.limit.as_ref().map(|l| l.node)).unwrap_or(usize::MAX);
    let wanted = n.saturating_sub(offset).min(limit).min(if one { 1 } else { usize::MAX });
    let found: usize = actual.values().sum();
    let extra: Vec<&Vec<Value>> =
        actual.iter().filter(|(r, k)| expected.get(*r).is_none_or(|e| e < *k)).map(|(r, _)| r).collect();
    if !extra.is_empty() {
        return Err(disagree(format!("the engine has {} that should not be there", shown(&extra))));
    }
    // Of a tuple or a scalar only the first row counts, however many were kept.
    if found != wanted && !(one && found > 0 && wanted > 0) {
        let missing: Vec<&Vec<Value>> =
            expected.iter().filter(|(r, k)| actual.get(*r).is_none_or(|a| a < *k)).map(|(r, _)| r).collect();
        return Err(disagree(format!(
            "the engine has {found} rows of {wanted}; among the missing {}",
            shown(&missing)
        )));
    }
    Ok(Verdict::Agrees)
}

fn disagree(detail: String) -> QueryError {
    QueryError::Disagreement { detail }
}

fn shown(rows: &[&Vec<Value>]) -> String {
    let first: Vec<String> = rows.iter().take(5).map(|r| format!("{r:?}")).collect();
    format!("{}{}", first.join(" "), if rows.len() > 5 { " …" } else { "" })
}

/// The inputs as the evaluator takes them; none if a database is too large.
fn given(query: &ast::Query, inputs: &[Input]) -> Result<Option<Vec<Given>>, QueryError> {
    let mut out = Vec::new();
    for (place, input) in query.inputs.iter().zip(inputs) {
        out.push(match input {
            Input::Source(source) => {
                let size: u64 = source.schema().attributes().map(|a| source.stats(a.id).rows).sum();
                if size > DATOMS_MAX {
                    return Ok(None);
                }
                Given::Db(Arc::new(NaiveDb::read(&**source)?))
            }
            Input::Value(Value::String(rules)) if matches!(place.node, ast::Input::Rules) => {
                Given::Value(read_value(rules)?)
            }
            Input::Value(v) => Given::Value(v.clone()),
            Input::Rules(rules) => Given::Value(read_value(&rules.to_string())?),
        });
    }
    Ok(Some(out))
}
