//! Faults planted in sound histories: what a database would have said that loses
//! updates, answers from a stale basis, and so on. The checker has to find each.
//!
//! A planted fault is consistent in all but itself: what follows a lost update is
//! renumbered as if it had never been.

use super::{History, Outcome, What, check};
use crate::generate::Rng;
use annals_model::{T, Value};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An acknowledged transaction is gone from the end of the log, as after a crash without a sync.
    LostAtTheEnd,
    /// Two compare-and-swaps from the same balance both succeed: the first update is lost.
    LostUpdate,
    /// An answer is that of an earlier time, under the newest basis.
    StaleAnswer,
    /// An answer names an old basis, and is right for it, though a newer one was known.
    StaleBasis,
    /// Two transactions that followed each other in real time have each other's place.
    ReorderedT,
    /// Two requests are acknowledged with one `t`.
    DuplicatedAck,
    /// One request is in the log twice.
    DoneTwice,
    /// A transaction is there without one of its datoms.
    PartialTransaction,
    /// The same question about the same past time is answered otherwise later.
    AsOfChangedLater,
    /// A refused transaction was carried out.
    RefusedButDone,
    /// A transaction is refused that nothing speaks against.
    RefusedForNothing,
    /// A transaction that nobody sent.
    Phantom,
    /// An answer shows a transaction before it was sent.
    FromTheFuture,
    /// A transaction's instant is that of the one before.
    ClockStoodStill,
}

/// Every kind.
pub const ALL: [Fault; 14] = [
    Fault::LostAtTheEnd,
    Fault::LostUpdate,
    Fault::StaleAnswer,
    Fault::StaleBasis,
    Fault::ReorderedT,
    Fault::DuplicatedAck,
    Fault::DoneTwice,
    Fault::PartialTransaction,
    Fault::AsOfChangedLater,
    Fault::RefusedButDone,
    Fault::RefusedForNothing,
    Fault::Phantom,
    Fault::FromTheFuture,
    Fault::ClockStoodStill,
];

/// Plants a fault at a random place. None if the history has no place for it.
pub fn plant(history: &History, fault: Fault, rng: &mut Rng) -> Option<History> {
    let mut h = history.clone();
    match fault {
        Fault::LostAtTheEnd => {
            let keep = h.log.len() - 1 - rng.below(h.log.len() / 10);
            let acknowledged = |t: T| {
                h.calls.iter().any(|c| matches!(&c.what, What::Write { outcome: Outcome::Done { t: told, .. }, .. } if *told == t))
            };
            if !h.log[keep..].iter().any(|e| acknowledged(e.t)) {
                return None;
            }
            h.log.truncate(keep);
            // Whoever saw what is gone now is not heard, so that only the loss speaks.
            let end = h.log.last()?.t;
            h.calls.retain(|c| !matches!(&c.what, What::Read { basis, .. } if *basis > end));
        }
        Fault::LostUpdate => {
            // The later of two successful swaps of one account claims the balance before the earlier.
            let i = writes(&h, |forms, o| done(o) && swap(forms).is_some()).pick(rng)?;
            let What::Write { forms, .. } = &mut h.calls[i].what else { return None };
            let (at, old) = swap(forms)?;
            let Value::Vector(parts) = &forms[at] else { return None };
            let mut parts = parts.to_vec();
            parts[3] = Value::Long(old - 1);
            forms[at] = Value::vector(parts);
        }
        Fault::StaleAnswer => {
            let i = reads(&h, |as_of| as_of.is_none()).pick(rng)?;
            let (question, basis) = asked(&h, i)?;
            let mut earlier = h.calls.iter().filter_map(|c| match &c.what {
                What::Read { question: q, basis: b, as_of: None, rows } if *q == question && *b < basis => {
                    Some(rows)
                }
                _ => None,
            });
            let stale = earlier.rfind(|r| **r != *rows_of(&h, i))?.clone();
            if let What::Read { rows, .. } = &mut h.calls[i].what {
                *rows = stale;
            }
        }
        Fault::StaleBasis => {
            // The answer of a read that ended long before, given again.
            let i = reads(&h, |as_of| as_of.is_none()).pick(rng)?;
            let (began, client) = (h.calls[i].began, h.calls[i].client);
            let old = h.calls.iter().filter(|c| c.ended < began).find(|c| {
                matches!(&c.what, What::Read { basis, as_of: None, .. } if newer_known(&h, c.ended, began, *basis))
            })?;
            let mut again = old.clone();
            (again.began, again.ended, again.client) = (began, h.calls[i].ended, client);
            h.calls[i] = again;
        }
        Fault::ReorderedT => {
            // Only those that followed each other: of concurrent ones either may be first.
            let all: Vec<(usize, u64, u64, T)> =
                (0..h.calls.len()).filter_map(|i| acknowledged(&h, i)).collect();
            let a = *rng.some(&all)?;
            let b = *all.iter().find(|b| b.1 > a.2)?;
            set_t(&mut h, a.0, b.3);
            set_t(&mut h, b.0, a.3);
        }
        Fault::DuplicatedAck => {
            let all: Vec<(usize, u64, u64, T)> =
                (0..h.calls.len()).filter_map(|i| acknowledged(&h, i)).collect();
            let (a, b) = (*rng.some(&all)?, *rng.some(&all)?);
            if a.0 == b.0 {
                return None;
            }
            set_t(&mut h, a.0, b.3);
        }
        Fault::DoneTwice => {
            let mut again = rng.some(&h.log)?.clone();
            let (old, t) = (again.t, h.log.last()?.t.next());
            again.instant = annals_model::Instant(h.log.last()?.instant.0 + 1);
            again.t = t;
            for d in &mut again.datoms {
                d.t = t;
                if d.e == old.entity() {
                    d.e = t.entity();
                }
            }
            h.log.push(again);
        }
        Fault::PartialTransaction => {
            let attributes = super::workload::attributes(&h.schema);
            let op = super::workload::attribute(&h.schema, super::workload::OP);
            let i = rng.below(h.log.len());
            let of: Vec<usize> = (0..h.log[i].datoms.len())
                .filter(|k| attributes.contains(&h.log[i].datoms[*k].a) && h.log[i].datoms[*k].a != op)
                .collect();
            let gone = *rng.some(&of)?;
            let t = h.log[i].t;
            h.log[i].datoms.remove(gone);
            // The report says the same, so that only the meaning of the request speaks.
            for c in &mut h.calls {
                if let What::Write { outcome: Outcome::Done { t: told, datoms, .. }, .. } = &mut c.what
                    && *told == t
                {
                    *datoms = None;
                }
            }
        }
        Fault::AsOfChangedLater => {
            let i = reads(&h, |as_of| as_of.is_some()).pick(rng)?;
            if let What::Read { rows, .. } = &mut h.calls[i].what
                && rows.pop_first().is_none()
            {
                rows.insert(vec![Value::Long(1)]);
            }
        }
        Fault::RefusedButDone => {
            let i = writes(&h, |_, o| done(o)).pick(rng)?;
            if let What::Write { outcome, .. } = &mut h.calls[i].what {
                *outcome = Outcome::Refused("tx/cas-failed".into());
            }
        }
        Fault::RefusedForNothing => {
            let mut call = h.calls[writes(&h, |forms, o| done(o) && forms.len() == 1)
                .pick(rng)
                .or_else(|| writes(&h, |forms, o| done(o) && swap(forms).is_none()).pick(rng))?]
            .clone();
            if let What::Write { op, outcome, .. } = &mut call.what {
                *op = 1 << 40;
                *outcome = Outcome::Refused("tx/cas-failed".into());
            }
            h.calls.push(call);
        }
        Fault::Phantom => {
            let i = writes(&h, |_, o| done(o)).pick(rng)?;
            h.calls.remove(i);
        }
        Fault::FromTheFuture => {
            let i = reads(&h, |as_of| as_of.is_none()).pick(rng)?;
            let ended = h.calls[i].ended;
            let later = h.calls.iter().find(|c| match &c.what {
                What::Read { basis, as_of: None, .. } => c.began > ended && sent_after(&h, *basis, ended),
                _ => false,
            })?;
            h.calls[i].what = later.what.clone();
        }
        Fault::ClockStoodStill => {
            let i = 1 + rng.below(h.log.len() - 1);
            h.log[i].instant = h.log[i - 1].instant;
        }
    }
    Some(h)
}

/// Plants every fault up to `times` times, as often as places are found, and counts what was planted and what was found.
pub fn trial(history: &History, times: usize, seed: u64) -> Vec<(Fault, usize, usize)> {
    let mut rng = Rng::new(seed);
    let mut each = |fault| {
        let (mut planted, mut found) = (0, 0);
        for _ in 0..times * 50 {
            if planted == times {
                break;
            }
            let Some(broken) = plant(history, fault, &mut rng) else { continue };
            planted += 1;
            found += usize::from(!check(&broken).1.is_empty());
        }
        (fault, planted, found)
    };
    ALL.into_iter().map(&mut each).collect()
}

/// Places in a history.
struct Places(Vec<usize>);

impl Places {
    fn pick(&self, rng: &mut Rng) -> Option<usize> {
        rng.some(&self.0).copied()
    }
}

fn writes(h: &History, want: impl Fn(&[Value], &Outcome) -> bool) -> Places {
    let fits = |i: &usize| matches!(&h.calls[*i].what, What::Write { op, forms, outcome } if *op > 0 && want(forms, outcome));
    Places((0..h.calls.len()).filter(fits).collect())
}

fn reads(h: &History, want: impl Fn(&Option<T>) -> bool) -> Places {
    let fits = |i: &usize| matches!(&h.calls[*i].what, What::Read { as_of, .. } if want(as_of));
    Places((0..h.calls.len()).filter(fits).collect())
}

fn done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done { .. })
}

/// Where a transaction swaps a balance, and from what.
fn swap(forms: &[Value]) -> Option<(usize, i64)> {
    forms.iter().enumerate().find_map(|(i, form)| match form {
        Value::Vector(parts) => match &parts[..] {
            [Value::Keyword(op), _, _, Value::Long(old), _] if op.as_str() == "db/cas" => Some((i, *old)),
            _ => None,
        },
        _ => None,
    })
}

fn asked(h: &History, i: usize) -> Option<(super::Question, T)> {
    match &h.calls[i].what {
        What::Read { question, basis, .. } => Some((question.clone(), *basis)),
        What::Write { .. } => None,
    }
}

fn rows_of(h: &History, i: usize) -> &std::collections::BTreeSet<super::Row> {
    match &h.calls[i].what {
        What::Read { rows, .. } => rows,
        What::Write { .. } => unreachable!("the place of a read"),
    }
}

/// A call that was acknowledged: its place, times and `t`.
fn acknowledged(h: &History, i: usize) -> Option<(usize, u64, u64, T)> {
    let c = &h.calls[i];
    match &c.what {
        What::Write { outcome: Outcome::Done { t, .. }, .. } => Some((i, c.began, c.ended, *t)),
        _ => None,
    }
}

fn set_t(h: &mut History, i: usize, to: T) {
    if let What::Write { outcome: Outcome::Done { t, datoms, .. }, .. } = &mut h.calls[i].what {
        *t = to;
        *datoms = None;
    }
}

/// Whether somebody was told of a `t` above `basis` before `by`.
fn newer_known(h: &History, after: u64, by: u64, basis: T) -> bool {
    h.calls.iter().any(|c| {
        c.ended > after
            && c.ended < by
            && matches!(&c.what, What::Write { outcome: Outcome::Done { t, .. }, .. } if *t > basis)
    })
}

/// Whether the request that became `t` was sent after a time.
fn sent_after(h: &History, t: T, time: u64) -> bool {
    h.calls.iter().any(|c| {
        c.began > time
            && matches!(&c.what, What::Write { outcome: Outcome::Done { t: told, .. }, .. } if *told == t)
    })
}
