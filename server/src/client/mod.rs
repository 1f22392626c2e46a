//! A client: the library's face over a server's.
//!
//! [`connect`] gives a [`Connection`] with `transact`, `db`, `log`, `changes` and
//! `subscribe`; [`Connection::db`] gives a [`Db`], a value with the library's
//! `query`, `pull`, `as_of`, `since`, `history`, `datoms`, `schema`. Answers are the
//! library's own types ([`annals::Answer`], [`annals::Datom`], [`annals::Schema`]), so
//! code that shows or checks them serves both.
//!
//! ```no_run
//! # fn main() -> Result<(), annals_server::client::ClientError> {
//! let conn = annals_server::client::connect("http://127.0.0.1:7407/v1/db/orders")?;
//! let report = conn.transact(r#"[{:order/id "A-1" :order/status :placed}]"#)?;
//! let db = conn.db()?;
//! let rows = db.query("[:find ?s :in $ ?id :where [?o :order/id ?id] [?o :order/status ?s]]", ("A-1",))?;
//! let then = db.as_of(report.t())?;
//! # drop((rows, then)); Ok(()) }
//! ```
//!
//! 1. Calls block, and end: by an answer, by the time allowed, or by the flag of
//!    their [`annals::QueryOptions`].
//! 2. A [`Db`] holds a basis. All it asks names that basis, so that its answers never
//!    change, whatever is written meanwhile.
//! 3. EDN goes over the wire, with the types that EDN does not show (references)
//!    said beside it. In a column of mixed types references are plain numbers.
//! 4. Refusals keep the server's code, place and hint ([`ClientError`]).
//!
//! Not here: retrying writes. A write whose answer was lost has an unknown outcome;
//! [`Connection::transact_once`] makes sending it again safe.
//!
//! Built on hyper's client, which the server side brings along anyway: it lets a
//! request be dropped in the middle, and a dropped request is a stopped query.

mod connection;
mod db;
mod decode;
mod error;
mod live;
mod projections;
mod proof;
mod report;
mod transport;

pub use annals::event::Appended;
pub use connection::{Connection, Transaction};
pub use db::Db;
pub use error::{ClientError, Refusal};
pub use live::{Changes, EventFeed, LiveQuery, Update};
pub use projections::{Preview, ProjectionInfo, QueuedRow, Replayed};
pub use proof::{FactSupport, PlanStep, SupportCause};
pub use report::Report;

use std::{path::PathBuf, time::Duration};

/// How to connect.
#[derive(Clone)]
pub struct ConnectOptions {
    /// The text that `annals token create` printed; none for a server without tokens.
    pub token: Option<String>,
    /// How long a request may take, unless it says otherwise.
    pub timeout: Duration,
    /// Largest answer taken.
    pub max_answer_bytes: usize,
    /// PEM file of the authorities to trust instead of this machine's.
    pub root_certificates: Option<PathBuf>,
    /// Send a token over plain HTTP to another machine.
    pub insecure: bool,
    /// How often in a row a broken stream is opened again before it is given up.
    pub reconnects: u32,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            token: None,
            timeout: Duration::from_secs(65),
            max_answer_bytes: 256 << 20,
            root_certificates: None,
            insecure: false,
            reconnects: 5,
        }
    }
}

impl std::fmt::Debug for ConnectOptions {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("timeout", &self.timeout)
            .field("max_answer_bytes", &self.max_answer_bytes)
            .field("root_certificates", &self.root_certificates)
            .field("insecure", &self.insecure)
            .field("reconnects", &self.reconnects)
            .finish()
    }
}

/// Connects to a database: `http://127.0.0.1:7407/v1/db/orders`. Asks the server once,
/// so that a wrong address or token is found here.
pub fn connect(url: &str) -> Result<Connection, ClientError> {
    connect_with(url, ConnectOptions::default())
}

/// Connects with a token, other limits, other certificates.
pub fn connect_with(url: &str, options: ConnectOptions) -> Result<Connection, ClientError> {
    Connection::open(url, options)
}
