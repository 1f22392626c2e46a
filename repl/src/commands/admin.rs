//! Looking after a database: verify, rebuild, backup, restore, compact.

use super::look::bytes;
use crate::{
    cli::Global,
    fail::{Exit, Failure, Outcome},
    output::{Rows, Shape, table::counted},
    run::session,
    session::{Access, Session},
    term::{Screen, theme},
};
use annals::{Diagnostic, T, Value, VerifyReport};
use std::{os::unix::process::ExitStatusExt as _, path::Path, process::Command};

/// Set in the process that `annals verify` starts to do the reading.
const CHILD: &str = "ANNALS_VERIFY_CHILD";

fn row(s: &Session, entries: &[(&str, Value)]) -> Outcome {
    let mut rows = Rows::new(entries.iter().map(|(n, _)| *n), Shape::Map);
    rows.rows.push(entries.iter().map(|(_, v)| v.clone()).collect());
    s.print(&rows)
}

fn long(n: u64) -> Value {
    Value::Long(i64::try_from(n).unwrap_or(i64::MAX))
}

/// `annals verify`. The reading is done by a child: a damaged index file can end
/// the process that maps it, and then that is the finding.
pub fn verify_files(db: &Path, g: &Global) -> Outcome<Exit> {
    if std::env::var_os(CHILD).is_some() {
        return verify_here(&session(db, Access::Read, g)?);
    }
    let status = std::env::current_exe().and_then(|exe| {
        let mut c = Command::new(exe);
        c.args(std::env::args_os().skip(1)).env(CHILD, "1");
        c.status()
    });
    match status {
        Err(_) => verify_here(&session(db, Access::Read, g)?),
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Ok(exit_of(code)),
            (None, signal) => Err(Failure::new(
                Exit::Damaged,
                Diagnostic::new(
                    "storage/damaged",
                    format!("reading the index file ended the process (signal {})", signal.unwrap_or(0)),
                )
                .help(format!("`annals rebuild {}` makes the indexes anew from the log", db.display())),
            )),
        },
    }
}

fn exit_of(code: i32) -> Exit {
    [Exit::Ok, Exit::Refused, Exit::Usage, Exit::Damaged, Exit::NewerFormat, Exit::Locked]
        .into_iter()
        .find(|e| *e as i32 == code)
        .unwrap_or(Exit::Damaged)
}

/// `:verify`.
pub fn verify(s: &Session) -> Outcome {
    let r = s.conn.local(":verify")?.verify()?;
    show(s, &r)?;
    if r.is_sound() { Ok(()) } else { Err(damaged(&r)) }
}

fn verify_here(s: &Session) -> Outcome<Exit> {
    verify(s)?;
    Ok(Exit::Ok)
}

fn damaged(r: &VerifyReport) -> Failure {
    let diagnostics = r.problems.iter().map(|p| Diagnostic::new(p.code(), p.to_string())).collect();
    let mut f = Failure { exit: Exit::Damaged, diagnostics, origin: None, closed_pipe: false };
    if let Some(last) = f.diagnostics.last_mut() {
        last.help = Some("the log is the truth: if it is sound, `annals rebuild DB` makes the indexes anew; else `annals restore` from a backup".into());
    }
    f
}

fn show(s: &Session, r: &VerifyReport) -> Outcome {
    let chain: String = r.chain.iter().map(|b| format!("{b:02x}")).collect();
    if s.draws() {
        let verdict = if r.is_sound() {
            s.out.paint(theme::GOOD, "sound").to_string()
        } else {
            s.out.paint(theme::BAD, "damaged").to_string()
        };
        s.say(format!(
            "{verdict}  {}, {}, {} compared, indexes at t{}",
            counted(r.records, "record"),
            counted(r.datoms, "datom"),
            counted(r.rows, "index row"),
            r.indexed
        ))?;
        return s.say(s.out.paint(theme::DIM, format!("chain {chain}")));
    }
    row(
        s,
        &[
            (":sound", Value::Bool(r.is_sound())),
            (":records", long(r.records)),
            (":datoms", long(r.datoms)),
            (":rows", long(r.rows)),
            (":indexed", long(r.indexed.0)),
            (":chain", Value::string(chain)),
        ],
    )
}

/// `annals rebuild`.
pub fn rebuild(db: &Path, g: &Global) -> Outcome {
    existing(db)?;
    let r = annals::rebuild(db)?;
    done(g, &r, &format!("the indexes of {} were made anew", db.display()))
}

/// `annals restore`.
pub fn restore(dir: &Path, db: &Path, to: Option<u64>, g: &Global) -> Outcome {
    existing(dir)?;
    let r = annals::restore(dir, db, to.map(T))?;
    done(g, &r, &format!("restored into {}", db.display()))
}

fn done(g: &Global, r: &annals::RebuildReport, words: &str) -> Outcome {
    // The database is closed: a session in memory carries the output settings.
    let mut s = Session::new(annals::in_memory()?, None, Screen::stdout(g.color), Screen::stderr(g.color));
    crate::run::dress(&mut s, g);
    if s.draws() {
        return s.say(format!(
            "{words}: {}, {}, newest t{}",
            counted(r.records, "record"),
            counted(r.datoms, "datom"),
            r.t
        ));
    }
    row(&s, &[(":t", long(r.t.0)), (":records", long(r.records)), (":datoms", long(r.datoms))])
}

fn existing(dir: &Path) -> Outcome {
    match dir.is_dir() {
        true => Ok(()),
        false => Err(Failure::refused("open/missing", format!("there is no folder {}", dir.display()))),
    }
}

/// `annals backup`.
pub fn backup(s: &Session, dir: &Path) -> Outcome {
    let r = s.conn.local("a backup into a folder")?.backup(dir)?;
    if s.draws() {
        let how = if r.incremental { "added to" } else { "written to" };
        return s.say(format!("{} {how} {}, up to t{}", bytes(r.copied_bytes), dir.display(), r.t));
    }
    row(
        s,
        &[
            (":t", long(r.t.0)),
            (":bytes", long(r.copied_bytes)),
            (":incremental", Value::Bool(r.incremental)),
        ],
    )
}

/// `annals compact`.
pub fn compact(db: &Path, g: &Global) -> Outcome {
    let s = session(db, Access::Write, g)?;
    let before = s.conn.local("compact")?.stats()?.index_bytes;
    s.conn.local("compact")?.compact()?;
    let after = s.conn.local("compact")?.stats()?.index_bytes;
    if s.draws() {
        return s.say(format!("indexes {} before, {} now", bytes(before), bytes(after)));
    }
    row(&s, &[(":index-bytes-before", long(before)), (":index-bytes", long(after))])
}
