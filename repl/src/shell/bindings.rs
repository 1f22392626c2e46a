//! What a session remembers by name: parameters of queries (`:let`), rules (`:rules`) and the last answers (`*1`).

use super::highlight;
use crate::{
    ask,
    fail::{Failure, Outcome},
    output::Rows,
    session::{Session, read_edn},
    term::theme,
};
use annals::{Value, edn};

/// `:let`: gives a parameter its value, takes it away, or lists them.
pub fn set_parameter(s: &mut Session, args: &str) -> Outcome {
    let (name, rest) = args.split_once(char::is_whitespace).unwrap_or((args, ""));
    if name.is_empty() {
        let mut rows = Rows::list([":name", ":value"]);
        for (k, v) in &s.parameters {
            rows.rows.push(vec![Value::Symbol(annals::Symbol::new(k)), v.clone()]);
        }
        return s.print(&rows);
    }
    let name = if name.starts_with('?') { name.to_owned() } else { format!("?{name}") };
    match rest.trim() {
        "" => {
            if s.parameters.remove(&name).is_none() {
                return Err(Failure::usage(format!("{name} has no value"))
                    .help(format!(":let {name} VALUE gives it one")));
            }
        }
        "=" => return Err(Failure::usage("usage: :let ?x VALUE")),
        v if v.starts_with('*') => {
            let value = result(s, v)?.to_value();
            s.parameters.insert(name, value);
        }
        v => {
            let v = v.strip_prefix('=').unwrap_or(v).trim();
            let value = read_edn(v, "value")?;
            s.parameters.insert(name, value);
        }
    }
    Ok(())
}

/// Stores rules; those of a name replace the stored ones of that name.
pub fn rules(s: &mut Session, text: &str) -> Outcome {
    let new = ask::read_rules(text, "rules")?;
    let names = ask::rule_names(&new);
    s.rules.retain(|r| ask::rule_name(r).is_none_or(|n| !names.contains(&n)));
    s.rules.extend(new);
    s.note(s.err.paint(theme::DIM, format!("stored {}", names.join(", "))));
    Ok(())
}

/// `:rules` alone: the stored ones.
pub fn show_rules(s: &Session) -> Outcome {
    if s.rules.is_empty() {
        return s.say(s.out.paint(theme::DIM, "no rules stored; :rules [[(name ?x) clause …]] stores some"));
    }
    for r in &s.rules {
        s.say(highlight::paint(&edn::print(r), None, None, &s.out))?;
    }
    Ok(())
}

/// `*1`, `*2`, `*3`.
pub fn result(s: &Session, text: &str) -> Outcome<Rows> {
    let n: usize = text.trim().trim_start_matches('*').parse().unwrap_or(0);
    let found = n.checked_sub(1).and_then(|i| s.results.get(i));
    found.cloned().ok_or_else(|| {
        Failure::usage(format!("there is no {text}")).help("*1 *2 *3 are the last three answers")
    })
}
