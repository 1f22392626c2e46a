//! Orders and payments, and the process between them: an order that is not paid within
//! a day is cancelled, and a payment for a cancelled order is sent back.

use annals::{
    Instant,
    event::{Aggregate, Decide, Event, Item, Out, ProcessManager, Recorded, Route},
};
use serde::{Deserialize, Serialize};

/// A day in microseconds.
pub const DAY: i64 = 86_400_000_000;

/// An order's state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Order {
    placed: bool,
    /// It is paid.
    pub paid: bool,
    /// It is cancelled.
    pub cancelled: bool,
}

/// What may be asked of an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OrderCommand {
    /// Place it.
    Place {
        /// In cents.
        total: i64,
    },
    /// Note that it is paid.
    MarkPaid,
    /// Cancel it.
    Cancel {
        /// Why.
        reason: String,
    },
}

/// What can happen to an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OrderEvent {
    /// It was placed.
    OrderPlaced {
        /// In cents.
        total: i64,
    },
    /// It was paid.
    OrderPaid,
    /// It was cancelled.
    OrderCancelled {
        /// Why.
        reason: String,
    },
}

impl Event for OrderEvent {
    const TYPES: &'static [(&'static str, u32)] =
        &[("OrderPlaced", 1), ("OrderPaid", 1), ("OrderCancelled", 1)];
}

/// Why it is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub enum OrderError {
    /// There is none.
    #[error("there is no such order")]
    Unknown,
    /// There is one.
    #[error("the order is placed already")]
    AlreadyPlaced,
    /// It was cancelled.
    #[error("the order is cancelled")]
    Cancelled,
}

impl Aggregate for Order {
    const CATEGORY: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Error = OrderError;

    fn apply(&mut self, e: &OrderEvent) {
        match e {
            OrderEvent::OrderPlaced { .. } => self.placed = true,
            OrderEvent::OrderPaid => self.paid = true,
            OrderEvent::OrderCancelled { .. } => self.cancelled = true,
        }
    }

    fn handle(&self, c: OrderCommand, _: &Decide<'_>) -> Result<Vec<OrderEvent>, OrderError> {
        match c {
            OrderCommand::Place { total } if !self.placed => Ok(vec![OrderEvent::OrderPlaced { total }]),
            OrderCommand::Place { .. } => Err(OrderError::AlreadyPlaced),
            _ if !self.placed => Err(OrderError::Unknown),
            OrderCommand::Cancel { .. } if self.cancelled => Ok(vec![]),
            OrderCommand::Cancel { reason } => Ok(vec![OrderEvent::OrderCancelled { reason }]),
            OrderCommand::MarkPaid if self.cancelled => Err(OrderError::Cancelled),
            OrderCommand::MarkPaid if self.paid => Ok(vec![]),
            OrderCommand::MarkPaid => Ok(vec![OrderEvent::OrderPaid]),
        }
    }
}

/// A payment's state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Payment {
    received: Option<i64>,
    reversed: u32,
}

/// What may be asked of a payment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PaymentCommand {
    /// Take it in.
    Receive {
        /// For this order.
        order: String,
        /// In cents.
        amount: i64,
    },
    /// Send it back. Twice is twice: only the process keeps it from happening again.
    Reverse,
}

/// What can happen to a payment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PaymentEvent {
    /// It came.
    PaymentReceived {
        /// For this order.
        order: String,
        /// In cents.
        amount: i64,
    },
    /// It was sent back.
    PaymentReversed {
        /// In cents.
        amount: i64,
    },
}

impl Event for PaymentEvent {
    const TYPES: &'static [(&'static str, u32)] = &[("PaymentReceived", 1), ("PaymentReversed", 1)];
}

/// Why it is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub enum PaymentError {
    /// There is none.
    #[error("there is no such payment")]
    Unknown,
}

impl Aggregate for Payment {
    const CATEGORY: &'static str = "payment";
    type Command = PaymentCommand;
    type Event = PaymentEvent;
    type Error = PaymentError;

    fn apply(&mut self, e: &PaymentEvent) {
        match e {
            PaymentEvent::PaymentReceived { amount, .. } => self.received = Some(*amount),
            PaymentEvent::PaymentReversed { .. } => self.reversed += 1,
        }
    }

    fn handle(&self, c: PaymentCommand, _: &Decide<'_>) -> Result<Vec<PaymentEvent>, PaymentError> {
        match (c, self.received) {
            (PaymentCommand::Receive { .. }, Some(_)) => Ok(vec![]),
            (PaymentCommand::Receive { order, amount }, None) => {
                Ok(vec![PaymentEvent::PaymentReceived { order, amount }])
            }
            // Deliberately not idempotent: a second command would show.
            (PaymentCommand::Reverse, Some(amount)) => Ok(vec![PaymentEvent::PaymentReversed { amount }]),
            (PaymentCommand::Reverse, None) => Err(PaymentError::Unknown),
        }
    }
}

/// What holds orders and payments together.
pub struct OrderProcess;

/// Where an order stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Its payment.
    pub payment: Option<String>,
    /// It is cancelled.
    pub cancelled: bool,
}

impl ProcessManager for OrderProcess {
    const NAME: &'static str = "order-process";
    type State = Standing;

    fn wants(&self) -> Vec<Item> {
        Item::types(["OrderPlaced", "OrderCancelled", "PaymentReceived", "PaymentReversed"])
            .into_iter()
            .collect()
    }

    fn route(&self, e: &Recorded) -> Vec<Route> {
        match (e.ty(), e.read::<PaymentEvent>()) {
            ("OrderPlaced", _) => vec![Route::Start(e.stream.key().to_owned())],
            ("OrderCancelled", _) => vec![Route::Continue(e.stream.key().to_owned())],
            (_, Ok(PaymentEvent::PaymentReceived { order, .. })) => vec![Route::Continue(order)],
            // The order of a payment that was sent back is known to its conversation only.
            (_, Ok(PaymentEvent::PaymentReversed { .. })) => match e.event.meta.more.get("instance") {
                Some(annals::Value::String(order)) => vec![Route::Stop(order.to_string())],
                _ => vec![],
            },
            _ => vec![],
        }
    }

    fn handle(&self, s: &Standing, e: &Recorded, out: &mut Out) {
        match e.ty() {
            "OrderPlaced" => {
                let when = Instant(e.time().0 + DAY);
                let cancel = OrderCommand::Cancel { reason: "not paid within a day".into() };
                out.send_at::<Order>(when, "unpaid", e.stream.key(), &cancel);
            }
            "PaymentReceived" if s.cancelled => out.send::<Payment>(e.stream.key(), &PaymentCommand::Reverse),
            "PaymentReceived" => {
                out.cancel("unpaid");
                if let Ok(PaymentEvent::PaymentReceived { order, .. }) = e.read() {
                    out.send::<Order>(order, &OrderCommand::MarkPaid);
                }
            }
            "OrderCancelled" => {
                if let Some(payment) = &s.payment {
                    out.send::<Payment>(payment, &PaymentCommand::Reverse);
                }
            }
            _ => {}
        }
    }

    fn apply(&self, s: &mut Standing, e: &Recorded) {
        match e.ty() {
            "PaymentReceived" => s.payment = Some(e.stream.key().to_owned()),
            "OrderCancelled" => s.cancelled = true,
            _ => {}
        }
    }
}
