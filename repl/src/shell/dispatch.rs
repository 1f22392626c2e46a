//! From one item to what it does: forms as they are typed, and every command.

use super::{
    help,
    spec::{self, Spec},
};
use crate::{
    ask,
    cli::Format,
    commands::{self, admin, events, explain, export, look, projections, proof, time, why, write},
    fail::{Exit, Failure, Outcome, io_words},
    form::{self, FormKind},
    moment,
    output::{
        Rows, show,
        table::{counted, thousands},
    },
    run::conn_to,
    script::{Item, ItemKind},
    session::{Access, Asked, Mode, Session, read_edn, write_rows},
    shell::highlight,
    term::theme,
};
use annals::{Diagnostic, Span, T, Value, diagnostic::nearest, edn};
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

/// `*1`, `*2`, `*3`.
fn result(s: &Session, text: &str) -> Outcome<Rows> {
    let n: usize = text.trim().trim_start_matches('*').parse().unwrap_or(0);
    let found = n.checked_sub(1).and_then(|i| s.results.get(i));
    found.cloned().ok_or_else(|| {
        Failure::usage(format!("there is no {text}")).help("*1 *2 *3 are the last three answers")
    })
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

fn query_or_last(s: &mut Session, args: &str) -> Outcome<String> {
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

/// The first point in time of a text: a word, or `#inst "…"`.
fn time_arg(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    if text.starts_with("#inst") {
        return form::split_form(text);
    }
    let end = text.find(|c: char| c.is_whitespace() || c == '[' || c == '{').unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn point(s: &Session, text: &str) -> Outcome<T> {
    let p = moment::parse(text)?;
    s.conn.db()?.t_of(p)
}

/// A transaction that is there: a view may look further ahead, but nobody means the newest by a later t.
fn transaction(s: &Session, text: &str) -> Outcome<T> {
    let newest = s.conn.db()?.basis_t();
    match moment::parse(text)? {
        annals::TimePoint::T(t) if t > newest => {
            Err(Failure::refused("shell/no-transaction", format!("there is no transaction t{t}"))
                .help(format!("the newest is t{newest}")))
        }
        p => s.conn.db()?.t_of(p),
    }
}

fn set_time(s: &mut Session, which: &str, args: &str, usage: impl Fn() -> Failure) -> Outcome {
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

fn history(s: &mut Session, args: &str) -> Outcome {
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

fn log(s: &mut Session, args: &str) -> Outcome {
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

fn set_parameter(s: &mut Session, args: &str) -> Outcome {
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

fn rules(s: &mut Session, text: &str) -> Outcome {
    let new = ask::read_rules(text, "rules")?;
    let names = ask::rule_names(&new);
    // Rules of a name replace the stored ones of that name.
    s.rules.retain(|r| ask::rule_name(r).is_none_or(|n| !names.contains(&n)));
    s.rules.extend(new);
    s.note(s.err.paint(theme::DIM, format!("stored {}", names.join(", "))));
    Ok(())
}

fn show_rules(s: &Session) -> Outcome {
    if s.rules.is_empty() {
        return s.say(s.out.paint(theme::DIM, "no rules stored; :rules [[(name ?x) clause …]] stores some"));
    }
    for r in &s.rules {
        s.say(highlight::paint(&edn::print(r), None, None, &s.out))?;
    }
    Ok(())
}

fn reopen(s: &mut Session, path: Option<&str>) -> Outcome {
    let (conn, path) = match path {
        None => (annals::in_memory()?.into(), None),
        Some(p) => conn_to(p, if s.read_only { Access::Read } else { Access::Create })?,
    };
    let mut fresh = Session::new(conn, path, s.out.clone(), s.err.clone());
    fresh.settings = s.settings.clone();
    fresh.mode = s.mode;
    fresh.quiet = s.quiet;
    fresh.read_only = s.read_only;
    *s = fresh;
    if s.out.tty {
        let (name, t) = (s.name.clone(), s.db()?.t());
        s.note(s.err.paint(theme::DIM, format!("{name}, at t{t}")));
    }
    Ok(())
}

fn run_file(s: &mut Session, file: &str) -> Outcome {
    s.depth += 1;
    if s.depth > 16 {
        s.depth = 0;
        return Err(Failure::refused(
            "shell/run-depth",
            format!("{file}: scripts run each other more than 16 deep"),
        ));
    }
    let opened = std::fs::File::open(file).map_err(|e| Failure::file(Path::new(file), &e));
    let exit = opened.and_then(|f| super::stream::run(s, std::io::BufReader::new(f), file));
    s.depth = s.depth.saturating_sub(1);
    match exit? {
        Exit::Ok => Ok(()),
        exit => Err(Failure::new(exit, Diagnostic::new("shell/script", format!("{file} had errors")))),
    }
}

/// Text as edited in `$VISUAL` or `$EDITOR`.
pub fn edit(text: &str) -> Outcome<String> {
    let editor =
        ["VISUAL", "EDITOR"].iter().find_map(|n| std::env::var(n).ok().filter(|v| !v.trim().is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    let file = tempfile::Builder::new().prefix("annals-").suffix(".edn").tempfile()?;
    std::fs::write(file.path(), text)?;
    let status = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("sh")
        .arg(file.path())
        .status()
        .map_err(|e| Failure::refused("shell/editor", format!("{editor}: {}", io_words(&e))))?;
    if !status.success() {
        return Err(
            Failure::refused("shell/editor", format!("{editor} ended with {status}")).help("set $EDITOR")
        );
    }
    Ok(std::fs::read_to_string(file.path())?)
}

fn save(s: &Session, file: &str) -> Outcome {
    let rows = result(s, "*1")?;
    let format = match Path::new(file).extension().and_then(|e| e.to_str()) {
        Some("csv") => Format::Csv,
        Some("parquet") => Format::Parquet,
        Some("json") => Format::Json,
        Some("ndjson" | "jsonl") => Format::Ndjson,
        Some("txt" | "text") => Format::Table,
        Some("edn") | None => Format::Edn,
        Some(other) => {
            return Err(Failure::usage(format!("no format is called .{other}"))
                .help("endings: .edn .json .ndjson .csv .parquet .txt"));
        }
    };
    let out = std::fs::File::create(file).map_err(|e| Failure::file(Path::new(file), &e))?;
    let mut out = std::io::BufWriter::new(out);
    write_rows(&rows, format, &mut out)?;
    std::io::Write::flush(&mut out)?;
    s.note(s.err.paint(theme::DIM, format!("{} written to {file}", counted(rows.rows.len() as u64, "row"))));
    Ok(())
}

fn curl(s: &mut Session, args: &str) -> Outcome {
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

fn mode_name(m: Mode) -> &'static str {
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

fn mode(s: &mut Session, args: &str) -> Outcome {
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

fn on_off(text: &str, now: bool) -> Option<bool> {
    match text {
        "on" | "true" | "yes" => Some(true),
        "off" | "false" | "no" => Some(false),
        "" => Some(!now),
        _ => None,
    }
}

fn set(s: &mut Session, words: &[&str]) -> Outcome {
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

/// Words as a shell would split them: quotes hold blanks together.
pub fn shell_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        assert_eq!(
            shell_words("csv 'my file.csv' --key \"a b\" ''"),
            ["csv", "my file.csv", "--key", "a b", ""]
        );
    }

    #[test]
    fn times_are_taken_off_the_front() {
        assert_eq!(time_arg("3 now [:find]"), Some(("3", " now [:find]")));
        assert_eq!(time_arg(" #inst \"2020\" 5"), Some(("#inst \"2020\"", " 5")));
        assert_eq!(time_arg(""), None);
    }
}
