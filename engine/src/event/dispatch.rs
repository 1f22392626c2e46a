//! Carrying out a command: load, decide, append; again on fresh state after a
//! conflict; once for each command id.
//!
//! 1. The stored outcome is looked for first. The commit looks again: two that
//!    race under one id are one.
//! 2. Only a conflict (version or condition) is retried, on freshly read state and
//!    with the rule run again. A refusal by the rule is not, nor is a command held
//!    to a version its user saw.
//! 3. A refusal is stored with what it said; a failure that may pass is not.
//! 4. Events carry the command: `causation` is its cause, else the command itself,
//!    and the metadata names it under `command` and `command-type`.

use super::{
    aggregate::LoadError,
    append::{Append, AppendError, Appended},
    command::{CommandOutcome, CommandStatus, Dispatch},
    data::DataError,
    decision::{Decide, ReadError},
    domain::Counts,
    event_type::{Event, EventTypeError, new_event},
    id::{CommandId, EventId, StreamId, Version},
    projection::panic_text,
    record::{Meta, NewEvent},
    table::{self, Key},
    wire,
};
use crate::{Connection, Db, DbError, ErrorClass};
use annals_model::{Diagnostic, Instant, Value};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
};

/// What a command came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispatched {
    /// The command.
    pub command: CommandId,
    /// The transaction, the positions and the versions. No positions: there was nothing to do.
    pub appended: Appended,
    /// The version of the first stream after it.
    pub version: Version,
    /// How often the decision was made again after a conflict.
    pub retries: u32,
}

impl Dispatched {
    /// Was it carried out before, and is this the first answer again?
    pub fn is_replay(&self) -> bool {
        self.appended.replayed
    }
}

/// A refusal by a rule, when the type of its error is not at hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The stable code of the rule: `account/overdrawn`.
    pub code: String,
    /// What it said to people.
    pub message: String,
    /// The error as data.
    pub detail: Value,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for Refusal {}

/// A command was not carried out. `E` is the error of its rules.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DispatchError<E> {
    /// A rule of the domain refused it.
    #[error("{error}")]
    Rejected {
        /// What the rule said.
        error: E,
        /// Its stable code.
        code: String,
        /// It was refused before, and this is the stored answer.
        replayed: bool,
    },
    /// A rule refused it before, with an error that this program cannot read any more.
    #[error("{}", .0.message)]
    RejectedBefore(Refusal),
    /// The stream is not at the version the user saw.
    #[error("stream {stream} is at version {actual}, expected {expected}")]
    WrongVersion {
        /// The stream.
        stream: StreamId,
        /// The version the command is held to.
        expected: Version,
        /// What it is.
        actual: Version,
    },
    /// Others were faster each time.
    #[error("given up after {attempts} attempts, each overtaken by another writer; the last: {last}")]
    TooManyConflicts {
        /// How often it was tried.
        attempts: u32,
        /// The last conflict.
        last: Box<AppendError>,
    },
    /// The command id is stored with another request.
    #[error("command {id} was used for another request")]
    Reused {
        /// The command.
        id: CommandId,
    },
    /// The command was carried out or refused, and its outcome was kept only until then.
    #[error("what came of command {id} was kept until {until}")]
    Forgotten {
        /// The command.
        id: CommandId,
        /// The end of that time.
        until: Instant,
    },
    /// Nobody handles commands of this category.
    #[error("no handler for category {category}; there {}", known_text(known))]
    UnknownCategory {
        /// The category asked for.
        category: String,
        /// Those that have one.
        known: Vec<String>,
    },
    /// The category has two handlers.
    #[error("category {category} has a handler already")]
    CategoryTwice {
        /// The category.
        category: &'static str,
    },
    /// The category knows no such command.
    #[error("{category} knows no command {ty}; it knows {}", known.join(", "))]
    UnknownCommand {
        /// The category.
        category: String,
        /// The command asked for.
        ty: String,
        /// Those it knows.
        known: Vec<String>,
    },
    /// The payload does not fit the command.
    #[error("the payload of {category}/{ty} does not fit: {why}")]
    BadPayload {
        /// The category.
        category: String,
        /// The command.
        ty: String,
        /// What does not fit.
        why: String,
    },
    /// The rule panicked.
    #[error("the rule for {command} of {about} panicked: {message}")]
    Panicked {
        /// The stream, or the name of the decision.
        about: String,
        /// The command's type.
        command: String,
        /// What the panic said.
        message: String,
    },
    /// It is refused, and the process manager that sent it cannot be told yet. Nothing is
    /// stored: it stays in the queue.
    #[error("the refusal cannot be told to process {process}, which sent the command: {why}")]
    Unheard {
        /// The process.
        process: String,
        /// What is wrong with it.
        why: String,
    },
    /// The state could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The rule read something that could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An event of the rule cannot be stored.
    #[error(transparent)]
    Event(#[from] EventTypeError),
    /// The command or the refusal cannot be stored.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The append was refused.
    #[error(transparent)]
    Append(AppendError),
}

/// A command of the untyped door was not carried out.
pub type CommandError = DispatchError<Refusal>;

fn known_text(known: &[String]) -> String {
    match known {
        [] => "are none registered".into(),
        known => format!("are {}", known.join(", ")),
    }
}

impl<E> From<AppendError> for DispatchError<E> {
    fn from(e: AppendError) -> DispatchError<E> {
        match e {
            AppendError::CommandReused { id } => DispatchError::Reused { id },
            e => DispatchError::Append(e),
        }
    }
}
impl<E> From<DbError> for DispatchError<E> {
    fn from(e: DbError) -> DispatchError<E> {
        DispatchError::Append(AppendError::Db(e))
    }
}

impl<E> DispatchError<E> {
    /// Stable code; of a refusal, that of the rule.
    pub fn code(&self) -> &str {
        match self {
            DispatchError::Rejected { code, .. } => code,
            DispatchError::RejectedBefore(r) => &r.code,
            _ => self.known_code(),
        }
    }
    /// The same, but for refusals, whose codes the domain makes up.
    fn known_code(&self) -> &'static str {
        match self {
            DispatchError::Rejected { .. } | DispatchError::RejectedBefore(_) => "command/rejected",
            DispatchError::WrongVersion { .. } => "command/wrong-version",
            DispatchError::TooManyConflicts { .. } => "command/too-many-conflicts",
            DispatchError::Reused { .. } => "event/command-reused",
            DispatchError::Forgotten { .. } => "command/forgotten",
            DispatchError::UnknownCategory { .. } => "command/unknown-category",
            DispatchError::CategoryTwice { .. } => "command/category-twice",
            DispatchError::UnknownCommand { .. } => "command/unknown-type",
            DispatchError::BadPayload { .. } => "command/bad-payload",
            DispatchError::Panicked { .. } => "command/panicked",
            DispatchError::Unheard { .. } => UNHEARD,
            DispatchError::Load(e) => e.code(),
            DispatchError::Read(e) => e.code(),
            DispatchError::Event(e) => e.code(),
            DispatchError::Data(_) => "event/bad-data",
            DispatchError::Append(e) => e.code(),
        }
    }
    /// Whose fault.
    pub fn class(&self) -> ErrorClass {
        match self {
            DispatchError::Rejected { .. }
            | DispatchError::RejectedBefore(_)
            | DispatchError::UnknownCommand { .. }
            | DispatchError::CategoryTwice { .. }
            | DispatchError::BadPayload { .. }
            | DispatchError::Reused { .. }
            | DispatchError::Data(_)
            | DispatchError::Event(_) => ErrorClass::Meaning,
            DispatchError::WrongVersion { .. } | DispatchError::TooManyConflicts { .. } => {
                ErrorClass::Conflict
            }
            DispatchError::Forgotten { .. } | DispatchError::UnknownCategory { .. } => ErrorClass::NotFound,
            DispatchError::Panicked { .. } | DispatchError::Unheard { .. } => ErrorClass::Environment,
            DispatchError::Load(e) => e.class(),
            DispatchError::Read(ReadError::Query(e)) => crate::query_class(e),
            DispatchError::Read(ReadError::Db(e)) => e.class(),
            DispatchError::Read(ReadError::OtherDatabase) => ErrorClass::Meaning,
            DispatchError::Append(e) => e.class(),
        }
    }
    /// What to do about it.
    pub fn help(&self) -> Option<&'static str> {
        Some(match self {
            DispatchError::WrongVersion { .. } => "show the user the present state, and ask again",
            DispatchError::TooManyConflicts { .. } => {
                "send it again; if this happens often, the boundary is drawn too wide"
            }
            DispatchError::Reused { .. } => "a command id names one request: use a new id",
            DispatchError::Forgotten { .. } => {
                "look at the state: it was decided, and is not decided again under this id"
            }
            DispatchError::UnknownCategory { .. } => {
                "register its aggregate with Connection::register_commands, in the program that serves the database"
            }
            DispatchError::CategoryTwice { .. } => "register an aggregate once for each connection",
            DispatchError::UnknownCommand { .. } => {
                "use one of the names listed, as serde names the variants"
            }
            DispatchError::BadPayload { .. } => "send the fields of the command's variant",
            DispatchError::Panicked { .. } => "correct the rule; nothing was stored",
            DispatchError::Unheard { .. } => {
                "register the process or resume it, or drop the command with Connection::drop_command"
            }
            DispatchError::Load(e) => return e.help(),
            DispatchError::Event(e) => return e.help(),
            DispatchError::Append(e) => return e.help(),
            DispatchError::Rejected { .. }
            | DispatchError::RejectedBefore(_)
            | DispatchError::Read(_)
            | DispatchError::Data(_) => return None,
        })
    }
    /// What the rule said, if it was a rule that refused.
    pub fn rejection(&self) -> Option<&E> {
        match self {
            DispatchError::Rejected { error, .. } => Some(error),
            _ => None,
        }
    }
    /// The same with the rule's error turned into another.
    pub(crate) fn map<F>(self, f: impl FnOnce(E, &str) -> F) -> DispatchError<F> {
        use DispatchError as D;
        match self {
            D::Rejected { error, code, replayed } => D::Rejected { error: f(error, &code), code, replayed },
            D::RejectedBefore(r) => D::RejectedBefore(r),
            D::WrongVersion { stream, expected, actual } => D::WrongVersion { stream, expected, actual },
            D::TooManyConflicts { attempts, last } => D::TooManyConflicts { attempts, last },
            D::Reused { id } => D::Reused { id },
            D::Forgotten { id, until } => D::Forgotten { id, until },
            D::UnknownCategory { category, known } => D::UnknownCategory { category, known },
            D::CategoryTwice { category } => D::CategoryTwice { category },
            D::UnknownCommand { category, ty, known } => D::UnknownCommand { category, ty, known },
            D::BadPayload { category, ty, why } => D::BadPayload { category, ty, why },
            D::Panicked { about, command, message } => D::Panicked { about, command, message },
            D::Unheard { process, why } => D::Unheard { process, why },
            D::Load(e) => D::Load(e),
            D::Read(e) => D::Read(e),
            D::Event(e) => D::Event(e),
            D::Data(e) => D::Data(e),
            D::Append(e) => D::Append(e),
        }
    }
}

impl<E: std::fmt::Display> DispatchError<E> {
    /// What to show.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        match self {
            DispatchError::Append(e) => return e.diagnostics(),
            DispatchError::Read(ReadError::Query(e)) => return e.diagnostics(),
            _ => {}
        }
        let d = Diagnostic::new(self.known_code(), self.to_string());
        vec![match self.help() {
            Some(help) => d.help(help),
            None => d,
        }]
    }
}

/// How commands have fared since the database was opened by this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandStats {
    /// Commands taken up.
    pub dispatched: u64,
    /// Carried out.
    pub done: u64,
    /// Refused by a rule.
    pub rejected: u64,
    /// Answered with a stored outcome.
    pub replayed: u64,
    /// Conflicts met.
    pub conflicts: u64,
    /// Given up after the last retry.
    pub gave_up: u64,
}

impl Connection {
    /// How commands have fared since the database was opened by this process.
    pub fn command_stats(&self) -> CommandStats {
        let c = &self.shared().events().domain.counts;
        let get = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
        CommandStats {
            dispatched: get(&c.dispatched),
            done: get(&c.done),
            rejected: get(&c.rejected),
            replayed: get(&c.replayed),
            conflicts: get(&c.conflicts),
            gave_up: get(&c.gave_up),
        }
    }

    /// What came of a command, or how far it is; none when it was never seen.
    pub fn command_status(&self, id: CommandId) -> Result<Option<CommandOutcome>, DbError> {
        let stored = self.db().events().command(id)?;
        let running = self.shared().events().domain.is_running(id);
        let Some(mut outcome) = stored.map(|o| o.at(self.shared().now())) else {
            let status = CommandStatus::Running;
            return Ok(running.then(|| CommandOutcome::of(id, [0; 32], status)));
        };
        if !outcome.status.is_final() {
            let trouble = self.shared().events().domain.trouble(id);
            outcome.status = match trouble {
                _ if running => CommandStatus::Running,
                Some(t) => t.status(),
                None => outcome.status,
            };
        }
        Ok(Some(outcome))
    }
}

impl Connection {
    /// Frees what outcomes past their `keep_until` take up: what is left of each is that it
    /// is forgotten. Answers how many there were. (They answer "forgotten" without this too.)
    ///
    /// # Errors
    /// A database that cannot be read or written.
    pub fn forget_commands(&self) -> Result<u64, AppendError> {
        let (events, now) = (self.shared().events().clone(), self.shared().now());
        let (_, n) = self.write(move |txn| -> Result<u64, AppendError> {
            let mut n = 0;
            for (key, bytes) in events.log(txn.db_before()).tables.under(table::COMMAND, Key::new())? {
                let Ok(id) = uuid::Uuid::from_slice(&key) else { continue };
                let stored = CommandOutcome::decode(CommandId(id), &bytes)?;
                let was = matches!(stored.status, CommandStatus::Forgotten { .. });
                let outcome = stored.at(now);
                if !was && matches!(outcome.status, CommandStatus::Forgotten { .. }) {
                    txn.row(table::put(table::COMMAND, Key::new().bytes(&key), outcome.encode()?));
                    n += 1;
                }
            }
            Ok(n)
        })?;
        Ok(n)
    }
}

/// The code of a refusal that nobody could be told.
pub(crate) const UNHEARD: &str = "command/unheard";

/// Why a refusal could not be told to who sent the command.
#[derive(Debug)]
pub(crate) enum Unheard {
    /// The process that sent it cannot take it.
    Sender { process: String, why: String },
    /// The database could not be read.
    Db(DbError),
}
impl From<DbError> for Unheard {
    fn from(e: DbError) -> Unheard {
        Unheard::Db(e)
    }
}
impl<E> From<Unheard> for DispatchError<E> {
    fn from(e: Unheard) -> DispatchError<E> {
        match e {
            Unheard::Sender { process, why } => DispatchError::Unheard { process, why },
            Unheard::Db(e) => e.into(),
        }
    }
}

/// What a refusal does beside being stored: rows for its transaction. When it fails, the
/// refusal is not stored either.
pub(crate) type OnRefusal<'a> = &'a dyn Fn(&Refusal) -> Result<Vec<annals_storage::Row>, Unheard>;

/// What goes with a command beyond its decision.
#[derive(Default)]
pub(crate) struct Extra<'a> {
    /// Rows for the transaction that stores the outcome.
    pub rows: Vec<annals_storage::Row>,
    /// More rows when it is refused.
    pub on_refusal: Option<OnRefusal<'a>>,
}

/// A request to be decided, whoever decides.
pub(crate) struct Request<'a> {
    pub dispatch: &'a Dispatch,
    /// Its digest.
    pub digest: [u8; 32],
    /// What refusals' codes begin with.
    pub area: &'a str,
    pub extra: Extra<'a>,
}

/// What a rule made of a request: an append, or its refusal.
pub(crate) type Verdict<E> = Result<Append, E>;
/// One attempt at a request: given a database and what may be read of it, a verdict.
pub(crate) type Decider<'f, E> = dyn FnMut(&Db, &Decide<'_>) -> Result<Verdict<E>, DispatchError<E>> + 'f;

/// Carries out a request. `decide` is run on each attempt, with a database and what it may read.
pub(crate) fn carry_out<E>(
    conn: &Connection,
    request: &Request<'_>,
    decide: &mut Decider<'_, E>,
) -> Result<Dispatched, DispatchError<E>>
where
    E: std::error::Error + Serialize + DeserializeOwned,
{
    let d = request.dispatch;
    let domain = &conn.shared().events().domain;
    Counts::add(&domain.counts.dispatched);
    let _running = domain.run(d.id);
    let mut conflicts = 0;
    loop {
        let db = conn.db();
        if let Some(stored) = db.events().command(d.id)?.map(|o| o.at(conn.shared().now()))
            && (stored.status.is_final() || stored.request != request.digest)
        {
            Counts::add(&domain.counts.replayed);
            return answer(d.id, request.digest, stored);
        }
        let cx = Decide::new(&db, conn.shared().now(), d.id);
        let verdict = decide(&db, &cx);
        if let Some(e) = cx.db.failure() {
            return Err(e.into());
        }
        let (append, refused) = match verdict? {
            Ok(append) => {
                let outcome = CommandStatus::Done(super::command::nothing());
                let mut append = append.command(kept(d, request.digest, outcome));
                for guard in cx.db.guards() {
                    append = append.condition(guard, db.basis_t());
                }
                (append, None)
            }
            Err(error) => {
                let refusal = refusal(request.area, &error)?;
                let status = CommandStatus::Rejected {
                    code: Arc::from(refusal.code.as_str()),
                    message: Arc::from(refusal.message.as_str()),
                    detail: refusal.detail.clone(),
                };
                let mut append = Append::new().command(kept(d, request.digest, status));
                if let Some(f) = request.extra.on_refusal {
                    append.rows.extend(f(&refusal)?);
                }
                (append, Some((error, refusal.code)))
            }
        };
        let mut append = append;
        append.rows.extend(request.extra.rows.iter().cloned());
        match conn.append(append) {
            Ok(done) if done.replayed => {
                Counts::add(&domain.counts.replayed);
                // Somebody else was carrying it out: theirs is the answer.
                return match conn.db().events().command(d.id)? {
                    Some(stored) => answer(d.id, request.digest, stored.at(conn.shared().now())),
                    None => Ok(dispatched(d.id, done, conflicts)),
                };
            }
            Ok(done) => {
                return match refused {
                    None => {
                        Counts::add(&domain.counts.done);
                        Ok(dispatched(d.id, done, conflicts))
                    }
                    Some((error, code)) => {
                        Counts::add(&domain.counts.rejected);
                        Err(DispatchError::Rejected { error, code, replayed: false })
                    }
                };
            }
            Err(e) if e.is_conflict() => {
                Counts::add(&domain.counts.conflicts);
                if let (Some(expected), AppendError::WrongVersion { stream, actual, .. }) = (d.if_version, &e)
                {
                    let (stream, actual) = (stream.clone(), *actual);
                    return Err(DispatchError::WrongVersion { stream, expected, actual });
                }
                if d.if_version.is_some() {
                    return Err(e.into());
                }
                conflicts += 1;
                if conflicts > d.retry.0 {
                    Counts::add(&domain.counts.gave_up);
                    return Err(DispatchError::TooManyConflicts { attempts: conflicts, last: Box::new(e) });
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
}

fn kept(d: &Dispatch, digest: [u8; 32], status: CommandStatus) -> CommandOutcome {
    CommandOutcome { keep_until: d.keep_until, ..CommandOutcome::of(d.id, digest, status) }
}

fn dispatched(command: CommandId, appended: Appended, retries: u32) -> Dispatched {
    Dispatched { command, version: appended.version(), appended, retries }
}

/// The stored outcome as an answer.
fn answer<E: DeserializeOwned>(
    id: CommandId,
    digest: [u8; 32],
    stored: CommandOutcome,
) -> Result<Dispatched, DispatchError<E>> {
    if stored.request != digest {
        return Err(DispatchError::Reused { id });
    }
    match stored.status {
        CommandStatus::Done(appended) => Ok(dispatched(id, Appended { replayed: true, ..appended }, 0)),
        CommandStatus::Forgotten { since } => Err(DispatchError::Forgotten { id, until: since }),
        CommandStatus::Rejected { code, message, detail } => {
            let (code, message) = (code.to_string(), message.to_string());
            Err(match read_refusal::<E>(&detail) {
                Some(error) => DispatchError::Rejected { error, code, replayed: true },
                None => DispatchError::RejectedBefore(Refusal { code, message, detail }),
            })
        }
        // Not decided: it was dropped from the queue by hand. It may be sent anew.
        CommandStatus::Accepted | CommandStatus::Running | CommandStatus::Failed { .. } => {
            Err(DispatchError::Reused { id })
        }
    }
}

const VARIANT: &str = "error";
const PAYLOAD: &str = "data";

/// A rule's error as what is stored: `{:error "Overdrawn" :data {…}}`.
pub(crate) fn refusal<E>(area: &str, error: &E) -> Result<Refusal, DataError>
where
    E: std::error::Error + Serialize + DeserializeOwned,
{
    let (name, payload) = wire::write(error).map_err(|e| DataError::Serialize(e.0))?;
    let name = name.unwrap_or_else(wire::type_name::<E>);
    let code = format!("{area}/{}", kebab(&name));
    let detail =
        Value::map([(Value::keyword(VARIANT), Value::string(&name)), (Value::keyword(PAYLOAD), payload)]);
    Ok(Refusal { code, message: error.to_string(), detail })
}

fn read_refusal<E: DeserializeOwned>(detail: &Value) -> Option<E> {
    let Some(Value::String(name)) = detail.get(&Value::keyword(VARIANT)) else { return None };
    wire::read(name, detail.get(&Value::keyword(PAYLOAD))?).ok()
}

/// `OutOfStock` as `out-of-stock`.
fn kebab(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for (i, c) in name.chars().enumerate() {
        if c.is_uppercase() && i > 0 && !out.ends_with('-') {
            out.push('-');
        }
        out.extend(c.to_lowercase().map(|c| if c.is_alphanumeric() { c } else { '-' }));
    }
    out
}

/// Runs a rule; a panic in it is an error that says what it was about.
pub(crate) fn guarded<R, E>(
    about: impl Fn() -> (String, String),
    f: impl FnOnce() -> R,
) -> Result<R, DispatchError<E>> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let (about, command) = about();
        DispatchError::Panicked { about, command, message: panic_text(&*panic) }
    })
}

/// The metadata of a command's events.
pub(crate) fn event_meta(d: &Dispatch, area: &str, command: &str) -> Meta {
    let mut meta = d.meta.clone();
    meta.causation.get_or_insert(d.id.0);
    meta.more.insert(Arc::from("command"), Value::string(d.id.to_string()));
    meta.more.insert(Arc::from("command-type"), Value::string(format!("{area}/{command}")));
    meta
}

/// The `n`-th event of a command: its id is the same whenever it is made again.
pub(crate) fn command_event<E: Event>(
    d: &Dispatch,
    meta: &Meta,
    n: u64,
    e: &E,
) -> Result<NewEvent, EventTypeError> {
    new_event(e, EventId::derived(d.id.0, "event", n), meta)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_refusals_are_in_lower_case_with_dashes() {
        assert_eq!(kebab("OutOfStock"), "out-of-stock");
        assert_eq!(kebab("overdrawn"), "overdrawn");
        assert_eq!(kebab("not_paid"), "not-paid");
    }
}
