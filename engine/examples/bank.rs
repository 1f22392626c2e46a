//! A bank account, and money moved between two accounts by a process (a saga).
//!
//! `cargo run -p annals --example bank`

use annals::event::{Aggregate, Append, CommandTo, Decide, Dispatch, Event, Out, ProcessManager, Recorded};
use annals::event::{Refusal, Route, StreamId, Version};
use serde::{Deserialize, Serialize};

// The account begins.
#[derive(Debug, Default, PartialEq)]
struct Account {
    open: bool,
    balance: i64,
}

#[derive(Clone, Serialize, Deserialize)]
enum Ask {
    Open,
    Deposit { amount: i64 },
    Withdraw { amount: i64 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Happened {
    AccountOpened,
    MoneyDeposited { amount: i64 },
    MoneyWithdrawn { amount: i64 },
}
impl Event for Happened {
    const TYPES: &'static [(&'static str, u32)] =
        &[("AccountOpened", 1), ("MoneyDeposited", 1), ("MoneyWithdrawn", 1)];
}

#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
enum Refused {
    #[error("there is no such account")]
    NotOpen,
    #[error("only {balance} left")]
    Overdrawn { balance: i64 },
}

impl Aggregate for Account {
    const CATEGORY: &'static str = "account";
    type Command = Ask;
    type Event = Happened;
    type Error = Refused;

    fn apply(&mut self, e: &Happened) {
        match e {
            Happened::AccountOpened => self.open = true,
            Happened::MoneyDeposited { amount } => self.balance += amount,
            Happened::MoneyWithdrawn { amount } => self.balance -= amount,
        }
    }

    fn handle(&self, ask: Ask, _: &Decide) -> Result<Vec<Happened>, Refused> {
        match ask {
            Ask::Open if self.open => Ok(vec![]),
            Ask::Open => Ok(vec![Happened::AccountOpened]),
            _ if !self.open => Err(Refused::NotOpen),
            Ask::Deposit { amount } => Ok(vec![Happened::MoneyDeposited { amount }]),
            Ask::Withdraw { amount } if amount > self.balance => {
                Err(Refused::Overdrawn { balance: self.balance })
            }
            Ask::Withdraw { amount } => Ok(vec![Happened::MoneyWithdrawn { amount }]),
        }
    }
}
// The account ends.

#[derive(Serialize, Deserialize)]
struct Transfer {
    from: String,
    to: String,
    amount: i64,
}
impl Event for Transfer {
    const TYPES: &'static [(&'static str, u32)] = &[("TransferAsked", 1)];
}

/// Takes the money from one account, puts it on the other, and back if that one refuses.
struct Transfers;

impl ProcessManager for Transfers {
    const NAME: &'static str = "transfers";
    type State = Option<Transfer>;

    fn route(&self, e: &Recorded) -> Vec<Route> {
        // The accounts' events of a transfer carry the conversation that it began.
        match (e.ty(), &e.event.meta.correlation) {
            ("TransferAsked", _) => vec![Route::Start(e.id().to_string())],
            ("MoneyWithdrawn", Some(transfer)) => vec![Route::Continue(transfer.to_string())],
            ("MoneyDeposited", Some(transfer)) => vec![Route::Stop(transfer.to_string())],
            _ => vec![],
        }
    }

    fn handle(&self, state: &Option<Transfer>, e: &Recorded, out: &mut Out) {
        match (e.ty(), state) {
            ("TransferAsked", _) => {
                if let Ok(Transfer { from, amount, .. }) = e.read() {
                    out.send::<Account>(from, &Ask::Withdraw { amount });
                }
            }
            ("MoneyWithdrawn", Some(t)) => out.send::<Account>(&t.to, &Ask::Deposit { amount: t.amount }),
            _ => {}
        }
    }

    fn apply(&self, state: &mut Option<Transfer>, e: &Recorded) {
        if let Ok(t) = e.read() {
            *state = Some(t);
        }
    }

    fn rejected(&self, state: &Option<Transfer>, sent: &CommandTo, _: &Refusal, out: &mut Out) {
        if let (Some(t), "Deposit") = (state, sent.ty.as_str()) {
            out.send::<Account>(&t.from, &Ask::Deposit { amount: t.amount });
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let conn = annals::in_memory()?;
    conn.register_commands::<Account>()?;
    conn.register_process(Transfers)?;

    let accounts = conn.repository::<Account>();
    for id in ["ada", "ben"] {
        accounts.dispatch(id, Ask::Open, Dispatch::new())?;
    }
    accounts.dispatch("ada", Ask::Deposit { amount: 100 }, Dispatch::new())?;
    let refused = accounts.dispatch("ada", Ask::Withdraw { amount: 500 }, Dispatch::new()).unwrap_err();
    assert_eq!(refused.rejection(), Some(&Refused::Overdrawn { balance: 100 }));

    for (n, to) in [(1, "ben"), (2, "nobody")] {
        let asked = Transfer { from: "ada".into(), to: to.into(), amount: 30 };
        conn.append(Append::to(format!("transfer-{n}")).push(asked.to_new()?))?;
    }
    // A program that stays leaves this to a thread: `let runner = conn.run_processes();`
    while conn.step_processes()?.is_some() {}

    let (ada, ben) = (accounts.load("ada")?, accounts.load("ben")?);
    println!("Ada has {}, Ben has {}", ada.state.balance, ben.state.balance);
    assert_eq!((ada.state.balance, ben.state.balance), (70, 30));

    // Each event knows the command that made it and the event behind that.
    let last = conn.db().events().stream(&StreamId::new("account-ada")?, Version(5), 1)?.remove(0);
    assert_eq!(last.read::<Happened>()?, Happened::MoneyDeposited { amount: 30 }, "it came back");
    assert_eq!(last.event.meta.more["command-type"], "account/Deposit".into());
    Ok(())
}

#[test]
fn it_runs() {
    main().expect("the example runs");
}

#[test]
fn an_account_is_under_60_lines() {
    let source = include_str!("bank.rs");
    let account =
        source.split("// The account begins.\n").nth(1).and_then(|s| s.split("// The account ends.").next());
    let lines = account.expect("it is marked").lines().count();
    assert!(lines < 60, "{lines} lines");
}
