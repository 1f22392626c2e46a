//! Items in stock: received, ordered, reserved, released, shipped.

use annals::event::{Aggregate, Decide, Event};
use serde::{Deserialize, Serialize};
use std::{cell::RefCell, rc::Rc};

/// Looks at a command while it is being decided.
type Hook = Rc<dyn Fn(&ItemCommand)>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// What this thread does while a command is being decided, to get in its way.
pub fn on_handle(f: impl Fn(&ItemCommand) + 'static) {
    HOOK.with(|h| *h.borrow_mut() = Some(Rc::new(f)));
}

/// An item's state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Item {
    /// How many are there.
    pub in_stock: u32,
    /// How many of them are promised.
    pub reserved: u32,
    /// More was promised or taken than there was: somebody must look.
    pub over_reserved: bool,
}

/// What may be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ItemCommand {
    /// Put into stock.
    Receive {
        /// How many.
        amount: u32,
    },
    /// Take for an order.
    Order {
        /// How many.
        amount: u32,
    },
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ItemEvent {
    /// More are there.
    Received {
        /// How many.
        amount: u32,
    },
    /// Some were ordered.
    OrderPlaced {
        /// How many.
        amount: u32,
    },
    /// Some were promised.
    Reserved {
        /// How many.
        amount: u32,
    },
    /// A promise was taken back.
    Released {
        /// How many.
        amount: u32,
    },
    /// What was promised has gone.
    Shipped {
        /// How many.
        amount: u32,
    },
}

impl Event for ItemEvent {
    const TYPES: &'static [(&'static str, u32)] =
        &[("Received", 1), ("OrderPlaced", 1), ("Reserved", 1), ("Released", 1), ("Shipped", 1)];
}

/// Why it is refused.
#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub enum ItemError {
    /// Not so many are there.
    #[error("{asked} asked for, {left} left")]
    OutOfStock {
        /// How many were asked for.
        asked: u32,
        /// How many are left.
        left: u32,
    },
}

impl Item {
    fn take(&mut self, amount: u32) {
        match self.in_stock.checked_sub(amount) {
            Some(left) => self.in_stock = left,
            None => {
                self.in_stock = 0;
                self.over_reserved = true;
            }
        }
    }
}

impl Aggregate for Item {
    const CATEGORY: &'static str = "item";
    type Command = ItemCommand;
    type Event = ItemEvent;
    type Error = ItemError;

    fn apply(&mut self, e: &ItemEvent) {
        match e {
            ItemEvent::Received { amount } => self.in_stock = self.in_stock.saturating_add(*amount),
            ItemEvent::OrderPlaced { amount } => self.take(*amount),
            ItemEvent::Reserved { amount } => self.reserved = self.reserved.saturating_add(*amount),
            ItemEvent::Released { amount } => self.reserved = self.reserved.saturating_sub(*amount),
            ItemEvent::Shipped { amount } => {
                self.reserved = self.reserved.saturating_sub(*amount);
                self.take(*amount);
            }
        }
        self.over_reserved |= self.reserved > self.in_stock;
    }

    fn handle(&self, c: ItemCommand, _: &Decide<'_>) -> Result<Vec<ItemEvent>, ItemError> {
        let hook = HOOK.with(|h| h.borrow().clone());
        if let Some(hook) = hook {
            hook(&c);
        }
        match c {
            ItemCommand::Receive { amount } => Ok(vec![ItemEvent::Received { amount }]),
            ItemCommand::Order { amount } if amount > self.in_stock => {
                Err(ItemError::OutOfStock { asked: amount, left: self.in_stock })
            }
            ItemCommand::Order { amount } => Ok(vec![ItemEvent::OrderPlaced { amount }]),
        }
    }
}
