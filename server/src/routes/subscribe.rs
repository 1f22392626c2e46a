//! `POST /v1/db/{name}/subscribe`: a live query.
//!
//! ```text
//! id: 41   event: snapshot   data: {"basis-t":41,"columns":["?id"],"rows":[["A-1"]]}
//! id: 42   event: change     data: {"t":42,"added":[["A-2"]],"removed":[]}
//! id: 45   event: checkpoint data: {"t":45}
//! ```
//!
//! 1. The rows at t are those of the same query over the database as it was known at t:
//!    the query is run again for every transaction and the two row sets are subtracted.
//!    That is exact for every query there is, recursive ones and aggregates included.
//! 2. Resuming after t starts from the rows at t, which are the same whenever they are
//!    computed, whatever a late projection files under t afterwards: nothing is lost and
//!    nothing sent twice. Excision alone changes them: who resumes from before one gets a
//!    snapshot again.
//! 3. A transaction that changes no row sends nothing; once caught up, a
//!    `checkpoint` moves the id past it. One that touches nothing the query names is
//!    passed over without running it ([`Touch`]).
//! 4. Who lags behind reads each past t once: nothing of that is kept in the cache.

use crate::{
    answer::Answer,
    ask::Ask,
    call::Call,
    extract::{Format, bad},
    failure::OrProblem,
    routes::query::{columns, run},
    sse::{self, Gone, Sink},
    state::{Database, Server},
    token::Scope,
    touch::{Touch, touches_schema},
    wire::{
        problem::{Class, Problem},
        value::{self, Style},
    },
};
use annals::{Cancel, Db, Query, T, TxReport, Value};
use parking_lot::Mutex;
use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long one blocking call follows the log before it hands over what it has.
const SLICE: Duration = Duration::from_millis(50);

type Rows = HashSet<Vec<Value>>;

struct Live {
    server: Arc<Server>,
    database: Arc<Database>,
    query: Query,
    ask: Ask,
    /// By the schema at the t that has been reached.
    touch: Mutex<Touch>,
}

/// What one transaction did to the rows.
struct Step {
    t: T,
    added: Vec<Vec<Value>>,
    removed: Vec<Vec<Value>>,
}

/// The route.
pub async fn subscribe(mut call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    let last = sse::last_event_id(&call)?.map(T);
    call.params = std::mem::take(&mut call.params).only(&["after"])?;
    let (_, ask, _) = Ask::post(&mut call).await?;
    call.accept(&[Format::Sse], None)?;
    if ask.as_of.is_some() {
        return Err(Problem::new(
            Class::Meaning,
            "subscribe/as-of",
            "what is past does not change: subscribe without as_of",
        )
        .into());
    }
    let newest = database.conn.db().t();
    if let Some(last) = last
        && last > newest
    {
        return Err(bad("after", "is a t this database has not reached").with("basis-t", newest.0).into());
    }
    let query = call.server.prepared.query(&ask.query)?;
    let live = Arc::new(Live {
        server: call.server.clone(),
        database,
        query,
        ask,
        touch: Mutex::new(Touch::Anything),
    });
    // The first run happens before the answer begins, so that its errors have a status.
    let first = live.clone();
    let (start, resumed, rows) = call
        .server
        .readers
        .run(move |cancel| {
            // What was excised since is in no database any more: who had it begins anew.
            let resumed = match last {
                Some(at) => !first.excised(at, newest)?,
                None => false,
            };
            let start = last.filter(|_| resumed).unwrap_or(newest);
            *first.touch.lock() = first.touch_of(&first.as_known(start)?);
            Ok((start, resumed, first.rows_at(start, cancel)?))
        })
        .await?;
    Ok(sse::stream(&call, start, move |sink| follow(live, sink, start, rows, resumed))?)
}

async fn follow(live: Arc<Live>, sink: Sink, start: T, rows: Rows, resumed: bool) -> Result<(), Gone> {
    if !resumed {
        sink.event(Some(start.0), "snapshot", &live.snapshot(start, &rows)).await?;
    }
    let mut basis = live.database.basis.clone();
    let (mut at, mut told, mut rows) = (start, start, rows);
    loop {
        let newest = sink.idle(sse::beyond(&mut basis, at)).await?.ok_or(Gone)?;
        while at < newest {
            let (of, from, before) = (live.clone(), at, std::mem::take(&mut rows));
            let work = live.server.readers.run(move |cancel| of.advance(from, newest, before, &cancel));
            let (steps, now, reached) = match sink.idle(work).await? {
                Ok(done) => done,
                Err(problem) => return sink.fail(&problem).await,
            };
            for step in steps {
                sink.event(Some(step.t.0), "change", &step.json(live.style())).await?;
                told = step.t;
            }
            (rows, at) = (now, reached);
        }
        if told < at {
            sink.event(Some(at.0), "checkpoint", &format!("{{\"t\":{}}}", at.0)).await?;
            told = at;
        }
    }
}

impl Live {
    /// The database whose newest transaction is `t`. What a late projection files under the past
    /// afterwards is not in it: that belongs to the transaction that wrote it.
    fn as_known(&self, t: T) -> Result<Db, Problem> {
        let newest = self.database.conn.db();
        let db = match newest.basis_t() == t {
            true => newest,
            false => self.database.conn.db_at(t).or_problem()?,
        };
        // Of the present the columns are at hand; those of a past t, or of one that a write overtakes while it
        // is read, are made for this once.
        Ok(db.uncached())
    }

    /// Were facts taken out of the log by a transaction behind `after`?
    fn excised(&self, after: T, newest: T) -> Result<bool, Problem> {
        for report in self.database.conn.tx_range(after.next(), newest.next()).or_problem()? {
            if report.or_problem()?.excises() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn rows_at(&self, t: T, cancel: Cancel) -> Result<Rows, Problem> {
        let db = self.ask.view(self.as_known(t)?)?;
        let answer = run(&self.server, &db, &self.query, &self.ask, cancel)?;
        let most = self.server.limits.result_rows;
        if answer.rows.len() as u64 > most {
            return Err(Problem::new(
                Class::Meaning,
                "query/too-many-rows",
                format!("a live query has at most {most} rows"),
            )
            .with("rows", answer.rows.len()));
        }
        Ok(answer.rows.iter().collect())
    }

    /// Goes on from the rows as of `at`, one transaction after the other, until `newest` or the slice is over.
    fn advance(
        &self,
        at: T,
        newest: T,
        rows: Rows,
        cancel: &Cancel,
    ) -> Result<(Vec<Step>, Rows, T), Problem> {
        let began = Instant::now();
        let (mut at, mut rows, mut steps) = (at, rows, Vec::new());
        let range = self.database.conn.tx_range(at.next(), newest.next()).or_problem()?;
        for report in range {
            let report = report.or_problem()?;
            let t = report.t();
            if self.counts(&report) {
                let now = self.rows_at(t, cancel.clone())?;
                let sorted = |mut rows: Vec<Vec<Value>>| {
                    rows.sort();
                    rows
                };
                let added = sorted(now.difference(&rows).cloned().collect());
                let removed = sorted(rows.difference(&now).cloned().collect());
                if !added.is_empty() || !removed.is_empty() {
                    steps.push(Step { t, added, removed });
                }
                rows = now;
            }
            at = t;
            if began.elapsed() >= SLICE {
                break;
            }
        }
        Ok((steps, rows, at))
    }

    /// Can this transaction change the rows? One that touches the schema can change what decides that, and one
    /// that excises does not say what it took.
    fn counts(&self, report: &TxReport) -> bool {
        let db = report.db_after();
        let mut touch = self.touch.lock();
        let counts = report.excises() || touch.by(report.tx_data(), db.schema());
        if touches_schema(report.tx_data(), db.schema()) {
            *touch = self.touch_of(db);
        }
        counts
    }

    fn touch_of(&self, db: &Db) -> Touch {
        match self.ask.since {
            // What was asserted since an instant to come can begin with any transaction.
            Some(_) => Touch::Anything,
            // Rules among the arguments, as text or as data or by name.
            None if self.ask.rules.is_none()
                && self.query.ast().inputs.iter().any(|i| i.node.to_string() == "%") =>
            {
                Touch::Anything
            }
            None => Touch::of(&self.query, self.ask.rules.as_deref(), &self.ask.args, db.schema()),
        }
    }

    fn style(&self) -> Style {
        if self.ask.exact { Style::Exact } else { Style::Plain }
    }

    fn snapshot(&self, t: T, rows: &Rows) -> String {
        let mut sorted: Vec<&Vec<Value>> = rows.iter().collect();
        sorted.sort();
        let mut out = format!("{{\"basis-t\":{},\"shape\":\"rel\",\"columns\":[", t.0);
        for (i, c) in columns(&self.query).iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            value::write_str(&mut out, c);
        }
        out.push_str("],\"rows\":");
        list(&mut out, sorted.into_iter(), self.style());
        out.push('}');
        out
    }
}

impl Step {
    fn json(&self, style: Style) -> String {
        let mut out = format!("{{\"t\":{},\"added\":", self.t.0);
        list(&mut out, self.added.iter(), style);
        out.push_str(",\"removed\":");
        list(&mut out, self.removed.iter(), style);
        out.push('}');
        out
    }
}

fn list<'a>(out: &mut String, rows: impl Iterator<Item = &'a Vec<Value>>, style: Style) {
    out.push('[');
    for (i, row) in rows.enumerate() {
        if i > 0 {
            out.push(',');
        }
        value::write(out, &Value::vector(row.iter().cloned()), style);
    }
    out.push(']');
}
