//! Running without a terminal: forms and commands from a stream.
//!
//! A failing form names file, line and form, and the exit code says so: at once
//! with `--bail`, else at the end.

use super::{
    dispatch::{self, Flow},
    prompt::complain,
};
use crate::{
    commands::write::at_item,
    fail::{Exit, Failure, Outcome},
    script::{ItemKind, Script},
    session::Session,
};
use annals::Diagnostic;
use std::io::BufRead;

/// Failures of reading after which a stream is given up: it is not what it should be.
const MAX_BROKEN: usize = 20;

/// Runs a stream called `name`; the exit code is that of the first failure.
pub fn run(s: &mut Session, input: impl BufRead, name: &str) -> Outcome<Exit> {
    let mut script = Script::new(input);
    let mut exit = Exit::Ok;
    let mut broken = 0;
    while let Some(item) = script.next_item()? {
        if s.echo {
            let (prompt, _) = s.prompt();
            let indent = " ".repeat(prompt.chars().count());
            let lines: Vec<&str> = item.text.lines().map(str::trim_start).collect();
            s.say(format!("{prompt}{}", lines.join(&format!("\n{indent}"))))?;
        }
        let result = dispatch::item(s, &item);
        let f = match result {
            Ok(Flow::Quit) => return Ok(exit),
            Ok(Flow::Go | Flow::Edit(_)) => continue,
            Err(f) if f.closed_pipe => return Err(f),
            Err(f) => in_file(f, &item, name),
        };
        complain(s, &f);
        if exit == Exit::Ok {
            exit = f.exit;
        }
        if s.settings.bail {
            return Ok(exit);
        }
        broken += usize::from(matches!(item.kind, ItemKind::Broken { .. }));
        if broken >= MAX_BROKEN {
            let d = Diagnostic::new(
                "shell/not-a-script",
                format!("{name} is not a script: {broken} pieces of it were no EDN"),
            )
            .help(format!("nothing after line {} was read", item.line));
            complain(s, &Failure::new(Exit::Refused, d));
            return Ok(exit);
        }
    }
    Ok(exit)
}

/// Says in which file, line and form a failure was.
fn in_file(mut f: Failure, item: &crate::script::Item, name: &str) -> Failure {
    match &f.origin {
        // It points into the form already, whole or the part given as an argument.
        Some(o) => {
            let offset = item.text.find(&*o.text);
            match offset {
                Some(offset) => {
                    for label in f.diagnostics.iter_mut().flat_map(|d| &mut d.labels) {
                        label.span.start += offset;
                        label.span.end += offset;
                    }
                    at_item(f, item, name)
                }
                None => {
                    let first = f.diagnostics.first_mut();
                    if let Some(d) = first {
                        d.message = format!("{name}:{}: {}", item.line, d.message);
                    }
                    f
                }
            }
        }
        None => at_item(f, item, name),
    }
}
