//! The database on a server as of one moment: a value that answers questions.

use super::{
    connection::{Connection, entity_of, entity_path, long, query_body},
    decode::{self, Members},
    error::ClientError,
    report::Report,
    transport::{Ask, Media},
};
use annals::{
    Answer, Attribute, Change, Datom, DbError, DiffRow, Eid, Entity, EntityId, Instant, IntoIndex,
    IntoInputs, IntoTimePoint, IntoTx, Keyword, QueryOptions, Rows, Schema, Shape, Stats, T, Usage, Value,
};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

/// A database value. It holds a basis and a view of time, no resources of the
/// server: keeping one for a year costs nothing.
#[derive(Clone, Debug)]
pub struct Db {
    conn: Connection,
    basis: T,
    as_of: Option<T>,
    since: Option<T>,
    history: bool,
    schema: Arc<OnceLock<Arc<Schema>>>,
}

impl Db {
    pub(super) fn new(conn: Connection, basis: T) -> Db {
        Db { conn, basis, as_of: None, since: None, history: false, schema: Arc::default() }
    }

    /// The newest transaction this value knows, whatever its view shows.
    pub fn basis_t(&self) -> T {
        self.basis
    }
    /// The newest transaction its view shows.
    pub fn t(&self) -> T {
        self.as_of.map_or(self.basis, |t| t.min(self.basis))
    }
    /// The lower end of its view, when it has one.
    pub fn since_t(&self) -> Option<T> {
        self.since
    }
    /// Does it show assertions and retractions instead of what holds?
    pub fn is_history(&self) -> bool {
        self.history
    }
    /// The transaction a point in time means. A future one is pinned to the basis.
    pub fn t_of(&self, point: impl IntoTimePoint) -> Result<T, ClientError> {
        Ok(self.conn.t_of(point)?.min(self.basis))
    }
    /// The database as it was at a point in time.
    pub fn as_of(&self, point: impl IntoTimePoint) -> Result<Db, ClientError> {
        let t = self.t_of(point)?.min(self.t());
        Ok(Db { as_of: Some(t), schema: Arc::default(), ..self.clone() })
    }
    /// Only what was asserted after a point in time.
    pub fn since(&self, point: impl IntoTimePoint) -> Result<Db, ClientError> {
        Ok(Db { since: Some(self.t_of(point)?), ..self.clone() })
    }
    /// Assertions and retractions instead of what holds.
    pub fn history(&self) -> Db {
        Db { history: true, ..self.clone() }
    }

    /// The schema as of the view. Asked for once.
    pub fn schema(&self) -> Result<Arc<Schema>, ClientError> {
        if let Some(schema) = self.schema.get() {
            return Ok(schema.clone());
        }
        let schema = self.conn.schema_at(Some(self.t()))?;
        Ok(self.schema.get_or_init(|| schema).clone())
    }
    /// An attribute, or the error of the library that names the likely intention.
    pub fn attribute(&self, name: impl AsRef<str>) -> Result<Arc<Attribute>, ClientError> {
        let name = name.as_ref();
        let wanted = Keyword::new(name.strip_prefix(':').unwrap_or(name));
        let schema = self.schema()?;
        schema.attribute_named(&wanted).cloned().ok_or_else(|| {
            let nearest = schema.nearest(&wanted);
            ClientError::Input(vec![DbError::UnknownAttribute { attr: wanted, nearest }.diagnostic()])
        })
    }
    /// The name of an entity.
    pub fn ident(&self, e: EntityId) -> Result<Option<Keyword>, ClientError> {
        Ok(self.schema()?.ident(e).cloned())
    }
    /// The entity with a name.
    pub fn entid(&self, ident: impl AsRef<str>) -> Result<Option<EntityId>, ClientError> {
        let name = ident.as_ref();
        Ok(self.schema()?.entid(&Keyword::new(name.strip_prefix(':').unwrap_or(name))))
    }

    /// Runs a query.
    pub fn query(&self, q: impl AsRef<str>, inputs: impl IntoInputs) -> Result<Answer, ClientError> {
        self.query_with(q, inputs, &QueryOptions::default())
    }

    /// Runs a query within limits. Of the options, `timeout_ms`, `limit` and `cancel` are
    /// carried over; budgets of rows and bytes are the server's own. The answer's steps
    /// are empty: [`Db::explain`] has them.
    pub fn query_with(
        &self,
        q: impl AsRef<str>,
        inputs: impl IntoInputs,
        options: &QueryOptions,
    ) -> Result<Answer, ClientError> {
        let ask = self.ask("/query", q.as_ref(), inputs, options, &[("types", Value::Bool(true))])?;
        let begun = std::time::Instant::now();
        let doc = self.conn.members(Ask { cancel: Some(&options.cancel), ..ask })?;
        answer(&doc, u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Runs a query and tells how: `:text` for people, `:plan` as a tree, `:rows`, times.
    pub fn explain(&self, q: impl AsRef<str>, inputs: impl IntoInputs) -> Result<Value, ClientError> {
        let ask = self.ask("/explain", q.as_ref(), inputs, &QueryOptions::default(), &[])?;
        Ok(self.conn.members(ask)?.into_value())
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.conn
    }

    pub(super) fn ask<'a>(
        &self,
        path: &'a str,
        q: &str,
        inputs: impl IntoInputs,
        options: &QueryOptions,
        more: &[(&str, Value)],
    ) -> Result<Ask<'a>, ClientError> {
        let number = |n: u64| Value::Long(i64::try_from(n).unwrap_or(i64::MAX));
        let mut members = vec![
            ("as-of", long(self.t())),
            ("since", self.since.map_or(Value::Nil, long)),
            ("history", if self.history { Value::Bool(true) } else { Value::Nil }),
            ("timeout-ms", options.timeout_ms.map_or(Value::Nil, number)),
            ("limit", options.limit.map_or(Value::Nil, |n| number(n as u64))),
        ];
        members.extend_from_slice(more);
        let body = query_body(q, inputs.into_inputs(), &members)?;
        let mut ask = Ask::post(path, Media::Edn, body);
        // The server's deadline comes first; its answer says more than ours would.
        ask.timeout = options.timeout_ms.map(|ms| Duration::from_millis(ms) + Duration::from_secs(5));
        Ok(ask)
    }

    /// Rows gained and lost between two times, each with the transaction that did it.
    pub fn diff(
        &self,
        q: impl AsRef<str>,
        inputs: impl IntoInputs,
        t1: impl IntoTimePoint,
        t2: impl IntoTimePoint,
    ) -> Result<Vec<DiffRow>, ClientError> {
        let times =
            [("t1", long(self.t_of(t1)?)), ("t2", long(self.t_of(t2)?)), ("types", Value::Bool(true))];
        let body = query_body(q.as_ref(), inputs.into_inputs(), &times)?;
        let doc = self.conn.members(Ask::post("/diff", Media::Edn, body))?;
        let kinds = kinds(&doc);
        let mut rows = Vec::new();
        for (name, gained) in [("removed", false), ("added", true)] {
            for entry in doc.list(name)? {
                let entry = Members::of(entry.clone())?;
                rows.push(DiffRow {
                    values: typed(entry.list("row")?, &kinds),
                    gained,
                    t: T(entry.number("t")?),
                });
            }
        }
        rows.sort_by(|a, b| (a.t, a.gained, &a.values).cmp(&(b.t, b.gained, &b.values)));
        Ok(rows)
    }

    /// A tree of what an entity says.
    pub fn pull(&self, pattern: impl AsRef<str>, eid: impl Into<Eid>) -> Result<Value, ClientError> {
        let body = Value::map([
            (Value::keyword("pattern"), Value::string(pattern)),
            (Value::keyword("entity"), eid.into().to_value()),
            (Value::keyword("as-of"), long(self.t())),
        ]);
        let doc = self.conn.members(Ask::post("/pull", Media::Edn, annals::edn::print(&body)))?;
        let tree = doc.get("entity").cloned().unwrap_or(Value::Nil);
        Ok(decode::pulled(tree, &*self.schema()?))
    }

    /// The entity that a name means, if there is one.
    pub fn resolve(&self, eid: impl Into<Eid>) -> Result<Option<EntityId>, ClientError> {
        match eid.into() {
            Eid::Id(e) => Ok(Some(e)),
            eid => match self.conn.entity(&entity_path(&eid, ""), self.t())? {
                Some(doc) => Ok(Some(entity_of(&doc, "e")?)),
                None => Ok(None),
            },
        }
    }

    /// Everything an entity says. None when it does not exist.
    pub fn entity(&self, eid: impl Into<Eid>) -> Result<Option<Entity>, ClientError> {
        let Some(doc) = self.conn.entity(&entity_path(&eid.into(), ""), self.t())? else { return Ok(None) };
        let schema = self.schema()?;
        let mut entity = Entity { id: entity_of(&doc, "e")?, attributes: Default::default() };
        for (name, v) in doc.entries("entity")? {
            let Value::Keyword(name) = name else { continue };
            let Some(a) = schema.attribute_named(name) else { continue };
            let values = match (a.is_many(), v) {
                (true, Value::Vector(items)) => items.to_vec(),
                (_, v) => vec![v.clone()],
            };
            let values = values.into_iter().map(|v| decode::of_attribute(v, a, &schema)).collect();
            entity.attributes.insert(name.clone(), values);
        }
        Ok(Some(entity))
    }

    /// The value of an attribute of an entity.
    pub fn value(&self, e: EntityId, attr: &str) -> Result<Option<Value>, ClientError> {
        let name = attr.strip_prefix(':').unwrap_or(attr);
        Ok(self.entity(e)?.and_then(|entity| entity.get(name).cloned()))
    }

    /// The life of an entity: assertions and retractions, oldest first.
    pub fn history_of(&self, eid: impl Into<Eid>, attr: Option<&str>) -> Result<Vec<Change>, ClientError> {
        let path = entity_path(&eid.into(), "/history");
        let mut ask = Ask::get(&path).param("as_of", self.t());
        if let Some(attr) = attr {
            ask = ask.param("attr", attr);
        }
        let doc = self.conn.members(ask)?;
        let (schema, e) = (self.schema()?, entity_of(&doc, "e")?);
        let changes = doc.list("changes")?.iter().map(|c| {
            let c = Members::of(c.clone())?;
            let attr = c.keyword("attr")?;
            let a = schema
                .attribute_named(&attr)
                .ok_or_else(|| ClientError::answer(format!("{attr} is not in the schema")))?;
            let v = decode::of_attribute(c.get("value").cloned().unwrap_or(Value::Nil), a, &schema);
            let datom = Datom { e, a: a.id, v, t: T(c.number("t")?), added: c.flag("added") };
            Ok(Change { datom, attr, instant: c.instant("tx-instant")? })
        });
        changes.collect()
    }

    /// The datoms with these leading components, in the order of the index, page by page.
    pub fn datoms(&self, index: impl IntoIndex, components: &[Value]) -> Result<Vec<Datom>, ClientError> {
        let index = index.into_index().map_err(|e| ClientError::Input(vec![e.diagnostic()]))?;
        let components = annals::edn::print(&Value::vector(components.iter().cloned()));
        let schema = self.schema()?;
        let (mut found, mut offset) = (Vec::new(), 0);
        loop {
            let mut ask = Ask::get("/datoms")
                .param("index", index.name())
                .param("components", &components)
                .param("as_of", self.t())
                .param("history", self.history)
                .param("limit", PAGE)
                .param("offset", offset);
            if let Some(since) = self.since {
                ask = ask.param("since", since);
            }
            let doc = self.conn.members(ask)?;
            for d in doc.list("datoms")? {
                found.push(decode::datom(d, &schema)?);
            }
            match doc.maybe_number("next-offset") {
                Some(next) if next > offset => offset = next,
                _ => return Ok(found),
            }
        }
    }

    /// When a transaction was made.
    pub fn instant_of(&self, t: T) -> Result<Option<Instant>, ClientError> {
        Ok(self.conn.log(t, t.next())?.first().map(|tx| tx.tx_instant))
    }

    /// What a transaction would do to this database. Nothing is written.
    pub fn with(&self, tx: impl IntoTx) -> Result<Report, ClientError> {
        self.conn.send_tx_as("/with", tx.into_tx()?, None, Some(self.t()))
    }
}

/// Datoms asked for at a time.
const PAGE: usize = 10_000;

fn kinds(doc: &Members) -> Vec<String> {
    let kinds = doc.list_or_empty("types").iter();
    kinds.map(|k| if let Value::String(s) = k { s.to_string() } else { String::new() }).collect()
}

fn typed(row: &[Value], kinds: &[String]) -> Vec<Value> {
    let kinds = kinds.iter().map(String::as_str).chain(std::iter::repeat(""));
    row.iter().cloned().zip(kinds).map(|(v, kind)| decode::of_kind(v, kind)).collect()
}

/// The answer of `/query` with `types`.
fn answer(doc: &Members, elapsed_us: u64) -> Result<Answer, ClientError> {
    let kinds = kinds(doc);
    let width = doc.list("columns")?.len();
    let keys = doc.list_or_empty("keys").to_vec();
    let unreadable = || ClientError::answer("it has no proper rows");
    let rows = doc.get("rows").cloned().unwrap_or(Value::Nil);
    let tuple = |v: &Value| decode::list(v).map(|row| typed(row, &kinds)).ok_or_else(unreadable);
    let one = |v: &Value| typed(std::slice::from_ref(v), &kinds);
    let map = |v: &Value| match v {
        Value::Map(_) => {
            let values: Vec<Value> = keys.iter().map(|k| v.get(k).cloned().unwrap_or(Value::Nil)).collect();
            Ok(typed(&values, &kinds))
        }
        _ => Err(unreadable()),
    };
    let all = |of: &dyn Fn(&Value) -> Result<Vec<Value>, ClientError>| {
        decode::list(&rows).ok_or_else(unreadable)?.iter().map(of).collect::<Result<Vec<_>, _>>()
    };
    let first = |of: &dyn Fn(&Value) -> Result<Vec<Value>, ClientError>| match &rows {
        Value::Nil => Ok(Vec::new()),
        v => Ok::<_, ClientError>(vec![of(v)?]),
    };
    let (shape, values) = match doc.text("shape")? {
        "rel" => (Shape::Rel, all(&tuple)?),
        "coll" => (Shape::Coll, all(&|v| Ok(one(v)))?),
        "tuple" => (Shape::Tuple, first(&tuple)?),
        "scalar" => (Shape::Scalar, first(&|v| Ok(one(v)))?),
        "maps" => (Shape::Maps(keys.clone()), all(&map)?),
        "map" => (Shape::Map(keys.clone()), first(&map)?),
        other => return Err(ClientError::answer(format!("its shape is {other:?}"))),
    };
    let used = Usage { elapsed_us, ..Usage::default() };
    Ok(Answer {
        shape,
        rows: Rows::of_values(width, values),
        basis_t: T(doc.number("basis-t")?),
        stats: Stats { used, ..Stats::default() },
        warnings: Vec::new(),
    })
}
