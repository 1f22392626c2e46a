//! Part of `annals`; no stability promise of its own.
//!
//! The nouns everything else is made of: ids, values, datoms, schema, the
//! views of time, transaction data as data, and diagnostics. No files, no
//! clocks, no text formats.
//!
//! Modules in reading order: [`id`], [`keyword`], [`instant`], [`value`], [`codec`],
//! [`cell`], [`mod@column`], [`datom`], [`view`], [`schema`], [`tx`], [`diagnostic`].

pub mod cell;
pub mod codec;
pub mod column;
pub mod datom;
pub mod diagnostic;
pub mod id;
pub mod instant;
pub mod keyword;
pub mod schema;
pub mod tx;
pub mod value;
pub mod view;

pub use cell::{Cell, Dict};
pub use column::{Column, Order};
pub use datom::Datom;
pub use diagnostic::{Diagnostic, Label, Span};
pub use id::{AttrId, EntityId, Partition, T};
pub use instant::Instant;
pub use keyword::{Keyword, Symbol};
pub use schema::{Attribute, Cardinality, Schema, TupleKind, Unique};
pub use value::{Value, ValueType};
pub use view::View;
