//! `:help`: the list of commands, and a page a topic.

use super::{
    highlight,
    spec::{self, COMMANDS, Group, Spec},
    topics::{self, Sort, TOPICS, Topic},
};
use crate::{
    fail::{Failure, Outcome},
    session::Session,
    term::theme,
};
use annals::diagnostic::nearest;
use std::fmt::Write as _;
use unicode_width::UnicodeWidthStr as _;

/// Shows the list, or a topic.
pub fn show(s: &Session, topic: &str) -> Outcome {
    let name = topic.trim();
    if name.is_empty() {
        return s.page(&overview(s));
    }
    let bare = name.trim_start_matches([':', '\\', '.']);
    let command = spec::find(bare);
    let clause = topics::find(name);
    if command.is_none() && clause.is_none() {
        let known = spec::names().chain(TOPICS.iter().map(|t| t.name));
        let f = Failure::usage(format!("no help on {name}"));
        return Err(match nearest(bare, known) {
            Some(n) => f.help(format!("did you mean :help {n}?")),
            None => f.help(":help lists commands and topics"),
        });
    }
    let mut out = String::new();
    if let Some(c) = command {
        command_page(&mut out, s, c);
    }
    if let Some(t) = clause.filter(|_| command.is_none() || !name.starts_with(':')) {
        if command.is_some() {
            out.push('\n');
        }
        topic_page(&mut out, s, t);
    }
    s.page(&out)
}

fn overview(s: &Session) -> String {
    let mut out = String::new();
    let width = s.out.width();
    let _ = writeln!(out, "Type a query, a transaction, an entity or a command:\n");
    for example in [
        "[:find ?id ?s :where [?o :order/id ?id] [?o :order/status ?s]]",
        "[{:order/id \"A-1\" :order/status :placed}]",
        "[:order/id \"A-1\"]",
    ] {
        let _ = writeln!(out, "  {}", highlight::paint(example, None, None, &s.out));
    }
    let usage_width = COMMANDS.iter().map(|c| c.name.len() + 1).max().unwrap_or(0) + 2;
    for g in Group::ALL {
        let _ = writeln!(out, "\n{}", s.out.paint(theme::HEAD, g.title()));
        for c in COMMANDS.iter().filter(|c| c.group == g) {
            let name = format!(":{}", c.name);
            let pad = " ".repeat(usage_width.saturating_sub(name.len()));
            let room = width.saturating_sub(usage_width + 2);
            let _ = writeln!(
                out,
                "  {}{pad}{}",
                s.out.paint(theme::CLAUSE, name),
                crate::output::table::cut(c.summary, room, &s.out)
            );
        }
    }
    let _ = writeln!(out, "\n{}", s.out.paint(theme::HEAD, "Topics, with examples: :help TOPIC"));
    for (title, sort) in [
        ("clauses", Sort::Clause),
        ("predicates", Sort::Predicate),
        ("functions", Sort::Function),
        ("aggregates", Sort::Aggregate),
        ("transactions", Sort::Transaction),
        ("words", Sort::Word),
    ] {
        let names: Vec<&str> = TOPICS.iter().filter(|t| t.sort == sort).map(|t| t.name).collect();
        wrap(&mut out, &format!("  {title:13}"), &names.join(" "), width, s);
    }
    out
}

/// Words after a label, wrapped under themselves.
fn wrap(out: &mut String, label: &str, text: &str, width: usize, s: &Session) {
    let indent = label.width();
    let mut line = s.out.paint(theme::DIM, label).to_string();
    let mut used = indent;
    for word in text.split_whitespace() {
        if used + word.width() + 1 > width && used > indent {
            let _ = writeln!(out, "{line}");
            line = " ".repeat(indent);
            used = indent;
        }
        line.push_str(word);
        line.push(' ');
        used += word.width() + 1;
    }
    let _ = writeln!(out, "{}", line.trim_end());
}

fn paragraph(out: &mut String, text: &str, s: &Session) {
    let width = s.out.width().min(100);
    let mut used = 0;
    for word in text.split_whitespace() {
        if used > 0 && used + word.width() + 1 > width {
            out.push('\n');
            used = 0;
        }
        if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += word.width();
    }
    out.push('\n');
}

fn command_page(out: &mut String, s: &Session, c: &Spec) {
    let _ = writeln!(out, "{} {}", s.out.paint(theme::CLAUSE, format!(":{}", c.name)), c.usage);
    if !c.aliases.is_empty() {
        let names: Vec<String> = c.aliases.iter().map(|a| format!(":{a}")).collect();
        let _ = writeln!(out, "{}", s.out.paint(theme::DIM, format!("also {}", names.join(" "))));
    }
    out.push('\n');
    paragraph(out, &capital(c.summary), s);
    if !c.more.is_empty() {
        paragraph(out, c.more, s);
    }
    out.push('\n');
    for e in c.examples {
        let _ = writeln!(out, "  {}", highlight::paint(e, None, None, &s.out));
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| c.to_uppercase().chain(chars).chain(['.']).collect())
}

fn topic_page(out: &mut String, s: &Session, t: &Topic) {
    let sort = match t.sort {
        Sort::Clause => "clause",
        Sort::Predicate => "predicate",
        Sort::Function => "function",
        Sort::Aggregate => "aggregate",
        Sort::Transaction => "transaction form",
        Sort::Word => "",
    };
    let _ =
        writeln!(out, "{}  {}", highlight::paint(t.usage, None, None, &s.out), s.out.paint(theme::DIM, sort));
    out.push('\n');
    paragraph(out, t.text, s);
    let (query, answer) = t.example;
    if !query.is_empty() {
        let _ = writeln!(
            out,
            "\n  {}\n  {}",
            highlight::paint(query, None, None, &s.out),
            s.out.paint(theme::DIM, format!("⇒ {answer}"))
        );
    }
}
