//! One version of a projection at work, and what is stored of it.
//!
//! ```text
//! Building ──flip──> Live ⇄ Paused        Live ──a later version flips──> Retired
//!                    Live ⇄ Halted        any  ──drop──> Dropped
//! ```
//!
//! 1. `checkpoint` is the last event taken. It is stored in the transaction of the facts,
//!    and moved here by whoever holds `driving`, after that transaction is durable.
//! 2. `version` counts what was built, `declared` is what the author wrote: a rebuild
//!    has a version of its own and the same declared one.

use crate::DbError;
use crate::event::{
    data::{Data, DataError},
    facts::{Binding, Cache},
    id::Position,
    language::{Definition, Mode, OnError},
    projection::{Code, ProjectionSpec, schema_of},
};
use annals_model::{AttrId, Attribute, Keyword, Schema, Value};
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;

/// Where a version of a projection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    /// Taken out of use with all its facts: its attributes belong to nobody.
    Dropped,
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
            ProjectionState::Dropped => "dropped",
        }
    }
    /// Does it answer under the names its author gave?
    pub fn serves(&self) -> bool {
        match self {
            ProjectionState::Live | ProjectionState::Paused | ProjectionState::Halted { .. } => true,
            ProjectionState::Building | ProjectionState::Retired | ProjectionState::Dropped => false,
        }
    }
}

/// One version of a projection at work.
pub(crate) struct Runtime {
    pub name: Keyword,
    /// Its number among the versions built, rebuilds included.
    pub version: u32,
    /// The version its author wrote.
    pub declared: u32,
    pub mode: Mode,
    pub on_error: OnError,
    pub source: Option<Value>,
    /// Swapped when the same version is registered again.
    code: RwLock<Code>,
    /// Attributes by the author's names.
    pub attrs: Vec<(Keyword, AttrId)>,
    pub state: Mutex<ProjectionState>,
    /// Async and building versions: the last event taken.
    pub checkpoint: Mutex<Position>,
    pub cache: Mutex<Cache>,
    /// Streams with parked events and the first of them: later ones of theirs are parked too.
    pub parked: Mutex<ParkedStreams>,
    /// Held by whoever moves the checkpoint; taken before the writer, never under it.
    pub driving: Mutex<()>,
    /// Why its runner waits before it tries again.
    pub trouble: Mutex<Option<String>>,
}

/// Streams set aside, and from which event on.
pub(crate) type ParkedStreams = hashbrown::HashMap<Arc<str>, Position>;

impl Runtime {
    pub fn state(&self) -> ProjectionState {
        self.state.lock().clone()
    }

    pub fn is_inline(&self) -> bool {
        self.mode == Mode::Inline
    }

    /// A first or later version that has taken no event.
    pub fn new(spec: &ProjectionSpec, version: u32, attrs: Vec<(Keyword, AttrId)>) -> Runtime {
        Runtime {
            name: spec.name.clone(),
            version,
            declared: spec.version,
            mode: spec.mode,
            on_error: spec.on_error,
            source: spec.source.clone(),
            code: RwLock::new(spec.code.clone()),
            attrs,
            state: Mutex::new(ProjectionState::Building),
            checkpoint: Mutex::new(Position::ZERO),
            cache: Mutex::new(Cache::of_new_projection()),
            parked: Mutex::default(),
            driving: Mutex::new(()),
            trouble: Mutex::default(),
        }
    }

    /// How it says what an event means.
    pub fn code(&self) -> Code {
        self.code.read().clone()
    }

    /// Gives it the code of this process.
    pub fn set_code(&self, code: Code) {
        *self.code.write() = code;
    }

    /// What to register to have it built again; none when its code is not in this process.
    pub fn spec(&self) -> Option<ProjectionSpec> {
        let code = self.code();
        let schema = match &code {
            Code::Edn(d) => d.schema.clone(),
            Code::Rust(p, _) => schema_of(self.name.as_str(), p.schema()).ok()?,
            Code::Absent => return None,
        };
        Some(ProjectionSpec {
            name: self.name.clone(),
            version: self.declared,
            mode: self.mode,
            on_error: self.on_error,
            schema,
            source: self.source.clone(),
            code,
        })
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
            (k("declared"), Value::Long(self.declared.into())),
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
            "dropped" => ProjectionState::Dropped,
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
        let version = u32::try_from(long("version")?).ok()?;
        Some(Runtime {
            name: name.clone(),
            version,
            // Stored before rebuilds were counted apart.
            declared: long("declared").map_or(Some(version), |n| u32::try_from(n).ok())?,
            mode,
            on_error,
            source,
            code: RwLock::new(code),
            attrs,
            state: Mutex::new(state),
            checkpoint: Mutex::new(Position::ZERO),
            cache: Mutex::new(Cache::default()),
            parked: Mutex::default(),
            driving: Mutex::new(()),
            trouble: Mutex::default(),
        })
    }
}

/// The versions of one projection as one row.
pub(crate) fn encode_versions(versions: &[Arc<Runtime>]) -> Result<Data, DataError> {
    Data::of(&Value::vector(versions.iter().map(|r| r.record())))
}
