//! Part of `annals`; no stability promise of its own.
//!
//! Text to rows, over anything that implements [`source::Source`].
//!
//! ```text
//! text --edn--> forms --parse--> ast --resolve--> names and types checked
//!      --plan, eval--> rows of cells --rows--> an answer
//! ```
//!
//! Entry: [`query::Query`]. **Invariant:** knows no storage; all it can ask of a
//! database is [`source::Source`]. The only clock read is the deadline's, in [`budget`].

pub mod ast;
pub mod budget;
pub mod edn;
pub mod error;
pub mod eval;
pub mod mem;
pub mod naive;
pub mod parse;
pub mod plan;
pub mod pull;
pub mod query;
mod resolve;
pub mod rows;
pub mod source;
pub mod stream;
pub mod timeline;

pub use query::{Input, Inputs, Query, QueryOptions};
pub use rows::{Answer, Rows, Shape, Stats};
pub use stream::RowStream;
