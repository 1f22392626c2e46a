//! Bank accounts, and the transfer of money between two of them as a process.

use annals::event::{
    Aggregate, CommandTo, Decide, Event, Item, Out, ProcessManager, Recorded, Refusal, Route, StateStored,
};
use serde::{Deserialize, Serialize};

/// The attributes of an account that is stored as its state.
pub const SCHEMA: &str = r#"[
  {:db/ident :account/id      :db/valueType :db.type/string  :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
  {:db/ident :account/owner   :db/valueType :db.type/string  :db/cardinality :db.cardinality/one}
  {:db/ident :account/balance :db/valueType :db.type/long    :db/cardinality :db.cardinality/one}
  {:db/ident :account/closed  :db/valueType :db.type/boolean :db/cardinality :db.cardinality/one}
  {:db/ident :account/declined :db/valueType :db.type/long   :db/cardinality :db.cardinality/many}]"#;

/// An account's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Whose it is; none when it is not open.
    pub owner: Option<String>,
    /// What is on it, in cents.
    pub balance: i64,
    /// It takes nothing any more.
    pub closed: bool,
    /// Payments that were declined.
    pub declined: Vec<i64>,
}

/// What may be asked of an account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AccountCommand {
    /// Open it.
    Open {
        /// For whom.
        owner: String,
    },
    /// Put money on it.
    Deposit {
        /// In cents.
        amount: i64,
    },
    /// Take money from it.
    Withdraw {
        /// In cents.
        amount: i64,
    },
    /// Close it.
    Close,
}

/// What can happen to an account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AccountEvent {
    /// It is there.
    #[serde(rename = "AccountOpened")]
    Opened {
        /// Whose it is.
        owner: String,
    },
    /// Money came.
    #[serde(rename = "MoneyDeposited")]
    Deposited {
        /// In cents.
        amount: i64,
    },
    /// Money went.
    #[serde(rename = "MoneyWithdrawn")]
    Withdrawn {
        /// In cents.
        amount: i64,
    },
    /// It is closed.
    #[serde(rename = "AccountClosed")]
    Closed,
    /// Money came and was sent back.
    #[serde(rename = "PaymentDeclined")]
    Declined {
        /// In cents.
        amount: i64,
    },
}

impl Event for AccountEvent {
    const TYPES: &'static [(&'static str, u32)] = &[
        ("AccountOpened", 1),
        ("MoneyDeposited", 1),
        ("MoneyWithdrawn", 1),
        ("AccountClosed", 1),
        ("PaymentDeclined", 1),
    ];
}

/// Why an account refuses.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub enum AccountError {
    /// There is none.
    #[error("there is no such account")]
    NotOpen,
    /// There is one.
    #[error("the account is open already")]
    AlreadyOpen,
    /// Too little on it.
    #[error("only {balance} left")]
    Overdrawn {
        /// What is on it.
        balance: i64,
    },
}

impl Aggregate for Account {
    const CATEGORY: &'static str = "account";
    type Command = AccountCommand;
    type Event = AccountEvent;
    type Error = AccountError;

    fn apply(&mut self, e: &AccountEvent) {
        match e {
            AccountEvent::Opened { owner } => self.owner = Some(owner.clone()),
            AccountEvent::Deposited { amount } => self.balance = self.balance.saturating_add(*amount),
            AccountEvent::Withdrawn { amount } => self.balance = self.balance.saturating_sub(*amount),
            AccountEvent::Closed => self.closed = true,
            AccountEvent::Declined { amount } => {
                if !self.declined.contains(amount) {
                    self.declined.push(*amount);
                }
            }
        }
    }

    fn handle(&self, c: AccountCommand, _: &Decide<'_>) -> Result<Vec<AccountEvent>, AccountError> {
        match (c, &self.owner) {
            (AccountCommand::Open { owner }, None) => Ok(vec![AccountEvent::Opened { owner }]),
            (AccountCommand::Open { .. }, Some(_)) => Err(AccountError::AlreadyOpen),
            (_, None) => Err(AccountError::NotOpen),
            (AccountCommand::Close, _) if self.closed => Ok(vec![]),
            (AccountCommand::Close, _) => Ok(vec![AccountEvent::Closed]),
            (AccountCommand::Deposit { amount: 0 }, _) => Ok(vec![]),
            // The bank keeps it on record that it sent the money back.
            (AccountCommand::Deposit { amount }, _) if self.closed => {
                Ok(vec![AccountEvent::Declined { amount }])
            }
            (AccountCommand::Deposit { amount }, _) => Ok(vec![AccountEvent::Deposited { amount }]),
            (AccountCommand::Withdraw { amount }, _) if amount > self.balance => {
                Err(AccountError::Overdrawn { balance: self.balance })
            }
            (AccountCommand::Withdraw { amount }, _) => Ok(vec![AccountEvent::Withdrawn { amount }]),
        }
    }
}

impl StateStored for Account {
    const KEY: &'static str = "account/id";
}

/// Somebody asks for money to be moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TransferEvent {
    /// It was asked for.
    #[serde(rename = "TransferRequested")]
    Requested {
        /// From this account.
        from: String,
        /// To this one.
        to: String,
        /// In cents.
        amount: i64,
    },
}

impl Event for TransferEvent {
    const TYPES: &'static [(&'static str, u32)] = &[("TransferRequested", 1)];
}

/// Moves money: takes it from one account, puts it on the other, and back if that refuses.
pub struct Transfer;

/// Where a transfer stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Underway {
    from: String,
    to: String,
    amount: i64,
}

impl ProcessManager for Transfer {
    const NAME: &'static str = "transfer";
    type State = Underway;

    fn wants(&self) -> Vec<Item> {
        let types = ["TransferRequested", "MoneyWithdrawn", "MoneyDeposited", "PaymentDeclined"];
        Item::types(types).into_iter().collect()
    }

    fn route(&self, e: &Recorded) -> Vec<Route> {
        // What the accounts do for a transfer is said in its conversation.
        let transfer = e.event.meta.correlation.as_deref().unwrap_or_default().to_owned();
        match e.ty() {
            "TransferRequested" => vec![Route::Start(e.id().to_string())],
            "MoneyWithdrawn" | "PaymentDeclined" if !transfer.is_empty() => vec![Route::Continue(transfer)],
            "MoneyDeposited" if !transfer.is_empty() => vec![Route::Stop(transfer)],
            _ => vec![],
        }
    }

    fn handle(&self, s: &Underway, e: &Recorded, out: &mut Out) {
        match (e.ty(), e.read::<TransferEvent>()) {
            (_, Ok(TransferEvent::Requested { from, amount, .. })) => {
                out.send::<Account>(from, &AccountCommand::Withdraw { amount });
            }
            ("MoneyWithdrawn", _) => {
                out.send::<Account>(&s.to, &AccountCommand::Deposit { amount: s.amount });
            }
            // The other bank sent it back.
            ("PaymentDeclined", _) => {
                out.send::<Account>(&s.from, &AccountCommand::Deposit { amount: s.amount });
            }
            _ => {}
        }
    }

    fn apply(&self, s: &mut Underway, e: &Recorded) {
        if let Ok(TransferEvent::Requested { from, to, amount }) = e.read() {
            *s = Underway { from, to, amount };
        }
    }

    fn rejected(&self, s: &Underway, command: &CommandTo, _: &Refusal, out: &mut Out) {
        // There is no such account: the money goes back. Too little on the first: nothing has moved.
        if command.ty == "Deposit" && command.id == s.to {
            out.send::<Account>(&s.from, &AccountCommand::Deposit { amount: s.amount });
        }
    }
}
