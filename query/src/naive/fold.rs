//! Folds in the heads of rules: `[(nearest ?x (min ?d)) …]`.
//!
//! The tuples of a rule are those of its head and of `:with`, a set. They are
//! grouped by what is not folded; each fold makes one value of a group's column.

use super::rule::Rule;
use super::{Result, find, function, items, wrong};
use annals_model::{Symbol, Value};
use std::collections::{BTreeMap, BTreeSet};

/// An aggregate and its number, for each head variable that is folded.
pub(super) type Folds = [Option<(String, Option<usize>)>];
type Tuples = BTreeSet<Vec<Value>>;

/// How a rule folds; its definitions agree.
pub(super) fn of<'r>(rules: &'r [Rule], name: &Symbol) -> Option<&'r Folds> {
    rules.iter().find(|r| r.name == *name).map(|r| &r.folds[..])
}

/// Does a call of `from` lead to one of `to`?
pub(super) fn leads(rules: &[Rule], from: &Symbol, to: &Symbol) -> bool {
    let mut reached = BTreeSet::from([from.clone()]);
    loop {
        let mut next = reached.clone();
        for rule in rules.iter().filter(|r| reached.contains(&r.name)) {
            for called in rules.iter().filter(|c| rule.body.iter().any(|clause| calls(clause, &c.name))) {
                next.insert(called.name.clone());
            }
        }
        if next == reached {
            return reached.contains(to);
        }
        reached = next;
    }
}

/// Does a clause call this rule, however deep?
fn calls(clause: &Value, name: &Symbol) -> bool {
    let inside = items(clause).unwrap_or(&[]);
    matches!(clause, Value::List(_))
        && inside.iter().take(2).any(|s| matches!(s, Value::Symbol(s) if s == name))
        || inside.iter().any(|c| calls(c, name))
}

/// May the best so far stand for the result while it is still looked for?
fn keeps_one((name, n): &(String, Option<usize>)) -> bool {
    n.is_none() && ["min", "max", "shortest"].contains(&name.as_str())
}

/// What is used of a rule while it is still being computed.
pub(super) fn so_far(rules: &[Rule], name: &Symbol, tuples: Tuples) -> Result<Tuples> {
    let folds = of(rules, name).unwrap_or(&[]);
    if folds.iter().all(Option::is_none) || !leads_back(rules, name) {
        return Ok(tuples);
    }
    if !folds.iter().flatten().all(keeps_one) {
        return wrong("a fold through itself");
    }
    // A value that gives way to one that does not compare with it would lose answers it had.
    let mut first: BTreeMap<Vec<&Value>, &Vec<Value>> = BTreeMap::new();
    for t in &tuples {
        let key = t.iter().zip(folds).filter(|(_, f)| f.is_none()).map(|(v, _)| v).collect();
        let other = *first.entry(key).or_insert(t);
        for (i, f) in folds.iter().enumerate() {
            let ordered = f.as_ref().is_some_and(|(name, _)| name != "shortest");
            if ordered && t[i] != other[i] && function::compare(&t[i], &other[i]).is_none() {
                return wrong("a fold through recursion over values that do not compare");
            }
        }
    }
    folded(folds, tuples)
}

/// The tuples of a rule when all are there.
pub(super) fn finished(rules: &[Rule], name: &Symbol, tuples: Tuples) -> Result<Tuples> {
    let folds = of(rules, name).unwrap_or(&[]);
    if folds.iter().all(Option::is_none) { Ok(tuples) } else { folded(folds, tuples) }
}

/// Does the rule lead back to itself?
fn leads_back(rules: &[Rule], name: &Symbol) -> bool {
    let of_name = rules.iter().filter(|r| r.name == *name);
    let called = rules.iter().filter(|c| of_name.clone().any(|r| r.body.iter().any(|b| calls(b, &c.name))));
    called.into_iter().any(|c| leads(rules, &c.name, name))
}

/// One tuple a group. Tuples may be longer than the head, by `:with`, or folded already.
fn folded(folds: &Folds, tuples: Tuples) -> Result<Tuples> {
    let mut groups: BTreeMap<Vec<&Value>, Vec<&Vec<Value>>> = BTreeMap::new();
    for t in &tuples {
        let key = t.iter().zip(folds).filter(|(_, f)| f.is_none()).map(|(v, _)| v).collect();
        groups.entry(key).or_default().push(t);
    }
    let mut out = Tuples::new();
    for members in groups.values() {
        let mut tuple = Vec::new();
        for (i, f) in folds.iter().enumerate() {
            tuple.push(match f {
                None => members[0][i].clone(),
                Some((name, n)) => find::fold(name, *n, members.iter().map(|t| t[i].clone()).collect())?,
            });
        }
        out.insert(tuple);
    }
    Ok(out)
}
