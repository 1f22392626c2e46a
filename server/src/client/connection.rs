//! A database on a server: writes, the log, events, and what to follow.

use super::{
    ConnectOptions, Db,
    decode::{self, Members},
    error::ClientError,
    live::{Changes, EventFeed, LiveQuery},
    report::{self, Report},
    transport::{Ask, Media, Reply, Transport, encode},
};
use annals::{
    Datom, EntityId, Instant, IntoInputs, IntoTimePoint, IntoTx, Schema, T, TimePoint, TxData, Value,
    event::{Appended, Expected, NewEvent, Position, Recorded, StreamId, StreamWrite, Version},
};
use hyper::Method;
use parking_lot::Mutex;
use serde_json::{Map, Value as Json, json};
use std::{fmt::Write as _, sync::Arc};

/// A connection to one database of a server. Cheap to clone; all clones share it.
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    transport: Transport,
    options: ConnectOptions,
    /// The schema asked for last, with the t it was as of.
    schema: Mutex<Option<(T, Arc<Schema>)>>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connection").field(&self.url()).finish()
    }
}

/// One transaction of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction {
    /// Its number.
    pub t: T,
    /// Its `:db/txInstant`.
    pub tx_instant: Instant,
    /// Who did it, where that is known.
    pub principal: Option<String>,
    /// What it asserted and retracted.
    pub datoms: Vec<Datom>,
    /// Positions of the events it recorded.
    pub events: Vec<Position>,
}

impl Connection {
    pub(super) fn open(url: &str, options: ConnectOptions) -> Result<Connection, ClientError> {
        let transport = Transport::new(url, &options)?;
        let conn = Connection(Arc::new(Inner { transport, options, schema: Mutex::default() }));
        conn.db()?;
        Ok(conn)
    }

    /// Where the database is: `http://127.0.0.1:7407/v1/db/orders`.
    pub fn url(&self) -> &str {
        self.0.transport.base()
    }

    /// The name of the database on its server.
    pub fn name(&self) -> &str {
        self.url().rsplit('/').next().unwrap_or("")
    }

    /// The database as of now: asks the server for its newest transaction.
    pub fn db(&self) -> Result<Db, ClientError> {
        let doc = self.members(Ask::get(""))?;
        Ok(Db::new(self.clone(), T(doc.number("basis-t")?)))
    }

    /// The database whose newest transaction is `t`. Waits on the server, for five
    /// seconds at most, until it is there (`basis/behind` if it is not).
    pub fn db_at(&self, t: T) -> Result<Db, ClientError> {
        self.members(Ask::get("").param("min_t", t))?;
        Ok(Db::new(self.clone(), t))
    }

    /// Makes a transaction. Not repeated when the connection breaks: see [`Connection::transact_once`].
    pub fn transact(&self, tx: impl IntoTx) -> Result<Report, ClientError> {
        self.send_tx("/transact", tx.into_tx()?, None)
    }

    /// Makes a transaction at most once under this key (1 to 200 visible characters),
    /// however often it is sent. The same key with other data is refused.
    pub fn transact_once(&self, key: &str, tx: impl IntoTx) -> Result<Report, ClientError> {
        self.send_tx("/transact", tx.into_tx()?, Some(key))
    }

    pub(super) fn send_tx(&self, path: &str, tx: TxData, key: Option<&str>) -> Result<Report, ClientError> {
        self.send_tx_as(path, tx, key, None)
    }

    pub(super) fn send_tx_as(
        &self,
        path: &str,
        tx: TxData,
        key: Option<&str>,
        as_of: Option<T>,
    ) -> Result<Report, ClientError> {
        let body = match &tx.text {
            Some(text) => text.to_string(),
            None => annals::edn::print(&Value::vector(tx.forms)),
        };
        let mut ask = Ask::post(path, Media::Edn, body);
        match as_of {
            Some(t) => ask = ask.param("as_of", t),
            None => ask = ask.param("tx_data", "true"),
        }
        if let Some(key) = key {
            ask = ask.header("idempotency-key", key);
        }
        let doc = self.members(ask)?;
        let datoms = doc.list_or_empty("tx-data");
        // A new attribute is known after the transaction that made it.
        let schema = match datoms.is_empty() {
            true => Arc::default(),
            false => self.schema_for(datoms, T(doc.number("t")?), as_of.is_some())?,
        };
        Report::read(&doc, &schema)
    }

    /// A schema that knows the attributes of these datoms.
    fn schema_for(&self, datoms: &[Value], t: T, speculative: bool) -> Result<Arc<Schema>, ClientError> {
        let known = self.0.schema.lock().clone();
        if let Some((_, schema)) = known
            && datoms.iter().all(|d| decode::datom(d, &schema).is_ok())
        {
            return Ok(schema);
        }
        // What is only speculated about cannot be asked for: the schema before it has to do.
        let t = if speculative { None } else { Some(t) };
        self.schema_at(t)
    }

    /// The schema as of a t, or as it is now.
    pub(super) fn schema_at(&self, t: Option<T>) -> Result<Arc<Schema>, ClientError> {
        if let Some(t) = t
            && let Some((at, schema)) = &*self.0.schema.lock()
            && *at == t
        {
            return Ok(schema.clone());
        }
        let mut ask = Ask::get("/schema").param("names", "true");
        if let Some(t) = t {
            ask = ask.param("as_of", t);
        }
        let doc = self.members(ask)?;
        let schema = Arc::new(decode::schema(&doc)?);
        *self.0.schema.lock() = Some((T(doc.number("basis-t")?), schema.clone()));
        Ok(schema)
    }

    /// The t a point in time means.
    pub(super) fn t_of(&self, point: impl IntoTimePoint) -> Result<T, ClientError> {
        match point.into_time_point()? {
            TimePoint::T(t) => Ok(t),
            TimePoint::Instant(at) => Ok(T(self.members(Ask::get("").param("at", at))?.number("t")?)),
        }
    }

    /// The transactions `[from, to)`, oldest first, read page by page.
    pub fn log(&self, from: T, to: T) -> Result<Vec<Transaction>, ClientError> {
        let mut found = Vec::new();
        let mut from = from;
        loop {
            let doc = self.members(Ask::get("/log").param("from", from).param("to", to))?;
            let newest = T(doc.number("basis-t")?);
            for tx in doc.list("transactions")? {
                found.push(self.transaction(&Members::of(tx.clone())?, newest)?);
            }
            match doc.maybe_number("next") {
                Some(next) if T(next) > from => from = T(next),
                _ => return Ok(found),
            }
        }
    }

    fn transaction(&self, tx: &Members, newest: T) -> Result<Transaction, ClientError> {
        let datoms = tx.list("datoms")?;
        let schema = self.schema_for(datoms, newest, false)?;
        let events = tx.list_or_empty("events").iter();
        Ok(Transaction {
            t: T(tx.number("t")?),
            tx_instant: tx.instant("tx-instant")?,
            principal: tx.maybe_text("principal").map(str::to_owned),
            datoms: datoms.iter().map(|d| decode::datom(d, &schema)).collect::<Result<_, _>>()?,
            events: events
                .map(|e| Ok(Position(Members::of(e.clone())?.number("position")?)))
                .collect::<Result<_, ClientError>>()?,
        })
    }

    /// Every transaction after `t`, as it comes: each once, in order. Blocks while there is none.
    pub fn changes(&self, after: T) -> Result<Changes, ClientError> {
        Changes::open(self.clone(), after)
    }

    /// A live query: its rows now, then what each transaction adds and removes.
    pub fn subscribe(&self, q: impl AsRef<str>, inputs: impl IntoInputs) -> Result<LiveQuery, ClientError> {
        LiveQuery::open(self.clone(), q.as_ref(), inputs.into_inputs(), None)
    }

    /// A live query that goes on after the `t` it had reached, without a second snapshot.
    pub fn resume(
        &self,
        q: impl AsRef<str>,
        inputs: impl IntoInputs,
        after: T,
    ) -> Result<LiveQuery, ClientError> {
        LiveQuery::open(self.clone(), q.as_ref(), inputs.into_inputs(), Some(after))
    }

    /// Appends to streams, all or nothing.
    pub fn append(&self, writes: &[StreamWrite]) -> Result<Appended, ClientError> {
        let writes = writes.iter().map(write_json).collect::<Result<Vec<_>, _>>()?;
        let body = json!({"writes": writes}).to_string();
        report::appended(&self.members(Ask::post("/append", Media::Json, body))?)
    }

    /// Every stream with its version.
    pub fn streams(&self) -> Result<Vec<(StreamId, Version)>, ClientError> {
        let doc = self.members(Ask::get("/streams"))?;
        let streams = doc.list("streams")?.iter().map(|s| {
            let s = Members::of(s.clone())?;
            let id = StreamId::new(s.text("stream")?);
            Ok((id.map_err(|e| ClientError::answer(e.to_string()))?, Version(s.number("version")?)))
        });
        streams.collect()
    }

    /// Events of a stream from a version on, at most `limit` (1,000 at a time).
    pub fn stream(&self, stream: &str, from: Version, limit: usize) -> Result<Vec<Recorded>, ClientError> {
        let path = format!("/streams/{}", encode(stream));
        self.events_of(Ask::get(&path).param("from", from).param("limit", limit))
    }

    /// Events over all streams after a position, at most `limit` (1,000 at a time).
    pub fn all(&self, after: Position, limit: usize) -> Result<Vec<Recorded>, ClientError> {
        self.events_of(Ask::get("/all").param("after", after).param("limit", limit))
    }

    /// Every event after a position, as it comes: each once, in order. Blocks while there is none.
    pub fn events(&self, after: Position) -> Result<EventFeed, ClientError> {
        EventFeed::open(self.clone(), after)
    }

    fn events_of(&self, ask: Ask<'_>) -> Result<Vec<Recorded>, ClientError> {
        let reply = self.call(ask.accept(Media::Json))?;
        let doc: Json =
            serde_json::from_slice(&reply.body).map_err(|e| ClientError::answer(e.to_string()))?;
        let events = doc.get("events").and_then(Json::as_array);
        events.ok_or_else(|| ClientError::answer("it has no events"))?.iter().map(decode::event).collect()
    }

    /// Copies the database into the folder that the server has for backups. Scope admin.
    pub fn backup(&self) -> Result<T, ClientError> {
        let doc = self.members(Ask { method: Method::POST, ..Ask::get("/backup") })?;
        Ok(T(doc.number("basis-t")?))
    }

    /// Any other request under the database's address: `("GET", "/timeline", [("buckets", "10")], None)`.
    /// A body is EDN text. The answer is EDN data.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        params: &[(&str, &str)],
        body: Option<&str>,
    ) -> Result<Value, ClientError> {
        let method: Method = method
            .parse()
            .map_err(|_| ClientError::input("the method is not one", "write GET, POST or DELETE"))?;
        let reply = self.call(Ask {
            method,
            params: params.iter().map(|(k, v)| (*k, (*v).to_owned())).collect(),
            body: body.map(|text| (Media::Edn, text.to_owned())),
            ..Ask::get(path)
        })?;
        if reply.body.is_empty() {
            return Ok(Value::Nil);
        }
        Ok(Members::read(reply.text()?)?.into_value())
    }

    pub(super) fn call(&self, ask: Ask<'_>) -> Result<Reply, ClientError> {
        self.0.transport.call(ask)
    }

    pub(super) fn members(&self, ask: Ask<'_>) -> Result<Members, ClientError> {
        Members::read(self.call(ask)?.text()?)
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.0.transport
    }

    pub(super) fn max_answer_bytes(&self) -> usize {
        self.0.options.max_answer_bytes
    }

    pub(super) fn reconnects(&self) -> u32 {
        self.0.options.reconnects
    }

    pub(super) fn entity(&self, path: &str, t: T) -> Result<Option<Members>, ClientError> {
        match self.members(Ask::get(path).param("as_of", t)) {
            Ok(doc) => Ok(Some(doc)),
            Err(ClientError::Refused(r)) if r.status == 404 && r.code != "request/no-database" => Ok(None),
            Err(e) => Err(e),
        }
    }
}

fn write_json(w: &StreamWrite) -> Result<Json, ClientError> {
    let expected = match w.expected {
        Expected::Any => json!("any"),
        Expected::NoStream => json!("none"),
        Expected::Exists => json!("exists"),
        Expected::Exact(version) => json!(version.0),
    };
    let events = w.events.iter().map(event_json).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({"stream": w.stream.as_str(), "expected": expected, "events": events}))
}

fn event_json(e: &NewEvent) -> Result<Json, ClientError> {
    let data = e.data.to_json().map_err(|e| {
        ClientError::input(format!("the event cannot be sent: {e}"), "give data that JSON can say")
    })?;
    let exact = |v: &Value| {
        let mut text = String::new();
        crate::wire::value::write(&mut text, v, crate::wire::value::Style::Exact);
        serde_json::from_str::<Json>(&text).expect("write makes JSON")
    };
    let mut meta: Map<String, Json> = e.meta.more.iter().map(|(k, v)| (k.to_string(), exact(v))).collect();
    let mut put = |name: &str, v: Option<String>| drop(v.map(|v| meta.insert(name.to_owned(), v.into())));
    put("correlation", e.meta.correlation.as_deref().map(str::to_owned));
    put("causation", e.meta.causation.map(|c| c.to_string()));
    put("actor", e.meta.actor.as_deref().map(str::to_owned));
    let tags: Vec<&str> = e.tags.iter().map(annals::event::Tag::as_str).collect();
    let mut doc = json!({"id": e.id.to_string(), "type": e.ty.as_str(), "schema": e.schema, "data": data, "tags": tags, "meta": meta});
    if let Some(at) = e.occurred_at {
        doc["time"] = at.to_string().into();
    }
    Ok(doc)
}

/// The members of a query's body, as EDN text.
pub(super) fn query_body(
    q: &str,
    inputs: Vec<annals::Input>,
    more: &[(&str, Value)],
) -> Result<String, ClientError> {
    let mut body = String::with_capacity(q.len() + 64);
    let _ = write!(body, "{{:query {}", annals::edn::print(&Value::string(q)));
    let mut args = Vec::new();
    for input in inputs {
        match input {
            annals::Input::Value(v) => args.push(v),
            annals::Input::Rules(text) => {
                let _ = write!(body, " :rules {}", annals::edn::print(&Value::string(text)));
            }
            annals::Input::Db(_) => {
                return Err(ClientError::input(
                    "a database of this process cannot be an input of a query on a server",
                    "ask about one database at a time",
                ));
            }
        }
    }
    if !args.is_empty() {
        let _ = write!(body, " :args {}", annals::edn::print(&Value::vector(args)));
    }
    for (name, v) in more.iter().filter(|(_, v)| *v != Value::Nil) {
        let _ = write!(body, " :{name} {}", annals::edn::print(v));
    }
    body.push('}');
    Ok(body)
}

/// An entity in a path.
pub(super) fn entity_path(eid: &annals::Eid, rest: &str) -> String {
    format!("/entity/{}{rest}", encode(&annals::edn::print(&eid.to_value())))
}

/// A t as data.
pub(super) fn long(t: T) -> Value {
    Value::Long(i64::try_from(t.0).unwrap_or(i64::MAX))
}

/// The entity in an answer.
pub(super) fn entity_of(doc: &Members, name: &str) -> Result<EntityId, ClientError> {
    decode::entity_id(doc.need(name)?).ok_or_else(|| ClientError::answer(format!("it has no proper {name}")))
}
