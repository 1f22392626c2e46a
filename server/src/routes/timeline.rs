//! `GET /v1/db/{name}/timeline`: how transactions are spread over time.
//!
//! The log is read once and then only its new end: [`Density`] keeps one pair of
//! numbers a transaction.

use crate::{
    answer::{self, Answer},
    call::Call,
    failure::OrProblem,
    token::Scope,
    wire::{
        problem::Problem,
        tree::{Doc, Tree},
    },
};
use annals::{Connection, Instant, T};
use axum::http::StatusCode;

/// Buckets when none are asked for.
const BUCKETS: u64 = 160;

/// When each transaction was and how many datoms it has, from t1 on.
#[derive(Debug, Default)]
pub struct Density(Vec<(Instant, u32)>);

impl Density {
    /// Reads what is new in the log.
    fn catch_up(&mut self, conn: &Connection, basis: T) -> Result<(), Problem> {
        let from = T(self.0.len() as u64 + 1);
        if from > basis {
            return Ok(());
        }
        for report in conn.tx_range(from, basis.next()).or_problem()? {
            let report = report.or_problem()?;
            self.0.push((report.tx_instant(), u32::try_from(report.tx_data().len()).unwrap_or(u32::MAX)));
        }
        Ok(())
    }

    /// Equal stretches of clock time with what happened in each. An empty stretch has
    /// `from-t` one past `to-t`.
    fn buckets(&self, basis: T, n: u64) -> Tree {
        let total = usize::try_from(basis.0).unwrap_or(usize::MAX).min(self.0.len());
        let all = &self.0[..total];
        let (Some((first, _)), Some((last, _))) = (all.first(), all.last()) else {
            return Tree::List(Vec::new());
        };
        let span = last.0 - first.0;
        let n = i64::try_from(n).unwrap_or(i64::MAX).clamp(1, 2_000).min(span.max(1));
        let mut done = 0;
        (1..=n)
            .map(|i| {
                let edge =
                    |i: i64| Instant(first.0 + (i128::from(span) * i128::from(i) / i128::from(n)) as i64);
                let end = if i == n { *last } else { edge(i) };
                let count = all[done..].iter().take_while(|(at, _)| *at <= end).count();
                let datoms: u64 = all[done..done + count].iter().map(|(_, n)| u64::from(*n)).sum();
                let bucket = Doc::new()
                    .with("from-t", done + 1)
                    .with("to-t", done + count)
                    .with("from", edge(i - 1))
                    .with("to", end)
                    .with("transactions", count)
                    .with("datoms", datoms);
                done += count;
                bucket
            })
            .collect()
    }
}

/// The route.
pub async fn timeline(mut call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    let params = std::mem::take(&mut call.params).only(&["buckets"])?;
    let format = call.accept_tree(None)?;
    let n = params.number("buckets")?.unwrap_or(BUCKETS);
    let (basis, doc) = call
        .server
        .readers
        .run(move |_| {
            let basis = database.conn.db().t();
            let mut density = database.density.lock();
            density.catch_up(&database.conn, basis)?;
            Ok((basis, Doc::new().with("basis-t", basis).with("buckets", density.buckets(basis, n))))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, basis, doc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_every_transaction_once() {
        for total in [0u64, 1, 2, 159, 160, 161, 1_000] {
            let density = Density((0..total).map(|i| (Instant(i as i64), 1)).collect());
            let Tree::List(buckets) = density.buckets(T(total), 160) else { panic!("a list") };
            let mut json = String::new();
            Tree::List(buckets).write_json(&mut json);
            let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
            let sum: u64 =
                parsed.as_array().unwrap().iter().map(|b| b["transactions"].as_u64().unwrap()).sum();
            assert_eq!(sum, total);
        }
    }
}
