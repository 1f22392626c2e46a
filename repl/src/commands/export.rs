//! `annals export`: what holds, as transactions or rows; or every transaction.

use super::events;
use crate::{
    backend::Db,
    cli::{Format, ViewArgs2},
    fail::{Failure, Outcome},
    moment,
    output::{Rows, Shape, json, table::counted},
    progress::Progress,
    session::{Mode, Session, write_rows},
};
use annals::{Datom, EntityId, Partition, T, TupleKind, Value, edn};
use clap::Parser as _;
use std::{
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

/// Facts a transaction of a plain export.
const BATCH: usize = 1_000;

/// A command line within the shell.
#[derive(Debug, clap::Parser)]
#[command(name = ":export", no_binary_name = true, disable_help_flag = true, disable_version_flag = true)]
struct Line {
    file: Option<PathBuf>,
    #[arg(long)]
    history: bool,
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    view: ViewArgs2,
}

/// `:export …`.
pub fn from_words(s: &Session, words: &[String]) -> Outcome {
    let line = Line::try_parse_from(words).map_err(|e| {
        let text = e.render().to_string();
        Failure::usage(text.lines().next().unwrap_or("").trim_start_matches("error: ").to_owned())
            .help("as in  :export full.edn --history")
    })?;
    let as_of = line.view.as_of.clone().or_else(|| {
        // The moment in the prompt is the moment exported.
        s.moment.as_of.map(|_| s.db().map_or(String::new(), |db| db.t().to_string()))
    });
    run(s, line.format, line.history, as_of.as_deref(), line.file.as_deref())
}

/// `annals export`.
pub fn run(
    s: &Session,
    format: Option<Format>,
    history: bool,
    as_of: Option<&str>,
    file: Option<&Path>,
) -> Outcome {
    let format = format.unwrap_or(match s.mode {
        Mode::Data(f) => f,
        Mode::Table | Mode::Records => Format::Edn,
    });
    let mut db = s.conn.db()?;
    if let Some(text) = as_of {
        db = db.as_of(moment::parse(text)?)?;
    }
    let mut out: BufWriter<Box<dyn Write>> = BufWriter::new(match file {
        Some(f) => Box::new(std::fs::File::create(f).map_err(|e| Failure::file(f, &e))?),
        None => Box::new(std::io::stdout().lock()),
    });
    let n = match (history, format) {
        (true, Format::Edn | Format::Json | Format::Ndjson) => transactions(s, &db, format, &mut out)?,
        (true, Format::Csv | Format::Table | Format::Parquet) => {
            datom_rows(s, &db.history(), format, &mut out)?
        }
        (false, Format::Edn) => facts(s, &db, &mut out)?,
        (false, _) => datom_rows(s, &db, format, &mut out)?,
    };
    out.flush()?;
    if file.is_some() {
        s.note(format!("{} written", counted(n, if history { "transaction" } else { "fact" })));
    }
    Ok(())
}

/// Every transaction, one map a line: what `annals import … edn` reads. Facts of projections
/// are there like any other, and what stands beside the facts is in `:rows`: a copy needs no
/// projection to be run again. Personal values of events are sealed there as in the database: without
/// the line of keys nobody reads them.
fn transactions(s: &Session, db: &Db, format: Format, out: &mut dyn Write) -> Outcome<u64> {
    let conn = s.conn.local("an export of the full history")?;
    let keys = conn.subject_keys();
    if !keys.is_empty() {
        let map = Value::map(
            keys.into_iter()
                .map(|(subject, key)| (Value::String(subject), key.map_or(Value::Nil, Value::from))),
        );
        line(format, &[("subject-keys", map)], out)?;
        s.note("with the keys of personal values: keep the file as you keep the database");
    }
    let total = db.t().0;
    let mut progress = Progress::new(s, "transactions", Some(total));
    for d in conn.dump(T(1), db.t().next())? {
        let d = d?;
        let data = d.facts.iter().map(|f| {
            let mut parts = vec![Value::Ref(f.e), f.a.clone(), f.v.clone(), Value::Bool(f.added)];
            if f.t != d.t {
                parts.push(Value::Long(f.t.0 as i64));
            }
            Value::vector(parts)
        });
        let mut entries = vec![
            ("t", Value::Long(d.t.0 as i64)),
            ("tx-instant", Value::Instant(d.instant)),
            ("tx-data", Value::vector(data)),
        ];
        if !d.rows.is_empty() {
            let events = events::as_maps(conn.stored_events(d.t)?)?;
            if !events.is_empty() {
                entries.push(("events", Value::vector(events)));
            }
            entries.push(("rows", Value::Bytes(d.rows.into())));
        }
        line(format, &entries, out)?;
        progress.add(1, d.t.0);
    }
    let n = progress.count();
    progress.done();
    Ok(n)
}

/// One map on one line, its keys in this order.
fn line(format: Format, entries: &[(&str, Value)], out: &mut dyn Write) -> Outcome {
    match format {
        Format::Edn => {
            let parts: Vec<String> = entries.iter().map(|(k, v)| format!(":{k} {}", edn::print(v))).collect();
            writeln!(out, "{{{}}}", parts.join(", "))?;
        }
        _ => {
            let map = Value::map(entries.iter().map(|(k, v)| (Value::keyword(k), v.clone())));
            writeln!(out, "{}", json::of(&map))?;
        }
    }
    Ok(())
}

/// What holds, as transactions: first the attributes and idents, then the facts.
fn facts(s: &Session, db: &Db, out: &mut dyn Write) -> Outcome<u64> {
    let all = db.datoms("eavt", &[])?;
    let (genesis, schema_of) = (s.conn.genesis()?, db.schema()?);
    // The database keeps composite tuples itself, and refuses to be told them.
    let kept = |d: &Datom| {
        matches!(schema_of.attribute(d.a).and_then(|a| a.tuple.as_ref()), Some(TupleKind::Composite(_)))
    };
    let own = |e: EntityId| match e.partition() {
        Some(Partition::Db) => genesis.ident(e).is_none(),
        Some(Partition::User) => true,
        _ => false,
    };
    let name = |e: EntityId| match (db.ident(e), e.partition()) {
        (Some(k), Some(Partition::Db)) => Value::Keyword(k),
        _ => Value::string(format!("e{}", e.raw())),
    };
    let mut n = 0;
    let mut schema: Vec<String> = Vec::new();
    let mut rest: Vec<Datom> = Vec::new();
    for chunk in all.chunk_by(|a, b| a.e == b.e) {
        let e = chunk[0].e;
        if !own(e) {
            continue;
        }
        if e.partition() == Some(Partition::Db) {
            let entries = chunk.iter().filter_map(|d| {
                let a = db.ident(d.a.entity())?;
                let v = match &d.v {
                    Value::Ref(target) => db.ident(*target).map_or_else(|| d.v.clone(), Value::Keyword),
                    v => v.clone(),
                };
                Some((Value::Keyword(a), v))
            });
            schema.push(edn::print(&Value::map(entries)));
            n += chunk.len() as u64;
        } else {
            rest.extend(chunk.iter().filter(|d| !kept(d)).cloned());
        }
    }
    if !schema.is_empty() {
        writeln!(out, "[{}]", schema.join("\n "))?;
    }
    // Tempids hold within one transaction: entities that refer to each other must go together.
    n += rest.len() as u64;
    for group in connected(&rest) {
        let lines = group.iter().filter_map(|d| {
            let a = db.ident(d.a.entity())?;
            let v = match &d.v {
                Value::Ref(e) => name(*e),
                v => v.clone(),
            };
            Some(edn::print(&Value::vector([Value::keyword("db/add"), name(d.e), Value::Keyword(a), v])))
        });
        writeln!(out, "[{}]", lines.collect::<Vec<_>>().join("\n "))?;
    }
    Ok(n)
}

/// Facts in groups that share no entity, each of about a batch or as large as it must be.
fn connected(facts: &[Datom]) -> Vec<Vec<Datom>> {
    use std::collections::HashMap;
    let mut parent: HashMap<u64, u64> = HashMap::new();
    fn root(parent: &mut HashMap<u64, u64>, e: u64) -> u64 {
        let mut at = e;
        loop {
            let up = *parent.entry(at).or_insert(at);
            if up == at {
                break;
            }
            let above = parent.get(&up).copied().unwrap_or(up);
            parent.insert(at, above);
            at = above;
        }
        at
    }
    for d in facts {
        let a = root(&mut parent, d.e.raw());
        if let Value::Ref(to) = &d.v
            && to.partition() == Some(Partition::User)
        {
            let b = root(&mut parent, to.raw());
            parent.insert(a.max(b), a.min(b));
        }
    }
    let mut groups: Vec<(u64, Vec<Datom>)> = Vec::new();
    let mut index: HashMap<u64, usize> = HashMap::new();
    for d in facts {
        let r = root(&mut parent, d.e.raw());
        let at = *index.entry(r).or_insert_with(|| {
            groups.push((r, Vec::new()));
            groups.len() - 1
        });
        groups[at].1.push(d.clone());
    }
    let mut out: Vec<Vec<Datom>> = Vec::new();
    for (_, g) in groups {
        match out.last_mut() {
            Some(last) if last.len() + g.len() <= BATCH => last.extend(g),
            _ => out.push(g),
        }
    }
    out
}

/// Facts as rows `e a v t`, and in history the op.
fn datom_rows(s: &Session, db: &Db, format: Format, out: &mut dyn Write) -> Outcome<u64> {
    let mut names = vec![":e", ":a", ":v", ":t"];
    if db.shown().history {
        names.push(":added");
    }
    let mut rows = Rows::new(names, Shape::Relation);
    let genesis = s.conn.genesis()?;
    for d in db.datoms("eavt", &[])? {
        if genesis.ident(d.e).is_some() || d.e == T::GENESIS.entity() {
            continue;
        }
        let a = db.ident(d.a.entity()).map_or(Value::Ref(d.a.entity()), Value::Keyword);
        let mut row = vec![Value::Ref(d.e), a, d.v, Value::Long(d.t.0 as i64)];
        if db.shown().history {
            row.push(Value::Bool(d.added));
        }
        rows.rows.push(row);
    }
    write_rows(&rows, format, out)?;
    Ok(rows.rows.len() as u64)
}
