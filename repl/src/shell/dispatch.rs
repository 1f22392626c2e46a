//! From one item to what it does: forms as they are typed, and every command.

use super::{
    bindings::{result, rules, set_parameter, show_rules},
    curl::curl,
    files::{edit, reopen, run_file, save, shell_words},
    help,
    moments::{history, log, set_time, time_arg, transaction},
    settings::{mode, mode_name, on_off, set},
    spec::{self, Spec},
};
use crate::{
    ask,
    commands::{self, admin, events, explain, export, look, projections, proof, time, why, write},
    fail::{Exit, Failure, Outcome},
    form::{self, FormKind},
    output::{
        show,
        table::{counted, thousands},
    },
    script::{Item, ItemKind},
    session::{Asked, Mode, Session},
    term::theme,
};
use annals::{Diagnostic, Span, diagnostic::nearest};
use std::path::Path;

/// What the loop does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Reads on.
    Go,
    /// Reads on with this text to begin with.
    Edit(String),
    /// Ends.
    Quit,
}

/// Runs one item.
pub fn item(s: &mut Session, item: &Item) -> Outcome<Flow> {
    match &item.kind {
        ItemKind::Command => command(s, &item.text),
        ItemKind::Form => form(s, &item.text),
        ItemKind::Broken { why, at } => {
            let d = Diagnostic::new("edn/syntax", why.clone()).at(Span::new(at.0, at.1), "here");
            Err(Failure::new(Exit::Refused, d).of("input", &item.text))
        }
    }
}

fn form(s: &mut Session, text: &str) -> Outcome<Flow> {
    match form::kind(text) {
        FormKind::Query => query(s, text)?,
        FormKind::Transaction if text.starts_with('{') => write::transact(s, &format!("[{text}]"))?,
        FormKind::Transaction => write::transact(s, text)?,
        FormKind::TransactionForm => write::transact(s, &format!("[{text}]"))?,
        FormKind::Event => events::append_map(s, text)?,
        FormKind::Rules => rules(s, text)?,
        FormKind::Entity => {
            let e = commands::entity(&s.view_without_history()?, text)?;
            look::entity(s, e)?;
        }
        FormKind::Pull => {
            let inner = text.trim().trim_start_matches('(').trim_start().trim_start_matches("pull");
            let (pattern, entity) = two_forms(inner, "(pull PATTERN ENTITY)")?;
            look::pull(s, pattern, entity)?;
        }
        FormKind::Result => {
            let rows = result(s, text)?;
            s.print(&rows)?;
        }
        FormKind::Word => return word(s, text),
        FormKind::Other => {
            return Err(Failure::usage(format!("nothing to do with {}", short(text)))
                .help("type a query [:find …], a transaction [{…}], an entity, or a command (:help)"));
        }
    }
    Ok(Flow::Go)
}

fn short(text: &str) -> String {
    let one: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(40).collect();
    if one.len() < text.len() { format!("{one}…") } else { one }
}

/// A bare word: what people type before they know the colon.
fn word(s: &mut Session, text: &str) -> Outcome<Flow> {
    if spec::find(text).is_some_and(|c| matches!(c.name, "help" | "quit")) {
        return command(s, &format!(":{text}"));
    }
    let f = Failure::usage(format!("{} is neither a form nor a command", short(text)));
    Err(match spec::find(text).map(|c| c.name).or_else(|| nearest(text, spec::names())) {
        Some(name) => f.help(format!("did you mean :{name}?")),
        None => f.help("type a query [:find …], a transaction [{…}], an entity, or a command (:help)"),
    })
}

fn query(s: &mut Session, text: &str) -> Outcome {
    s.last_query = Some(text.to_owned());
    let (db, given) = (s.db()?, s.given());
    let answered = ask::ask(text, &db, &given)?;
    let n = answered.rows.rows.len();
    s.asked = Some(Asked { text: text.to_owned(), given, db, rows: answered.rows.clone() });
    s.answer(answered.rows)?;
    if s.settings.timing && s.draws() {
        // A server does not say how many rows it read, and made on the way.
        let work = match (answered.read, answered.made) {
            (0, 0) => String::new(),
            (read, made) => format!(" · {} read, {} made", counted(read, "row"), thousands(made)),
        };
        let text = format!("{}{work}", elapsed(answered.elapsed_us));
        s.note(s.err.paint(theme::DIM, text));
    }
    if n == 0 && s.draws() && !s.quiet && s.out.tty {
        s.note(s.err.paint(theme::DIM, "why no rows? :why-not"));
    }
    Ok(())
}

/// `2.1 ms`.
pub fn elapsed(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

fn two_forms<'a>(text: &'a str, usage: &str) -> Outcome<(&'a str, &'a str)> {
    let wrong = || Failure::usage(format!("usage: {usage}"));
    let (first, rest) = form::split_form(text).ok_or_else(wrong)?;
    let (second, _) = form::split_form(rest).ok_or_else(wrong)?;
    Ok((first, second))
}

/// A command line: a sigil, a name, arguments.
pub fn command(s: &mut Session, text: &str) -> Outcome<Flow> {
    let text = text.trim();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (name, args) = (&text[1..end], text[end..].trim());
    // \dt, \l and their kin are psql's; \x switches.
    if text == "\\x" {
        s.mode = if s.mode == Mode::Records { Mode::Table } else { Mode::Records };
        s.note(format!("mode {}", mode_name(s.mode)));
        return Ok(Flow::Go);
    }
    let Some(spec) = spec::find(name) else { return Err(unknown(s, &text[..1], name)) };
    run(s, spec, args)
}

fn unknown(s: &Session, sigil: &str, name: &str) -> Failure {
    let mut f = Failure::usage(format!("unknown command {sigil}{name}"));
    f.diagnostics[0].code = "shell/unknown-command";
    if let Some(near) = nearest(name, spec::names()) {
        return f.help(format!("did you mean {sigil}{near}?"));
    }
    let starts: Vec<&str> = spec::COMMANDS.iter().map(|c| c.name).filter(|c| c.starts_with(name)).collect();
    if !starts.is_empty() {
        return f.help(format!("did you mean {sigil}{}?", starts.join(&format!(" or {sigil}"))));
    }
    if s.db().is_ok_and(|db| db.attribute(name).is_ok()) {
        return f.help(format!("{sigil}{name} is an attribute: :schema :{name} describes it"));
    }
    f.help(":help lists the commands")
}

fn run(s: &mut Session, spec: &Spec, args: &str) -> Outcome<Flow> {
    let usage = || {
        let f = Failure::usage(format!("usage: :{} {}", spec.name, spec.usage).trim_end().to_owned());
        match spec.examples.iter().find(|e| e.contains(' ')) {
            Some(example) => f.help(format!("as in  {example}")),
            None => f,
        }
    };
    let words: Vec<&str> = args.split_whitespace().collect();
    // What a command does not take is a slip, and may be a misunderstanding.
    if spec.usage.is_empty() && !args.is_empty() {
        return Err(usage());
    }
    match spec.name {
        "quit" => return Ok(Flow::Quit),
        "help" => help::show(s, args)?,
        "schema" => look::schema(s, args == "all", words.first().copied().filter(|w| *w != "all"))?,
        "attrs" => look::attrs(s, words.first().copied())?,
        "stats" => look::stats(s)?,
        "entity" => {
            if args.is_empty() {
                return Err(usage());
            }
            let e = commands::entity(&s.view_without_history()?, args)?;
            look::entity(s, e)?;
        }
        "pull" => {
            let (pattern, entity) = two_forms(args, ":pull PATTERN ENTITY").map_err(|_| usage())?;
            look::pull(s, pattern, entity)?;
        }
        "chart" => chart(s, args, usage)?,
        "watch" if !args.is_empty() && !may_be_query(args) => return Err(not_a_query(args)),
        "watch" => events::watch(s, (!args.is_empty()).then_some(args))?,
        "as-of" | "since" => set_time(s, spec.name, args, usage)?,
        "now" => {
            s.moment = crate::session::Moment::default();
        }
        "history" => return history(s, args).map(|()| Flow::Go),
        "diff" => {
            let (Some((t1, rest)), last) = (time_arg(args), s.last_query.clone()) else {
                return Err(usage());
            };
            let (t2, rest) = time_arg(rest).ok_or_else(usage)?;
            let query = Some(rest.trim().to_owned()).filter(|q| !q.is_empty()).or(last);
            let query = query.ok_or_else(|| {
                Failure::usage("there is no last query to compare").help("write one after the times")
            })?;
            time::diff(s, &query, t1, t2)?;
        }
        "timeline" => {
            let (entity, rest) = form::split_form(args).ok_or_else(usage)?;
            let db = s.view_without_history()?;
            let e = commands::entity(&db, entity)?;
            let attrs: Outcome<Vec<String>> =
                rest.split_whitespace().map(|a| commands::attribute(&db, a).map(|k| k.to_string())).collect();
            time::timeline(s, e, &attrs?)?;
        }
        "log" => log(s, args)?,
        "tx" => {
            let t = transaction(s, words.first().copied().ok_or_else(usage)?)?;
            time::show_tx(s, t)?;
        }
        "why" if args.is_empty() || args.parse::<usize>().is_ok() => {
            proof::why_row(s, args.parse().unwrap_or(1))?;
        }
        "why" => {
            let (entity, rest) = form::split_form(args).ok_or_else(usage)?;
            let (attr, rest) = form::split_form(rest).ok_or_else(usage)?;
            let e = commands::entity(&s.view_without_history()?, entity)?;
            let value = form::split_form(rest).map(|(v, _)| v);
            why::why(s, e, attr, value)?;
        }
        "why-not" => {
            if let Some((query, row)) = proof::row_asked(s, args)? {
                s.last_query = Some(query.clone());
                proof::why_not_row(s, &query, &row)?;
            } else {
                let q = query_or_last(s, args)?;
                explain::why_not(s, &q)?;
            }
        }
        "explain" => {
            let q = query_or_last(s, args)?;
            explain::explain(s, &q)?;
        }
        "plan" => {
            let q = query_or_last(s, args)?;
            explain::plan(s, &q)?;
        }
        "with" => {
            let (tx, rest) = form::split_form(args).ok_or_else(usage)?;
            let tx = if tx.starts_with('{') { format!("[{tx}]") } else { tx.to_owned() };
            let query = form::split_form(rest).map(|(q, _)| q);
            write::with(s, &tx, query)?;
        }
        "undo-tx" => {
            let t = transaction(s, words.first().copied().ok_or_else(usage)?)?;
            write::undo(s, t, words.get(1) == Some(&"!"))?;
        }
        "let" => set_parameter(s, args)?,
        "rules" => match args {
            "" => show_rules(s)?,
            "clear" => s.rules.clear(),
            text => rules(s, text)?,
        },
        "streams" => events::streams(s, words.first().copied())?,
        "projections" => match words[..] {
            [] | ["list"] => projections::list(s)?,
            ["add", file] => projections::add(s, Path::new(file))?,
            ["preview", file] => projections::preview(s, Path::new(file))?,
            ["skip", name, position, ..] => {
                let why = shell_words(args).get(3..).unwrap_or_default().join(" ");
                projections::skip(s, name, position, &why)?;
            }
            [verb, name] if projections::VERBS.contains(&verb) => projections::steer(s, verb, name)?,
            _ => return Err(usage()),
        },
        "commands" => match words[..] {
            [] => projections::queue(s)?,
            ["drop", id, ..] => {
                let why = shell_words(args).get(2..).unwrap_or_default().join(" ");
                projections::drop_command(s, id, &why)?;
            }
            _ => return Err(usage()),
        },
        "send" => events::send(s, args).map_err(|f| if f.exit == Exit::Usage { usage() } else { f })?,
        "open" => reopen(s, words.first().copied())?,
        "import" => {
            let line: Vec<String> = shell_words(args);
            crate::import::from_words(s, &line)?;
        }
        "export" => export::from_words(s, &shell_words(args))?,
        "run" if args.is_empty() => return Err(usage()),
        "run" => run_file(s, args)?,
        "edit" => {
            return edit(s.last_query.as_deref().unwrap_or("")).map(|t| Flow::Edit(t.trim_end().to_owned()));
        }
        "save" if args.is_empty() => return Err(usage()),
        "save" => save(s, args)?,
        "backup" => {
            let dir = words.first().copied().ok_or_else(usage)?;
            admin::backup(s, Path::new(dir))?;
        }
        "verify" => admin::verify(s)?,
        "curl" => curl(s, args)?,
        "demo" => crate::demo::in_session(s)?,
        "mode" => mode(s, args)?,
        "timing" => {
            s.settings.timing = on_off(args, s.settings.timing).ok_or_else(usage)?;
            s.note(format!("timing {}", if s.settings.timing { "on" } else { "off" }));
        }
        "set" => set(s, &words)?,
        other => return Err(Failure::usage(format!(":{other} has no meaning here"))),
    }
    Ok(Flow::Go)
}

/// The query that was typed, or the last one.
pub fn query_or_last(s: &mut Session, args: &str) -> Outcome<String> {
    match args {
        "" => s
            .last_query
            .clone()
            .ok_or_else(|| Failure::usage("there is no last query").help("write one after the command")),
        text if !may_be_query(text) => Err(not_a_query(text)),
        text => {
            if form::kind(text) == FormKind::Query {
                s.last_query = Some(text.to_owned());
            }
            Ok(text.to_owned())
        }
    }
}

/// Does the text begin as a query does? What is wrong with it further on, the parser says with its place.
fn may_be_query(text: &str) -> bool {
    text.starts_with(['[', '{'])
}

fn not_a_query(text: &str) -> Failure {
    Failure::usage(format!("{} is not a query", short(text))).help("write [:find ?x :where [?x :attribute]]")
}

fn chart(s: &mut Session, args: &str, usage: impl Fn() -> Failure) -> Outcome {
    let (spark, rest) = match args.split_once(char::is_whitespace).unwrap_or((args, "")) {
        ("spark" | "sparkline", rest) => (true, rest.trim()),
        ("bars", rest) => (false, rest.trim()),
        _ => (false, args),
    };
    let rows = match rest {
        "" => result(s, "*1")?,
        r if r.starts_with('*') => result(s, r)?,
        q if !may_be_query(q) => return Err(usage()),
        q => {
            let given = s.given();
            s.last_query = Some(q.to_owned());
            let rows = ask::ask(q, &s.db()?, &given)?.rows;
            s.keep(rows.clone());
            rows
        }
    };
    let drawn = show::chart(&rows, spark, s.look(), &s.out).ok_or_else(|| {
        Failure::usage("no column of numbers to draw")
            .help("ask for labels and one number: [:find ?status (count ?o) …]")
    })?;
    s.page(&drawn)
}
