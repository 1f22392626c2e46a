//! The commands that move in time or show it: `:as-of`, `:since`, `:history`, `:log`, and how a point in time is read.

use crate::{
    commands::{self, time},
    fail::{Failure, Outcome},
    form, moment,
    session::Session,
    term::theme,
};
use annals::T;

/// The first point in time of a text: a word, or `#inst "…"`.
pub fn time_arg(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    if text.starts_with("#inst") {
        return form::split_form(text);
    }
    let end = text.find(|c: char| c.is_whitespace() || c == '[' || c == '{').unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// The t of a point in time as it is typed.
pub fn point(s: &Session, text: &str) -> Outcome<T> {
    let p = moment::parse(text)?;
    s.conn.db()?.t_of(p)
}

/// A transaction that is there: a view may look further ahead, but nobody means the newest by a later t.
pub fn transaction(s: &Session, text: &str) -> Outcome<T> {
    let newest = s.conn.db()?.basis_t();
    match moment::parse(text)? {
        annals::TimePoint::T(t) if t > newest => {
            Err(Failure::refused("shell/no-transaction", format!("there is no transaction t{t}"))
                .help(format!("the newest is t{newest}")))
        }
        p => s.conn.db()?.t_of(p),
    }
}

/// `:as-of` and `:since`: moves the session.
pub fn set_time(s: &mut Session, which: &str, args: &str, usage: impl Fn() -> Failure) -> Outcome {
    if args.is_empty() {
        return Err(usage());
    }
    let p = moment::parse(args)?;
    let newest = s.conn.db()?.basis_t();
    let at = match args.trim() {
        "now" => None,
        // Pinned: "-2h" means the moment it was typed, not a window that slides.
        _ => Some(annals::TimePoint::T(s.conn.db()?.t_of(p)?)),
    };
    if let annals::TimePoint::T(t) = p
        && t > newest
        && at.is_some()
    {
        s.note(s.err.paint(theme::DIM, format!("t{t} has not happened yet; the newest is t{newest}")));
    }
    match which {
        "as-of" => s.moment.as_of = at,
        _ => s.moment.since = at,
    }
    Ok(())
}

/// `:history`: the view of all that ever was, or the life of one entity.
pub fn history(s: &mut Session, args: &str) -> Outcome {
    match args {
        "" => {
            s.moment.history = !s.moment.history;
            Ok(())
        }
        "on" | "off" => {
            s.moment.history = args == "on";
            Ok(())
        }
        text => {
            let (entity, rest) = form::split_form(text)
                .ok_or_else(|| Failure::usage("usage: :history [on | off | ENTITY [:ATTR]]"))?;
            let db = s.view_without_history()?;
            let e = match commands::entity(&db, entity) {
                Ok(e) => e,
                // It may be gone, and still have a life.
                Err(f) => commands::entity(&db.history(), entity).map_err(|_| f)?,
            };
            let attr = rest.trim();
            time::history(s, e, (!attr.is_empty()).then_some(attr))
        }
    }
}

/// `:log`: the last transactions, or a range of them.
pub fn log(s: &mut Session, args: &str) -> Outcome {
    let newest = s.db()?.t();
    let words: Vec<&str> = args.split_whitespace().collect();
    match words[..] {
        [] => time::log(s, T(newest.0.saturating_sub(9).max(1)), newest.next()),
        [n] if n.parse::<u64>().is_ok() => {
            let n: u64 = n.parse().unwrap_or(10);
            time::log(s, T((newest.0 + 1).saturating_sub(n).max(1)), newest.next())
        }
        [from] => {
            let from = point(s, from)?;
            time::log(s, from, newest.next())
        }
        [from, to, ..] => {
            let (from, to) = (point(s, from)?, point(s, to)?);
            time::log(s, from, to.next())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_off_the_front() {
        assert_eq!(time_arg("3 now [:find]"), Some(("3", " now [:find]")));
        assert_eq!(time_arg(" #inst \"2020\" 5"), Some(("#inst \"2020\"", " 5")));
        assert_eq!(time_arg(""), None);
    }
}
