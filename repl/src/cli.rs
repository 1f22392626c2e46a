//! The command line: names, flags and help. Only words; `run` gives them meaning.
//!
//! Names and flags are a contract (docs/shell.md, CHANGELOG.md): add freely, change none silently.

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use std::path::PathBuf;

const ABOUT: &str = "A fact database that remembers: Datalog over the present, the past, and why.";

const AFTER: &str = "\
Examples:
  annals demo                                    a guided tour over a real event log
  annals orders                                  the shell on ./orders (made when new)
  annals query orders '[:find ?id :where [_ :order/id ?id]]'
  annals query orders @late.edn --as-of 2026-01-31 --format csv
  echo '[{:order/id \"A-1\"}]' | annals transact orders -
  annals orders < script.edn                     forms and commands from a stream
  annals http://127.0.0.1:7407/v1/db/orders      the same shell on a server

Exit codes: 0 ok, 1 refused, 2 usage, 3 damaged data, 4 newer format,
5 locked by another process.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "annals", version, about = ABOUT, after_help = AFTER, max_term_width = 100,
    args_conflicts_with_subcommands = true, disable_help_subcommand = true
)]
pub struct Cli {
    /// Database folder for the shell, made when new, or its address on a server; without it, a database in memory
    #[arg(value_hint = ValueHint::DirPath)]
    pub db: Option<String>,
    /// How the shell runs.
    #[command(flatten)]
    pub shell: ShellArgs,
    /// How answers look.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// How the shell runs.
#[derive(Clone, Debug, Default, Args)]
pub struct ShellArgs {
    /// Run this form or command and leave (may be given several times)
    #[arg(short = 'c', long = "command", value_name = "FORM")]
    pub run: Vec<String>,
    /// Stop a script at its first failing form
    #[arg(long)]
    pub bail: bool,
    /// Print each form before its answer, as a transcript
    #[arg(long)]
    pub echo: bool,
    /// Refuse every write
    #[arg(long)]
    pub read_only: bool,
    /// Do not read ~/.config/annals/rc
    #[arg(long)]
    pub no_rc: bool,
}

/// Where the help lists what every command takes, after its own options.
const EVERYWHERE: &str = "Options of every command";

/// How answers look.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// How to print rows [default: table on a terminal, edn otherwise]
    #[arg(long, global = true, value_enum, help_heading = EVERYWHERE)]
    pub format: Option<Format>,
    /// Colour
    #[arg(
        long,
        global = true,
        help_heading = EVERYWHERE,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        hide_possible_values = false
    )]
    pub color: When,
    /// Say nothing but answers and errors
    #[arg(short, long, global = true, help_heading = EVERYWHERE)]
    pub quiet: bool,
    /// When a commit is acknowledged
    #[arg(
        long,
        global = true,
        help_heading = EVERYWHERE,
        value_enum,
        default_value_t,
        value_name = "HOW",
        env = "ANNALS_DURABILITY"
    )]
    pub durability: Durable,
    /// Address space for the indexes of a database: their largest size, as 8MiB or 64GiB [default: 1TiB]
    #[arg(
        long,
        global = true,
        help_heading = EVERYWHERE,
        value_name = "SIZE",
        env = "ANNALS_MAP_SIZE",
        value_parser = size
    )]
    pub map_size: Option<usize>,
}

/// A number of bytes: `65536`, `8MiB`, `64GiB`.
fn size(text: &str) -> Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let n: usize =
        text[..digits].parse().map_err(|_| "write a number of bytes, as 8MiB or 64GiB".to_owned())?;
    let shift = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err("units are KiB, MiB, GiB and TiB".to_owned()),
    };
    // LMDB needs some pages for itself, and cannot map more than there are addresses.
    let bytes = n.checked_mul(1 << shift).filter(|b| (1 << 20..=1 << 46).contains(b));
    bytes.ok_or_else(|| "a map has from 1MiB to 64TiB".to_owned())
}

/// When a commit is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Durable {
    /// Once it is synced to disk
    #[default]
    Full,
    /// Once it is written; a power cut may lose the last ones, never a part of one
    Relaxed,
}

/// A text form of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One EDN vector a row
    Edn,
    /// One JSON document
    Json,
    /// One JSON value a line
    Ndjson,
    /// RFC 4180, with a header
    Csv,
    /// A Parquet file, in builds with the feature `parquet`
    Parquet,
    /// Drawn, for people
    Table,
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What `annals` can do besides the shell.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load a real event log and take a guided tour of it
    #[command(after_help = "Examples:\n  annals demo\n  annals demo ./permits      keep the database")]
    Demo {
        /// Where to keep it; without, a temporary folder
        #[arg(value_hint = ValueHint::DirPath)]
        db: Option<PathBuf>,
        /// Do not wait for a key between the steps
        #[arg(long)]
        no_pause: bool,
    },
    /// Assert and retract facts: each top-level vector is one transaction
    #[command(after_help = "Examples:
  annals transact orders schema.edn
  echo '[{:order/id \"A-1\" :order/status :placed}]' | annals transact orders -

Prints one map a transaction:
  {:t 2 :tx-instant #inst \"…\" :tempids {} :datoms 3}
Stops at the first one refused (exit 1); the earlier ones stay.")]
    Transact {
        /// Database folder, made when new
        #[arg(value_hint = ValueHint::DirPath)]
        db: PathBuf,
        /// File of transactions, - for standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: String,
    },
    /// Ask a question
    #[command(after_help = "Examples:
  annals query orders '[:find ?id :where [_ :order/id ?id]]'
  annals query orders '[:find ?o . :in $ ?i :where [?o :order/id ?i]]' --in 7
  annals query orders @report.edn --as-of 2026-01-31 --format csv
  annals query orders @reach.edn --rules rules.edn --explain")]
    Query {
        /// Database folder
        #[arg(value_hint = ValueHint::DirPath)]
        db: PathBuf,
        /// The query, or @FILE that holds it
        query: String,
        /// One input, as EDN, for each name after $ in :in, in order
        #[arg(long = "in", value_name = "EDN", allow_hyphen_values = true)]
        inputs: Vec<String>,
        /// Rules for % in :in
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        rules: Option<PathBuf>,
        /// The moment asked about.
        #[command(flatten)]
        view: ViewArgs,
        /// Most rows to answer with
        #[arg(long, value_name = "N")]
        limit_rows: Option<u64>,
        /// Longest time to take
        #[arg(long, value_name = "N")]
        timeout_ms: Option<u64>,
        /// Run it and show what each clause did, expected and actual rows, instead of the answer
        #[arg(long)]
        explain: bool,
        /// Show what each clause would do and the rows expected of it; run nothing
        #[arg(long, conflicts_with = "explain")]
        plan: bool,
    },
    /// One entity as a tree
    #[command(after_help = "Examples:
  annals pull orders '[*]' '[:order/id \"A-1\"]'
  annals pull orders '[:order/id {:order/lines [*]}]' 35184372088833 --as-of 12")]
    Pull {
        /// Database folder
        #[arg(value_hint = ValueHint::DirPath)]
        db: PathBuf,
        /// Pull pattern
        pattern: String,
        /// Entity: a number, an ident, or a lookup ref
        entity: String,
        /// The moment asked about.
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Rows a query gained and lost between two times
    #[command(
        after_help = "Examples:\n  annals diff orders '[:find ?id :where [_ :order/id ?id]]' 2026-01 2026-02\n  annals diff orders @open.edn -1h -0h"
    )]
    Diff {
        /// Database folder
        #[arg(value_hint = ValueHint::DirPath)]
        db: PathBuf,
        /// The query, or @FILE that holds it
        query: String,
        /// Earlier time
        #[arg(allow_hyphen_values = true)]
        t1: String,
        /// Later time
        #[arg(allow_hyphen_values = true)]
        t2: String,
        /// One input, as EDN, for each name after $ in :in, in order
        #[arg(long = "in", value_name = "EDN", allow_hyphen_values = true)]
        inputs: Vec<String>,
    },
    /// The transactions, oldest first
    #[command(after_help = "Example:\n  annals log orders --from 2026-01-01 --to -1h")]
    Log {
        /// Database folder
        #[arg(value_hint = ValueHint::DirPath)]
        db: PathBuf,
        /// First transaction shown
        #[arg(long, value_name = "T", allow_hyphen_values = true)]
        from: Option<String>,
        /// First transaction not shown
        #[arg(long, value_name = "T", allow_hyphen_values = true)]
        to: Option<String>,
    },
    /// The life of one entity: every assertion and retraction
    #[command(after_help = "Example:\n  annals history orders '[:order/id \"A-1\"]' :order/status")]
    History {
        /// Database folder
        #[arg(value_hint = ValueHint::DirPath)]
        db: PathBuf,
        /// Entity: a number, an ident, or a lookup ref
        entity: String,
        /// Only this attribute
        attr: Option<String>,
    },
    /// Which event, projection and transaction made a fact
    #[command(after_help = "Example:\n  annals why permits '[:case/id \"permit-case-891\"]' :case/state")]
    Why {
        /// Database folder
        #[arg(value_hint = ValueHint::DirPath)]
        db: PathBuf,
        /// Entity: a number, an ident, or a lookup ref
        entity: String,
        /// Attribute
        attr: String,
        /// Value, as EDN; without it, every value the entity has
        value: Option<String>,
    },
    /// Append NDJSON events to one stream
    #[command(after_help = "Examples:
  annals append orders order-A-1 events.ndjson --expect none
  echo '{\"type\":\"Placed\",\"data\":{\"n\":1}}' | annals append orders order-A-1 -

An event: {\"id\",\"type\",\"time\",\"data\",\"meta\",\"tags\"}; only \"type\" must be there.")]
    Append {
        /// Database folder, made when new
        #[arg(value_hint = ValueHint::DirPath)]
        db: PathBuf,
        /// Stream
        stream: String,
        /// File of events, one JSON object a line; - for standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: String,
        /// State the stream must be in: any, none, exists, or its version
        #[arg(long, default_value = "any", value_name = "any|none|exists|N")]
        expect: String,
    },
    /// Read events, tables, EDN or a git history into a database
    #[command(
        after_help = "Examples:\n  annals import permits events receipt.events.ndjson.gz --projection cases.edn\n  annals import shop csv products.csv --key sku\n  annals import history git ~/src/project"
    )]
    Import {
        /// Database folder, made when new
        #[arg(value_hint = ValueHint::DirPath)]
        db: PathBuf,
        /// What is imported.
        #[command(subcommand)]
        what: Import,
    },
    /// Write a database out
    #[command(after_help = "Examples:
  annals export orders > orders.edn               what holds now
  annals export orders --history > full.edn       every transaction, to import
  annals export orders --format csv > facts.csv   facts as e,a,v,t rows")]
    Export {
        /// Database folder
        #[arg(value_hint = ValueHint::DirPath)]
        db: PathBuf,
        /// Every transaction instead of what holds now
        #[arg(long)]
        history: bool,
        /// The moment exported.
        #[command(flatten)]
        view: ViewArgs2,
        /// Write here instead of standard output
        #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        output: Option<PathBuf>,
    },
    /// Sizes and counts
    #[command(after_help = "Example:\n  annals stats orders --format table")]
    Stats {
        /// Database folder
        #[arg(value_hint = ValueHint::DirPath)]
        db: PathBuf,
    },
    /// The attributes
    #[command(
        after_help = "Examples:\n  annals schema orders\n  annals schema orders > schema.edn    maps to transact elsewhere"
    )]
    Schema {
        /// Database folder
        #[arg(value_hint = ValueHint::DirPath)]
        db: PathBuf,
        /// Show the attributes of the database itself too
        #[arg(long)]
        all: bool,
    },
    /// Projections: what turns events into facts
    #[command(after_help = "Examples:
  annals projection permits add cases.edn
  annals projection permits list
  annals projection permits rebuild cases")]
    Projection {
        /// Database folder
        #[arg(value_hint = ValueHint::DirPath)]
        db: PathBuf,
        /// What to do.
        #[command(subcommand)]
        what: ProjectionCommand,
    },
    /// Check every record and index (exit 3 when damaged)
    #[command(after_help = "Example:\n  annals verify orders || echo 'see docs/operations.md'")]
    Verify {
        /// Database folder
        #[arg(value_hint = ValueHint::DirPath)]
        db: PathBuf,
    },
    /// Make the indexes anew from the log
    #[command(
        after_help = "Example:\n  annals rebuild orders\n\nNobody else may have the database open. The log is not touched."
    )]
    Rebuild {
        /// Database folder
        #[arg(value_hint = ValueHint::DirPath)]
        db: PathBuf,
    },
    /// Copy a database while it is in use; again into the same folder adds what is new
    #[command(after_help = "Example:\n  annals backup orders /backups/orders")]
    Backup {
        /// Database folder
        #[arg(value_hint = ValueHint::DirPath)]
        db: PathBuf,
        /// Folder of the backup
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
    /// Make a database from a backup
    #[command(
        after_help = "Examples:\n  annals restore /backups/orders ./orders\n  annals restore /backups/orders ./then --to 4711    as of t 4711"
    )]
    Restore {
        /// Folder of the backup
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
        /// Database folder; must not exist
        #[arg(value_hint = ValueHint::DirPath)]
        db: PathBuf,
        /// Last transaction to restore
        #[arg(long, value_name = "T")]
        to: Option<u64>,
    },
    /// Give back disk space
    #[command(after_help = "Example:\n  annals compact orders")]
    Compact {
        /// Database folder
        #[arg(value_hint = ValueHint::DirPath)]
        db: PathBuf,
    },
    /// Serve databases over HTTP, with the web console
    #[command(
        after_help = "Example:\n  annals serve orders permits --listen 127.0.0.1:7407\n\nThe folder's name is the database's name."
    )]
    Serve {
        /// Database folders, made when new
        #[arg(required_unless_present_any = ["show_config", "probe"], value_hint = ValueHint::DirPath)]
        dbs: Vec<PathBuf>,
        /// Address [default: 127.0.0.1:7407]
        #[arg(long, value_name = "ADDR")]
        listen: Option<std::net::SocketAddr>,
        /// Hashed tokens (see `annals token create`)
        #[arg(long, value_name = "F", value_hint = ValueHint::FilePath)]
        token_file: Option<PathBuf>,
        /// Settings, in TOML
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        config: Option<PathBuf>,
        /// PEM certificate chain
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        tls_cert: Option<PathBuf>,
        /// PEM private key
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        tls_key: Option<PathBuf>,
        /// A proxy in front does TLS
        #[arg(long)]
        behind_proxy: bool,
        /// Refuse every write
        #[arg(long)]
        read_only: bool,
        /// Print every setting with its value and where it comes from, and serve nothing
        #[arg(long)]
        show_config: bool,
        /// Ask the server at this address for its health, and serve nothing: exit 0 when it answers
        #[arg(long, conflicts_with = "show_config")]
        probe: bool,
    },
    /// Access tokens for the server
    #[command(after_help = "Example:\n  annals token create --name reports --role read --token-file tokens")]
    Token {
        /// What to do.
        #[command(subcommand)]
        what: TokenCommand,
    },
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  annals completions bash > ~/.local/share/bash-completion/completions/annals"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a folder
    #[command(after_help = "Example:\n  annals man ~/.local/share/man/man1")]
    Man {
        /// Folder, made when new
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
}

/// A moment: `T` is a t, an `#inst`, a date-time, or time back from now (-2h).
#[derive(Clone, Debug, Default, Args)]
pub struct ViewArgs {
    /// Ask the database as it was: a t, a date-time, or back from now (-2h, -3d, -8mo)
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub as_of: Option<String>,
    /// Ask only what was asserted after this time
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Ask every assertion and retraction there ever was
    #[arg(long)]
    pub history: bool,
}

/// A moment, where history has its own meaning.
#[derive(Clone, Debug, Default, Args)]
pub struct ViewArgs2 {
    /// The database as it was: a t, a date-time, or back from now (-2h, -3d, -8mo)
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub as_of: Option<String>,
}

/// What `annals import` reads.
#[derive(Debug, Subcommand)]
pub enum Import {
    /// NDJSON events with a `stream` field; importing again adds nothing
    #[command(
        after_help = "Example:\n  annals import permits events receipt.events.ndjson.gz --projection cases.edn\n\nThe event's time becomes the transaction's instant in a new database; events of one \"tx\" are one transaction."
    )]
    Events {
        /// File, .gz allowed; - for standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: String,
        /// Install this projection first
        #[arg(long, value_name = "FILE.edn", value_hint = ValueHint::FilePath)]
        projection: Vec<PathBuf>,
        /// Where to write lines that were refused, with the reason; without it the first one stops the import
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        rejects: Option<PathBuf>,
    },
    /// CloudEvents: NDJSON, one event a line, or a JSON batch; `subject` is the stream
    Cloudevents {
        /// File, .gz allowed; - for standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: String,
        /// Install this projection first
        #[arg(long, value_name = "FILE.edn", value_hint = ValueHint::FilePath)]
        projection: Vec<PathBuf>,
        /// Where to write lines that were refused, with the reason; without it the first one stops the import
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        rejects: Option<PathBuf>,
    },
    /// An XES event log; a trace is a stream
    Xes {
        /// File, .gz allowed; - for standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: String,
        /// Install this projection first
        #[arg(long, value_name = "FILE.edn", value_hint = ValueHint::FilePath)]
        projection: Vec<PathBuf>,
        /// Where to write events that were refused, with the reason; without it the first one stops the import
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        rejects: Option<PathBuf>,
    },
    /// A CSV table with a header; the schema is inferred
    #[command(
        after_help = "Examples:\n  annals import shop csv products.csv --key sku\n  annals import shop csv products.csv --dry-run       show the schema and stop"
    )]
    Csv(TableArgs),
    /// JSON objects, one a line; the schema is inferred
    Ndjson(TableArgs),
    /// Transactions as EDN, Datomic-style or as `annals export` writes them
    #[command(after_help = "Examples:
  annals import shop edn orders.edn --schema schema.edn
  annals import copy edn full.edn                 what `annals export --history` wrote, into a new database

Each top-level vector is one transaction. A full-history export goes on where it was left when imported again;
other files go on with --skip.")]
    Edn(EdnArgs),
    /// The history of a git repository: a stream a path, a transaction a commit
    #[command(after_help = "Example:\n  annals import history git ~/src/project")]
    Git {
        /// The repository
        #[arg(value_hint = ValueHint::DirPath)]
        path: PathBuf,
        /// Commit, branch or tag to read up to
        #[arg(long, default_value = "HEAD", value_name = "REV")]
        rev: String,
        /// Install this projection first
        #[arg(long, value_name = "FILE.edn", value_hint = ValueHint::FilePath)]
        projection: Vec<PathBuf>,
        /// Where to write changes that were refused, with the reason; without it the first one stops the import
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        rejects: Option<PathBuf>,
    },
}

/// How EDN is imported.
#[derive(Clone, Debug, Args)]
pub struct EdnArgs {
    /// File, .gz allowed; - for standard input
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: String,
    /// Transact this file first
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub schema: Option<PathBuf>,
    /// Where to write transactions that were refused, with the reason; without it the first one stops the import
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub rejects: Option<PathBuf>,
    /// Pass over this many transactions: go on where an import stopped
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip: u64,
}

/// How a table becomes facts.
#[derive(Clone, Debug, Args)]
pub struct TableArgs {
    /// File, .gz allowed; - for standard input
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: String,
    /// Transact this schema instead of an inferred one
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub schema: Option<PathBuf>,
    /// Column that identifies a row: importing again updates instead of adding
    #[arg(long, value_name = "COL")]
    pub key: Option<String>,
    /// Namespace of the attributes [default: the file's name]
    #[arg(long, value_name = "NAME")]
    pub ns: Option<String>,
    /// Column that names rows of another attribute: COL=:ns/key
    #[arg(long = "ref", value_name = "COL=:ATTR")]
    pub refs: Vec<String>,
    /// Where to write rows that were refused, with the reason; without it the first one stops the import
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub rejects: Option<PathBuf>,
    /// Skip this many rows: go on where an import stopped
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip: u64,
    /// Rows a transaction
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub batch: usize,
    /// Show the schema and the first transaction, write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What to do with projections.
#[derive(Debug, Subcommand)]
pub enum ProjectionCommand {
    /// Name, version, state, position of each
    List,
    /// Install a projection from an EDN file, and project the events there are
    Add {
        /// The projection
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// What a changed projection would say, against what the live one says; nothing is written
    #[command(after_help = "Example:\n  annals projection permits preview cases.edn")]
    Preview {
        /// The changed projection
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Make its facts anew from the events, beside the live ones, which they then replace
    Rebuild {
        /// The projection
        name: String,
    },
    /// Remove it; its facts are retracted as of now
    Drop {
        /// The projection
        name: String,
    },
    /// Let it take no more events
    Pause {
        /// The projection
        name: String,
    },
    /// Let it go on, after a pause or where it halted
    Resume {
        /// The projection
        name: String,
    },
    /// The events it set aside because it could not take them
    Parked {
        /// The projection
        name: String,
    },
    /// Take the parked events again
    Replay {
        /// The projection
        name: String,
    },
    /// Leave one event out; who and why is kept
    #[command(
        after_help = "Example:\n  annals projection orders skip totals 17 \"booked twice, ticket 4711\""
    )]
    Skip {
        /// The projection
        name: String,
        /// The event's position over all streams
        position: String,
        /// Why
        why: String,
    },
    /// The events it leaves out, with who and why
    Skipped {
        /// The projection
        name: String,
    },
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and add its hash to the token file; the token is printed once
    #[command(after_help = "Example:\n  annals token create --name reports --role read --token-file tokens")]
    Create {
        /// What the token is for
        #[arg(long)]
        name: String,
        /// What its holder may do: read, write, schema or admin; each may do what those before it may
        #[arg(long, default_value = "read")]
        role: String,
        /// Only these databases (default: all)
        #[arg(long = "db", value_name = "NAME")]
        dbs: Vec<String>,
        /// Days until it expires (default: never)
        #[arg(long, value_name = "DAYS")]
        days: Option<u32>,
        /// The file to add to
        #[arg(long, value_name = "F", default_value = "tokens", value_hint = ValueHint::FilePath)]
        token_file: PathBuf,
    },
    /// Show the tokens of a file: ids, names, roles, and whether they are live
    #[command(after_help = "Example:\n  annals token list --token-file tokens")]
    List {
        /// The file
        #[arg(long, value_name = "F", default_value = "tokens", value_hint = ValueHint::FilePath)]
        token_file: PathBuf,
    },
    /// Revoke a token: a running server refuses it within a second
    #[command(after_help = "Example:\n  annals token revoke reports --token-file tokens")]
    Revoke {
        /// Its id, or its name: of several with one name, all
        #[arg(value_name = "ID")]
        token: String,
        /// The file
        #[arg(long, value_name = "F", default_value = "tokens", value_hint = ValueHint::FilePath)]
        token_file: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_in_its_help() {
        for c in Cli::command().get_subcommands() {
            let help = c.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("annals {}", c.get_name())), "annals {} --help", c.get_name());
            let broken = help.lines().find(|l| l.chars().count() > 80);
            assert_eq!(broken, None, "an example is copied whole, on a terminal of 80 columns");
        }
    }

    #[test]
    fn sizes_have_units_and_bounds() {
        assert_eq!(size("8MiB"), Ok(8 << 20));
        assert_eq!(size("64g"), Ok(64 << 30));
        assert_eq!(size("1048576"), Ok(1 << 20));
        for bad in ["", "MiB", "8 miles", "1KiB", "99999999999999999999", "128TiB", "-1"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_may_begin_with_a_hyphen() {
        let cli =
            Cli::try_parse_from(["annals", "query", "db", "[:find ?x]", "--as-of", "-2h", "--in", "-1"])
                .unwrap();
        let Some(Command::Query { view, inputs, .. }) = cli.command else { panic!("not a query") };
        assert_eq!((view.as_of.as_deref(), inputs[0].as_str()), (Some("-2h"), "-1"));
    }
}
