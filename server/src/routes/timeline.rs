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

    /// Runs of transactions, as many as there are buckets, each of equal number.
    fn buckets(&self, basis: T, n: u64) -> Tree {
        let total = basis.0.min(self.0.len() as u64);
        let n = n.clamp(1, 2_000).min(total.max(1));
        (0..n)
            .map(|i| (i * total / n + 1, (i + 1) * total / n))
            .filter(|(from, to)| from <= to)
            .map(|(from, to)| {
                let (first, last) = (from as usize - 1, to as usize - 1);
                let start = if first == 0 { self.0[0].0 } else { self.0[first - 1].0 };
                let datoms: u64 = self.0[first..=last].iter().map(|(_, n)| u64::from(*n)).sum();
                Doc::new()
                    .with("from-t", from)
                    .with("to-t", to)
                    .with("from", start)
                    .with("to", self.0[last].0)
                    .with("transactions", to - from + 1)
                    .with("datoms", datoms)
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
