//! A subscription as an asynchronous stream, for any executor.
//!
//! 1. What it promises is what [`Subscription`] promises: each event once, in order, from the log;
//!    a slow reader holds nobody up and loses nothing.
//! 2. It has no thread and no timer: the task is woken by the commit that stores something new.
//!    Between looking and falling asleep no commit is missed: the number of announcements is read
//!    before looking, and compared under the lock that announcing takes.
//! 3. Polling reads a page of events (some hundred) in the caller's thread. That is file reading,
//!    from memory as a rule; where even that must not be, poll in a thread for blocking work.
//!
//! Not here: executors, timeouts, and what `await` needs beyond the trait (`futures::StreamExt`).

use crate::{
    DbError,
    event::{
        id::Position,
        registry::Seat,
        subscribe::{Feed, Subscription},
    },
};
use futures_core::Stream;
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// Events as they come, as a `Stream`: what [`Subscription::into_stream`] gives. It ends when the
/// database is closed and everything stored has been handed out.
///
/// An error is of one reading: polled again, it goes on where it stood.
pub struct EventStream {
    subscription: Subscription,
    seat: Seat,
}

impl EventStream {
    pub(crate) fn new(subscription: Subscription) -> EventStream {
        let seat = subscription.events().seat();
        EventStream { subscription, seat }
    }
    /// Up to where everything it wants has been handed out: where to resume.
    pub fn position(&self) -> Position {
        self.subscription.position()
    }
    /// The blocking iterator again, from where it stands.
    pub fn into_blocking(self) -> Subscription {
        self.subscription
    }
}

impl Stream for EventStream {
    type Item = Result<Feed, DbError>;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            // Closed before looking: nothing was stored after what is found.
            let closed = this.subscription.is_closed();
            let beat = this.seat.events().beat();
            match this.subscription.look() {
                Ok(None) if closed => return Poll::Ready(None),
                Ok(None) if this.seat.wake_after(beat, cx.waker()) => return Poll::Pending,
                Ok(None) => {}
                Ok(Some(feed)) => return Poll::Ready(Some(Ok(feed))),
                Err(e) => return Poll::Ready(Some(Err(e))),
            }
        }
    }
}
