//! The untyped door: commands as data, for those who come over HTTP or from a
//! process manager and know a category, an id, a type and a payload.
//!
//! 1. Behind the door is the same dispatch as before it: a command that comes both
//!    ways under one id is one command.
//! 2. A payload is read into the command's type first; what is hashed is what was
//!    understood, so that the order of its fields means nothing.

use crate::Connection;
use crate::event::{
    aggregate::Aggregate,
    append::Appended,
    command::{CommandTo, Dispatch},
    dispatch::{Dispatched, Extra},
    dispatch_error::{CommandError, DispatchError},
    event_type,
    id::{CommandId, StreamId, Version},
    marks::Marks,
    refusal::Refusal,
    repository::{Plan, Repository, made_id},
    seal::unmarked,
    wire,
};
use annals_model::{Keyword, Value};
use std::sync::Arc;

/// A command as data.
#[derive(Clone, Debug)]
pub struct CommandRequest {
    /// The category of the aggregate it is for.
    pub category: String,
    /// The aggregate's id; none to make a new one, with an id made from the command's.
    pub id: Option<String>,
    /// The command's type: the name of its variant.
    pub ty: String,
    /// What it holds. Values marked as personal ([`crate::event::personal`]) are read like others, and
    /// sealed where the command is stored to be carried out later.
    pub payload: Value,
    /// Its id, cause, and how to carry it out.
    pub dispatch: Dispatch,
}

/// What came of a command as data.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandAnswer {
    /// The command.
    pub id: CommandId,
    /// The aggregate's id.
    pub key: String,
    /// Its stream.
    pub stream: StreamId,
    /// The transaction, the positions and the versions. No positions: there was nothing to do.
    pub appended: Appended,
    /// The version of the stream after it.
    pub version: Version,
    /// It made the stream.
    pub created: bool,
    /// How often the decision was made again after a conflict.
    pub retries: u32,
    /// Projections it was to wait for that lag; see [`Dispatched::behind`].
    pub behind: Vec<Keyword>,
}

/// Who carries out the commands of one category.
pub(crate) trait Handler: Send + Sync {
    /// The names of its commands.
    fn commands(&self) -> &'static [&'static str];
    /// The request as it is understood.
    fn understand(&self, to: &CommandTo) -> Result<CommandTo, CommandError>;
    /// Carries out a command that was understood.
    fn carry_out(
        &self,
        conn: &Connection,
        to: &CommandTo,
        d: &Dispatch,
        extra: Extra<'_>,
    ) -> Result<Dispatched, CommandError>;
}

fn read<A: Aggregate>(to: &CommandTo) -> Result<A::Command, CommandError> {
    if let Some(known) = wire::variants::<A::Command>()
        && !known.contains(&to.ty.as_str())
    {
        let known = known.iter().map(|k| (*k).to_owned()).collect();
        return Err(DispatchError::UnknownCommand {
            category: to.category.clone(),
            ty: to.ty.clone(),
            known,
        });
    }
    wire::read(&to.ty, &to.payload).map_err(|why| DispatchError::BadPayload {
        category: to.category.clone(),
        ty: to.ty.clone(),
        why: why.0,
    })
}

impl<A: Aggregate> Handler for Plan<A> {
    fn commands(&self) -> &'static [&'static str] {
        wire::variants::<A::Command>().unwrap_or(&["command"])
    }
    fn understand(&self, to: &CommandTo) -> Result<CommandTo, CommandError> {
        Ok(CommandTo::new::<A>(to.id.clone(), &read::<A>(to)?)?)
    }
    fn carry_out(
        &self,
        conn: &Connection,
        to: &CommandTo,
        d: &Dispatch,
        extra: Extra<'_>,
    ) -> Result<Dispatched, CommandError> {
        let command = read::<A>(to)?;
        self.dispatch(conn, &to.id, command, d, extra).map_err(|e| {
            e.map(|error, code| match crate::event::refusal::refusal(A::CATEGORY, &error) {
                Ok(refusal) => refusal,
                // It was stored a moment ago, so it can be written; this keeps what can be said of it.
                Err(_) => Refusal { code: code.to_owned(), message: error.to_string(), detail: Value::Nil },
            })
        })
    }
}

impl<A: Aggregate> Repository<A> {
    /// Opens the untyped door ([`Connection::command`]) to these aggregates, with this
    /// repository's snapshots.
    ///
    /// # Errors
    /// A category that has a handler already, a dash in it, or an event type whose names
    /// on disk and variants differ.
    pub fn register(&self) -> Result<(), CommandError> {
        event_type::check::<A::Event>()?;
        crate::event::aggregate::stream_of::<A>("x")?;
        let (conn, plan) = self.parts();
        let mut handlers = conn.shared().events().domain.handlers.write();
        if handlers.contains_key(A::CATEGORY) {
            return Err(DispatchError::CategoryTwice { category: A::CATEGORY });
        }
        handlers.insert(A::CATEGORY, Arc::new(plan.clone()));
        Ok(())
    }
}

impl Connection {
    /// Opens the untyped door ([`Connection::command`]) to aggregates of one kind.
    ///
    /// # Errors
    /// See [`Repository::register`].
    pub fn register_commands<A: Aggregate>(&self) -> Result<(), CommandError> {
        self.repository::<A>().register()
    }

    /// The categories whose commands are handled, each with the names of its commands.
    pub fn command_categories(&self) -> Vec<(String, Vec<String>)> {
        let handlers = self.shared().events().domain.handlers.read();
        let names = |h: &Arc<dyn Handler>| h.commands().iter().map(|c| (*c).to_owned()).collect();
        handlers.iter().map(|(category, h)| ((*category).to_owned(), names(h))).collect()
    }

    /// Who handles a category.
    pub(crate) fn handler(&self, category: &str) -> Result<Arc<dyn Handler>, CommandError> {
        let handlers = self.shared().events().domain.handlers.read();
        handlers.get(category).cloned().ok_or_else(|| DispatchError::UnknownCategory {
            category: category.to_owned(),
            known: handlers.keys().map(|k| (*k).to_owned()).collect(),
        })
    }

    /// Carries out a command given as data, for an aggregate registered with
    /// [`Connection::register_commands`].
    ///
    /// # Errors
    /// A category or type nobody handles, a payload that does not fit, and all that
    /// [`Repository::dispatch`] may answer; a refusal by a rule comes as [`Refusal`].
    pub fn command(&self, request: CommandRequest) -> Result<CommandAnswer, CommandError> {
        let handler = self.handler(&request.category)?;
        let to = request.to();
        let done = handler.carry_out(self, &to, &request.dispatch, Extra::default())?;
        answer(to, done)
    }
}

impl CommandRequest {
    /// The command and whom it is for, with an id made when none is given.
    pub(crate) fn to(&self) -> CommandTo {
        CommandTo {
            category: self.category.clone(),
            id: self.id.clone().unwrap_or_else(|| made_id(self.dispatch.id)),
            ty: self.ty.clone(),
            payload: unmarked(&self.payload, &mut Marks::default()),
        }
    }
}

fn answer(to: CommandTo, done: Dispatched) -> Result<CommandAnswer, CommandError> {
    let stream = StreamId::of(&to.category, &to.id).map_err(crate::event::aggregate::LoadError::from)?;
    let n = match done.appended.first.0 {
        0 => 0,
        first => done.appended.last.0 + 1 - first,
    };
    Ok(CommandAnswer {
        id: done.command,
        key: to.id,
        stream,
        created: n > 0 && done.version.0 == n,
        version: done.version,
        appended: done.appended,
        retries: done.retries,
        behind: done.behind,
    })
}
