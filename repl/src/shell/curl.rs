//! `:curl`: the query as a command line that asks a server the same.

use super::dispatch::query_or_last;
use crate::{ask, fail::Outcome, form, session::Session, term::theme};
use annals::{Value, edn};

/// Says the command line, for the server of this session or for one that would serve this database.
pub fn curl(s: &mut Session, args: &str) -> Outcome {
    let q = query_or_last(s, args)?;
    let mut body = vec![format!(":query {q}")];
    let names = form::names(&q);
    let given: Vec<String> = names
        .inputs
        .iter()
        .filter_map(|w| match w {
            form::Wanted::Value(n) => Some(s.parameters.get(n).map_or_else(|| n.clone(), edn::print)),
            form::Wanted::Source(_) | form::Wanted::Rules => None,
        })
        .collect();
    if !given.is_empty() {
        body.push(format!(":args [{}]", given.join(" ")));
    }
    if ask::rule_names(&s.rules).iter().any(|r| names.heads.contains(r)) {
        body.push(format!(":rules {}", edn::print(&Value::vector(s.rules.iter().cloned()))));
    }
    let db = s.db()?;
    if s.moment.as_of.is_some() {
        body.push(format!(":as-of {}", db.t()));
    }
    if let Some(t) = db.shown().since {
        body.push(format!(":since {t}"));
    }
    if s.moment.history {
        body.push(":history true".to_owned());
    }
    let body = format!("{{{}}}", body.join(" "));
    let base = match s.conn.url() {
        Some(url) => url.to_owned(),
        None => format!("http://127.0.0.1:7407/v1/db/{}", s.name),
    };
    s.say(format!(
        "curl -s {base}/query \\\n  -H 'Content-Type: application/edn' -H 'Accept: application/edn' \\\n  -d '{}'",
        body.replace('\'', "'\\''")
    ))?;
    if s.path.is_some() {
        s.note(s.err.paint(
            theme::DIM,
            format!(
                "while `annals serve {}` runs; leave this shell first, it holds the lock",
                s.path.as_deref().map_or(String::new(), |p| p.display().to_string())
            ),
        ));
    }
    Ok(())
}
