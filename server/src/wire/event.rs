//! Domain events on the wire: what is appended, and CloudEvents out.
//!
//! | CloudEvents | ours |
//! |---|---|
//! | `id` `type` `data` | as appended |
//! | `source` | the database's path |
//! | `subject` | the stream |
//! | `time` | when it was recorded |
//! | `dataschema` | `type/schema` |
//! | `streamversion` `position` `t` | numbers of ours |
//! | `occurredat` `correlationid` `causationid` `actor` `tags` `meta` | when there are any |

use super::{
    problem::{Class, Problem},
    value,
};
use annals::{
    Instant, Value,
    event::{Data, EventId, EventType, Expected, Item, NewEvent, Recorded, StreamId, Tag, Version, of_json},
};
use serde_json::{Map, Value as Json, json};

/// The events of a body: an array, one object, or one object a line.
pub fn events(json: &Json) -> Result<Vec<NewEvent>, Problem> {
    match json {
        Json::Array(items) => {
            items.iter().enumerate().map(|(i, e)| one(e, &format!("events[{i}]"))).collect()
        }
        Json::Object(_) => Ok(vec![one(json, "event")?]),
        _ => Err(bad("events", "is an array of events")),
    }
}

fn one(json: &Json, path: &str) -> Result<NewEvent, Problem> {
    let Json::Object(members) = json else { return Err(bad(path, "is an object")) };
    let ty = text(members, "type", path)?.ok_or_else(|| bad(path, "has no type"))?;
    let ty = EventType::new(ty).map_err(|e| wrong(path, &e))?;
    let data = payload(members.get("data").unwrap_or(&Json::Null))?;
    let data = Data::of(&data).map_err(|e| wrong(path, &e))?;
    let mut event = NewEvent::new(ty, data).map_err(|e| wrong(path, &e))?;
    for (name, v) in members {
        match name.as_str() {
            "type" | "data" => {}
            _ if v.is_null() => {}
            "id" => {
                event.id =
                    EventId::of_text(v.as_str().ok_or_else(|| bad(path, "has an id that is no string"))?)
            }
            "schema" => {
                event.schema = v
                    .as_u64()
                    .and_then(|n| u32::try_from(n).ok())
                    .ok_or_else(|| bad(path, "has a schema that is no number"))?;
            }
            "time" | "occurred_at" => {
                let at = v
                    .as_str()
                    .and_then(Instant::parse)
                    .ok_or_else(|| bad(path, "has a time that is not RFC 3339"))?;
                event.occurred_at = Some(at);
            }
            "tags" => {
                let tags = v.as_array().ok_or_else(|| bad(path, "has tags that are no array"))?;
                for tag in tags {
                    let tag = tag.as_str().ok_or_else(|| bad(path, "has a tag that is no string"))?;
                    event.tags.push(Tag::new(tag).map_err(|e| wrong(path, &e))?);
                }
            }
            "meta" => {
                let Json::Object(meta) = v else { return Err(bad(path, "has a meta that is no object")) };
                for (name, v) in meta {
                    event = with_meta(event, name, v, path)?;
                }
            }
            "correlation" | "causation" | "actor" => event = with_meta(event, name, v, path)?,
            // What a CloudEvent says besides: it is ours to say.
            "specversion" | "source" | "subject" | "stream" | "datacontenttype" | "dataschema" => {}
            _ => return Err(bad(path, &format!("has a member {name:?} that means nothing here"))),
        }
    }
    Ok(event)
}

/// A payload: JSON, in which `{"#edn": "…"}`, `{"#string": "…"}` and `{"#ref": n}` stand for what
/// JSON cannot say, personal values (`#annals/personal ["subject" value]`) among them.
fn payload(json: &Json) -> Result<Value, Problem> {
    Ok(match json {
        Json::Array(items) => Value::vector(items.iter().map(payload).collect::<Result<Vec<_>, _>>()?),
        Json::Object(members) => match value::escaped(members)? {
            Some(v) => v,
            None => {
                let entries = members.iter().map(|(k, v)| Ok((Value::keyword(k), payload(v)?)));
                Value::map(entries.collect::<Result<Vec<_>, Problem>>()?)
            }
        },
        leaf => of_json(leaf),
    })
}

/// A body in EDN whose events' payloads are to be kept as they are written: each `:data` as `{"#edn" "…"}`.
pub fn exact_data(body: &Value) -> Value {
    match body {
        Value::Vector(items) | Value::List(items) => Value::vector(items.iter().map(exact_data)),
        Value::Map(entries) => Value::map(entries.iter().map(|(k, v)| {
            let kept = match k {
                Value::Keyword(k) if k.as_str() == "data" => {
                    Value::map([(Value::string("#edn"), Value::string(annals::edn::print(v)))])
                }
                Value::Keyword(k) if matches!(k.as_str(), "writes" | "events") => exact_data(v),
                _ => v.clone(),
            };
            (k.clone(), kept)
        })),
        v => v.clone(),
    }
}

fn with_meta(event: NewEvent, name: &str, v: &Json, path: &str) -> Result<NewEvent, Problem> {
    let text = || v.as_str().ok_or_else(|| bad(path, &format!("has a {name} that is no string")));
    Ok(match name {
        "correlation" => event.correlation(text()?),
        "causation" => {
            let id = text()?;
            event.caused_by(EventId::of_text(id).0)
        }
        "actor" => event.actor(text()?),
        name => event.meta(name, value::read(v)?),
    })
}

/// What a write expects of its stream, in a body: `any`, `none`, `exists`, or a version.
pub fn expected(json: Option<&Json>) -> Result<Expected, Problem> {
    match json {
        None | Some(Json::Null) => Ok(Expected::Any),
        Some(Json::Number(n)) => {
            n.as_u64().map(|n| Expected::Exact(Version(n))).ok_or_else(|| bad("expected", "is no version"))
        }
        Some(Json::String(s)) => match s.as_str() {
            "any" => Ok(Expected::Any),
            "none" => Ok(Expected::NoStream),
            "exists" => Ok(Expected::Exists),
            digits => digits
                .parse()
                .map(|n| Expected::Exact(Version(n)))
                .map_err(|_| bad("expected", "is any, none, exists, or a version")),
        },
        Some(_) => Err(bad("expected", "is any, none, exists, or a version")),
    }
}

/// `[{"types": […], "tags": […]}]`
pub fn items(json: Option<&Json>) -> Result<Vec<Item>, Problem> {
    let Some(Json::Array(list)) = json else { return Err(bad("items", "is an array")) };
    list.iter()
        .map(|item| {
            let names = |name: &str| -> Result<Vec<&str>, Problem> {
                match item.get(name) {
                    None => Ok(Vec::new()),
                    Some(Json::Array(list)) => {
                        list.iter().map(|s| s.as_str().ok_or_else(|| bad(name, "holds strings"))).collect()
                    }
                    Some(_) => Err(bad(name, "is an array")),
                }
            };
            item_of(&names("types")?, &names("tags")?)
        })
        .collect()
}

/// Types or-ed, tags and-ed.
pub fn item_of(types: &[&str], tags: &[&str]) -> Result<Item, Problem> {
    let mut item = Item::default();
    for t in types {
        item.types.push(EventType::new(t).map_err(|e| bad("types", &e.to_string()))?);
    }
    for t in tags {
        item.tags.push(Tag::new(t).map_err(|e| bad("tags", &e.to_string()))?);
    }
    Ok(item)
}

/// A stream's name.
pub fn stream_id(text: &str) -> Result<StreamId, Problem> {
    StreamId::new(text).map_err(|e| bad("stream", &e.to_string()))
}

/// An event as a CloudEvent.
pub fn cloud(e: &Recorded, source: &str) -> Result<Json, Problem> {
    let data = e.data().to_json().map_err(|_| {
        Problem::new(Class::Internal, "event/unreadable", "an event's payload cannot be read")
    })?;
    let mut doc = json!({
        "specversion": "1.0",
        "id": e.id().to_string(),
        "source": source,
        "subject": e.stream.as_str(),
        "type": e.ty(),
        "time": e.recorded_at.to_string(),
        "datacontenttype": "application/json",
        "dataschema": format!("{}/{}", e.ty(), e.event.schema),
        "streamversion": e.version.0,
        "position": e.position.0,
        "t": e.t.0,
        "data": data,
    });
    let members = doc.as_object_mut().expect("an object was just written");
    let meta = &e.event.meta;
    let mut put = |name: &str, v: Option<Json>| drop(v.map(|v| members.insert(name.to_owned(), v)));
    put("occurredat", e.event.occurred_at.map(|i| i.to_string().into()));
    put("correlationid", meta.correlation.as_deref().map(Json::from));
    put("causationid", meta.causation.map(|u| u.to_string().into()));
    put("actor", meta.actor.as_deref().map(Json::from));
    put(
        "tags",
        (!e.event.tags.is_empty()).then(|| e.event.tags.iter().map(|t| Json::from(t.as_str())).collect()),
    );
    let more: Map<String, Json> = meta.more.iter().map(|(k, v)| (k.to_string(), value::to_json(v))).collect();
    put("meta", (!more.is_empty()).then_some(Json::Object(more)));
    Ok(doc)
}

fn text<'a>(members: &'a Map<String, Json>, name: &str, path: &str) -> Result<Option<&'a str>, Problem> {
    match members.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(s)) => Ok(Some(s)),
        Some(_) => Err(bad(path, &format!("has a {name} that is no string"))),
    }
}

/// What the engine says is wrong, in its words.
fn wrong(path: &str, why: &dyn std::fmt::Display) -> Problem {
    let mut p = Problem::new(Class::Syntax, "event/form", format!("{path}: {why}"));
    p.path = Some(path.to_owned());
    p
}

fn bad(path: &str, what: &str) -> Problem {
    let mut p = Problem::new(Class::Syntax, "event/form", format!("{path} {what}"));
    p.path = Some(path.to_owned());
    p
}
