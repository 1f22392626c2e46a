//! Projections on a server: listed, registered, steered, looked after; and commands in its queue.

use super::{
    connection::Connection,
    decode::Members,
    error::ClientError,
    transport::{Ask, Media, encode},
};
use annals::{
    Cancel, T, Value,
    event::{EventId, EventType, Parked, Position, Skipped, StreamId},
};
use hyper::Method;

/// A projection as the server tells of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectionInfo {
    /// Its name, without the colon.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// `inline` or `async`.
    pub mode: String,
    /// `live`, `building`, `paused`, `halted`.
    pub state: String,
    /// The newest event it has taken.
    pub position: Position,
    /// Events it has not taken yet.
    pub lag: u64,
    /// Events it has set aside.
    pub parked: u64,
    /// Why it halted, or what keeps it from going on.
    pub why: Option<String>,
    /// The attributes it owns.
    pub attributes: Vec<annals::Keyword>,
}

/// What a projection made of the events it had set aside.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// Events it took this time.
    pub taken: u64,
    /// Events still set aside.
    pub left: Vec<Parked>,
}

/// A command that waits to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedRow {
    /// Its id.
    pub id: String,
    /// The category of the aggregate it is for.
    pub category: String,
    /// The aggregate's id.
    pub target: String,
    /// The command's type.
    pub ty: String,
    /// `accepted`, `running` or `failed`.
    pub status: String,
    /// The process manager and its instance that sent it.
    pub sender: Option<String>,
}

/// What a changed projection would say, compared with the live one.
#[derive(Clone, Debug, PartialEq)]
pub struct Preview {
    /// Its name.
    pub name: String,
    /// The version that answers now.
    pub live: Option<u64>,
    /// Events looked at.
    pub events: u64,
    /// How many facts only the changed definition says; some of them are in `added`.
    pub n_added: u64,
    /// How many facts only the live version says; some of them are in `removed`.
    pub n_removed: u64,
    /// Facts that both say.
    pub same: u64,
    /// Entity, attribute, value: at most as many as were asked for.
    pub added: Vec<[Value; 3]>,
    /// The same of what only the live version says.
    pub removed: Vec<[Value; 3]>,
    /// Events that the changed definition cannot take.
    pub refused: Vec<Parked>,
}

impl Connection {
    /// Every projection: state, position, lag.
    pub fn projections(&self) -> Result<Vec<ProjectionInfo>, ClientError> {
        let doc = self.members(Ask::get("/projections"))?;
        doc.list("projections")?.iter().map(|p| projection(&Members::of(p.clone())?)).collect()
    }

    /// Registers a projection, written in EDN. Scope admin.
    pub fn add_projection(&self, text: &str) -> Result<ProjectionInfo, ClientError> {
        projection(&self.members(Ask::post("/projections", Media::Edn, text))?)
    }

    /// Does something to a projection: `pause`, `resume`, `catch-up`, `rebuild`. Scope admin.
    pub fn steer_projection(&self, name: &str, verb: &str) -> Result<ProjectionInfo, ClientError> {
        let path = format!("/projections/{}/{}", encode(name), encode(verb));
        projection(&self.members(Ask { method: Method::POST, ..Ask::get(&path) })?)
    }

    /// The events a projection has set aside, oldest first.
    pub fn parked(&self, name: &str) -> Result<Vec<Parked>, ClientError> {
        let doc = self.members(Ask::get(&format!("/projections/{}/parked", encode(name))))?;
        parked(doc.list("parked")?)
    }

    /// The events a projection leaves out, and who said so.
    pub fn skipped(&self, name: &str) -> Result<Vec<Skipped>, ClientError> {
        let doc = self.members(Ask::get(&format!("/projections/{}/parked", encode(name))))?;
        let one = |s: &Value| {
            let s = Members::of(s.clone())?;
            Ok(Skipped {
                position: Position(s.number("position")?),
                t: T(s.number("t")?),
                by: s.text("by")?.into(),
                why: s.text("why")?.into(),
            })
        };
        doc.list("skipped")?.iter().map(one).collect()
    }

    /// Takes the events again that a projection has set aside. Scope admin.
    pub fn replay_parked(&self, name: &str) -> Result<Replayed, ClientError> {
        let path = format!("/projections/{}/parked/replay", encode(name));
        let doc = self.members(Ask { method: Method::POST, ..Ask::get(&path) })?;
        Ok(Replayed { taken: doc.number("taken")?, left: parked(doc.list("left")?)? })
    }

    /// Puts an event on the skip list of a projection: its next version leaves it out. Scope admin.
    pub fn skip_event(&self, name: &str, position: Position, why: &str) -> Result<T, ClientError> {
        let path = format!("/projections/{}/skip", encode(name));
        let n = Value::Long(i64::try_from(position.0).unwrap_or(i64::MAX));
        let body = Value::map([(Value::keyword("position"), n), (Value::keyword("why"), Value::string(why))]);
        let doc = self.members(Ask::post(&path, Media::Edn, annals::edn::print(&body)))?;
        Ok(T(doc.number("t")?))
    }

    /// What a changed projection, written in EDN, would say; at most `limit` facts are listed on each
    /// side. Nothing is written. Scope admin. `cancel`, once raised, ends it here and on the server.
    pub fn preview_projection(
        &self,
        text: &str,
        limit: usize,
        cancel: Option<&Cancel>,
    ) -> Result<Preview, ClientError> {
        let ask = Ask::post("/projections/preview", Media::Edn, text).param("limit", limit);
        let doc = self.members(Ask { cancel, ..ask })?;
        let facts = |name: &str| {
            let one = |f: &Value| {
                let f = Members::of(f.clone())?;
                let part = |name: &str| f.get(name).cloned().unwrap_or(Value::Nil);
                Ok::<_, ClientError>([part("entity"), part("attr"), part("value")])
            };
            doc.list(name)?.iter().map(one).collect::<Result<Vec<_>, _>>()
        };
        Ok(Preview {
            name: doc.text("name")?.to_owned(),
            live: doc.maybe_number("live"),
            events: doc.number("events")?,
            n_added: doc.number("n-added")?,
            n_removed: doc.number("n-removed")?,
            same: doc.number("same")?,
            added: facts("added")?,
            removed: facts("removed")?,
            refused: parked(doc.list("refused")?)?,
        })
    }

    /// The commands that wait to be carried out. Scope admin.
    pub fn queued_commands(&self) -> Result<Vec<QueuedRow>, ClientError> {
        let doc = self.members(Ask::get("/commands"))?;
        let one = |q: &Value| {
            let q = Members::of(q.clone())?;
            let text = |name: &str| q.text(name).map(str::to_owned);
            Ok(QueuedRow {
                id: text("command")?,
                category: text("category")?,
                target: text("id")?,
                ty: text("type")?,
                status: text("status")?,
                sender: q.maybe_text("sender").map(str::to_owned),
            })
        };
        doc.list("commands")?.iter().map(one).collect()
    }

    /// Takes a command out of the queue without carrying it out: one's own by its key, with the scope
    /// admin any by its id. `command/decided` when it is too late.
    pub fn drop_command(&self, key: &str, why: &str) -> Result<(), ClientError> {
        let path = format!("/commands/{}", encode(key));
        self.call(Ask { method: Method::DELETE, ..Ask::get(&path) }.param("why", why)).map(drop)
    }
}

fn parked(told: &[Value]) -> Result<Vec<Parked>, ClientError> {
    let bad = |e: &dyn std::fmt::Display| ClientError::answer(format!("a parked event: {e}"));
    let one = |p: &Value| {
        let p = Members::of(p.clone())?;
        Ok(Parked {
            position: Position(p.number("position")?),
            stream: StreamId::new(p.text("stream")?).map_err(|e| bad(&e))?,
            id: EventId::of_text(p.text("id")?),
            ty: EventType::new(p.text("type")?).map_err(|e| bad(&e))?,
            why: p.text("why")?.into(),
        })
    };
    told.iter().map(one).collect()
}

fn projection(p: &Members) -> Result<ProjectionInfo, ClientError> {
    let attributes = p.list_or_empty("attributes").iter();
    Ok(ProjectionInfo {
        name: p.text("name")?.to_owned(),
        version: p.number("version")?,
        mode: p.text("mode")?.to_owned(),
        state: p.text("state")?.to_owned(),
        position: Position(p.number("position")?),
        lag: p.number("lag")?,
        parked: p.maybe_number("parked").unwrap_or(0),
        why: p.maybe_text("why").or(p.maybe_text("trouble")).map(str::to_owned),
        attributes: attributes
            .filter_map(|v| if let Value::Keyword(k) = v { Some(k.clone()) } else { None })
            .collect(),
    })
}
