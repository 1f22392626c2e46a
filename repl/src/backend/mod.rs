//! The database a session works on: one of this process, or one on a server.
//!
//! 1. Commands see [`Conn`], [`Db`] and [`Report`] alone; which side answers is decided
//!    here and nowhere else. What only one side can do is an error that says so ([`Conn::local`]).
//! 2. Both sides answer with the library's types, so nothing that draws knows the difference.
//! 3. Names for people ([`Db::ident`]) never fail: without an answer, the number stands.
//!
//! Not here: what commands mean (`commands`), how a server is spoken to (`annals_server::client`).

mod db;
mod origin;
mod report;
mod stats;
mod watch;

pub use db::Db;
pub use origin::Origin;
pub use report::Report;
pub use watch::Watch;

use crate::fail::{Exit, Failure, Outcome};
use annals::{
    Diagnostic, ErrorClass, T, TxData,
    event::{self, NewEvent, Parked, Position, Recorded, Skipped, StreamWrite},
};
use annals_server::client::{self, ClientError, ConnectOptions, Preview, QueuedRow};

/// A connection to a database.
#[derive(Clone)]
pub enum Conn {
    /// Open in this process.
    Local(annals::Connection),
    /// On a server.
    Remote(client::Connection),
}

/// One version of one projection.
#[derive(Clone, Debug)]
pub struct ProjectionRow {
    /// Its name.
    pub name: annals::Keyword,
    /// Its version.
    pub version: u64,
    /// `inline` or `async`.
    pub mode: String,
    /// `live`, `building`, `paused`, `halted`, `retired`.
    pub state: String,
    /// The newest event taken.
    pub position: u64,
    /// Events not taken yet.
    pub lag: u64,
    /// Events set aside because it could not take them; none where the server does not say.
    pub parked: Option<u64>,
    /// Why it does not go on.
    pub trouble: Option<String>,
    /// The attributes it owns.
    pub attributes: Vec<annals::Keyword>,
}

/// Is it the address of a database on a server?
pub fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Connects to a database on a server. The token comes from `$ANNALS_TOKEN`, never from the
/// command line, where other users could read it.
pub fn connect(url: &str) -> Outcome<Conn> {
    let token = std::env::var("ANNALS_TOKEN").ok().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
    let root_certificates = std::env::var_os("ANNALS_CA_FILE").map(Into::into);
    let options = ConnectOptions { token, root_certificates, ..ConnectOptions::default() };
    let connected = client::connect_with(url, options);
    Ok(Conn::Remote(connected.map_err(|e| match e.refusal().map(|r| r.status) {
        Some(401 | 403) => {
            Failure::from(e).help("put a token into $ANNALS_TOKEN; `annals token create` makes one")
        }
        _ => e.into(),
    })?))
}

impl From<annals::Connection> for Conn {
    fn from(c: annals::Connection) -> Conn {
        Conn::Local(c)
    }
}

impl From<ClientError> for Failure {
    fn from(e: ClientError) -> Failure {
        let exit = match (e.class(), &e) {
            (_, ClientError::Url { .. }) => Exit::Usage,
            (ErrorClass::Damaged, _) => Exit::Damaged,
            _ => Exit::Refused,
        };
        Failure { exit, diagnostics: e.diagnostics(), origin: None, closed_pipe: false }
    }
}

/// What can be done to a database in this process only.
fn local_only(what: &str) -> Failure {
    let d = Diagnostic::new(
        "shell/local-only",
        format!("{what} works on a database of this machine, not on a server's"),
    )
    .help("run it where the folder of the database is");
    Failure::new(Exit::Refused, d)
}

impl Conn {
    /// The connection of this process; else an error that `what` needs one.
    pub fn local(&self, what: &str) -> Outcome<&annals::Connection> {
        match self {
            Conn::Local(c) => Ok(c),
            Conn::Remote(_) => Err(local_only(what)),
        }
    }

    /// The address, on a server.
    pub fn url(&self) -> Option<&str> {
        match self {
            Conn::Local(_) => None,
            Conn::Remote(c) => Some(c.url()),
        }
    }

    /// The database at its newest transaction.
    pub fn db(&self) -> Outcome<Db> {
        Ok(match self {
            Conn::Local(c) => Db::Local(c.db()),
            Conn::Remote(c) => Db::remote(c.db()?),
        })
    }

    /// The database when `t` was its newest transaction.
    pub fn db_at(&self, t: T) -> Outcome<Db> {
        Ok(match self {
            Conn::Local(c) => Db::Local(c.db_at(t)?),
            Conn::Remote(c) => Db::remote(c.db()?.as_of(t)?),
        })
    }

    /// The database as it was right after genesis: what every database has.
    pub fn genesis(&self) -> Outcome<Db> {
        self.db_at(T::GENESIS)
    }

    /// Commits one transaction.
    pub fn transact(&self, tx: impl annals::IntoTx) -> Outcome<Report> {
        Ok(match self {
            Conn::Local(c) => Report::local(&c.transact(tx)?),
            Conn::Remote(c) => Report::remote(c, &c.transact(tx)?)?,
        })
    }

    /// Commits transactions in order, up to the first refused one; the earlier ones stay.
    pub fn transact_all(&self, txs: Vec<TxData>) -> (Vec<usize>, Option<Failure>) {
        match self {
            Conn::Local(c) => {
                let (done, refused) = c.transact_all(txs);
                (done.iter().map(|r| r.tx_data().len()).collect(), refused.map(Failure::from))
            }
            Conn::Remote(c) => {
                let mut done = Vec::new();
                for tx in txs {
                    match c.transact(tx) {
                        Ok(r) => done.push(r.n_datoms()),
                        Err(e) => return (done, Some(e.into())),
                    }
                }
                (done, None)
            }
        }
    }

    /// The transactions of `[from, to)`, each handed over as it is read.
    pub fn transactions(&self, from: T, to: T, visit: &mut dyn FnMut(Report) -> Outcome) -> Outcome {
        match self {
            Conn::Local(c) => {
                for r in c.tx_range(from, to)? {
                    visit(Report::local(&r?))?;
                }
            }
            Conn::Remote(c) => {
                let newest = c.db()?;
                for tx in c.log(from, to)? {
                    visit(Report::of_log(&newest, tx)?)?;
                }
            }
        }
        Ok(())
    }

    /// Appends to one stream.
    pub fn append(&self, write: StreamWrite) -> Outcome<event::Appended> {
        Ok(match self {
            Conn::Local(c) => c.append(event::Append::new().write(write))?,
            Conn::Remote(c) => c.append(std::slice::from_ref(&write))?,
        })
    }

    /// Appends that are made durable together where that is possible, up to the first refusal.
    /// Each entry done says whether it was stored before.
    pub fn append_all(&self, groups: Vec<Group>) -> (Vec<bool>, Option<Failure>) {
        match self {
            Conn::Local(c) => {
                let appends = groups.into_iter().map(Group::append).collect();
                let (done, refused) = c.append_all(appends);
                (done.iter().map(|a| a.replayed).collect(), refused.map(Failure::from))
            }
            Conn::Remote(c) => {
                let mut done = Vec::new();
                for g in groups {
                    match g.writes().map(|w| c.append(&w)) {
                        Ok(Ok(a)) => done.push(a.replayed),
                        Ok(Err(e)) => return (done, Some(e.into())),
                        Err(f) => return (done, Some(f)),
                    }
                }
                (done, None)
            }
        }
    }

    /// The events that a transaction stored.
    pub fn events_of(&self, t: T) -> Outcome<Vec<Recorded>> {
        match self {
            Conn::Local(c) => {
                let log = c.db().events();
                let mut out = Vec::new();
                if let Some((first, last)) = log.positions_of(t)? {
                    for p in first.0..=last.0 {
                        out.extend(log.at(Position(p))?);
                    }
                }
                Ok(out)
            }
            Conn::Remote(c) => {
                let Some(tx) = c.log(t, t.next())?.pop() else { return Ok(Vec::new()) };
                match (tx.events.first(), tx.events.len()) {
                    (Some(first), n) => Ok(c.all(Position(first.0.saturating_sub(1)), n)?),
                    (None, _) => Ok(Vec::new()),
                }
            }
        }
    }

    /// Every version of every projection.
    pub fn projections(&self) -> Outcome<Vec<ProjectionRow>> {
        match self {
            Conn::Local(c) => Ok(c.projections()?.into_iter().map(local_projection).collect()),
            Conn::Remote(c) => Ok(c.projections()?.into_iter().map(remote_projection).collect()),
        }
    }

    /// Does something to a projection: `rebuild`, `pause`, `resume`; and, on a server, `drop`.
    pub fn steer(&self, name: &str, verb: &str) -> Outcome<ProjectionRow> {
        let c = match self {
            Conn::Remote(c) => return Ok(remote_projection(c.steer_projection(name, verb)?)),
            Conn::Local(c) => c,
        };
        match verb {
            "rebuild" => return Ok(local_projection(c.rebuild_projection(name)?)),
            "pause" => c.pause_projection(name)?,
            _ => c.resume_projection(name)?,
        }
        // Of several versions the newest that answers.
        let all = c.projections()?.into_iter().filter(|p| p.name.as_str() == name);
        let newest = all.max_by_key(|p| (p.state != event::ProjectionState::Retired, p.version));
        newest
            .map(local_projection)
            .ok_or_else(|| Failure::refused("projection/unknown", format!("there is no projection {name}")))
    }

    /// Installs a projection from its text.
    pub fn add_projection(&self, text: &str) -> Outcome<ProjectionRow> {
        Ok(match self {
            Conn::Local(c) => local_projection(c.add_projection(text)?),
            Conn::Remote(c) => remote_projection(c.add_projection(text)?),
        })
    }
}

/// Projections and queues, looked after.
impl Conn {
    /// The events a projection has set aside.
    pub fn parked(&self, name: &str) -> Outcome<Vec<Parked>> {
        Ok(match self {
            Conn::Local(c) => c.parked(name)?,
            Conn::Remote(c) => c.parked(name)?,
        })
    }

    /// Takes the events again that a projection has set aside: how many it took, and how many are left.
    pub fn replay_parked(&self, name: &str) -> Outcome<(u64, usize)> {
        Ok(match self {
            Conn::Local(c) => c.replay_parked(name).map(|r| (r.taken, r.left.len()))?,
            Conn::Remote(c) => c.replay_parked(name).map(|r| (r.taken, r.left.len()))?,
        })
    }

    /// Leaves an event out of what a projection takes. A server knows itself who asks.
    pub fn skip_event(&self, name: &str, position: Position, by: &str, why: &str) -> Outcome<T> {
        Ok(match self {
            Conn::Local(c) => c.skip_event(name, position, by, why)?,
            Conn::Remote(c) => c.skip_event(name, position, why)?,
        })
    }

    /// The events a projection leaves out.
    pub fn skipped(&self, name: &str) -> Outcome<Vec<Skipped>> {
        Ok(match self {
            Conn::Local(c) => c.skipped(name)?,
            Conn::Remote(c) => c.skipped(name)?,
        })
    }

    /// What a changed projection would say. Nothing is written. `cancel` stops it.
    pub fn preview(&self, text: &str, limit: usize, cancel: &annals::Cancel) -> Outcome<Preview> {
        let c = match self {
            Conn::Remote(c) => return Ok(c.preview_projection(text, limit, Some(cancel))?),
            Conn::Local(c) => c,
        };
        let spec = event::ProjectionSpec::edn(text).map_err(event::ProjectionError::Malformed)?;
        let options = event::PreviewOptions { cancel: cancel.clone(), ..Default::default() };
        let diff = c.preview_projection_with(spec, &options)?;
        let facts = |all: &[event::PreviewFact]| {
            let one = |f: &event::PreviewFact| [f.entity.clone(), f.attr.clone().into(), f.value.clone()];
            all.iter().take(limit).map(one).collect()
        };
        Ok(Preview {
            name: diff.name.as_str().to_owned(),
            live: diff.live.map(u64::from),
            events: diff.events,
            n_added: diff.added.len() as u64,
            n_removed: diff.removed.len() as u64,
            same: diff.same,
            added: facts(&diff.added),
            removed: facts(&diff.removed),
            refused: diff.refused,
        })
    }

    /// Takes a command out of the queue: by its id, on a server by one's own key too.
    pub fn drop_command(&self, key: &str, why: &str) -> Outcome {
        let not_there = |what: &str| {
            Failure::refused("command/unknown", what.to_owned()).help(":commands lists the queue")
        };
        let c = match self {
            Conn::Local(c) => c,
            Conn::Remote(c) => {
                return c.drop_command(key, why).map_err(|e| match e.code() {
                    "command/unknown" => not_there("no command has this id, nor is it a key of yours"),
                    _ => e.into(),
                });
            }
        };
        let id = uuid::Uuid::parse_str(key).map_err(|_| not_there("a command has a UUID for its id"))?;
        match c.drop_command(event::CommandId(id), why).map_err(refused_command)? {
            true => Ok(()),
            false => Err(not_there("the command is not in the queue: it is decided, or was never there")),
        }
    }

    /// The commands that wait to be carried out.
    pub fn queued(&self) -> Outcome<Vec<QueuedRow>> {
        Ok(match self {
            Conn::Local(c) => {
                let row = |q: event::QueuedCommand| QueuedRow {
                    id: q.id.to_string(),
                    category: q.to.category,
                    target: q.to.id,
                    ty: q.to.ty,
                    status: q.status.name().to_owned(),
                    sender: q.sender.map(|(process, instance)| format!("{process} {instance}")),
                };
                c.queued_commands()?.into_iter().map(row).collect()
            }
            Conn::Remote(c) => c.queued_commands()?,
        })
    }
}

fn local_projection(p: event::ProjectionStatus) -> ProjectionRow {
    ProjectionRow {
        name: p.name.clone(),
        version: p.version.into(),
        mode: if matches!(p.mode, event::Mode::Inline) { "inline" } else { "async" }.to_owned(),
        state: p.state.name().to_owned(),
        position: p.position.0,
        lag: p.lag,
        parked: Some(p.parked),
        trouble: match &p.state {
            event::ProjectionState::Halted { at, why } => Some(format!("halted at event {at}: {why}")),
            _ => p.trouble,
        },
        attributes: p.attributes,
    }
}

fn remote_projection(p: client::ProjectionInfo) -> ProjectionRow {
    ProjectionRow {
        name: annals::Keyword::new(p.name.trim_start_matches(':')),
        version: p.version,
        mode: p.mode,
        state: p.state,
        position: p.position.0,
        lag: p.lag,
        parked: None,
        trouble: p.why.map(|why| format!("halted: {why}")),
        attributes: p.attributes,
    }
}

fn refused_command(e: event::CommandError) -> Failure {
    let exit = match e.class() {
        ErrorClass::Damaged => Exit::Damaged,
        _ => Exit::Refused,
    };
    Failure { exit, diagnostics: e.diagnostics(), origin: None, closed_pipe: false }
}

/// Events of one transaction of an import.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Events by stream, in order.
    pub streams: Vec<(String, Vec<NewEvent>)>,
    /// The instant of the transaction, where the database lets one be chosen.
    pub instant: Option<annals::Instant>,
}

impl Group {
    fn append(self) -> event::Append {
        let mut append = event::Append::new();
        for (stream, events) in self.streams {
            append = append.and_to(&stream);
            for e in events {
                append = append.push(e);
            }
        }
        match self.instant {
            Some(t) => append.instant(t),
            None => append,
        }
    }

    fn writes(self) -> Outcome<Vec<StreamWrite>> {
        self.streams
            .into_iter()
            .map(|(stream, events)| write_to(&stream, event::Expected::Any, events))
            .collect()
    }
}

/// Events for one stream.
pub fn write_to(stream: &str, expected: event::Expected, events: Vec<NewEvent>) -> Outcome<StreamWrite> {
    let stream = event::StreamId::new(stream).map_err(event::AppendError::from)?;
    Ok(StreamWrite { stream, expected, events })
}
