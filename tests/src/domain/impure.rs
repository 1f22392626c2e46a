//! Rules that are not what they should be, for what finds them.

use annals::event::{Aggregate, Decide, Event};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU32, Ordering};

/// Never the same twice.
#[derive(Debug, Default)]
pub struct Clockwork {
    ticks: AtomicU32,
    drift: u32,
}

impl PartialEq for Clockwork {
    fn eq(&self, other: &Clockwork) -> bool {
        let ticks = |c: &Clockwork| c.ticks.load(Ordering::SeqCst);
        (ticks(self), self.drift) == (ticks(other), other.drift)
    }
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Which sin.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// `handle` counts outside.
    Count,
    /// `handle` changes the state behind its reference.
    Remember,
    /// `apply` counts outside.
    Drift,
}

/// What it says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Tick {
    /// A number.
    Counted(u32),
    /// Something that `apply` takes differently each time.
    Drifted,
}

impl Event for Tick {
    const TYPES: &'static [(&'static str, u32)] = &[("Counted", 1), ("Drifted", 1)];
}

/// Never.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[error("never")]
pub struct Never;

impl Aggregate for Clockwork {
    const CATEGORY: &'static str = "clockwork";
    type Command = Ask;
    type Event = Tick;
    type Error = Never;
    fn apply(&mut self, e: &Tick) {
        if matches!(e, Tick::Drifted) {
            self.drift = 1 + COUNT.fetch_add(1, Ordering::SeqCst);
        }
    }
    fn handle(&self, c: Ask, _: &Decide<'_>) -> Result<Vec<Tick>, Never> {
        Ok(match c {
            Ask::Count => vec![Tick::Counted(COUNT.fetch_add(1, Ordering::SeqCst))],
            Ask::Remember => {
                self.ticks.fetch_add(1, Ordering::SeqCst);
                vec![]
            }
            Ask::Drift => vec![Tick::Drifted],
        })
    }
}

/// Panics where it must not.
#[derive(Debug, Default, PartialEq)]
pub struct Brittle;

/// What happens to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum BrittleEvent {
    /// Nothing much.
    Held,
    /// Too much.
    Broke,
}

impl Event for BrittleEvent {
    const TYPES: &'static [(&'static str, u32)] = &[("Held", 1), ("Broke", 1)];
}

impl Aggregate for Brittle {
    const CATEGORY: &'static str = "brittle";
    type Command = ();
    type Event = BrittleEvent;
    type Error = Never;
    fn apply(&mut self, e: &BrittleEvent) {
        assert!(!matches!(e, BrittleEvent::Broke), "I cannot take it");
    }
    fn handle(&self, (): (), _: &Decide<'_>) -> Result<Vec<BrittleEvent>, Never> {
        panic!("no rule for this");
    }
}

/// Forgets a part of itself when it is written.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lossy {
    #[serde(skip)]
    held: u32,
}

impl Aggregate for Lossy {
    const CATEGORY: &'static str = "lossy";
    type Command = ();
    type Event = BrittleEvent;
    type Error = Never;
    fn apply(&mut self, _: &BrittleEvent) {
        self.held += 1;
    }
    fn handle(&self, (): (), _: &Decide<'_>) -> Result<Vec<BrittleEvent>, Never> {
        Ok(vec![])
    }
}
