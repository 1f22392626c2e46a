//! XES event logs (IEEE 1849): a trace is a stream, `concept:name` the type.
//!
//! All events are sorted by `time:timestamp` (a log is sorted by trace), so that the
//! order of the database is the order of time. Event ids derive from trace and place in it.

use super::{
    events::{Incoming, Sink, install, read_projections, report, report_rejected, stream_name},
    rejects::Rejects,
    source::Source,
};
use crate::{
    fail::{Failure, Outcome},
    session::Session,
};
use annals::{
    Instant,
    event::{EventId, NewEvent},
};
use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};
use serde_json::{Map, Value as Json};
use std::path::{Path, PathBuf};

/// `import xes`. An event that is none (it has no name, its time is no time) is set aside, where
/// there is a file for such; of XML that is not well formed nothing is imported.
pub fn run(s: &mut Session, file: &str, projections: &[PathBuf], rejects: Option<&Path>) -> Outcome {
    let texts = read_projections(projections)?;
    let mut rejects = Rejects::open(rejects)?;
    let mut source = Source::open(file)?;
    let text = source.text()?;
    let wrong = |why: String| Failure::refused("import/xes", format!("{}: {why}", source.name));
    let Parsed { events: mut all, refused } = parse(&text).map_err(wrong)?;
    for r in refused {
        let line = 1 + text.as_bytes()[..r.at].iter().filter(|b| **b == b'\n').count() as u64;
        rejects.put(&source.name, line, &r.why, &text[r.at..r.end])?;
    }
    // Stable: events of one moment keep the order of the log.
    all.sort_by_key(|e| e.time);
    let mut sink = Sink::new(s, Some(all.len() as u64));
    for (i, e) in all.into_iter().enumerate() {
        sink.push(e, i as u64, &source)?;
    }
    let done = sink.finish(&source)?;
    let rejected = rejects.finish()?;
    install(s, &texts)?;
    report(s, done);
    report_rejected(s, rejected, "event");
    Ok(())
}

/// A log as read.
struct Parsed {
    events: Vec<Incoming>,
    refused: Vec<Refused>,
}

/// An `<event>` that is no event: where it stands, and why.
struct Refused {
    at: usize,
    end: usize,
    why: String,
}

/// Attributes of a trace or an event: `key` to value.
type Attributes = Map<String, Json>;

fn parse(text: &str) -> Result<Parsed, String> {
    let mut reader = Reader::from_str(text);
    let mut out = Parsed { events: Vec::new(), refused: Vec::new() };
    let mut begun = 0;
    let mut path: Vec<String> = Vec::new();
    let mut trace = Attributes::new();
    let mut event: Option<Attributes> = None;
    let (mut traces, mut in_trace) = (0usize, 0usize);
    loop {
        let at = reader.buffer_position();
        let bad = |why: String| format!("byte {at}: {why}");
        match reader.read_event().map_err(|e| bad(e.to_string()))? {
            Event::Eof => break,
            Event::Start(tag) => {
                let name = tag.local_name().as_ref().to_owned();
                match name.as_str() {
                    "trace" => {
                        traces += 1;
                        in_trace = 0;
                        trace = Attributes::new();
                    }
                    "event" => {
                        event = Some(Attributes::new());
                        begun = usize::try_from(at).unwrap_or(0);
                    }
                    _ => attribute(&tag, &path, &mut trace, &mut event).map_err(bad)?,
                }
                path.push(name);
                if path.len() > 256 {
                    return Err(bad("elements are nested deeper than 256".into()));
                }
            }
            Event::Empty(tag) => attribute(&tag, &path, &mut trace, &mut event).map_err(bad)?,
            Event::End(_) => {
                if path.pop().as_deref() == Some("event")
                    && let Some(e) = event.take()
                {
                    match incoming(e, &trace, traces, in_trace) {
                        Ok(e) => out.events.push(e),
                        Err(why) => {
                            let end = usize::try_from(reader.buffer_position()).unwrap_or(text.len());
                            out.refused.push(Refused { at: begun, end, why });
                        }
                    }
                    in_trace += 1;
                }
            }
            _ => {}
        }
    }
    if traces == 0 {
        return Err("there is no <trace> in it".into());
    }
    Ok(out)
}

/// `<string key="concept:name" value="…"/>` directly in a trace or an event; nested ones are left out.
fn attribute(
    tag: &BytesStart<'_>,
    path: &[String],
    trace: &mut Attributes,
    event: &mut Option<Attributes>,
) -> Result<(), String> {
    let target = match path.last().map(String::as_str) {
        Some("event") => match event {
            Some(e) => e,
            None => return Ok(()),
        },
        Some("trace") => trace,
        _ => return Ok(()),
    };
    let (mut key, mut value) = (None, None);
    for a in tag.attributes() {
        let a = a.map_err(|e| e.to_string())?;
        let text =
            a.normalized_value(quick_xml::XmlVersion::Implicit1_0).map_err(|e| e.to_string())?.into_owned();
        match a.key.as_ref() {
            "key" => key = Some(text),
            "value" => value = Some(text),
            _ => {}
        }
    }
    let (Some(key), Some(value)) = (key, value) else { return Ok(()) };
    let json = match tag.local_name().as_ref() {
        "int" => value.parse().map_or(Json::String(value), |n: i64| Json::from(n)),
        "float" => value
            .parse()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map_or(Json::String(value), Json::Number),
        "boolean" => Json::Bool(value.eq_ignore_ascii_case("true")),
        _ => Json::String(value),
    };
    target.insert(key, json);
    Ok(())
}

fn incoming(mut e: Attributes, trace: &Attributes, number: usize, place: usize) -> Result<Incoming, String> {
    let text = |m: &Attributes, k: &str| m.get(k).and_then(Json::as_str).map(str::to_owned);
    let case = text(trace, "concept:name").unwrap_or_else(|| number.to_string());
    let ty = text(&e, "concept:name").ok_or("an event has no concept:name")?;
    let time = match text(&e, "time:timestamp") {
        Some(t) => Some(Instant::parse(&t).ok_or_else(|| format!("no date-time: {t}"))?),
        None => None,
    };
    let actor = text(&e, "org:resource");
    for k in ["concept:name", "time:timestamp"] {
        e.remove(k);
    }
    // `org:group` reads better as a field called group.
    let data: Attributes =
        e.into_iter().map(|(k, v)| (k.rsplit(':').next().unwrap_or(&k).to_owned(), v)).collect();
    let id = EventId::of_text(&format!("xes:{case}:{place}"));
    let mut event = NewEvent::new(ty.as_str(), Json::Object(data)).map_err(|e| e.to_string())?.id(id);
    if let Some(a) = actor {
        event = event.actor(a);
    }
    if let Some(t) = time {
        event = event.occurred_at(t);
    }
    Ok(Incoming { stream: stream_name(format!("case-{case}"))?, event, time, group: None })
}
