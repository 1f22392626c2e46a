//! From bindings to an answer: the set of distinct rows first, then aggregates.

use super::{NaiveError, Result, Rows, function, is, items, symbol_of, variable, wrong};
use annals_model::{Symbol, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `:find ?a ?b`.
    Relation,
    /// `:find [?a ...]`.
    Collection,
    /// `:find [?a ?b]`.
    Tuple,
    /// `:find ?a .`.
    Scalar,
}

/// An answer. For a tuple or a scalar any one of the rows is right; no row means nil.
#[derive(Clone, Debug)]
pub struct Naive {
    /// What the query asked for.
    pub shape: Shape,
    /// All rows, sorted; duplicates only where `:with` keeps them.
    pub rows: Vec<Vec<Value>>,
}

impl Naive {
    /// The answer as one value; of a tuple or scalar the first row.
    pub fn value(&self) -> Value {
        let tuple = |row: &Vec<Value>| Value::vector(row.iter().cloned());
        match self.shape {
            Shape::Relation => Value::set(self.rows.iter().map(tuple)),
            Shape::Collection => Value::vector(self.rows.iter().map(|r| r[0].clone())),
            Shape::Tuple => self.rows.first().map_or(Value::Nil, tuple),
            Shape::Scalar => self.rows.first().map_or(Value::Nil, |r| r[0].clone()),
        }
    }
}

enum Element<'q> {
    Var(&'q Symbol),
    Aggregate(&'q str, Option<usize>, &'q Symbol),
}

pub(super) fn shape(find: &[Value], with: &[Value], rows: Rows) -> Result<Naive> {
    let (shape, elements) = match find {
        [Value::Vector(inner)] => match &inner[..] {
            [one, dots] if is(dots, "...") => (Shape::Collection, std::slice::from_ref(one)),
            several => (Shape::Tuple, several),
        },
        [one, dot] if is(dot, ".") => (Shape::Scalar, std::slice::from_ref(one)),
        several => (Shape::Relation, several),
    };
    let elements: Vec<Element> = elements.iter().map(element).collect::<Result<_>>()?;
    let wanted: Vec<&Symbol> = elements
        .iter()
        .map(|e| match e {
            Element::Var(v) | Element::Aggregate(_, _, v) => *v,
        })
        .chain(with.iter().filter_map(variable))
        .collect();
    let mut set: BTreeSet<Vec<Value>> = BTreeSet::new();
    for env in &rows {
        let row: Option<Vec<Value>> = wanted.iter().map(|v| env.get(*v).cloned()).collect();
        match row {
            Some(row) => drop(set.insert(row)),
            None => return Err(NaiveError::Unbound("a variable of :find".into())),
        }
    }
    let aggregated = elements.iter().any(|e| matches!(e, Element::Aggregate(..)));
    let mut rows: Vec<Vec<Value>> = if aggregated {
        aggregate(&elements, set)?
    } else {
        set.into_iter()
            .map(|mut row| {
                row.truncate(elements.len());
                row
            })
            .collect()
    };
    rows.sort();
    Ok(Naive { shape, rows })
}

fn element(form: &Value) -> Result<Element<'_>> {
    if let Some(v) = variable(form) {
        return Ok(Element::Var(v));
    }
    match items(form) {
        Some([Value::Symbol(f), ..]) if *f == symbol_of("pull") => {
            Err(NaiveError::Unsupported("pull".into()))
        }
        Some([Value::Symbol(f), v]) if variable(v).is_some() => {
            Ok(Element::Aggregate(f.as_str(), None, variable(v).expect("just checked")))
        }
        Some([Value::Symbol(f), Value::Long(n), v]) if variable(v).is_some() => {
            Ok(Element::Aggregate(f.as_str(), usize::try_from(*n).ok(), variable(v).expect("just checked")))
        }
        _ => wrong(format!("not an element of :find: {form:?}")),
    }
}

/// Groups by the plain variables and folds each group.
fn aggregate(elements: &[Element], set: BTreeSet<Vec<Value>>) -> Result<Vec<Vec<Value>>> {
    let mut groups: BTreeMap<Vec<Value>, Vec<Vec<Value>>> = BTreeMap::new();
    for row in set {
        let plain = |(e, v): (&Element, &Value)| matches!(e, Element::Var(_)).then(|| v.clone());
        groups.entry(elements.iter().zip(&row).filter_map(plain).collect()).or_default().push(row);
    }
    let mut out = Vec::new();
    for rows in groups.into_values() {
        let mut result = Vec::new();
        for (i, e) in elements.iter().enumerate() {
            result.push(match e {
                Element::Var(_) => rows[0][i].clone(),
                Element::Aggregate(f, n, _) => fold(f, *n, rows.iter().map(|r| r[i].clone()).collect())?,
            });
        }
        out.push(result);
    }
    Ok(out)
}

/// The values as longs, if all are.
fn longs(values: &[Value]) -> Option<Vec<i64>> {
    values.iter().map(|v| if let Value::Long(n) = v { Some(*n) } else { None }).collect()
}

pub(super) fn fold(name: &str, n: Option<usize>, mut values: Vec<Value>) -> Result<Value> {
    values.sort_by(|a, b| function::compare(a, b).unwrap_or_else(|| a.cmp(b)));
    let distinct: BTreeSet<Value> = values.iter().cloned().collect();
    let numbers = || {
        let all: Option<Vec<f64>> = values.iter().map(function::number).collect();
        all.ok_or_else(|| NaiveError::Wrong(format!("{name} of what is not a number")))
    };
    let double = |d: f64| Value::double(d).ok_or_else(|| NaiveError::Wrong("not a number".into()));
    let average = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let variance = |x: &[f64]| x.iter().map(|v| (v - average(x)).powi(2)).sum::<f64>() / x.len() as f64;
    Ok(match (name, n) {
        ("count", None) => Value::Long(values.len() as i64),
        ("count-distinct", None) => Value::Long(distinct.len() as i64),
        ("distinct", None) => Value::set(distinct),
        ("min", None) => values[0].clone(),
        ("max", None) => values[values.len() - 1].clone(),
        ("min", Some(n)) => Value::vector(values.into_iter().take(n)),
        ("max", Some(n)) => Value::vector(values.into_iter().rev().take(n)),
        ("shortest", None) => {
            let size = |v: &Value| match v {
                Value::String(s) => Ok(s.chars().count()),
                Value::Bytes(b) => Ok(b.len()),
                Value::Map(m) => Ok(m.len()),
                v => items(v).map(<[Value]>::len).ok_or_else(|| NaiveError::Wrong("no length".into())),
            };
            let mut best: Option<(usize, &Value)> = None;
            for v in &values {
                let n = size(v)?;
                if best.is_none_or(|(m, _)| n < m) {
                    best = Some((n, v));
                }
            }
            best.map_or(Value::Nil, |(_, v)| v.clone())
        }
        ("sum", None) => match longs(&values) {
            Some(longs) => match longs.iter().try_fold(0i64, |a, b| a.checked_add(*b)) {
                Some(total) => Value::Long(total),
                None => return wrong("integer overflow"),
            },
            None => double(numbers()?.iter().sum())?,
        },
        ("avg", None) => match longs(&values) {
            Some(longs) => {
                double(longs.iter().map(|n| i128::from(*n)).sum::<i128>() as f64 / longs.len() as f64)?
            }
            None => double(average(&numbers()?))?,
        },
        ("median", None) if values.len() % 2 == 1 => values[values.len() / 2].clone(),
        ("median", None) => {
            let (lower, upper) = (values.len() / 2 - 1, values.len() / 2);
            match longs(&values) {
                Some(x) => double((i128::from(x[lower]) + i128::from(x[upper])) as f64 / 2.0)?,
                None => numbers().and_then(|x| double((x[lower] + x[upper]) / 2.0))?,
            }
        }
        ("variance", None) => double(variance(&numbers()?))?,
        ("stddev", None) => double(variance(&numbers()?).sqrt())?,
        _ => return Err(NaiveError::Unsupported(format!("aggregate {name}"))),
    })
}
