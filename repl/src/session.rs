//! A session: a database, the moment it is seen at, and what the user has set.
//! Both the shell and single commands work on one.

use crate::{
    ask::Given,
    backend::{Conn, Db},
    cli::Format,
    fail::{Exit, Failure, Outcome, io_words},
    moment,
    output::{Rows, data, show, table::Layout},
    shell::vocabulary::{AttributeWord, Vocabulary},
    term::Screen,
};
use annals::{Connection, Diagnostic, Durability, Options, TimePoint, Value, edn};
use std::{
    collections::{BTreeMap, VecDeque},
    io::Write,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Drawn, as columns if they fit.
    Table,
    /// Drawn, one column a line.
    Records,
    /// A data format.
    Data(Format),
}

/// What `:set` sets.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most rows drawn.
    pub rows: usize,
    /// Longest time a query may take.
    pub timeout_ms: Option<u64>,
    /// Show answers taller than the screen in `$PAGER`.
    pub pager: bool,
    /// Names instead of numbers for entities that have one.
    pub idents: bool,
    /// Indent new lines.
    pub indent: bool,
    /// Time, rows read and rows made under every answer.
    pub timing: bool,
    /// Stop a script at its first failure.
    pub bail: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            rows: 40,
            timeout_ms: None,
            pager: true,
            idents: true,
            indent: true,
            timing: true,
            bail: false,
        }
    }
}

/// The moment in the prompt.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// As of this.
    pub as_of: Option<TimePoint>,
    /// Since this.
    pub since: Option<TimePoint>,
    /// Assertions and retractions instead of facts.
    pub history: bool,
}

/// Everything a command needs.
pub struct Session {
    /// The database.
    pub conn: Conn,
    /// Its name in the prompt.
    pub name: String,
    /// Where it is; none in memory.
    pub path: Option<PathBuf>,
    /// No writes.
    pub read_only: bool,
    /// The moment everything is asked at.
    pub moment: Moment,
    /// Parameters, with their question mark.
    pub parameters: BTreeMap<String, Value>,
    /// Values for the inputs of queries by position, from `--in`.
    pub values: VecDeque<Value>,
    /// Stored rules, each `[(head) clause …]`.
    pub rules: Vec<Value>,
    /// Settings.
    pub settings: Settings,
    /// How rows are printed.
    pub mode: Mode,
    /// Nothing but answers and errors.
    pub quiet: bool,
    /// The last answers, newest first.
    pub results: VecDeque<Rows>,
    /// The last query.
    pub last_query: Option<String>,
    /// The last query that had an answer, for `:why`.
    pub asked: Option<Asked>,
    /// The inverse transaction that `:undo-tx` proposed, and of which t.
    pub proposal: Option<(annals::T, String)>,
    /// Print each form of a stream before its answer.
    pub echo: bool,
    /// How many scripts run each other.
    pub depth: usize,
    /// Standard output.
    pub out: Screen,
    /// Standard error.
    pub err: Screen,
}

/// A query as it was asked, with its answer: what `:why` of a row needs.
#[derive(Clone)]
pub struct Asked {
    /// Its text.
    pub text: String,
    /// Its inputs.
    pub given: Given,
    /// The database it was asked of.
    pub db: Db,
    /// Its answer.
    pub rows: Rows,
}

/// How a database is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Must exist, and is not written.
    Read,
    /// Must exist.
    Write,
    /// Made when absent.
    Create,
}

/// How databases of this process acknowledge commits: set once, by the command line.
static DURABILITY: OnceLock<Durability> = OnceLock::new();

/// Decides how databases opened from now on acknowledge commits; the first decision stays.
pub fn acknowledge(durability: Durability) {
    let _ = DURABILITY.set(durability);
}

/// The largest size of indexes: set once, by the command line.
static MAP_SIZE: OnceLock<usize> = OnceLock::new();

/// Decides how large the indexes of databases opened from now on may become; the first decision stays.
pub fn reserve(map_size_bytes: usize) {
    let _ = MAP_SIZE.set(map_size_bytes);
}

/// Opens a database folder.
pub fn open(path: &Path, access: Access) -> Outcome<Connection> {
    if path.is_file() {
        return Err(Failure::refused(
            "open/not-a-database",
            format!("{} is a file, not a database folder", path.display()),
        ));
    }
    let options = Options::new()
        .create(access == Access::Create)
        .read_only(access == Access::Read)
        .durability(DURABILITY.get().copied().unwrap_or(Durability::Full));
    let options = match MAP_SIZE.get() {
        Some(bytes) => options.map_size_bytes(*bytes),
        None => options,
    };
    options.open(path).map_err(|e| {
        let mut f = Failure::from(e);
        if f.exit == Exit::Locked && access == Access::Read {
            f = f.help("stop it, or ask it over HTTP if it is `annals serve`");
        }
        f
    })
}

impl Session {
    /// A session on an open database.
    pub fn new(conn: impl Into<Conn>, path: Option<PathBuf>, out: Screen, err: Screen) -> Session {
        let conn = conn.into();
        let name = match (&conn, path.as_deref()) {
            (Conn::Remote(c), _) => remote_name(c.url()),
            (Conn::Local(_), Some(path)) => name_of(path),
            (Conn::Local(_), None) => "memory".to_owned(),
        };
        Session {
            conn,
            name,
            path,
            read_only: false,
            moment: Moment::default(),
            parameters: BTreeMap::new(),
            values: VecDeque::new(),
            rules: Vec::new(),
            settings: Settings::default(),
            mode: if out.tty { Mode::Table } else { Mode::Data(Format::Edn) },
            quiet: false,
            results: VecDeque::new(),
            last_query: None,
            asked: None,
            proposal: None,
            echo: false,
            depth: 0,
            out,
            err,
        }
    }

    /// The database at the moment in the prompt.
    pub fn db(&self) -> Outcome<Db> {
        self.view(self.conn.db()?)
    }

    /// A database value seen at the moment in the prompt.
    pub fn view(&self, db: Db) -> Outcome<Db> {
        let db = Session::placed(&self.moment, db)?;
        Ok(if self.moment.history { db.history() } else { db })
    }

    /// The moment in the prompt, facts and not their history.
    pub fn view_without_history(&self) -> Outcome<Db> {
        Session::placed(&self.moment, self.conn.db()?)
    }

    fn placed(moment: &Moment, mut db: Db) -> Outcome<Db> {
        if let Some(at) = moment.as_of {
            db = db.as_of(at)?;
        }
        if let Some(at) = moment.since {
            db = db.since(at)?;
        }
        Ok(db)
    }

    /// What queries are given: parameters, stored rules, the timeout.
    pub fn given(&self) -> Given {
        Given {
            values: self.values.clone(),
            named: self.parameters.clone(),
            rules: self.rules.clone(),
            timeout_ms: self.settings.timeout_ms,
            watched: self.progress_screen().cloned(),
            ..Given::default()
        }
    }

    /// Where progress of anything long is shown: nowhere when nobody looks, or it was asked to be quiet.
    pub fn progress_screen(&self) -> Option<&Screen> {
        (self.err.cursor && !self.quiet).then_some(&self.err)
    }

    /// Is the present asked, whole?
    pub fn is_now(&self) -> bool {
        self.moment.as_of.is_none() && self.moment.since.is_none() && !self.moment.history
    }

    /// Refuses when nothing may be written.
    pub fn writable(&self) -> Outcome {
        if self.read_only {
            return Err(Failure::refused("shell/read-only", "the session is read-only")
                .help("start without --read-only to write"));
        }
        Ok(())
    }

    /// Prints rows in the session's mode and keeps them as `*1`.
    pub fn answer(&mut self, rows: Rows) -> Outcome {
        self.print(&rows)?;
        self.keep(rows);
        Ok(())
    }

    /// Keeps rows as `*1`.
    pub fn keep(&mut self, rows: Rows) {
        self.results.push_front(rows);
        self.results.truncate(3);
    }

    /// Prints rows in the session's mode.
    pub fn print(&self, rows: &Rows) -> Outcome {
        match self.mode {
            Mode::Table | Mode::Records => self.page(&self.drawn(rows)),
            Mode::Data(format) => write_rows(rows, format, &mut std::io::stdout().lock()),
        }
    }

    /// The rows as drawn for people.
    pub fn drawn(&self, rows: &Rows) -> String {
        show::rows(rows, self.conn.db().ok().as_ref(), self.look(), &self.out)
    }

    /// How rows are drawn.
    pub fn look(&self) -> show::Look {
        let layout = if self.mode == Mode::Records { Layout::Records } else { Layout::Fit };
        show::Look { rows: self.settings.rows, layout, idents: self.settings.idents }
    }

    /// Are answers drawn for people?
    pub fn draws(&self) -> bool {
        matches!(self.mode, Mode::Table | Mode::Records)
    }

    /// Writes text to standard output, through the pager when it is taller than the screen.
    pub fn page(&self, text: &str) -> Outcome {
        if self.out.tty && self.settings.pager && text.lines().count() >= self.out.height() && pager(text) {
            return Ok(());
        }
        std::io::stdout().lock().write_all(text.as_bytes())?;
        Ok(())
    }

    /// A line of answer on standard output.
    pub fn say(&self, text: impl std::fmt::Display) -> Outcome {
        writeln!(std::io::stdout().lock(), "{text}")?;
        Ok(())
    }

    /// A remark on standard error, unless quiet.
    pub fn note(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            // Nobody can be told that standard error is gone.
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    /// The prompt's words: name, moment, and whether that is the past.
    pub fn prompt(&self) -> (String, bool) {
        let mut text = self.name.clone();
        let db = self.db();
        let mut at = Vec::new();
        match (&self.moment.as_of, &db) {
            (Some(_), Ok(db)) => {
                let t = db.t();
                let when = self.conn.db().ok().and_then(|db| db.instant_of(t)).map_or(String::new(), |i| {
                    let date: String = i.to_string().chars().take(10).collect();
                    format!(" {date} ({})", moment::distance(i, moment::now()))
                });
                at.push(format!("@t{t}{when}"));
            }
            _ => at.push("@now".to_owned()),
        }
        if let (Some(_), Ok(db)) = (&self.moment.since, &db) {
            at.push(format!("since t{}", db.shown().since.map_or(0, |t| t.0)));
        }
        if self.moment.history {
            at.push("history".into());
        }
        if self.read_only {
            at.push("read-only".into());
        }
        for part in at {
            text.push(' ');
            text.push_str(&part);
        }
        text.push_str("> ");
        (text, !self.is_now())
    }

    /// The words of the moment, for completion.
    pub fn vocabulary(&self) -> Vocabulary {
        let Ok(db) = self.db() else { return Vocabulary::default() };
        let mut words = Vocabulary::default();
        let Ok(schema) = db.schema() else { return Vocabulary::default() };
        for a in schema.attributes() {
            words.attributes.push(AttributeWord {
                name: a.ident.to_string(),
                value_type: a.value_type.name(),
                many: a.is_many(),
            });
        }
        words.attributes.sort_by(|a, b| a.name.cmp(&b.name));
        words.idents =
            schema.idents().map(|(k, _)| k.to_string()).filter(|k| words.attribute(k).is_none()).collect();
        words.idents.sort();
        words.rules = crate::ask::rule_names(&self.rules);
        words.parameters = self.parameters.keys().cloned().collect();
        crate::commands::events::add_words(self, &mut words);
        words
    }
}

/// `orders@127.0.0.1:7407`, from the address of a database on a server.
fn remote_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    format!("{}@{host}", url.rsplit('/').next().unwrap_or(""))
}

/// The name of a database folder.
pub fn name_of(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    full.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}

/// Rows in a data format; a table drawn plainly.
pub fn write_rows(rows: &Rows, format: Format, out: &mut dyn Write) -> Outcome {
    match format {
        Format::Edn => data::edn(rows, out)?,
        Format::Json => data::json(rows, out)?,
        Format::Ndjson => data::ndjson(rows, out)?,
        Format::Csv => data::csv(rows, out)?,
        Format::Parquet => parquet(rows, out)?,
        Format::Table => {
            let look = show::Look { rows: usize::MAX, ..show::Look::default() };
            out.write_all(show::rows(rows, None, look, &Screen::plain(200)).as_bytes())?;
        }
    }
    Ok(())
}

#[cfg(feature = "parquet")]
fn parquet(rows: &Rows, out: &mut dyn Write) -> Outcome {
    let bytes = crate::output::parquet::bytes(rows)
        .map_err(|why| Failure::refused("shell/parquet", format!("the rows make no Parquet file: {why}")))?;
    Ok(out.write_all(&bytes)?)
}

#[cfg(not(feature = "parquet"))]
fn parquet(_: &Rows, _: &mut dyn Write) -> Outcome {
    Err(Failure::refused("shell/parquet", "this build writes no Parquet files")
        .help("build with the feature: cargo build --release -p annals-repl --features parquet"))
}

/// Shows text in the user's pager; false when there is none.
fn pager(text: &str) -> bool {
    let command = std::env::var("PAGER").unwrap_or_else(|_| "less -RFX".to_owned());
    if command.trim().is_empty() || command.trim() == "cat" {
        return false;
    }
    let child =
        std::process::Command::new("sh").arg("-c").arg(&command).stdin(std::process::Stdio::piped()).spawn();
    let Ok(mut child) = child else { return false };
    if let Some(mut stdin) = child.stdin.take() {
        // A pager closed early has shown what was wanted.
        let _ = stdin.write_all(text.as_bytes());
    }
    child.wait().is_ok_and(|status| status.success())
}

/// One EDN value from what the user wrote; errors point into it.
pub fn read_edn(text: &str, name: &str) -> Outcome<Value> {
    edn::read_value(text).map_err(|e| {
        Failure { exit: Exit::Refused, diagnostics: e.0, origin: None, closed_pipe: false }.of(name, text)
    })
}

/// A file's text; `-` is standard input.
pub fn read_text(file: &str) -> Outcome<String> {
    let bytes = match file {
        "-" => {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes)?;
            bytes
        }
        path => std::fs::read(path).map_err(|e| Failure::file(Path::new(path), &e))?,
    };
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let line = 1 + e.as_bytes()[..at].iter().filter(|b| **b == b'\n').count();
        Failure::new(
            Exit::Refused,
            Diagnostic::new("shell/not-text", format!("{file}: line {line} is not UTF-8 (byte {at})")),
        )
    })
}

/// A failure of reading lines from `name`.
pub fn reading(name: &str, e: &std::io::Error) -> Failure {
    Failure::refused("shell/file", format!("{name}: {}", io_words(e)))
}
