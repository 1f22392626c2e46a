//! Transcripts: what is typed and what comes back, in Markdown, run as written.
//!
//! Runs `tests/cases/*.md`, and the pages of the manual that show the shell. All
//! blocks of a file share one empty folder and run in order.
//!
//! | block | meaning |
//! |---|---|
//! | `console` | `$ command`, run by bash (a here-document goes to its end), then what it prints; `[exit N]` when it fails |
//! | `annals,DB` | a session: prompts with forms, then what they print, as `annals DB --echo` prints it |
//!
//! In expected lines `[..]` stands for any text, a line `...` for any lines.
//! `UPDATE=1` writes what was printed into the files, keeping lines that match.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Does `line` match `pattern`, where `[..]` is any text?
fn matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split("[..]");
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut last_empty = parts.clone().next().is_none();
    if last_empty {
        return rest.is_empty();
    }
    for p in parts {
        match rest.find(p) {
            Some(i) => rest = &rest[i + p.len()..],
            None => return false,
        }
        last_empty = p.is_empty();
    }
    last_empty || rest.is_empty() || pattern.split("[..]").last().is_some_and(|p| line.ends_with(p))
}

/// Times, distances from now, event ids, hashes and rates differ from run to run: each reads as its kind.
fn steady(line: &str) -> String {
    let digits = |s: &str, n: usize| s.len() >= n && s.as_bytes()[..n].iter().all(u8::is_ascii_digit);
    let hex = |s: &str| {
        s.bytes().take_while(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b) || *b == b'-').count()
    };
    let mut out = String::new();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let run = hex(rest);
        if run >= 36 {
            out.push_str("<id>");
            rest = &rest[run..];
        } else if digits(rest, 4)
            && rest[4..].starts_with('-')
            && rest.get(5..).is_some_and(|r| digits(r, 2))
            && rest.get(7..).is_some_and(|r| r.starts_with('-'))
        {
            let end = rest.find(|c: char| !(c.is_ascii_digit() || "-:.TZ".contains(c))).unwrap_or(rest.len());
            let clock = rest[end..].strip_prefix(' ').filter(|r| digits(r, 2) && r[2..].starts_with(':'));
            rest = match clock {
                Some(r) => {
                    &r[r.find(|c: char| !(c.is_ascii_digit() || ":.".contains(c))).unwrap_or(r.len())..]
                }
                None => &rest[end..],
            };
            // `(-5m)` of a prompt.
            if let Some(close) = rest.strip_prefix(" (").and_then(|r| r.find(")> ")) {
                rest = &rest[close + 3..];
            }
            out.push_str("<time>");
        } else if let Some(end) =
            rest.strip_prefix('(').and_then(|r| r.find("/s)")).filter(|_| digits(&rest[1..], 1))
        {
            out.push_str("<rate>");
            rest = &rest[end + 4..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// Do the lines match, where a line `...` is any lines?
fn all_match(expected: &[&str], actual: &[&str]) -> bool {
    match expected.split_first() {
        None => actual.is_empty(),
        Some((&"...", rest)) => (0..=actual.len()).any(|i| all_match(rest, &actual[i..])),
        Some((p, rest)) => actual
            .split_first()
            .is_some_and(|(a, after)| matches(&steady(p), &steady(a)) && all_match(rest, after)),
    }
}

struct Folder {
    dir: tempfile::TempDir,
    bin: PathBuf,
}

impl Folder {
    fn new() -> Folder {
        let bin = PathBuf::from(env!("CARGO_BIN_EXE_annals")).parent().expect("a folder").to_owned();
        Folder { dir: tempfile::tempdir().expect("a folder"), bin }
    }

    fn run(&self, command: &str, stdin: Option<&str>) -> String {
        let path = format!("{}:{}", self.bin.display(), std::env::var("PATH").unwrap_or_default());
        let mut c = Command::new("bash");
        c.arg("-c").arg(format!("exec 2>&1; {command}")).current_dir(self.dir.path());
        c.env_clear()
            .env("PATH", path)
            .env("HOME", self.dir.path())
            .env("COLUMNS", "80")
            .env("LC_ALL", "C.UTF-8");
        c.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = c.spawn().expect("bash");
        if let Some(text) = stdin {
            use std::io::Write as _;
            let mut pipe = child.stdin.take().expect("piped");
            pipe.write_all(text.as_bytes()).expect("the input is read");
        }
        let out = child.wait_with_output().expect("it ends");
        let mut text = String::from_utf8_lossy(&out.stdout).into_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        match out.status.code() {
            Some(0) => {}
            Some(n) => text.push_str(&format!("[exit {n}]\n")),
            None => text.push_str("[killed]\n"),
        }
        text
    }
}

/// A piece of a block: what is typed, as lines of the file, and what should come back.
struct Piece<'a> {
    typed: Vec<&'a str>,
    command: String,
    expected: Vec<&'a str>,
}

fn console_pieces<'a>(lines: &[&'a str]) -> Vec<Piece<'a>> {
    let mut out: Vec<Piece<'a>> = Vec::new();
    let mut here: Option<String> = None;
    for line in lines {
        if let Some(end) = &here {
            let p = out.last_mut().expect("a command came before");
            p.typed.push(line);
            p.command.push('\n');
            p.command.push_str(line);
            if line == end {
                here = None;
            }
            continue;
        }
        if let Some(command) = line.strip_prefix("$ ") {
            out.push(Piece { typed: vec![line], command: command.to_owned(), expected: Vec::new() });
            here = command
                .split_once("<<'")
                .and_then(|(_, rest)| rest.split_once('\''))
                .map(|(word, _)| word.to_owned());
        } else if let Some(p) = out.last_mut() {
            if p.expected.is_empty() && p.command.ends_with('\\') {
                p.typed.push(line);
                p.command.push('\n');
                p.command.push_str(line);
            } else {
                p.expected.push(line);
            }
        }
    }
    out
}

/// The text after a prompt, if the line has one.
fn prompted(line: &str) -> Option<&str> {
    let end = line.find("> ")?;
    let prompt = &line[..end];
    (prompt.contains(" @") && !prompt.starts_with(' ')).then(|| &line[end + 2..])
}

fn session_pieces<'a>(lines: &[&'a str]) -> Vec<Piece<'a>> {
    let mut out: Vec<Piece<'a>> = Vec::new();
    let mut open = false;
    for line in lines {
        if let Some(text) = prompted(line).filter(|_| !open) {
            out.push(Piece { typed: vec![line], command: text.to_owned(), expected: Vec::new() });
        } else if let Some(p) = out.last_mut() {
            if open {
                p.typed.push(line);
                p.command.push('\n');
                p.command.push_str(line.trim_start());
            } else {
                p.expected.push(line);
                continue;
            }
        }
        open = out.last().is_some_and(|p| annals_repl::shell::helper::wants_more(&p.command));
    }
    out
}

/// Runs a block; gives its lines as they should stand in the file, and complaints.
fn run_block(folder: &Folder, info: &str, lines: &[&str], place: &str) -> (Vec<String>, Vec<String>) {
    let mut text: Vec<String> = Vec::new();
    let mut wrong = Vec::new();
    let mut judge = |p: &Piece<'_>, typed: Vec<String>, actual: Vec<&str>| {
        text.extend(typed);
        if all_match(&p.expected, &actual) {
            text.extend(p.expected.iter().map(|s| (*s).to_owned()));
        } else {
            wrong.push(format!(
                "{place}: {}\n--- expected\n{}\n--- printed\n{}",
                p.typed.join("\n"),
                p.expected.join("\n"),
                actual.join("\n")
            ));
            text.extend(actual.iter().map(|s| (*s).to_owned()));
        }
    };
    if info == "console" {
        for p in console_pieces(lines) {
            let printed = folder.run(&p.command, None);
            let typed = p.typed.iter().map(|s| (*s).to_owned()).collect();
            judge(&p, typed, printed.lines().collect());
        }
        return (text, wrong);
    }
    let db = info.strip_prefix("annals,").expect("checked by the caller");
    let pieces = session_pieces(lines);
    let input: String = pieces.iter().map(|p| format!("{}\n", p.command)).collect();
    let db = if db == "memory" { "" } else { db };
    let printed = folder.run(&format!("annals {db} -q --echo --format table"), Some(&input));
    let printed: Vec<&str> = printed.lines().collect();
    // Each echo begins a piece; an echo has as many lines as its form.
    let mut at = 0;
    let mut starts = Vec::new();
    for p in &pieces {
        let first = p.command.lines().next().unwrap_or("");
        let found = (at..printed.len()).find(|i| prompted(printed[*i]).is_some_and(|t| t == first));
        starts.push(found);
        at = found.map_or(at, |i| i + p.command.lines().count());
    }
    for (i, p) in pieces.iter().enumerate() {
        let Some(start) = starts[i] else {
            judge(p, p.typed.iter().map(|s| (*s).to_owned()).collect(), vec!["[not run]"]);
            continue;
        };
        let end = starts[i + 1..].iter().flatten().next().copied().unwrap_or(printed.len());
        let n = p.command.lines().count();
        let typed: Vec<String> = printed[start..start + n].iter().map(|s| (*s).to_owned()).collect();
        let mut actual: Vec<&str> = printed[start + n..end].to_vec();
        // The exit code of a session says whether a form failed; the error itself is in the text.
        if i + 1 == pieces.len() && actual.last().is_some_and(|l| l.starts_with("[exit ")) {
            actual.pop();
        }
        while actual.last().is_some_and(|l| l.is_empty()) {
            actual.pop();
        }
        let mut p2 =
            Piece { typed: p.typed.clone(), command: p.command.clone(), expected: p.expected.clone() };
        while p2.expected.last().is_some_and(|l| l.is_empty()) {
            p2.expected.pop();
        }
        // The prompt as printed, unless it says the same.
        let typed: Vec<String> = match p.typed.len() == typed.len()
            && p.typed.iter().zip(&typed).all(|(a, b): (&&str, &String)| steady(a) == steady(b))
        {
            true => p.typed.iter().map(|s| (*s).to_owned()).collect(),
            false => typed,
        };
        judge(&p2, typed, actual);
    }
    (text, wrong)
}

fn run_file(path: &Path) -> Vec<String> {
    let page = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let folder = Folder::new();
    let mut out: Vec<String> = Vec::new();
    let mut complaints = Vec::new();
    let lines: Vec<&str> = page.lines().collect();
    let mut i = 0;
    while i < lines.len() {
        let line = lines[i];
        out.push(line.to_owned());
        i += 1;
        let Some(info) =
            line.strip_prefix("```").filter(|info| *info == "console" || info.starts_with("annals,"))
        else {
            continue;
        };
        let end = (i..lines.len())
            .find(|j| lines[*j] == "```")
            .unwrap_or_else(|| panic!("{}:{i}: a block is not closed", path.display()));
        let place = format!("{}:{}", path.file_name().expect("a file").to_string_lossy(), i);
        let (text, wrong) = run_block(&folder, info, &lines[i..end], &place);
        out.extend(text);
        complaints.extend(wrong);
        i = end;
    }
    if std::env::var_os("UPDATE").is_some() && !complaints.is_empty() {
        fs::write(path, out.join("\n") + "\n").expect("the file is ours");
        eprintln!("updated {}", path.display());
        return Vec::new();
    }
    complaints
}

fn check(paths: &[PathBuf]) {
    let wrong: Vec<String> = paths.iter().flat_map(|p| run_file(p)).collect();
    assert!(
        wrong.is_empty(),
        "\n{}\n\n{} transcripts differ (UPDATE=1 writes what was printed)",
        wrong.join("\n\n"),
        wrong.len()
    );
}

fn here(rest: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(rest)
}

#[test]
fn cases_print_what_they_say() {
    let mut paths: Vec<PathBuf> = fs::read_dir(here("tests/cases"))
        .expect("the cases")
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| p.extension().is_some_and(|x| x == "md"))
        .collect();
    paths.sort();
    check(&paths);
}

#[test]
fn the_manual_prints_what_it_says() {
    check(&[here("../docs/tutorial.md"), here("../docs/shell.md")]);
}

#[test]
fn patterns_match_as_said() {
    assert!(matches("t1  [..]  +3", "t1  2026-01-01  +3"));
    assert!(!matches("t1  [..]  +3", "t1  2026-01-01  +4"));
    assert!(matches("plain", "plain") && !matches("plain", "plainer"));
    let at = |s: &str| steady(s);
    assert_eq!(at("shop @t2 2026-11-21 (-5m)> x"), at("shop @t2 2026-11-22 (now)> x"));
    assert_eq!(at("t3  2026-11-21 06:14:11.205  +1"), at("t3  2027-01-01 00:00:00.000  +1"));
    assert_eq!(at("#inst \"2026-11-21T06:14:11.205Z\""), at("#inst \"2026-11-21T06:14:11.205123Z\""));
    assert!(all_match(&["a", "...", "z"], &["a", "b", "c", "z"]));
    assert!(!all_match(&["a"], &["a", "b"]));
}
