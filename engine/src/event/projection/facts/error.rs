//! Why a projection could not take an event.

use crate::DbError;
use annals_model::{EntityId, Keyword, Value};

/// Why a projection could not take an event.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectError {
    /// A field that the template needs is not in the event.
    #[error("{what} needs {field}, which the event does not have")]
    Missing {
        /// Where it was needed.
        what: String,
        /// The field.
        field: String,
    },
    /// A value cannot be converted.
    #[error("{value:?} is not a {wanted}{}", wanted_by(by))]
    Convert {
        /// The value.
        value: Value,
        /// The type.
        wanted: &'static str,
        /// By which attribute or function.
        by: String,
    },
    /// The attribute belongs to another projection, or to none.
    #[error("{attr} is not among the attributes of this projection")]
    NotOwned {
        /// The attribute.
        attr: Keyword,
    },
    /// There is no such attribute.
    #[error("unknown attribute {attr}")]
    UnknownAttribute {
        /// As written.
        attr: Keyword,
    },
    /// The attribute identifies nothing.
    #[error("{attr} is not unique, so [{attr} …] names no entity")]
    NotUnique {
        /// The attribute.
        attr: Keyword,
    },
    /// A lookup through another's attribute found nothing.
    #[error("no entity has {attr} {value:?}")]
    NoEntity {
        /// The attribute.
        attr: Keyword,
        /// The value.
        value: Value,
    },
    /// Another entity has the unique value.
    #[error("{attr} {value:?} already belongs to entity {holder}")]
    Taken {
        /// The attribute.
        attr: Keyword,
        /// The value.
        value: Value,
        /// Whose it is.
        holder: EntityId,
    },
    /// Several values for an attribute of cardinality one.
    #[error("{attr} holds one value, got several")]
    ManyForOne {
        /// The attribute.
        attr: Keyword,
    },
    /// An entity is named by a value that was erased: nothing can be said of it.
    #[error("the value that names the entity was erased")]
    Erased,
    /// Arithmetic went out of range or was no arithmetic.
    #[error("{0}")]
    Arithmetic(String),
    /// What a projection written in Rust said.
    #[error("{0}")]
    Said(String),
    /// It panicked.
    #[error("panicked: {0}")]
    Panicked(String),
    /// It is written in Rust, and this process has not registered it.
    #[error("it is written in Rust and not registered in this process")]
    Absent,
    /// Reading the event failed.
    #[error(transparent)]
    Data(#[from] crate::event::data::DataError),
    /// Reading the database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

fn wanted_by(by: &str) -> String {
    if by.is_empty() { String::new() } else { format!(", which {by} wants") }
}

impl From<String> for ProjectError {
    fn from(why: String) -> ProjectError {
        ProjectError::Said(why)
    }
}
impl From<&str> for ProjectError {
    fn from(why: &str) -> ProjectError {
        ProjectError::Said(why.to_owned())
    }
}
