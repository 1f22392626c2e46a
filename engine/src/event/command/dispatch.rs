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

pub use crate::event::dispatch_error::{CommandError, DispatchError};
use crate::event::{
    append::{Append, AppendError, Appended},
    command::{CommandOutcome, CommandStatus, Dispatch},
    decision::Decide,
    domain::Counts,
    event_type::{Event, EventTypeError, new_event},
    id::{CommandId, EventId, Position, Version},
    projection::panic_text,
    record::{Meta, NewEvent},
    refusal::{OnRefusal, Refusal, read_refusal, refusal},
};
use crate::{Connection, Db};
use annals_model::{Keyword, Value};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant as Clock,
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
    /// Of the projections it was to wait for ([`Dispatch::wait_for`]), those that had not taken its
    /// events when the time was over. It is done; they show it later.
    pub behind: Vec<Keyword>,
}

impl Dispatched {
    /// Was it carried out before, and is this the first answer again?
    pub fn is_replay(&self) -> bool {
        self.appended.replayed
    }
}

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

/// Carries out a request, and waits for the projections that are to show it.
pub(crate) fn carry_out<E>(
    conn: &Connection,
    request: &Request<'_>,
    decide: &mut Decider<'_, E>,
) -> Result<Dispatched, DispatchError<E>>
where
    E: std::error::Error + Serialize + DeserializeOwned,
{
    let wait = request.dispatch.wait_for.as_ref();
    for name in wait.iter().flat_map(|w| &w.projections) {
        // A misspelt name is told before anything is decided.
        if conn.shared().events().live(name).is_none() {
            return Err(DispatchError::UnknownProjection { name: name.clone() });
        }
    }
    let mut done = decide_and_append(conn, request, decide)?;
    if let Some(wait) = wait.filter(|_| done.appended.last > Position::ZERO) {
        let until = Clock::now() + wait.timeout;
        for name in &wait.projections {
            let left = until.saturating_duration_since(Clock::now());
            // It is done, whatever becomes of the projection.
            if !conn.wait_for(name.as_str(), done.appended.last, left).unwrap_or(false) {
                done.behind.push(name.clone());
            }
        }
    }
    Ok(done)
}

/// `decide` is run on each attempt, with a database and what it may read.
fn decide_and_append<E>(
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
    let Some(_running) = domain.run(d.id) else { return Err(DispatchError::InFlight { id: d.id }) };
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
                let outcome = CommandStatus::Done(crate::event::command::nothing());
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
        let mut append = append.facts(d.tx_facts());
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
    Dispatched { command, version: appended.version(), appended, retries, behind: Vec::new() }
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
