//! `annals token`: who may use a server, made, listed and revoked. The server reads the file again by itself.
//!
//! Not here: what a token is, and the file (`annals_server::Token`, `TokenFile`).

use crate::{
    cli::{Format, Global},
    fail::{Failure, Outcome},
    output::{Rows, Shape, show},
    session::write_rows,
    term::Screen,
};
use annals::{Instant, Value};
use annals_server::{Scope, Token, TokenFile};
use std::{
    io::Write as _,
    path::Path,
    time::{Duration, SystemTime},
};

/// Prints a new token, once, and adds its hash to the file, which need not exist yet.
pub fn create(name: &str, role: &str, dbs: &[String], days: Option<u32>, file: &Path) -> Outcome {
    let top: Scope = role.parse().map_err(|e: String| Failure::usage(format!("--role {e}")))?;
    // A role holds what the roles before it hold.
    let scopes =
        [Scope::Read, Scope::Write, Scope::Schema, Scope::Admin].into_iter().filter(|s| *s <= top).collect();
    let databases = if dbs.is_empty() { vec!["*".to_owned()] } else { dbs.to_vec() };
    let lifetime = days.map(|d| Duration::from_secs(u64::from(d) * 86_400));
    let (token, text) = Token::create(name, scopes, databases, lifetime);
    let id = token.id.clone();
    TokenFile::new(file).add(token).map_err(|e| Failure::file(file, &e))?;
    writeln!(std::io::stdout().lock(), "{text}")?;
    eprintln!("token {id} was added to {}; its text is shown this once", file.display());
    Ok(())
}

/// Prints the tokens of a file, oldest first: `:id :name :role :databases :created :expires :state`.
pub fn list(file: &Path, g: &Global) -> Outcome {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let mut rows =
        Rows::new([":id", ":name", ":role", ":databases", ":created", ":expires", ":state"], Shape::Maps);
    for t in all(file)? {
        let state = match (t.revoked, t.expires) {
            (Some(_), _) => "revoked",
            (None, Some(at)) if at <= now => "expired",
            _ => "live",
        };
        let role = t.scopes.iter().max().map_or_else(|| "none".to_owned(), Scope::to_string);
        rows.rows.push(vec![
            Value::string(&t.id),
            Value::string(&t.name),
            Value::keyword(&role),
            Value::vector(t.databases.iter().map(Value::string)),
            time(t.created),
            t.expires.map_or(Value::Nil, time),
            Value::keyword(state),
        ]);
    }
    let screen = Screen::stdout(g.color);
    let mut out = std::io::stdout().lock();
    match g.format {
        None | Some(Format::Table) if screen.tty => {
            out.write_all(show::rows(&rows, None, show::Look::default(), &screen).as_bytes())?;
            Ok(())
        }
        format => write_rows(&rows, format.unwrap_or(Format::Edn), &mut out),
    }
}

/// Revokes the token with an id, or all with a name.
pub fn revoke(which: &str, file: &Path) -> Outcome {
    let of: Vec<Token> = all(file)?.into_iter().filter(|t| t.id == which || t.name == which).collect();
    if of.is_empty() {
        return Err(Failure::refused("shell/no-token", format!("{} has no token {which}", file.display()))
            .help("`annals token list` shows their ids and names"));
    }
    TokenFile::new(file).revoke(which).map_err(|e| Failure::file(file, &e))?;
    for t in of {
        let was = if t.revoked.is_some() { "was revoked before" } else { "is revoked" };
        eprintln!(
            "token {} ({}) {was}; a server that reads {} refuses it within a second",
            t.id,
            t.name,
            file.display()
        );
    }
    Ok(())
}

/// The entries of a file that has to be there: to read a missing one as empty would hide a mistyped name.
fn all(file: &Path) -> Outcome<Vec<Token>> {
    std::fs::metadata(file).and_then(|_| TokenFile::new(file).list()).map_err(|e| Failure::file(file, &e))
}

/// Seconds since the epoch as an instant.
fn time(seconds: u64) -> Value {
    Value::Instant(Instant(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000)))
}
