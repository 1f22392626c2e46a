//! Subscriptions: every event from a point on, once each, in order.
//!
//! 1. A subscription always reads from the log: what it has not yet read waits
//!    there, so a slow reader holds nobody up and loses nothing.
//! 2. [`Feed::CaughtUp`] comes each time the newest event has been handed out.
//! 3. [`Feed::Checkpoint`] names a position that is safe to resume after, even when
//!    nothing matched: a filtered reader does not read the same events again.

use crate::event::{append::Item, async_feed::EventStream, id::Position, record::Recorded, registry::Events};
use crate::{Connection, DbError};
use annals_model::Instant;
use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first event.
    Beginning,
    /// With events appended from now on.
    Now,
    /// After this position.
    After(Position),
    /// With the first event recorded after an instant.
    At(Instant),
}

/// What a subscription hands out.
#[derive(Clone, Debug, PartialEq)]
pub enum Feed {
    /// An event.
    Event(Box<Recorded>),
    /// Everything up to here has been handed out.
    CaughtUp(Position),
    /// Safe to resume after.
    Checkpoint(Position),
}

/// Events read at once.
const PAGE: usize = 512;

/// Events as they come; blocks while there are none.
pub struct Subscription {
    conn: Connection,
    items: Vec<Item>,
    /// Read up to here,
    after: Position,
    /// handed out up to here,
    given: Position,
    /// and this is between the two.
    ready: VecDeque<Feed>,
    caught_up: bool,
}

impl Connection {
    /// Every event from a point on that matches one of the items (all, when there are none).
    pub fn subscribe(&self, items: Vec<Item>, from: Start) -> Result<Subscription, DbError> {
        let log = self.db().events();
        let after = match from {
            Start::Beginning => Position::ZERO,
            Start::Now => log.head()?,
            Start::After(p) => p,
            Start::At(i) => {
                let t = self.db().snapshot().t_at(i)?;
                crate::event::log::EventLog { upto: t.min(log.t()), ..log }.head()?
            }
        };
        Ok(Subscription {
            conn: self.clone(),
            items,
            after,
            given: after,
            ready: VecDeque::new(),
            caught_up: false,
        })
    }
}

impl Subscription {
    /// Up to where everything it wants has been handed out: where another subscription goes on.
    pub fn position(&self) -> Position {
        self.given
    }

    /// The same as an asynchronous stream, from where it stands.
    ///
    /// ```
    /// use annals::event::{Append, EventStream, Feed, Start};
    /// # use std::{pin::pin, task::{Context, Poll, Waker}};
    /// use annals::event::Stream; // the trait of the `futures` crates
    /// let conn = annals::in_memory()?;
    /// conn.append(Append::to("order-1").event("OrderPlaced", "{}")?)?;
    /// let mut orders = conn.subscribe(vec![], Start::Beginning)?.into_stream();
    /// // In an async function: while let Some(feed) = orders.next().await { … }
    /// # let mut cx = Context::from_waker(Waker::noop());
    /// let first = pin!(orders).poll_next(&mut cx);
    /// assert!(matches!(first, Poll::Ready(Some(Ok(Feed::Event(e)))) if e.ty() == "OrderPlaced"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_stream(self) -> EventStream {
        EventStream::new(self)
    }

    pub(crate) fn events(&self) -> &Arc<Events> {
        self.conn.shared().events()
    }

    /// The next item there is now; none when there is nothing new.
    pub(crate) fn look(&mut self) -> Result<Option<Feed>, DbError> {
        loop {
            if let Some(feed) = self.ready.pop_front() {
                match (&feed, self.ready.front()) {
                    // Upcasters made several of one, and the rest is still to come.
                    (Feed::Event(e), Some(Feed::Event(next))) if next.position == e.position => {}
                    (Feed::Event(e), _) => self.given = e.position,
                    (Feed::Checkpoint(p) | Feed::CaughtUp(p), _) => self.given = *p,
                }
                return Ok(Some(feed));
            }
            let log = self.conn.db().events();
            if self.after < log.head()? {
                let (found, upto) = log.all(&self.items, self.after, PAGE)?;
                self.caught_up = false;
                let none = found.is_empty();
                self.ready.extend(found.into_iter().map(|e| Feed::Event(Box::new(e))));
                self.after = upto;
                if none || !self.items.is_empty() {
                    self.ready.push_back(Feed::Checkpoint(upto));
                }
                continue;
            }
            if !self.caught_up {
                self.caught_up = true;
                self.given = self.after;
                return Ok(Some(Feed::CaughtUp(self.after)));
            }
            return Ok(None);
        }
    }

    /// The next item, or none when nothing came in time.
    pub fn next_within(&mut self, timeout: Duration) -> Result<Option<Feed>, DbError> {
        loop {
            // Closed before looking: nothing was stored after what is found.
            let closed = self.is_closed();
            let beat = self.events().beat();
            if let Some(feed) = self.look()? {
                return Ok(Some(feed));
            }
            if closed || !self.events().wait(beat, timeout) {
                return Ok(None);
            }
        }
    }

    /// Was the database closed?
    pub(crate) fn is_closed(&self) -> bool {
        self.events().closed.load(Ordering::Acquire)
    }
}

impl Iterator for Subscription {
    type Item = Result<Feed, DbError>;
    fn next(&mut self) -> Option<Result<Feed, DbError>> {
        loop {
            let closed = self.is_closed();
            match self.next_within(Duration::from_secs(60)) {
                Ok(Some(feed)) => return Some(Ok(feed)),
                Ok(None) if closed => return None,
                Ok(None) => {}
                Err(e) => return Some(Err(e)),
            }
        }
    }
}
