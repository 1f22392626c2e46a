//! Importers: events, tables, EDN, a git history.
//!
//! 1. What is wrong with the source is said with file, line and field.
//! 2. Importing again adds nothing, where the source has identities: event ids,
//!    `--key`. Where it has none, the number of rows read is printed, for `--skip`.
//! 3. Rows go in batches; one transaction a batch.

pub mod edn;
pub mod events;
#[cfg(feature = "git")]
pub mod git;
pub mod history;
pub mod infer;
pub mod rejects;
pub mod source;
pub mod tables;
pub mod xes;

use crate::{
    cli::Import,
    fail::{Failure, Outcome},
    session::Session,
};
use clap::Parser as _;

/// A command line within the shell.
#[derive(Debug, clap::Parser)]
#[command(
    name = ":import",
    no_binary_name = true,
    disable_help_subcommand = true,
    disable_version_flag = true
)]
struct Line {
    #[command(subcommand)]
    what: Import,
}

const FORMATS: &str = "formats: events cloudevents xes csv ndjson edn git";

/// `:import …`.
pub fn from_words(s: &mut Session, words: &[String]) -> Outcome {
    let line = Line::try_parse_from(words).map_err(|e| {
        let example = "as in  :import csv products.csv --key sku";
        match words.first() {
            None => {
                Failure::usage("usage: :import FORMAT FILE [FLAGS]").help(format!("{FORMATS}; {example}"))
            }
            Some(format) if e.kind() == clap::error::ErrorKind::InvalidSubcommand => {
                Failure::usage(format!("no format is called {format}")).help(FORMATS)
            }
            Some(_) => {
                let text = e.render().to_string();
                let first = text.lines().next().unwrap_or("").trim_start_matches("error: ");
                Failure::usage(first.trim_end_matches(':')).help(example)
            }
        }
    })?;
    check(&line.what)?;
    run(s, &line.what)
}

/// Is the source there? Asked before a database is made for it.
pub fn check(what: &Import) -> Outcome {
    let file = match what {
        Import::Events { file, .. } | Import::Cloudevents { file, .. } | Import::Xes { file, .. } => file,
        Import::Edn(e) => &e.file,
        Import::Csv(t) | Import::Ndjson(t) => &t.file,
        Import::Git { path, .. } => {
            return match path.exists() {
                true => Ok(()),
                false => Err(Failure::refused("shell/file", format!("{}: no such folder", path.display()))),
            };
        }
    };
    if file != "-" {
        std::fs::File::open(file).map_err(|e| Failure::file(std::path::Path::new(file), &e))?;
    }
    Ok(())
}

/// Imports.
pub fn run(s: &mut Session, what: &Import) -> Outcome {
    s.writable()?;
    match what {
        Import::Csv(t) => tables::csv(s, t),
        Import::Ndjson(t) => tables::ndjson(s, t),
        Import::Edn(args) => edn::run(s, args),
        Import::Events { file, projection, rejects } | Import::Cloudevents { file, projection, rejects } => {
            events::run(s, file, projection, rejects.as_deref())
        }
        Import::Xes { file, projection, rejects } => xes::run(s, file, projection, rejects.as_deref()),
        #[cfg(feature = "git")]
        Import::Git { path, rev, projection, rejects } => {
            git::run(s, path, rev, projection, rejects.as_deref())
        }
        #[cfg(not(feature = "git"))]
        Import::Git { .. } => Err(Failure::refused("import/git", "this build reads no git repositories")
            .help("build with the feature `git`")),
    }
}
