//! How answers look: `:mode`, `:set` and their like.

use crate::{
    cli::Format,
    fail::{Failure, Outcome},
    output::Rows,
    session::{Mode, Session},
};
use annals::{Value, diagnostic::nearest};

/// What a mode is called.
pub fn mode_name(m: Mode) -> &'static str {
    match m {
        Mode::Table => "table",
        Mode::Records => "records",
        Mode::Data(Format::Edn) => "edn",
        Mode::Data(Format::Json) => "json",
        Mode::Data(Format::Ndjson) => "ndjson",
        Mode::Data(Format::Csv) => "csv",
        Mode::Data(Format::Parquet) => "parquet",
        Mode::Data(Format::Table) => "table",
    }
}

/// `:mode`.
pub fn mode(s: &mut Session, args: &str) -> Outcome {
    s.mode = match args {
        "" => {
            return s.say(mode_name(s.mode));
        }
        "table" => Mode::Table,
        "records" | "expanded" | "line" => Mode::Records,
        "edn" => Mode::Data(Format::Edn),
        "json" => Mode::Data(Format::Json),
        "ndjson" | "jsonl" => Mode::Data(Format::Ndjson),
        "csv" => Mode::Data(Format::Csv),
        other => {
            let near = nearest(other, ["table", "records", "edn", "json", "ndjson", "csv"]);
            let f = Failure::usage(format!("no mode is called {other}"));
            return Err(f.help(near.map_or_else(
                || "modes: table records edn json ndjson csv".to_owned(),
                |n| format!("did you mean {n}?"),
            )));
        }
    };
    Ok(())
}

/// A switch as it is typed; nothing turns it.
pub fn on_off(text: &str, now: bool) -> Option<bool> {
    match text {
        "on" | "true" | "yes" => Some(true),
        "off" | "false" | "no" => Some(false),
        "" => Some(!now),
        _ => None,
    }
}

/// `:set`: the settings, or a new value of one.
pub fn set(s: &mut Session, words: &[&str]) -> Outcome {
    let st = &mut s.settings;
    match words {
        [] => {
            let flag = |b: bool| Value::string(if b { "on" } else { "off" });
            let mut rows = Rows::list([":setting", ":value"]);
            let lines = [
                ("rows", Value::Long(st.rows as i64)),
                (
                    "timeout-ms",
                    st.timeout_ms.map_or_else(|| Value::string("none"), |n| Value::Long(n as i64)),
                ),
                ("pager", flag(st.pager)),
                ("idents", flag(st.idents)),
                ("indent", flag(st.indent)),
                ("timing", flag(st.timing)),
                ("bail", flag(st.bail)),
            ];
            rows.rows.extend(lines.map(|(n, v)| vec![Value::keyword(n), v]));
            return s.print(&rows);
        }
        ["rows", n] => st.rows = n.parse().map_err(|_| Failure::usage("usage: :set rows NUMBER"))?,
        ["timeout-ms", "none" | "off"] => st.timeout_ms = None,
        ["timeout-ms", n] => {
            st.timeout_ms =
                Some(n.parse().map_err(|_| Failure::usage("usage: :set timeout-ms NUMBER | none"))?)
        }
        [name @ ("pager" | "idents" | "indent" | "timing" | "bail"), rest @ ..] => {
            let target = match *name {
                "pager" => &mut st.pager,
                "idents" => &mut st.idents,
                "indent" => &mut st.indent,
                "timing" => &mut st.timing,
                _ => &mut st.bail,
            };
            *target = on_off(rest.first().copied().unwrap_or(""), *target)
                .ok_or_else(|| Failure::usage(format!("usage: :set {name} on | off")))?;
        }
        [name, ..] => {
            let near = nearest(name, ["rows", "timeout-ms", "pager", "idents", "indent", "timing", "bail"]);
            let f = Failure::usage(format!("no setting is called {name}, or it wants a value"));
            return Err(
                f.help(near.map_or_else(|| ":set lists them".to_owned(), |n| format!("did you mean {n}?")))
            );
        }
    }
    Ok(())
}
