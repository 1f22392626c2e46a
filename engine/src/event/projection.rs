//! Projections: events in, facts out; and nothing else.
//!
//! 1. A projection is handed nothing that reaches outside: the same events give
//!    the same facts, whenever it is run again.
//! 2. An attribute belongs to one projection; a plain transaction cannot write it.
//! 3. Each version writes attributes of its own. The live version's carry the names
//!    its author gave; a version being built, or retired, has `.vN` after the
//!    namespace (`:order.v2/status`), so that both can be asked and compared.
//! 4. A late projection files facts under the transaction of their origin event.

use super::{
    append::Item,
    data::Data,
    facts::{Binding, Cache, Facts, ProjectError, Subject, Target},
    id::Position,
    language::{Definition, Mode, OnError},
    record::Recorded,
};
use crate::DbError;
use annals_model::{AttrId, Attribute, Keyword, Schema, Value};
use parking_lot::Mutex;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// A projection written in Rust.
pub trait Projection: Send + Sync + 'static {
    /// Its name, stable for ever.
    const NAME: &'static str;
    /// Raise it when the same events are to give other facts.
    const VERSION: u32;
    /// The attributes it owns, as EDN: a vector of attribute maps.
    fn schema(&self) -> &str;
    /// Which events it asks for.
    fn wants(&self) -> Vec<Item>;
    /// When it runs.
    fn mode(&self) -> Mode {
        Mode::Inline
    }
    /// What an async projection does with an event it cannot take.
    fn on_error(&self) -> OnError {
        OnError::Halt
    }
    /// What the event means. `before` shows what the projection has said so far.
    fn project(&self, e: &Recorded, before: &mut Before<'_, '_>, out: &mut Facts) -> Result<(), String>;
}

/// What a projection written in Rust may read: the database with all it has said so far.
pub struct Before<'x, 'a>(pub(crate) &'x mut Target<'a>);

impl Before<'_, '_> {
    /// The values an entity holds; nothing when there is no such entity.
    pub fn values(&mut self, e: impl Into<Subject>, attr: &str) -> Result<Vec<Value>, String> {
        let attr = Keyword::new(attr.strip_prefix(':').unwrap_or(attr));
        let e = match e.into() {
            Subject::Id(e) => Some(e),
            Subject::Lookup(a, v) => self.0.find(&a, &v).map_err(|e| e.to_string())?,
            Subject::New(_) => None,
        };
        match e {
            Some(e) => self.0.read(e, &attr).map_err(|e| e.to_string()),
            None => Ok(Vec::new()),
        }
    }
    /// The one value an entity holds.
    pub fn value(&mut self, e: impl Into<Subject>, attr: &str) -> Result<Option<Value>, String> {
        Ok(self.values(e, attr)?.into_iter().next())
    }
}

trait AnyProjection: Send + Sync {
    fn wants(&self) -> Vec<Item>;
    fn project(&self, e: &Recorded, before: &mut Before<'_, '_>, out: &mut Facts) -> Result<(), String>;
}
impl<P: Projection> AnyProjection for P {
    fn wants(&self) -> Vec<Item> {
        Projection::wants(self)
    }
    fn project(&self, e: &Recorded, before: &mut Before<'_, '_>, out: &mut Facts) -> Result<(), String> {
        Projection::project(self, e, before, out)
    }
}

/// How a projection says what an event means.
#[derive(Clone)]
pub(crate) enum Code {
    /// As data.
    Edn(Arc<Definition>),
    /// As Rust.
    Rust(Arc<dyn AnyProjection2>),
    /// Written in Rust and not registered in this process.
    Absent,
}

/// Names the private trait in a crate-visible type.
pub(crate) trait AnyProjection2: Send + Sync {
    fn wants(&self) -> Vec<Item>;
    fn run(&self, e: &Recorded, out: &mut Target<'_>) -> Result<(), ProjectError>;
}
impl<P: AnyProjection> AnyProjection2 for P {
    fn wants(&self) -> Vec<Item> {
        AnyProjection::wants(self)
    }
    fn run(&self, e: &Recorded, out: &mut Target<'_>) -> Result<(), ProjectError> {
        let mut facts = Facts::default();
        let said = catch_unwind(AssertUnwindSafe(|| self.project(e, &mut Before(out), &mut facts)));
        match said {
            Ok(Ok(())) => out.apply(&facts.ops),
            Ok(Err(why)) => Err(ProjectError::Said(why)),
            Err(panic) => Err(ProjectError::Panicked(panic_text(&*panic))),
        }
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "no message".to_owned(),
    }
}

/// A projection to be registered: data or Rust, under one roof.
#[derive(Clone)]
pub struct ProjectionSpec {
    pub(crate) name: Keyword,
    pub(crate) version: u32,
    pub(crate) mode: Mode,
    pub(crate) on_error: OnError,
    pub(crate) schema: Vec<Value>,
    pub(crate) source: Option<Value>,
    pub(crate) code: Code,
}

impl From<Definition> for ProjectionSpec {
    fn from(d: Definition) -> ProjectionSpec {
        ProjectionSpec {
            name: d.name.clone(),
            version: d.version,
            mode: d.mode,
            on_error: d.on_error,
            schema: d.schema.clone(),
            source: Some(d.source.clone()),
            code: Code::Edn(Arc::new(d)),
        }
    }
}

impl ProjectionSpec {
    /// A projection written in Rust.
    pub fn rust<P: Projection>(p: P) -> Result<ProjectionSpec, Vec<annals_model::Diagnostic>> {
        let schema = match super::read_edn(p.schema())? {
            Value::Vector(v) => v.to_vec(),
            other => {
                let message =
                    format!("the schema of projection {} is a vector, got {}", P::NAME, other.kind());
                return Err(vec![annals_model::Diagnostic::new("projection/malformed", message)]);
            }
        };
        Ok(ProjectionSpec {
            name: Keyword::new(P::NAME),
            version: P::VERSION,
            mode: p.mode(),
            on_error: p.on_error(),
            schema,
            source: None,
            code: Code::Rust(Arc::new(p)),
        })
    }
    /// A projection written as EDN.
    pub fn edn(text: &str) -> Result<ProjectionSpec, Vec<annals_model::Diagnostic>> {
        Ok(Definition::parse(&super::read_edn(text)?)?.into())
    }
    /// Its name.
    pub fn name(&self) -> &Keyword {
        &self.name
    }
    /// Its version.
    pub fn version(&self) -> u32 {
        self.version
    }
    /// The attributes it declares.
    pub fn attributes(&self) -> Vec<Keyword> {
        let ident = Value::keyword("db/ident");
        let named = self.schema.iter().filter_map(|a| match a.get(&ident) {
            Some(Value::Keyword(k)) => Some(k.clone()),
            _ => None,
        });
        named.collect()
    }
}

/// Where a version of a projection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProjectionState {
    /// Reading the events from the first on, beside the live version.
    Building,
    /// Answering.
    Live,
    /// Held back by `pause`.
    Paused,
    /// Stopped at an event it could not take.
    Halted {
        /// The event.
        at: Position,
        /// What was wrong.
        why: String,
    },
    /// Replaced by a later version.
    Retired,
}

impl ProjectionState {
    /// Its name, for rows and JSON.
    pub fn name(&self) -> &'static str {
        match self {
            ProjectionState::Building => "building",
            ProjectionState::Live => "live",
            ProjectionState::Paused => "paused",
            ProjectionState::Halted { .. } => "halted",
            ProjectionState::Retired => "retired",
        }
    }
}

/// One version of a projection at work.
pub(crate) struct Runtime {
    pub name: Keyword,
    pub version: u32,
    pub mode: Mode,
    pub on_error: OnError,
    pub source: Option<Value>,
    pub code: Code,
    /// Attributes by the author's names.
    pub attrs: Vec<(Keyword, AttrId)>,
    pub state: Mutex<ProjectionState>,
    /// Async and building versions: the last event taken.
    pub checkpoint: Mutex<Position>,
    pub cache: Mutex<Cache>,
    /// Streams with parked events: later ones of theirs are parked too.
    pub parked: Mutex<hashbrown::HashSet<Arc<str>>>,
}

impl Runtime {
    pub fn state(&self) -> ProjectionState {
        self.state.lock().clone()
    }

    pub fn is_inline(&self) -> bool {
        self.mode == Mode::Inline
    }

    /// Does it ask for this event?
    pub fn wants(&self, e: &Recorded) -> bool {
        match &self.code {
            Code::Edn(d) => d.wants_type(e.ty()),
            Code::Rust(p) => super::append::matches(&p.wants(), e),
            Code::Absent => true,
        }
    }

    /// Its attributes as a schema has them.
    pub fn binding(&self, schema: &Schema) -> Result<Binding, DbError> {
        let mut attrs: Vec<(Keyword, Arc<Attribute>)> = Vec::with_capacity(self.attrs.len());
        for (name, id) in &self.attrs {
            match schema.attribute(*id) {
                Some(a) => attrs.push((name.clone(), a.clone())),
                None => return Err(DbError::UnknownAttribute { attr: name.clone(), nearest: None }),
            }
        }
        Ok(Binding::new(attrs))
    }

    /// Says what an event means.
    pub fn project(&self, e: &Recorded, out: &mut Target<'_>) -> Result<(), ProjectError> {
        out.begin(e);
        match &self.code {
            Code::Edn(d) => d.project(e, out),
            Code::Rust(p) => p.run(e, out),
            Code::Absent => Err(ProjectError::Said(format!(
                "projection {} is written in Rust and not registered in this process",
                self.name
            ))),
        }
    }

    /// The name of an attribute of this version when it is not the live one.
    pub fn side_name(attr: &Keyword, version: u32) -> Keyword {
        let ns = match attr.namespace() {
            Some(ns) => format!("{ns}.v{version}"),
            None => format!("v{version}"),
        };
        Keyword::from_parts(Some(&ns), attr.name())
    }

    /// What is stored of this version, apart from its checkpoint.
    pub fn record(&self) -> Value {
        let k = |name: &str| Value::keyword(name);
        let state = self.state();
        let mut entries = vec![
            (k("version"), Value::Long(self.version.into())),
            (k("state"), k(state.name())),
            (
                k("attrs"),
                Value::vector(self.attrs.iter().map(|(name, id)| {
                    Value::vector([Value::Keyword(name.clone()), Value::Long(id.raw().into())])
                })),
            ),
        ];
        match self.mode {
            Mode::Inline => entries.push((k("mode"), k("inline"))),
            Mode::Async { batch } => {
                entries.push((k("mode"), k("async")));
                entries.push((k("batch"), Value::Long(batch as i64)));
            }
        }
        let (policy, times) = match self.on_error {
            OnError::Halt => ("halt", 0),
            OnError::Park => ("park", 0),
            OnError::RetryThenHalt(n) => ("halt", n),
            OnError::RetryThenPark(n) => ("park", n),
        };
        entries.push((k("on-error"), k(policy)));
        entries.push((k("retries"), Value::Long(times.into())));
        if let Some(source) = &self.source {
            entries.push((k("source"), source.clone()));
        }
        if let ProjectionState::Halted { at, why } = state {
            entries.push((k("at"), Value::Long(at.0 as i64)));
            entries.push((k("why"), Value::string(why)));
        }
        Value::map(entries)
    }

    /// From what is stored.
    pub fn restore(name: &Keyword, stored: &Value) -> Option<Runtime> {
        let get = |key: &str| stored.get(&Value::keyword(key));
        let long = |key: &str| match get(key) {
            Some(Value::Long(n)) => Some(*n),
            _ => None,
        };
        let word = |key: &str| match get(key) {
            Some(Value::Keyword(k)) => Some(k.as_str().to_owned()),
            _ => None,
        };
        let state = match word("state")?.as_str() {
            "building" => ProjectionState::Building,
            "live" => ProjectionState::Live,
            "paused" => ProjectionState::Paused,
            "halted" => ProjectionState::Halted {
                at: Position(long("at")? as u64),
                why: match get("why") {
                    Some(Value::String(s)) => s.to_string(),
                    _ => String::new(),
                },
            },
            "retired" => ProjectionState::Retired,
            _ => return None,
        };
        let mode = match word("mode")?.as_str() {
            "inline" => Mode::Inline,
            _ => Mode::Async { batch: usize::try_from(long("batch")?).ok()? },
        };
        let on_error = match (word("on-error")?.as_str(), u8::try_from(long("retries")?).ok()?) {
            ("halt", 0) => OnError::Halt,
            ("park", 0) => OnError::Park,
            ("halt", n) => OnError::RetryThenHalt(n),
            (_, n) => OnError::RetryThenPark(n),
        };
        let Some(Value::Vector(list)) = get("attrs") else { return None };
        let mut attrs = Vec::new();
        for pair in list.iter() {
            let Value::Vector(pair) = pair else { return None };
            let [Value::Keyword(k), Value::Long(id)] = &pair[..] else { return None };
            attrs.push((k.clone(), AttrId::new(u32::try_from(*id).ok()?)));
        }
        let source = get("source").cloned();
        let code = match &source {
            Some(source) => Code::Edn(Arc::new(Definition::parse(source).ok()?)),
            None => Code::Absent,
        };
        Some(Runtime {
            name: name.clone(),
            version: u32::try_from(long("version")?).ok()?,
            mode,
            on_error,
            source,
            code,
            attrs,
            state: Mutex::new(state),
            checkpoint: Mutex::new(Position::ZERO),
            cache: Mutex::new(Cache::default()),
            parked: Mutex::new(hashbrown::HashSet::new()),
        })
    }
}

/// The versions of one projection as one row.
pub(crate) fn encode_versions(versions: &[Arc<Runtime>]) -> Result<Data, super::data::DataError> {
    Data::of(&Value::vector(versions.iter().map(|r| r.record())))
}
