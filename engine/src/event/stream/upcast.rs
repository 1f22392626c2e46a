//! Old events in new shapes: upcasters run on every read path, and what is
//! stored stays as it is.
//!
//! 1. An upcaster is named by the type and schema it takes; it gives any number
//!    of events, each of which is upcast again until nobody takes it.
//! 2. All parts of one event keep its position, version and id.
//! 3. Filters and conditions look at what comes out, not at what is stored.

use crate::event::{
    id::EventType,
    record::{NewEvent, Recorded},
};
use hashbrown::HashMap;
use std::sync::Arc;

/// Makes an event of an old shape into events of newer ones.
pub trait Upcaster: Send + Sync {
    /// The type and schema it takes.
    fn from(&self) -> (&str, u32);
    /// What they are today. Pure: the same event always gives the same.
    fn upcast(&self, e: NewEvent) -> Vec<NewEvent>;
}

/// Steps after which a chain of upcasters counts as going round in a circle.
const STEPS: usize = 64;

/// The upcasters of a connection.
#[derive(Clone, Default)]
pub(crate) struct Upcasters {
    by_source: HashMap<(Arc<str>, u32), Arc<dyn Upcaster>>,
}

/// Upcasters are registered twice for one source, or go round in a circle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpcastError {
    /// Two for one source.
    #[error("{ty} schema {schema} has an upcaster already")]
    Twice {
        /// The type.
        ty: String,
        /// The schema.
        schema: u32,
    },
    /// More than 64 steps for one event.
    #[error("upcasting {ty} schema {schema} does not end")]
    Circle {
        /// The type.
        ty: String,
        /// The schema.
        schema: u32,
    },
}

impl Upcasters {
    pub fn add(&mut self, u: Arc<dyn Upcaster>) -> Result<(), UpcastError> {
        let (ty, schema) = u.from();
        let key = (Arc::from(ty), schema);
        if self.by_source.contains_key(&key) {
            return Err(UpcastError::Twice { ty: ty.to_owned(), schema });
        }
        self.by_source.insert(key, u);
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.by_source.is_empty()
    }

    /// The types whose events may come out as something else.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.by_source.keys().map(|(ty, _)| &**ty)
    }

    /// What the stored event is today.
    pub fn apply(&self, r: Recorded) -> Result<Vec<Recorded>, UpcastError> {
        if self.by_source.is_empty() || !self.takes(&r.event.ty, r.event.schema) {
            return Ok(vec![r]);
        }
        let circle = || UpcastError::Circle { ty: r.ty().to_owned(), schema: r.event.schema };
        let mut todo = vec![r.event.clone()];
        let mut done = Vec::new();
        let mut steps = 0;
        while let Some(e) = todo.pop() {
            match self.by_source.get(&(e.ty.shared(), e.schema)) {
                None => done.push(e),
                Some(u) => {
                    steps += 1;
                    if steps > STEPS {
                        return Err(circle());
                    }
                    todo.extend(u.upcast(e).into_iter().rev());
                }
            }
        }
        Ok(done
            .into_iter()
            .enumerate()
            .map(|(i, event)| Recorded {
                event: NewEvent { id: r.event.id, ..event },
                part: i as u16,
                ..r.clone()
            })
            .collect())
    }

    fn takes(&self, ty: &EventType, schema: u32) -> bool {
        self.by_source.contains_key(&(ty.shared(), schema))
    }
}
