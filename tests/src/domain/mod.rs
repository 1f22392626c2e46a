//! The domains of the tests of commands and processes: small ones, each with the rules
//! that its scenarios need.

use annals::{Connection, Options};
use std::{path::Path, time::Duration};

pub mod bank;
pub mod guarded;
pub mod impure;
pub mod orders;
pub mod stock;
pub mod task;

/// Opens a database that was closed a moment ago. A child that another test starts holds
/// every open file, locks included, from its fork to its exec: that is waited for.
pub fn reopen(options: &Options, path: impl AsRef<Path>) -> Connection {
    for _ in 0..500 {
        match options.clone().open(path.as_ref()) {
            Err(e) if e.code() == "storage/locked" => std::thread::sleep(Duration::from_millis(10)),
            opened => return opened.expect("the database opens"),
        }
    }
    panic!("{} stays locked", path.as_ref().display());
}
