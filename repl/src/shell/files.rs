//! The commands that open, read and write files: `:open`, `:run`, `:edit`, `:save`, and how a line is split into words.

use super::bindings::result;
use crate::{
    cli::Format,
    fail::{Exit, Failure, Outcome, io_words},
    output::table::counted,
    run::conn_to,
    session::{Access, Session, write_rows},
    term::theme,
};
use annals::Diagnostic;
use std::path::Path;

/// `:open`: another database, with this session's settings; without a path, a new one in memory.
pub fn reopen(s: &mut Session, path: Option<&str>) -> Outcome {
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

/// `:run`: the forms of a file, as if they were typed.
pub fn run_file(s: &mut Session, file: &str) -> Outcome {
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

/// `:save`: the last answer, in the format that the file's name ends in.
pub fn save(s: &Session, file: &str) -> Outcome {
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
}
