//! Event commands in a build without the feature `events`: they say so.

use crate::{fail::Outcome, import::events::none, session::Session, shell::vocabulary::Vocabulary};
use annals::{Instant, Keyword, T, TxData, Value};

/// `add_words`: not in this build.
pub fn add_words(_: &Session, _: &mut Vocabulary) {}
/// `append_map`: not in this build.
pub fn append_map(_: &mut Session, _: &str) -> Outcome {
    Err(none())
}
/// `watch`: not in this build.
pub fn watch(_: &mut Session, _: Option<&str>) -> Outcome {
    Err(none())
}
/// `streams`: not in this build.
pub fn streams(_: &mut Session, _: Option<&str>) -> Outcome {
    Err(none())
}
/// `projections`: not in this build.
pub fn projections(_: &mut Session) -> Outcome {
    Err(none())
}
/// `add_projection`: not in this build.
pub fn add_projection(_: &Session, _: &std::path::Path) -> Outcome {
    Err(none())
}
/// `install_projection`: not in this build.
pub fn install_projection(_: &Session, _: &str, _: &str) -> Outcome {
    Err(none())
}
/// `read_projection`: not in this build.
pub fn read_projection(_: &std::path::Path) -> Outcome {
    Err(none())
}
/// `rebuild_projection`: not in this build.
pub fn rebuild_projection(_: &Session, _: &str) -> Outcome {
    Err(none())
}
/// `drop_projection`: not in this build.
pub fn drop_projection(_: &Session, _: &str) -> Outcome {
    Err(none())
}
/// `send`: not in this build.
pub fn send(_: &mut Session, _: &str) -> Outcome {
    Err(none())
}
/// `expected`: not in this build.
pub fn expected(_: &str) -> Outcome<()> {
    Err(none())
}
/// `append_stream`: not in this build.
pub fn append_stream(_: &Session, _: &str, _: impl std::io::BufRead, _: &str, _: ()) -> Outcome {
    Err(none())
}
/// `owned_attributes`: not in this build.
pub fn owned_attributes(_: &Session) -> std::collections::HashSet<Keyword> {
    std::collections::HashSet::new()
}
/// `of_transaction`: not in this build.
pub fn of_transaction(_: &Session, _: T) -> Outcome<Vec<Value>> {
    Ok(Vec::new())
}
/// `restore`: not in this build.
pub fn restore(_: &Session, _: &[Value], _: TxData, _: Instant) -> Outcome {
    Err(none())
}
