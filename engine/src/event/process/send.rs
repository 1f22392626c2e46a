//! Queued commands carried out: each leaves the queue in the transaction of its outcome.
//!
//! 1. A command that cannot be carried out now stays and waits; behind it, those for the same
//!    aggregate wait too.
//! 2. One that can never be carried out is refused for good.
//! 3. A refusal is stored only together with what its sender makes of it.

use crate::event::{
    append::AppendError,
    command::{CommandOutcome, CommandStatus},
    dispatch::Extra,
    dispatch_error::{CommandError, DispatchError},
    domain::Trouble,
    id::CommandId,
    outbox::{self, gone},
    process::{Fault, ProcessError, Work, checkpoint},
    queued::Queued,
    refusal::{Refusal, Unheard},
    status::{ProcessState, Step},
    step::later,
    table::{self, Key},
};
use crate::{Connection, ErrorClass};
use annals_model::Value;
use hashbrown::HashSet;
use std::sync::Arc;

/// The code of a command that was dropped from the queue.
const DROPPED: &str = "command/dropped";
/// The code of a command with a value that was erased while it waited.
const ERASED: &str = "command/erased";

impl Connection {
    pub(super) fn step_queue(&self) -> Result<Option<Step>, ProcessError> {
        let domain = &self.shared().events().domain;
        let now = self.shared().now();
        // Behind a command that waits, those for the same aggregate wait too.
        let mut held = HashSet::new();
        let ready = outbox::first(&self.db().events(), &mut |q: &Queued| {
            let to = (q.to.category.clone(), q.to.id.clone());
            if domain.trouble(q.id).is_some_and(|t| t.retry_at > now) {
                held.insert(to);
                return false;
            }
            !held.contains(&to)
        })?;
        let Some((key, queued)) = ready else { return Ok(None) };
        let id = queued.id;
        match self.send(key, &queued) {
            Ok(()) => {
                domain.set_trouble(id, None);
                Ok(Some(Step::Decided(id)))
            }
            Err(DispatchError::Append(AppendError::Db(e))) if e.class() != ErrorClass::Damaged => {
                Err(e.into())
            }
            Err(DispatchError::Append(AppendError::Transact(e))) if is_closing(e.class()) => {
                Err(AppendError::Transact(e).into())
            }
            Err(e) => {
                let attempts = domain.trouble(id).map_or(0, |t| t.attempts) + 1;
                let trouble = Trouble {
                    code: Arc::from(e.code()),
                    message: Arc::from(e.to_string()),
                    attempts,
                    retry_at: later(now, attempts),
                };
                domain.set_trouble(id, Some(trouble));
                Ok(Some(Step::Delayed(id)))
            }
        }
    }

    /// Carries out a queued command and takes it out of the queue, in one transaction.
    fn send(&self, key: Vec<u8>, queued: &Queued) -> Result<(), CommandError> {
        if queued.erased {
            let message = "a personal value of the command was erased".to_owned();
            let refusal = Refusal { code: ERASED.to_owned(), message, detail: Value::Nil };
            let told = self.refused(queued, &refusal)?;
            return self.end_refused(key, queued, &refusal, told);
        }
        let d = queued.dispatch();
        let on_refusal = |refusal: &Refusal| self.refused(queued, refusal);
        let rows = vec![gone(table::OUTBOX, key.clone())];
        let extra = Extra { rows, on_refusal: Some(&on_refusal) };
        let e = match self.handler(&queued.to.category)?.carry_out(self, &queued.to, &d, extra) {
            Ok(done) if !done.is_replay() => return Ok(()),
            Err(DispatchError::Rejected { replayed: false, .. }) => return Ok(()),
            // It was decided another way while it waited: only who sent it is to be told.
            Ok(_) | Err(DispatchError::Forgotten { .. }) => {
                self.commit_rows(move |_| Ok(vec![gone(table::OUTBOX, key)]))?;
                return Ok(());
            }
            Err(DispatchError::Rejected { error: refusal, .. } | DispatchError::RejectedBefore(refusal)) => {
                let mut rows = self.refused(queued, &refusal)?;
                rows.push(gone(table::OUTBOX, key));
                self.commit_rows(move |_| Ok(rows))?;
                return Ok(());
            }
            Err(e) => e,
        };
        if !is_for_good(&e) {
            return Err(e);
        }
        // It can never succeed: that is its outcome.
        let refusal = Refusal { code: e.code().to_owned(), message: e.to_string(), detail: Value::Nil };
        let told = self.refused(queued, &refusal)?;
        self.end_refused(key, queued, &refusal, told)
    }

    /// Takes a command out of the queue with a refusal as its outcome, and with rows for who
    /// sent it.
    fn end_refused(
        &self,
        key: Vec<u8>,
        queued: &Queued,
        refusal: &Refusal,
        told: Vec<annals_storage::Row>,
    ) -> Result<(), CommandError> {
        let status = CommandStatus::Rejected {
            code: Arc::from(refusal.code.as_str()),
            message: Arc::from(refusal.message.as_str()),
            detail: refusal.detail.clone(),
        };
        let id = queued.id;
        let digest = match self.db().events().command(id)? {
            // What was asked cannot be told any more from what is left of it.
            Some(stored) if queued.erased => stored.request,
            _ => queued.to.digest(queued.if_version)?,
        };
        let outcome =
            CommandOutcome { keep_until: queued.keep_until, ..CommandOutcome::of(id, digest, status) };
        let outcome = table::put(table::COMMAND, Key::new().bytes(id.0.as_bytes()), outcome.encode()?);
        let events = self.shared().events().clone();
        self.write(move |txn| -> Result<(), AppendError> {
            let stored = events.log(txn.db_before()).command(id)?;
            // The outcome of another request under this id stays, and one that somebody else came to.
            if stored.is_none_or(|s| s.request == digest && !s.status.is_final()) {
                txn.row(outcome);
            }
            for row in told {
                txn.row(row);
            }
            txn.row(gone(table::OUTBOX, key));
            Ok(())
        })?;
        self.shared().events().announce();
        Ok(())
    }

    /// Takes a command out of the queue without carrying it out, for `why`: one that can never
    /// succeed and holds up those behind it, say. Its outcome is a rejection with the code
    /// `command/dropped`, and the process that sent it is told, if it is registered and running.
    /// False when the command is not in the queue: it is decided, or was never there.
    ///
    /// # Errors
    /// The database cannot be read or written.
    ///
    /// ```
    /// use annals::{Value, event::{CommandRequest, CommandId, Dispatch}};
    ///
    /// let conn = annals::in_memory()?;
    /// assert!(!conn.drop_command(CommandId::fresh(), "nobody wants it")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drop_command(&self, id: CommandId, why: &str) -> Result<bool, CommandError> {
        let events = self.shared().events().clone();
        let _one = events.domain.stepping.lock();
        let Some((key, queued)) = outbox::first(&self.db().events(), &mut |q| q.id == id)? else {
            return Ok(false);
        };
        let refusal = Refusal { code: DROPPED.to_owned(), message: why.to_owned(), detail: Value::Nil };
        let told = match self.refused(&queued, &refusal) {
            Ok(rows) => rows,
            Err(Unheard::Sender { .. }) => Vec::new(),
            Err(Unheard::Db(e)) => return Err(e.into()),
        };
        self.end_refused(key, &queued, &refusal, told)?;
        events.domain.set_trouble(id, None);
        Ok(true)
    }

    /// What the process that sent a command makes of its refusal.
    fn refused(&self, queued: &Queued, refusal: &Refusal) -> Result<Vec<annals_storage::Row>, Unheard> {
        let domain = &self.shared().events().domain;
        let Some((process, instance)) = &queued.sender else { return Ok(Vec::new()) };
        let unheard = |why: String| Unheard::Sender { process: process.clone(), why };
        let Some(p) = domain.processes().iter().find(|p| p.name() == process.as_str()).cloned() else {
            return Err(unheard("it is not registered in this program".to_owned()));
        };
        if let ProcessState::Halted { at, why } = domain.state(p.name()) {
            return Err(unheard(format!("it halted at event {}: {why}", at.0)));
        }
        let log = self.db().events();
        let mut work = Work::new(log.clone(), p.name());
        match p.refused(instance, queued, refusal, &mut work) {
            Ok(()) => Ok(work.rows(log.t().next(), 0)?),
            Err(Fault::Db(e)) => Err(e.into()),
            Err(e) => {
                let at = domain.looked(p.name(), checkpoint(&log.tables, p.name())?);
                domain.set_state(p.name(), ProcessState::Halted { at, why: e.to_string() });
                Err(unheard(e.to_string()))
            }
        }
    }
}

fn is_closing(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::Poisoned | ErrorClass::Environment | ErrorClass::Locked)
}

/// Can the command never succeed as it is?
fn is_for_good(e: &CommandError) -> bool {
    use crate::event::aggregate::LoadError;
    matches!(
        e,
        DispatchError::WrongVersion { .. }
            | DispatchError::Reused { .. }
            | DispatchError::UnknownCommand { .. }
            | DispatchError::BadPayload { .. }
            | DispatchError::Data(_)
            | DispatchError::Event(_)
            | DispatchError::Load(LoadError::Tombstoned(_) | LoadError::Name(_))
            | DispatchError::Append(AppendError::Tombstoned(_))
    ) || matches!(e, DispatchError::Append(AppendError::Db(e)) if e.class() == ErrorClass::Meaning)
}
