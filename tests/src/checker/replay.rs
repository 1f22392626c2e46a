//! The check itself: one pass over the log, a model beside it.
//!
//! 1. The log is dense from `start`, its instants rise, each of its transactions is one
//!    that a client sent, once, and its datoms are those that the model derives.
//! 2. What was acknowledged is in the log, at the `t` and with the datoms told.
//! 3. What was refused is not there, and at some time between question and answer the
//!    model refuses it too.
//! 4. An answer is the model's at its `t`, and for a view of the past at that past's.
//! 5. Real time: what ended before something began has the smaller `t`; nothing is seen
//!    before it was sent.

use super::{
    Call, Entry, History, Outcome, Question, Row, What,
    workload::{self, OP},
};
use crate::txmodel::{Model, Refusal};
use annals_model::{AttrId, Datom, EntityId, T, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Something a serial database could not have said.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are named for what they hold")]
pub enum Violation {
    /// `t` skips or repeats.
    NotDense { expected: T, found: T },
    /// An instant that is not later than the one before.
    InstantNotLater { t: T },
    /// A transaction that nobody sent.
    Phantom { t: T, op: Option<i64> },
    /// One request, two transactions.
    Doubled { op: i64, first: T, again: T },
    /// The log has a transaction that the model refuses.
    WronglyTaken { t: T, op: i64, why: Refusal },
    /// The log's datoms are not those that the request means at this place.
    WrongDatoms { t: T, op: i64, missing: Vec<Datom>, extra: Vec<Datom> },
    /// Acknowledged and not in the log.
    Lost { op: i64, t: T },
    /// Acknowledged as another transaction than the log has it.
    AckElsewhere { op: i64, told: T, is: T },
    /// The report's datoms or tempids are not the log's.
    WrongReport { op: i64, t: T },
    /// Refused, yet in the log.
    RefusedButTaken { op: i64, t: T },
    /// Refused though at no time of the request would the model refuse.
    RefusedWithoutReason { op: i64, said: String },
    /// An answer that is not the model's.
    WrongAnswer { client: usize, basis: T, at: T, question: Question, missing: Vec<Row>, extra: Vec<Row> },
    /// The answer is older than what somebody had already been told.
    Stale { client: usize, basis: T, known: T },
    /// An acknowledgement below a `t` that was known before the request began.
    BackInTime { op: i64, t: T, known: T },
    /// An answer from a time that had not come: its last transaction was not yet sent.
    FromTheFuture { client: usize, t: T },
    /// The answer's basis, or its view's time, is beyond the log's end.
    NoSuchTime { client: usize, t: T },
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Transactions of the log.
    pub logged: usize,
    /// Acknowledged requests.
    pub acknowledged: usize,
    /// Refusals, each with a reason found.
    pub refused: usize,
    /// Requests whose client never heard, and how many of them are in the log.
    pub unknown: (usize, usize),
    /// Answers compared.
    pub answers: usize,
    /// Of them, about the past.
    pub of_the_past: usize,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} transactions, {} acknowledged, {} refused, {} unknown ({} of them in the log), {} answers ({} about the past)",
            self.logged,
            self.acknowledged,
            self.refused,
            self.unknown.0,
            self.unknown.1,
            self.answers,
            self.of_the_past
        )
    }
}

/// Checks a history. Empty when it is strictly serializable and nothing acknowledged is lost.
pub fn check(history: &History) -> (Summary, Vec<Violation>) {
    let mut checker = Checker::new(history);
    checker.acknowledgements();
    checker.real_time();
    checker.replay();
    (checker.summary, checker.violations)
}

/// A request of the history: its call, and what the client knows of it.
type Sent<'a> = (&'a Call, &'a [Value], &'a Outcome);

struct Checker<'a> {
    history: &'a History,
    attributes: BTreeSet<AttrId>,
    op: AttrId,
    sent: HashMap<i64, Sent<'a>>,
    /// Where the log has each request.
    at: HashMap<i64, T>,
    /// Refusals whose reason has to be found.
    windows: Vec<Window<'a>>,
    summary: Summary,
    violations: Vec<Violation>,
}

/// A refused request and the times at which it may have been judged.
struct Window<'a> {
    op: i64,
    forms: &'a [Value],
    said: &'a str,
    from: T,
    to: T,
}

/// The newest `t` a client knows to be past once this call has ended.
fn known_after(call: &Call) -> Option<T> {
    match &call.what {
        What::Write { outcome: Outcome::Done { t, .. }, .. } => Some(*t),
        What::Write { .. } => None,
        What::Read { basis, .. } => Some(*basis),
    }
}

impl<'a> Checker<'a> {
    fn new(history: &'a History) -> Checker<'a> {
        let mut checker = Checker {
            attributes: workload::attributes(&history.schema),
            op: workload::attribute(&history.schema, OP),
            history,
            sent: HashMap::new(),
            at: HashMap::new(),
            windows: Vec::new(),
            summary: Summary { logged: history.log.len(), ..Summary::default() },
            violations: Vec::new(),
        };
        for call in &history.calls {
            if let What::Write { op, forms, outcome } = &call.what {
                checker.sent.insert(*op, (call, forms, outcome));
            }
        }
        for entry in &history.log {
            let Some(op) = checker.number(entry) else { continue };
            if let Some(first) = checker.at.insert(op, entry.t) {
                checker.violations.push(Violation::Doubled { op, first, again: entry.t });
            }
        }
        checker
    }

    /// The number of the request that a transaction came from.
    fn number(&self, entry: &Entry) -> Option<i64> {
        entry.datoms.iter().find_map(|d| match d.v {
            Value::Long(n) if d.a == self.op && d.added && d.e == entry.t.entity() => Some(n),
            _ => None,
        })
    }

    /// The workload's datoms of a transaction: not its instant, nor what a server notes about it.
    fn ours(&self, datoms: &[Datom]) -> BTreeSet<Datom> {
        datoms.iter().filter(|d| self.attributes.contains(&d.a)).cloned().collect()
    }

    fn acknowledgements(&mut self) {
        let mut found = Vec::new();
        for call in &self.history.calls {
            let What::Write { op, outcome, .. } = &call.what else { continue };
            let (op, is) = (*op, self.at.get(op).copied());
            match (outcome, is) {
                (Outcome::Done { t, .. }, None) => found.push(Violation::Lost { op, t: *t }),
                (Outcome::Done { t, .. }, Some(is)) if *t != is => {
                    found.push(Violation::AckElsewhere { op, told: *t, is })
                }
                (Outcome::Done { t, datoms: Some(told), .. }, Some(_)) => {
                    let entry = self.entry(*t).expect("it was found in the log");
                    if self.ours(told) != self.ours(&entry.datoms) {
                        found.push(Violation::WrongReport { op, t: *t });
                    }
                }
                (Outcome::Refused(_), Some(t)) => found.push(Violation::RefusedButTaken { op, t }),
                _ => {}
            }
            match outcome {
                Outcome::Done { .. } => self.summary.acknowledged += 1,
                Outcome::Refused(_) => self.summary.refused += 1,
                Outcome::Unknown => {
                    self.summary.unknown.0 += 1;
                    self.summary.unknown.1 += usize::from(is.is_some());
                }
            }
        }
        self.violations.extend(found);
    }

    fn entry(&self, t: T) -> Option<&'a Entry> {
        self.history.log.iter().find(|e| e.t == t)
    }

    /// What was known before each call began, and what had been sent before each ended.
    fn real_time(&mut self) {
        // The newest `t` that had been told by a time: ends in order, with a running maximum.
        let mut told: Vec<(u64, T)> =
            self.history.calls.iter().filter_map(|c| known_after(c).map(|t| (c.ended, t))).collect();
        told.sort_unstable();
        for i in 1..told.len() {
            told[i].1 = told[i].1.max(told[i - 1].1);
        }
        let known_before = |time: u64| {
            let n = told.partition_point(|(ended, _)| *ended < time);
            n.checked_sub(1).map_or(self.history.start, |i| told[i].1)
        };
        // The time before which no answer can show transaction `t`: when it, or a later
        // sent one below it, was sent.
        let mut earliest: BTreeMap<T, u64> = BTreeMap::new();
        let mut latest = 0;
        for entry in &self.history.log {
            let sent =
                self.number(entry).and_then(|op| self.sent.get(&op)).map_or(0, |(call, ..)| call.began);
            latest = latest.max(sent);
            earliest.insert(entry.t, latest);
        }
        let end = self.history.log.last().map_or(self.history.start, |e| e.t);
        for call in &self.history.calls {
            let (client, known) = (call.client, known_before(call.began));
            match &call.what {
                What::Write { op, outcome: Outcome::Done { t, .. }, .. } => {
                    if *t <= known {
                        self.violations.push(Violation::BackInTime { op: *op, t: *t, known });
                    }
                    if earliest.get(t).is_some_and(|sent| *sent > call.ended) {
                        self.violations.push(Violation::FromTheFuture { client, t: *t });
                    }
                }
                What::Write { .. } => {}
                What::Read { basis, as_of, .. } => {
                    self.summary.answers += 1;
                    self.summary.of_the_past += usize::from(as_of.is_some());
                    if *basis > end || as_of.is_some_and(|t| t > *basis) {
                        self.violations.push(Violation::NoSuchTime { client, t: as_of.unwrap_or(*basis) });
                    }
                    // Over HTTP an answer about the past names that past as its basis.
                    if as_of.is_none() && *basis < known {
                        self.violations.push(Violation::Stale { client, basis: *basis, known });
                    }
                    if earliest.get(basis).is_some_and(|sent| *sent > call.ended) {
                        self.violations.push(Violation::FromTheFuture { client, t: *basis });
                    }
                }
            }
        }
        for call in &self.history.calls {
            if let What::Write { op, forms, outcome: Outcome::Refused(said) } = &call.what {
                let from = known_before(call.began);
                let to =
                    earliest.iter().rev().find(|(_, sent)| **sent <= call.ended).map_or(from, |(t, _)| *t);
                self.windows.push(Window { op: *op, forms, said, from, to });
            }
        }
    }

    /// The log through the model, and every answer at its time.
    fn replay(&mut self) {
        let history = self.history;
        let mut model = Model::new(history.schema.clone(), history.start);
        // Answers by the time they are about.
        let mut asked: BTreeMap<T, Vec<&'a Call>> = BTreeMap::new();
        for call in &history.calls {
            if let What::Read { basis, as_of, .. } = &call.what {
                asked.entry(as_of.unwrap_or(*basis)).or_default().push(call);
            }
        }
        let mut instant = None;
        self.at_rest(&model, &asked);
        for entry in &history.log {
            let expected = model.t().next();
            if entry.t != expected {
                self.violations.push(Violation::NotDense { expected, found: entry.t });
                return; // nothing after a gap can be judged
            }
            if instant.is_some_and(|before| entry.instant <= before) {
                self.violations.push(Violation::InstantNotLater { t: entry.t });
            }
            instant = Some(entry.instant);
            if !self.step(&mut model, entry) {
                return; // the model no longer follows
            }
            self.at_rest(&model, &asked);
        }
        for w in std::mem::take(&mut self.windows) {
            self.violations.push(Violation::RefusedWithoutReason { op: w.op, said: w.said.to_owned() });
        }
    }

    /// One transaction of the log. False if the model cannot follow it.
    fn step(&mut self, model: &mut Model, entry: &Entry) -> bool {
        let found = self.ours(&entry.datoms);
        let number = self.number(entry);
        let Some((op, forms, outcome)) =
            number.and_then(|op| self.sent.get(&op).map(|(_, forms, outcome)| (op, *forms, *outcome)))
        else {
            // A transaction that the system made for itself says nothing of ours.
            if number.is_some() || !found.is_empty() {
                self.violations.push(Violation::Phantom { t: entry.t, op: number });
                return false;
            }
            return model.transact(&[], &BTreeMap::new()).is_ok();
        };
        let ids = self.tempids_in_log(forms, &found);
        match model.transact(forms, &ids) {
            Err(why) => {
                self.violations.push(Violation::WronglyTaken { t: entry.t, op, why });
                return false;
            }
            Ok(expected) => {
                let expected: BTreeSet<Datom> = expected.into_iter().collect();
                if expected != found {
                    self.violations.push(Violation::WrongDatoms {
                        t: entry.t,
                        op,
                        missing: expected.difference(&found).cloned().collect(),
                        extra: found.difference(&expected).cloned().collect(),
                    });
                }
            }
        }
        if let Outcome::Done { tempids: Some(told), .. } = outcome
            && told.iter().any(|(name, e)| model.names().get(name).is_some_and(|is| is != e))
        {
            self.violations.push(Violation::WrongReport { op, t: entry.t });
        }
        true
    }

    /// Which new entity a map's tempid became: the one that its facts were written about.
    fn tempids_in_log(&self, forms: &[Value], found: &BTreeSet<Datom>) -> BTreeMap<String, EntityId> {
        let mut ids = BTreeMap::new();
        for form in forms {
            let Value::Map(entries) = form else { continue };
            let Some((_, Value::String(name))) = entries.iter().find(|(k, _)| *k == Value::keyword("db/id"))
            else {
                continue;
            };
            // An identity says who; else the first fact that stands alone does.
            let written = entries.iter().filter_map(|(k, v)| {
                let Value::Keyword(k) = k else { return None };
                let a = self.history.schema.attribute_named(k)?;
                let d = found.iter().find(|d| d.added && d.a == a.id && d.v == *v)?;
                Some((a.unique.is_none(), d.e))
            });
            let about = written.min_by_key(|(plain, _)| *plain).map(|(_, e)| e);
            if let Some(e) = about {
                ids.insert(name.to_string(), e);
            }
        }
        ids
    }

    /// What can be judged while the model stands at a transaction: answers about it, and refusals.
    fn at_rest(&mut self, model: &Model, asked: &BTreeMap<T, Vec<&'a Call>>) {
        let t = model.t();
        let mut right: BTreeMap<&Question, BTreeSet<Row>> = BTreeMap::new();
        for call in asked.get(&t).into_iter().flatten() {
            let What::Read { question, basis, rows, .. } = &call.what else { continue };
            let expected = right.entry(question).or_insert_with(|| question.answer(model));
            if expected != rows {
                self.violations.push(Violation::WrongAnswer {
                    client: call.client,
                    basis: *basis,
                    at: t,
                    question: question.clone(),
                    missing: expected.difference(rows).cloned().collect(),
                    extra: rows.difference(expected).cloned().collect(),
                });
            }
        }
        let refuses = |forms: &[Value]| model.clone().transact(forms, &BTreeMap::new()).is_err();
        self.windows.retain(|w| !(w.from <= t && t <= w.to && refuses(w.forms)));
    }
}
