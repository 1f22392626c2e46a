//! Projections: events in, facts out; and nothing else.
//!
//! 1. A projection is handed nothing that reaches outside: the same events give
//!    the same facts, whenever it is run again.
//! 2. An attribute belongs to one projection; a plain transaction cannot write it.
//! 3. Each version writes attributes of its own. The live version's carry the names
//!    its author gave; a version being built, or retired, has `.vN` after the
//!    namespace (`:order.v2/status`), so that both can be asked and compared.
//! 4. A late projection files facts under the transaction of their origin event.

use crate::event::{
    append::Item,
    facts::{Facts, ProjectError, Subject, Target},
    language::{Definition, Mode, OnError},
    record::Recorded,
};
use annals_model::{Keyword, Value};
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

/// How a projection says what an event means.
#[derive(Clone)]
pub(crate) enum Code {
    /// As data.
    Edn(Arc<Definition>),
    /// As Rust, and the events it asks for.
    Rust(Arc<dyn AnyProjection>, Arc<[Item]>),
    /// Written in Rust and not registered in this process.
    Absent,
}

impl Code {
    /// Does it ask for this event?
    pub fn wants(&self, e: &Recorded) -> bool {
        match self {
            Code::Edn(d) => d.wants_type(e.ty()),
            Code::Rust(_, items) => crate::event::append::matches(items, e),
            Code::Absent => true,
        }
    }

    /// Says what an event means.
    pub fn project(&self, e: &Recorded, out: &mut Target<'_>) -> Result<(), ProjectError> {
        out.begin(e);
        match self {
            Code::Edn(d) => d.project(e, out),
            Code::Rust(p, _) => p.run(e, out),
            Code::Absent => Err(ProjectError::Absent),
        }
    }
}

/// A projection written in Rust, whatever its type.
pub(crate) trait AnyProjection: Send + Sync {
    /// Its attributes, as EDN.
    fn schema(&self) -> &str;
    /// Says what an event means; a panic in it is an error like any other.
    fn run(&self, e: &Recorded, out: &mut Target<'_>) -> Result<(), ProjectError>;
}
impl<P: Projection> AnyProjection for P {
    fn schema(&self) -> &str {
        Projection::schema(self)
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
        let schema = schema_of(P::NAME, p.schema())?;
        let wants = p.wants().into();
        Ok(ProjectionSpec {
            name: Keyword::new(P::NAME),
            version: P::VERSION,
            mode: p.mode(),
            on_error: p.on_error(),
            schema,
            source: None,
            code: Code::Rust(Arc::new(p), wants),
        })
    }
    /// A projection written as EDN.
    pub fn edn(text: &str) -> Result<ProjectionSpec, Vec<annals_model::Diagnostic>> {
        Ok(Definition::parse(&crate::event::read_edn(text)?)?.into())
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

/// The attribute maps of a projection written in Rust.
pub(crate) fn schema_of(name: &str, text: &str) -> Result<Vec<Value>, Vec<annals_model::Diagnostic>> {
    match crate::event::read_edn(text)? {
        Value::Vector(v) => Ok(v.to_vec()),
        other => {
            let message = format!("the schema of projection {name} is a vector, got {}", other.kind());
            Err(vec![annals_model::Diagnostic::new("projection/malformed", message)])
        }
    }
}
