//! Projections, what turns events into facts, and the queue of commands: looked after.
//!
//! One verb a function, for `annals projection DB VERB` and `:projections VERB` alike. A verb
//! that a server knows works there too ([`crate::backend::Conn::steer`]).

use crate::{
    backend::Conn,
    fail::{Failure, Outcome},
    interrupt,
    output::{Rows, table::counted},
    session::{Session, read_edn, read_text},
    term::theme,
};
use annals::{Keyword, Value, event::Position};
use std::path::Path;

/// What can be done to one projection by its name alone.
pub const VERBS: [&str; 7] = ["rebuild", "drop", "pause", "resume", "parked", "replay", "skipped"];

/// `annals projection list`.
pub fn list(s: &mut Session) -> Outcome {
    let mut rows =
        Rows::list([":projection", ":version", ":mode", ":state", ":position", ":behind", ":parked"]);
    let mut notes = Vec::new();
    for p in s.conn.projections()? {
        rows.rows.push(vec![
            Value::Keyword(p.name.clone()),
            Value::Long(p.version as i64),
            Value::keyword(&p.mode),
            Value::keyword(&p.state),
            Value::Long(p.position as i64),
            Value::Long(p.lag as i64),
            p.parked.map_or(Value::Nil, |n| Value::Long(n as i64)),
        ]);
        if let Some(why) = p.trouble {
            notes.push(format!("{} v{} {why}", p.name, p.version));
        }
        if p.parked.is_some_and(|n| n > 0) {
            notes.push(format!(
                "{} v{}: `:projections parked {}` shows what it set aside",
                p.name,
                p.version,
                p.name.as_str()
            ));
        }
    }
    if rows.rows.is_empty() && s.draws() {
        return s.say(s.out.paint(theme::DIM, "no projections; :projections add FILE installs one"));
    }
    s.answer(rows)?;
    for n in notes {
        s.note(s.err.paint(theme::BAD, n));
    }
    Ok(())
}

/// The text of a projection's file, checked.
pub fn read(file: &Path) -> Outcome<String> {
    let name = file.display().to_string();
    let text = read_text(&name)?;
    read_edn(&text, &name)?;
    Ok(text)
}

/// `annals projection add`.
pub fn add(s: &Session, file: &Path) -> Outcome {
    s.writable()?;
    let text = read(file)?;
    install(s, &text, &file.display().to_string())
}

/// Installs a projection from its text; nothing happens when it is there already.
pub fn install(s: &Session, text: &str, name: &str) -> Outcome {
    let installed = s.conn.add_projection(text).map_err(|f| f.of(name, text))?;
    s.note(s.err.paint(theme::DIM, format!("projection {} v{}", installed.name, installed.version)));
    Ok(())
}

/// Facts shown of each side of a preview.
const PREVIEWED: usize = 200;

/// `projection preview FILE`: what a changed projection would say, against what the live one says.
pub fn preview(s: &mut Session, file: &Path) -> Outcome {
    let text = read(file)?;
    let name = file.display().to_string();
    let said = interrupt::cancellable(None, |cancel| s.conn.preview(&text, PREVIEWED, cancel));
    let p = said.map_err(|f| f.of(&name, &text))?;
    let mut rows = Rows::list([":change", ":entity", ":attribute", ":value"]);
    for (change, facts) in [("removed", &p.removed), ("added", &p.added)] {
        rows.rows.extend(
            facts.iter().map(|[e, a, v]| vec![Value::keyword(change), e.clone(), a.clone(), v.clone()]),
        );
    }
    let live = p.live.map_or_else(|| "nothing yet".to_owned(), |v| format!("v{v}"));
    let events = counted(p.events, "event");
    if !rows.rows.is_empty() || !s.draws() {
        s.answer(rows)?;
    }
    let shown = (p.added.len() + p.removed.len()) as u64;
    let left = (p.n_added + p.n_removed).saturating_sub(shown);
    s.note(format!(
        "{} against {live}, over {events}: {} added, {} removed, {} the same{}; nothing is written",
        p.name,
        counted(p.n_added, "fact"),
        p.n_removed,
        p.same,
        if left > 0 { format!(" ({left} not shown)") } else { String::new() }
    ));
    for r in p.refused.iter().take(20) {
        s.note(s.err.paint(
            theme::BAD,
            format!("event {} ({}) cannot be taken: {}", r.position, r.ty.as_str(), r.why),
        ));
    }
    Ok(())
}

/// The projection that a name means; a slip is met with the nearest one.
fn named(s: &Session, name: &str) -> Outcome<Keyword> {
    let wanted = Keyword::new(name.trim_start_matches(':'));
    let known: Vec<Keyword> = s.conn.projections()?.into_iter().map(|p| p.name).collect();
    if known.contains(&wanted) {
        return Ok(wanted);
    }
    let f = Failure::refused("projection/unknown", format!("there is no projection {wanted}"));
    Err(match annals::diagnostic::nearest(wanted.as_str(), known.iter().map(Keyword::as_str)) {
        Some(near) => f.help(format!("did you mean {near}?")),
        None => f.help("`projection list` shows what there is"),
    })
}

/// One of [`VERBS`].
pub fn steer(s: &mut Session, verb: &str, name: &str) -> Outcome {
    match verb {
        "parked" => parked(s, name),
        "skipped" => skipped(s, name),
        "drop" => drop_one(s, name),
        "replay" => replay(s, name),
        _ => {
            s.writable()?;
            let name = named(s, name)?;
            let p = s.conn.steer(name.as_str(), verb)?;
            s.note(format!("{} v{} is {}, at event {}", p.name, p.version, p.state, p.position));
            Ok(())
        }
    }
}

fn drop_one(s: &Session, name: &str) -> Outcome {
    s.writable()?;
    let name = named(s, name)?;
    let Conn::Local(c) = &s.conn else {
        s.conn.steer(name.as_str(), "drop")?;
        s.note(format!("{name} is dropped; the past keeps its facts"));
        return Ok(());
    };
    let dropped = c.drop_projection(name.as_str())?;
    let facts = counted(dropped.facts, "fact");
    s.note(format!("{name} is dropped: {facts} retracted as of now; the past keeps them"));
    Ok(())
}

fn parked(s: &mut Session, name: &str) -> Outcome {
    let name = named(s, name)?;
    let all = s.conn.parked(name.as_str())?;
    let mut rows = Rows::list([":position", ":stream", ":type", ":why", ":id"]);
    rows.rows.extend(all.into_iter().map(|p| {
        vec![
            Value::Long(p.position.0 as i64),
            Value::string(p.stream.as_str()),
            Value::string(p.ty.as_str()),
            Value::string(&*p.why),
            Value::Uuid(p.id.0),
        ]
    }));
    if rows.rows.is_empty() && s.draws() {
        return s.say(s.out.paint(theme::DIM, "no event is parked"));
    }
    s.answer(rows)
}

fn replay(s: &Session, name: &str) -> Outcome {
    s.writable()?;
    let name = named(s, name)?;
    let (taken, left) = s.conn.replay_parked(name.as_str())?;
    s.note(format!("{} taken, {left} still parked", counted(taken, "event")));
    Ok(())
}

/// `:projections skip NAME POSITION WHY`: the event is left out from now on; who and why is kept.
pub fn skip(s: &Session, name: &str, position: &str, why: &str) -> Outcome {
    s.writable()?;
    let name = named(s, name)?;
    let position: u64 = position.parse().map_err(|_| {
        Failure::usage(format!("not a position: {position}"))
            .help("the number of an event over all streams, as :projections parked shows it")
    })?;
    if why.trim().is_empty() {
        return Err(Failure::usage("skipping an event wants a reason")
            .help("as in  :projections skip orders 17 \"booked twice, ticket 4711\""));
    }
    let by = std::env::var("USER").unwrap_or_else(|_| "shell".to_owned());
    let t = s.conn.skip_event(name.as_str(), Position(position), &by, why.trim())?;
    s.note(format!("event {position} is skipped by {name} from t{t} on; `:projections rebuild {}` makes its facts without it", name.as_str()));
    Ok(())
}

fn skipped(s: &mut Session, name: &str) -> Outcome {
    let name = named(s, name)?;
    let all = s.conn.skipped(name.as_str())?;
    let mut rows = Rows::list([":position", ":t", ":by", ":why"]);
    rows.rows.extend(all.into_iter().map(|k| {
        vec![
            Value::Long(k.position.0 as i64),
            Value::Long(k.t.0 as i64),
            Value::string(&*k.by),
            Value::string(&*k.why),
        ]
    }));
    if rows.rows.is_empty() && s.draws() {
        return s.say(s.out.paint(theme::DIM, "no event is skipped"));
    }
    s.answer(rows)
}

/// `:commands`: what waits to be carried out.
pub fn queue(s: &mut Session) -> Outcome {
    let mut rows = Rows::list([":command", ":category", ":id", ":type", ":status", ":sender"]);
    rows.rows.extend(s.conn.queued()?.into_iter().map(|q| {
        vec![
            Value::from(q.id),
            Value::from(q.category),
            Value::from(q.target),
            Value::from(q.ty),
            Value::from(q.status),
            q.sender.map_or(Value::Nil, Value::from),
        ]
    }));
    if rows.rows.is_empty() && s.draws() {
        return s.say(s.out.paint(theme::DIM, "no command waits"));
    }
    s.answer(rows)
}

/// `:commands drop ID WHY`: out of the queue, undone.
pub fn drop_command(s: &Session, id: &str, why: &str) -> Outcome {
    s.writable()?;
    if why.trim().is_empty() {
        return Err(Failure::usage("dropping a command wants a reason")
            .help("as in  :commands drop ID \"ticket 4711\""));
    }
    s.conn.drop_command(id, why.trim())?;
    s.note(format!("{id} is dropped; its sender is told that it was refused"));
    Ok(())
}
