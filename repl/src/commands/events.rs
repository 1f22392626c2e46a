//! Streams and events.
//!
//! Events are read as entities (`:event/…`), with the same Datalog as facts.

use super::{facts, write};
use crate::{
    ask,
    backend::{self, Db, ProjectionRow, Report},
    fail::{Failure, Outcome, io_words},
    form,
    import::events::incoming,
    interrupt,
    output::{
        Rows, Shape, show,
        table::{Cell, Head, Table},
    },
    session::{Session, read_edn},
    shell::vocabulary::Vocabulary,
    term::theme,
};
use annals::{
    Value,
    event::{Appended, Data, EventId, Expected, NewEvent, Tag, Version},
};
use std::{collections::BTreeSet, io::BufRead, time::Duration};

/// Words offered by completion.
const WORDS: usize = 1_000;
/// Longest time a prompt waits for them.
const WORDS_MS: u64 = 50;

/// Streams, types and projections for completion.
pub fn add_words(s: &Session, words: &mut Vocabulary) {
    words.projections = statuses(s).into_iter().map(|p| p.name.as_str().to_owned()).collect();
    let Ok(db) = s.conn.db() else { return };
    let mut streams = BTreeSet::new();
    let mut types = BTreeSet::new();
    // Newest first, and no more than a prompt can wait for.
    let seen = ask::ask(
        "[:find ?s ?y ?p :where [?e :event/stream ?s] [?e :event/type ?y] [?e :event/position ?p] :order-by [?p :desc] :limit 2000]",
        &db,
        &ask::Given { timeout_ms: Some(WORDS_MS), ..ask::Given::default() },
    );
    for row in seen.iter().flat_map(|a| &a.rows.rows) {
        if let [Value::String(stream), Value::String(ty), ..] = &row[..] {
            if streams.len() < WORDS {
                streams.insert(stream.to_string());
            }
            types.insert(ty.to_string());
        }
    }
    words.streams = streams.into_iter().collect();
    words.event_types = types.into_iter().collect();
}

/// Every version of every projection; none when they cannot be read.
fn statuses(s: &Session) -> Vec<ProjectionRow> {
    s.conn.projections().unwrap_or_default()
}

/// `--expect`.
pub fn expected(text: &str) -> Outcome<Expected> {
    Ok(match text {
        "any" => Expected::Any,
        "none" => Expected::NoStream,
        "exists" => Expected::Exists,
        n => match n.parse::<u64>() {
            Ok(n) => Expected::Exact(Version(n)),
            Err(_) => {
                return Err(Failure::usage(format!(
                    "--expect {n}: write any, none, exists, or the stream's version"
                )));
            }
        },
    })
}

/// `annals append`: every event of the input in one transaction.
pub fn append_stream(
    s: &Session,
    stream: &str,
    input: impl BufRead,
    name: &str,
    expect: Expected,
) -> Outcome {
    s.writable()?;
    let mut events = Vec::new();
    for (i, line) in input.lines().enumerate() {
        let line =
            line.map_err(|e| Failure::refused("shell/file", format!("{name}:{}: {}", i + 1, io_words(&e))))?;
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |why: String| Failure::refused("import/line", format!("{name}:{}: {why}", i + 1));
        let j: serde_json::Value =
            serde_json::from_str(&line).map_err(|e| wrong(format!("column {}: not JSON", e.column())))?;
        let e = incoming(&j, Some(stream)).map_err(wrong)?;
        if e.stream != stream {
            return Err(wrong(format!("the event is for stream {}, not {stream}", e.stream)));
        }
        events.push(e.event);
    }
    if events.is_empty() {
        return Err(Failure::refused("import/empty", format!("{name} holds no event")));
    }
    let appended = s.conn.append(backend::write_to(stream, expect, events)?)?;
    s.print(&appended_row(&appended))
}

/// `{:t :first :last :version :replayed}`.
fn appended_row(a: &Appended) -> Rows {
    let mut rows = Rows::new([":t", ":first", ":last", ":version", ":replayed"], Shape::Map);
    rows.rows.push(vec![
        Value::Long(a.t.0 as i64),
        Value::Long(a.first.0 as i64),
        Value::Long(a.last.0 as i64),
        Value::Long(a.version().0 as i64),
        Value::Bool(a.replayed),
    ]);
    rows
}

/// An event typed as a map: `{:stream … :type … :data {…}}`.
pub fn append_map(s: &mut Session, text: &str) -> Outcome {
    let v = read_edn(text, "event")?;
    let get = |k: &str| v.get(&Value::keyword(k)).cloned();
    let word =
        |v: Option<Value>| v.map(|v| crate::output::data::field(&v).trim_start_matches(':').to_owned());
    let stream = word(get("stream")).unwrap_or_default();
    let ty = word(get("type")).unwrap_or_default();
    let mut e = event(&ty, get("data"))?;
    if let Some(id) = word(get("id")) {
        e = e.id(EventId::of_text(&id));
    }
    if let Some(Value::Instant(t)) = get("time") {
        e = e.occurred_at(t);
    }
    if let Some(Value::Vector(tags) | Value::Set(tags)) = get("tags") {
        for t in tags.iter() {
            e = e.tag(Tag::new(crate::output::data::field(t)).map_err(|b| Failure::usage(b.to_string()))?);
        }
    }
    if let Some(Value::Map(meta)) = get("meta") {
        for (k, v) in meta.iter() {
            let k = crate::output::data::field(k);
            e = match (k.trim_start_matches(':'), v) {
                ("actor", Value::String(a)) => e.actor(a),
                ("correlation", Value::String(c)) => e.correlation(c),
                (k, v) => e.meta(k, v.clone()),
            };
        }
    }
    let expect = match word(get("expect")) {
        Some(text) => expected(&text)?,
        None => Expected::Any,
    };
    append_one(s, &stream, e, expect)
}

fn event(ty: &str, data: Option<Value>) -> Outcome<NewEvent> {
    let data = data.unwrap_or_else(|| Value::map([]));
    NewEvent::new(ty, data).map_err(|e| Failure::refused("event/bad", e.to_string()))
}

fn append_one(s: &mut Session, stream: &str, e: NewEvent, expect: Expected) -> Outcome {
    s.writable()?;
    let appended = s.conn.append(backend::write_to(stream, expect, vec![e])?)?;
    if !s.draws() {
        return s.print(&appended_row(&appended));
    }
    if appended.replayed {
        s.say(s.out.paint(theme::DIM, format!("stored before, at t{}", appended.t)))?;
        return Ok(());
    }
    let report = write::transaction(&s.conn, appended.t)?;
    s.say(format!(
        "{}  {}",
        write::headline(s, &report),
        s.out.paint(
            theme::DIM,
            format!("{stream} version {}, position {}", appended.version().0, appended.last.0)
        )
    ))?;
    let data = write::content(&report);
    s.page(&facts::datoms(&data, report.db_after(), report.db_before(), 20, &s.out))
}

/// `:send STREAM TYPE [DATA]`.
pub fn send(s: &mut Session, args: &str) -> Outcome {
    let (stream, rest) =
        args.split_once(char::is_whitespace).ok_or_else(|| Failure::usage("a stream and a type"))?;
    if stream.starts_with(['"', '[', '{']) {
        return Err(Failure::usage("a stream and a type"));
    }
    let rest = rest.trim_start();
    let (ty, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if ty.is_empty() {
        return Err(Failure::usage("a stream and a type"));
    }
    let data = match form::split_form(rest) {
        None if rest.trim().is_empty() => None,
        None => return Err(Failure::refused("edn/unclosed", "the data is not a whole form").of("data", rest)),
        Some((text, _)) => Some(match serde_json::from_str::<serde_json::Value>(text) {
            Ok(j) if j.is_object() => Data::from_json(&j)
                .and_then(|d| d.value())
                .map_err(|e| Failure::refused("event/bad", e.to_string()))?,
            _ => read_edn(text, "data")?,
        }),
    };
    append_one(s, stream, event(ty, data)?, Expected::Any)
}

/// `:streams`, `:streams STREAM`.
pub fn streams(s: &mut Session, stream: Option<&str>) -> Outcome {
    let db = s.view_without_history()?;
    let Some(stream) = stream else {
        let query = "[:find ?stream (max ?v) (max ?at) :where [?e :event/stream ?stream] [?e :event/version ?v] [?e :event/recorded-at ?at]]";
        let found = ask::ask(query, &db, &ask::Given::default())?.rows;
        let mut rows = Rows::list([":stream", ":version", ":last-event"]);
        rows.rows = found.rows;
        return s.answer(rows);
    };
    let found = events_of(&db, "event/stream", &Value::string(stream))?;
    if found.is_empty() {
        let known = s.vocabulary().streams;
        let f = Failure::refused("event/no-stream", format!("there is no stream {stream} in this view"));
        return Err(match annals::diagnostic::nearest(stream, known.iter().map(String::as_str)) {
            Some(near) => f.help(format!("did you mean {near}?")),
            None => f.help(":streams lists them"),
        });
    }
    let mut rows = Rows::list([":version", ":type", ":t", ":time", ":data", ":meta"]);
    for e in found {
        let get = |k: &str| e.get(k).cloned().unwrap_or(Value::Nil);
        let time =
            e.get("event/occurred-at").or_else(|| e.get("event/recorded-at")).cloned().unwrap_or(Value::Nil);
        let t = match get("event/t") {
            Value::Ref(t) => t.as_t().map_or(Value::Nil, |t| Value::Long(t.0 as i64)),
            other => other,
        };
        rows.rows.push(vec![
            get("event/version"),
            get("event/type"),
            t,
            time,
            get("event/data"),
            get("event/meta"),
        ]);
    }
    s.answer(rows)
}

/// Events by one of their attributes, in order of position.
fn events_of(db: &Db, attr: &str, v: &Value) -> Outcome<Vec<annals::Entity>> {
    let mut out = Vec::new();
    for d in db.datoms("avet", &[Value::keyword(attr), v.clone()])? {
        out.extend(db.entity(d.e)?);
    }
    out.sort_by_key(|e| e.id);
    Ok(out)
}

/// Events as maps for an export.
pub fn as_maps(events: Vec<annals::event::Recorded>) -> Outcome<Vec<Value>> {
    let mut out = Vec::new();
    for e in events {
        let event = &e.event;
        let mut map = vec![
            (Value::keyword("stream"), Value::string(e.stream.as_str())),
            (Value::keyword("type"), Value::string(e.ty())),
            (Value::keyword("id"), Value::Uuid(event.id.0)),
            (Value::keyword("schema"), Value::Long(event.schema.into())),
            (
                Value::keyword("data"),
                event.data.value().map_err(|e| Failure::refused("event/bad", e.to_string()))?,
            ),
        ];
        if let Some(at) = event.occurred_at {
            map.push((Value::keyword("occurred-at"), Value::Instant(at)));
        }
        if !event.tags.is_empty() {
            map.push((
                Value::keyword("tags"),
                Value::vector(event.tags.iter().map(|t| Value::string(t.as_str()))),
            ));
        }
        let meta = crate::import::events::meta_value(event);
        if meta != Value::map([]) {
            map.push((Value::keyword("meta"), meta));
        }
        out.push(Value::map(map));
    }
    Ok(out)
}

/// `:watch`: transactions, or a query's rows, as they change, until Ctrl-C.
pub fn watch(s: &mut Session, query: Option<&str>) -> Outcome {
    let mut watch = s.conn.watch()?;
    s.note(s.err.paint(theme::DIM, "watching; Ctrl-C ends it"));
    let given = s.given();
    let mut before: BTreeSet<Vec<Value>> = BTreeSet::new();
    if let Some(q) = query {
        let rows = ask::ask(q, &s.db()?, &given)?.rows;
        before = rows.rows.iter().cloned().collect();
        s.print(&rows)?;
    }
    loop {
        let next = interrupt::cancellable(None, |cancel| {
            while !cancel.is_cancelled() {
                match watch.next_timeout(Duration::from_millis(100)) {
                    Ok(None) => {}
                    other => return Some(other),
                }
            }
            None
        });
        let Some(report) = next else { return Ok(()) };
        let Some(report) = report? else { return Ok(()) };
        match query {
            None => write::show_report(s, &report)?,
            Some(q) => {
                let db = s.view(report.db_after().clone())?;
                let rows: BTreeSet<Vec<Value>> = ask::ask(q, &db, &given)?.rows.rows.into_iter().collect();
                changes(s, &report, &before, &rows)?;
                before = rows;
            }
        }
    }
}

fn changes(s: &Session, r: &Report, before: &BTreeSet<Vec<Value>>, after: &BTreeSet<Vec<Value>>) -> Outcome {
    let lost = before.difference(after).map(|v| ("-", theme::BAD, v));
    let gained = after.difference(before).map(|v| ("+", theme::GOOD, v));
    let all: Vec<_> = lost.chain(gained).collect();
    if all.is_empty() {
        return Ok(());
    }
    s.say(s.out.paint(theme::DIM, format!("t{}  {}", r.t(), show::instant(&r.tx_instant().to_string()))))?;
    let width = all.iter().map(|(_, _, v)| v.len()).max().unwrap_or(0);
    let mut t = Table::new(std::iter::once(Head::new("")).chain((0..width).map(|_| Head::new(""))));
    for (sign, style, row) in all {
        let cells = row.iter().map(|v| Cell { style, ..show::cell(v, Some(r.db_after()), &s.out) });
        t.rows.push(std::iter::once(Cell::new(sign, style)).chain(cells).collect());
    }
    for row in &t.rows {
        let texts: Vec<String> = row
            .iter()
            .map(|c| s.out.paint(c.style, crate::output::table::visible(&c.text)).to_string())
            .collect();
        s.say(texts.join("  "))?;
    }
    Ok(())
}
