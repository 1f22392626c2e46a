//! A temporal fact database: an append-only log of facts, indexed in LMDB,
//! queried with Datalog as of any past time.
//!
//! ```
//! let conn = annals::in_memory()?;
//! conn.transact("[{:db/ident :order/status :db/valueType :db.type/keyword
//!                  :db/cardinality :db.cardinality/one}
//!                 {:db/ident :order/id :db/valueType :db.type/string
//!                  :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}]")?;
//! let placed = conn.transact(r#"[{:order/id "A-1" :order/status :placed}]"#)?;
//! conn.transact(r#"[{:order/id "A-1" :order/status :shipped}]"#)?;
//!
//! let then = conn.db().as_of(placed.t());
//! let order = then.resolve(("order/id", "A-1"))?.expect("it was placed");
//! assert_eq!(then.value(order, "order/status")?, Some(annals::Value::keyword("placed")));
//! # Ok::<(), annals::Error>(())
//! ```
//!
//! A [`Connection`] owns a database and commits transactions; a [`Db`] is the
//! database as of one moment, a value that answers questions.

mod admin;
mod bootstrap;
mod connection;
mod db;
mod dump;
mod error;
pub mod event;
mod filter;
mod hook;
mod index_pull;
mod inputs;
mod listen;
mod options;
mod query;
mod read;
mod report;
mod rules;
mod schema_cache;
mod seek;
mod shared;
mod snapshot;
mod source;
mod store;
mod transact;
mod verify;
mod writer;

pub use admin::{
    BackupReport, ExciseReport, Excision, ExcisionProof, RebuildReport, StoreStats, VerifyReport, rebuild,
    restore,
};
pub use connection::{Connection, TxRange};
pub use db::Db;
pub use dump::{Dump, DumpError, Dumped, DumpedFact, SubjectKey};
pub use error::{DbError, Error, ErrorClass, OpenError, query_class};
pub use index_pull::Page;
pub use inputs::{BadTimePoint, Eid, Input, IntoInputs, IntoTimePoint, IntoTx, TimePoint};
pub use listen::{Listener, TxStream};
pub use options::{Clock, HostError, Options, SystemClock};
pub use query::{DiffRow, IntoPattern, IntoQuery};
pub use read::{Change, Entity, Index, IntoIndex};
pub use report::TxReport;
pub use rules::BUILTIN_RULES;
pub use store::{Checkpoint, Durability, StorageError};
#[doc(hidden)]
pub use store::{Faults, FileOp};
pub use transact::{
    error::{Place, TransactError},
    function::BUILTIN_PREDICATES,
    read_all as read_transactions,
};
pub use verify::{VerifyOptions, VerifyProgress};

pub use annals_model::{
    AttrId, Attribute, Cardinality, Cell, Column, Datom, Diagnostic, Dict, EntityId, Instant, Keyword, Label,
    Order, Partition, Schema, Span, Symbol, T, TupleKind, Unique, Value, ValueType, View, cell, diagnostic,
    tx::{TxData, tx},
};
pub use annals_query::{
    ast,
    budget::{Cancel, Usage},
    edn,
    error::{Fault, ParseErrors, QueryError},
    eval::{
        JoinChoice, Threads,
        aggregate::Aggregate,
        function::{FnError, Function, Library},
    },
    plan::{Plan, Step},
    query::{Query, QueryOptions},
    rows::{Answer, Batches, Rows, Shape, Stats},
    stream::RowStream,
    timeline::{Missing, Proof, Spans, Step as ProofStep, TimelineRow},
};

pub(crate) use transact::Counters;

use std::path::Path;

/// Opens the database in a folder, making it when absent.
pub fn open(path: impl AsRef<Path>) -> Result<Connection, OpenError> {
    Options::new().open(path)
}

/// Makes a database without files, for tests and scratch work.
pub fn in_memory() -> Result<Connection, OpenError> {
    Options::new().in_memory()
}

/// The blocks of docs/library.md and docs/events.md, run as documentation tests.
#[cfg(doctest)]
mod manual {
    #[doc = include_str!("../../docs/library.md")]
    pub mod library {}
    #[doc = include_str!("../../docs/events.md")]
    pub mod events {}
}
