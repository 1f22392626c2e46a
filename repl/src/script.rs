//! A stream of text cut into the things to run: commands and forms.
//!
//! 1. Nothing is swallowed: every byte of the input is in some item, or blank,
//!    a comment, or hidden by `#_`. A bracket that is never closed is reported where it
//!    stands, and reading goes on at the next line that looks like a new start.
//! 2. A line that begins with `:name`, `\name` or `.name` outside any form is a
//!    command; it takes its line, and further lines while brackets are open.
//! 3. Input is taken a line at a time, so no token but a string is ever cut.
//! 4. Items come out as soon as they are complete, so a pipe is answered while
//!    it is still open.

use crate::lexer::{Kind, Lexer};
use std::io::{self, BufRead};

/// Longest form accepted, in bytes.
pub const MAX_FORM: usize = 256 << 20;

/// Something to run, or something that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// Its text, without surrounding blanks.
    pub text: String,
    /// Line of its first byte, from 1.
    pub line: usize,
}

/// What an [`Item`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// A command with its arguments.
    Command,
    /// One EDN form.
    Form,
    /// Text that can be neither: what is wrong, and where in the item's text.
    Broken {
        /// One sentence: lower case, no full stop.
        why: String,
        /// Byte range in the item's text.
        at: (usize, usize),
    },
}

/// Reads items from lines as they arrive.
pub struct Script<R> {
    input: R,
    /// Text not yet handed out; begins at `line`.
    buffer: String,
    line: usize,
    scan: Scan,
    ended: bool,
    /// Lines that begin with a colon are forms like any other.
    forms_only: bool,
    /// Line and description of bytes that were not text, for the item they fall into.
    not_text: Option<String>,
}

/// Where the scan of the buffer stands.
#[derive(Default)]
struct Scan {
    lexer: Lexer,
    /// Open brackets: place and closing bracket.
    open: Vec<(usize, char)>,
    /// First byte of the item begun.
    start: Option<usize>,
    command: bool,
    /// Forms that `#_` still has to hide, and whether a tag waits for its form.
    discards: usize,
    prefixed: bool,
}

impl<R: BufRead> Script<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Script<R> {
        Script {
            input,
            buffer: String::new(),
            line: 1,
            scan: Scan::default(),
            ended: false,
            forms_only: false,
            not_text: None,
        }
    }

    /// Reads forms from `input`, no commands.
    pub fn forms_only(input: R) -> Script<R> {
        Script { forms_only: true, ..Script::new(input) }
    }

    /// The next item; none at the end of the input.
    pub fn next_item(&mut self) -> io::Result<Option<Item>> {
        loop {
            if let Some(item) = self.scan_buffer() {
                return Ok(Some(item));
            }
            if self.ended {
                return Ok(self.leftover());
            }
            self.read_line()?;
        }
    }

    fn read_line(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut limited = io::Read::take(&mut self.input, MAX_FORM as u64);
        limited.read_until(b'\n', &mut bytes)?;
        if bytes.last() != Some(&b'\n') {
            self.ended = true;
        }
        if self.buffer.is_empty() && self.line == 1 && bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        }
        match String::from_utf8(bytes) {
            Ok(text) => self.buffer.push_str(&text),
            Err(e) => {
                let valid = e.utf8_error().valid_up_to();
                self.not_text = Some(format!("byte {} of the line is not UTF-8", valid + 1));
                self.buffer.push_str(&String::from_utf8_lossy(e.as_bytes()));
            }
        }
        Ok(())
    }

    /// Scans on; an item when one is complete.
    fn scan_buffer(&mut self) -> Option<Item> {
        loop {
            if self.scan.start.is_none() && self.scan.lexer.open_string().is_none() {
                self.drop_blank();
                if self.buffer.is_empty() {
                    return None;
                }
                if !self.forms_only && is_command(&self.buffer) {
                    self.scan.start = Some(0);
                    self.scan.command = true;
                }
            }
            if self.scan.command && self.scan.open.is_empty() && self.scan.lexer.open_string().is_none() {
                // The command ends with the first line at whose end nothing is open.
                let from = self.scan.lexer.position();
                match self.buffer[from..].find('\n') {
                    Some(nl) => {
                        let end = from + nl;
                        if let Some(item) = self.scan_command_line(end) {
                            return Some(item);
                        }
                        continue;
                    }
                    None if self.ended => {
                        let end = self.buffer.len();
                        return self.scan_command_line(end);
                    }
                    None => return None,
                }
            }
            let token = self.scan.lexer.next(&self.buffer);
            let Some(token) = token else {
                if self.buffer.len() > MAX_FORM {
                    return Some(self.cut(self.buffer.len(), broken("form is too long", 0, 1)));
                }
                return None;
            };
            if let Some(item) = self.take(token.kind, token.span.start, token.span.end) {
                return Some(item);
            }
        }
    }

    /// Lexes a command up to `end` of its line; complete if nothing is open there.
    fn scan_command_line(&mut self, end: usize) -> Option<Item> {
        while let Some(t) = self.scan.lexer.next(&self.buffer) {
            match t.kind {
                Kind::Open(c) => self.scan.open.push((t.span.start, c)),
                // A wrong bracket in a command is the command's to explain.
                Kind::Close(_) => drop(self.scan.open.pop()),
                _ => {}
            }
            let more = self.buffer[t.span.end..].starts_with('\n') || t.span.end >= end;
            if more {
                break;
            }
        }
        let waits = !self.scan.open.is_empty() || self.scan.lexer.open_string().is_some();
        if waits && !self.ended {
            if self.scan.lexer.open_string().is_some() && self.scan.open.is_empty() {
                // An apostrophe or a lone quote in a command line is not a string of many lines.
                return Some(self.cut(end, ItemKind::Command));
            }
            return None;
        }
        let end = end.max(self.scan.lexer.position().min(self.buffer.len()));
        let end = self.buffer[end..].find('\n').map_or(self.buffer.len(), |i| end + i);
        Some(self.cut(end, ItemKind::Command))
    }

    fn take(&mut self, kind: Kind, start: usize, end: usize) -> Option<Item> {
        if kind == Kind::Comment {
            if self.scan.start.is_none() {
                self.forget(end);
            }
            return None;
        }
        if self.scan.command {
            match kind {
                Kind::Open(c) => self.scan.open.push((start, c)),
                Kind::Close(_) => drop(self.scan.open.pop()),
                _ => {}
            }
            return None;
        }
        let first = *self.scan.start.get_or_insert(start);
        match kind {
            Kind::Open(c) => {
                self.scan.open.push((start, c));
                return None;
            }
            Kind::Close(c) => match self.scan.open.pop() {
                Some((_, want)) if want == c => {}
                Some((at, want)) => {
                    let (line, column) = self.place(at);
                    let why = format!(
                        "`{c}` does not close the `{}` of line {line}, column {column}; expected `{want}`",
                        &self.buffer[at..at + 1]
                    );
                    let end = self.buffer[end..].find('\n').map_or(self.buffer.len(), |i| end + i);
                    return Some(self.cut(end, broken(why, start - first, start - first + 1)));
                }
                None => {
                    return Some(
                        self.cut(end, broken(format!("`{c}` closes nothing"), start - first, end - first)),
                    );
                }
            },
            Kind::Tag | Kind::Prefix => {
                self.scan.prefixed = true;
                return None;
            }
            Kind::Discard => {
                if self.scan.open.is_empty() {
                    self.scan.discards += 1;
                }
                return None;
            }
            _ => {}
        }
        if !self.scan.open.is_empty() {
            return None;
        }
        self.scan.prefixed = false;
        if self.scan.discards > 0 {
            self.scan.discards -= 1;
            if self.scan.discards == 0 {
                self.forget(end);
            }
            return None;
        }
        Some(self.cut(end, ItemKind::Form))
    }

    /// Hands out the buffer up to `end` as an item.
    fn cut(&mut self, end: usize, kind: ItemKind) -> Item {
        let start = self.scan.start.unwrap_or(0);
        let line = self.line + self.buffer[..start].matches('\n').count();
        let text = self.buffer[start..end].trim_end().to_owned();
        self.forget(end);
        let kind = match self.not_text.take() {
            Some(why) => broken(why, 0, text.len().min(1)),
            None => kind,
        };
        Item { kind, text, line }
    }

    /// Drops the buffer up to `end` and starts the scan afresh.
    fn forget(&mut self, end: usize) {
        self.line += self.buffer[..end].matches('\n').count();
        self.buffer.drain(..end);
        self.scan = Scan::default();
    }

    fn drop_blank(&mut self) {
        let rest = self.buffer.trim_start_matches(|c: char| c.is_whitespace() || c == ',').len();
        let blank = self.buffer.len() - rest;
        if blank > 0 {
            self.forget(blank);
        }
    }

    /// What is left when the input has ended inside an item.
    fn leftover(&mut self) -> Option<Item> {
        let start = self.scan.start?;
        if self.scan.command {
            let end = self.buffer.len();
            return Some(self.cut(end, ItemKind::Command));
        }
        let (why, at) = match (self.scan.lexer.open_string(), self.scan.open.last().copied()) {
            (Some(at), _) => ("string is not closed".to_owned(), at),
            (None, Some((at, close))) => {
                (format!("`{}` is not closed; expected `{close}`", &self.buffer[at..at + 1]), at)
            }
            (None, None) => ("a form must follow".to_owned(), start),
        };
        // Everything up to the next line that looks like a fresh start is the broken form.
        let end = fresh_start(&self.buffer, start).unwrap_or(self.buffer.len());
        let item = self.cut(end, broken(why, at.min(end - 1) - start, at.min(end - 1) - start + 1));
        Some(item)
    }

    fn place(&self, at: usize) -> (usize, usize) {
        let before = &self.buffer[..at];
        let line = self.line + before.matches('\n').count();
        (line, at - before.rfind('\n').map_or(0, |i| i + 1) + 1)
    }
}

fn broken(why: impl Into<String>, start: usize, end: usize) -> ItemKind {
    ItemKind::Broken { why: why.into(), at: (start, end) }
}

/// Does text at the start of a line begin a command?
pub fn is_command(text: &str) -> bool {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(':'), Some(c)) => c.is_alphabetic() || c == '?',
        (Some('\\' | '.'), Some(c)) => c.is_ascii_alphabetic() || c == '?',
        _ => false,
    }
}

/// The first line after `start` that begins in column one like a form or a command.
fn fresh_start(text: &str, start: usize) -> Option<usize> {
    let mut at = start;
    while let Some(nl) = text[at..].find('\n') {
        at += nl + 1;
        let rest = &text[at..];
        if rest.starts_with(['[', '{', '(']) || is_command(rest) {
            return Some(at);
        }
    }
    None
}

/// Every item of a text.
pub fn items(text: &str) -> Vec<Item> {
    let mut script = Script::new(text.as_bytes());
    let mut out = Vec::new();
    // Reading from memory cannot fail.
    while let Ok(Some(item)) = script.next_item() {
        out.push(item);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(String, usize)> {
        items(text).into_iter().map(|i| (i.text, i.line)).collect()
    }

    #[test]
    fn forms_and_commands_are_told_apart() {
        let all = items("[:find ?x]\n:as-of 3\n\\timing on\n.mode csv\n{:a 1} [1] ; end\n");
        let kinds: Vec<_> = all.iter().map(|i| (&i.kind, i.text.as_str(), i.line)).collect();
        assert_eq!(
            kinds,
            vec![
                (&ItemKind::Form, "[:find ?x]", 1),
                (&ItemKind::Command, ":as-of 3", 2),
                (&ItemKind::Command, "\\timing on", 3),
                (&ItemKind::Command, ".mode csv", 4),
                (&ItemKind::Form, "{:a 1}", 5),
                (&ItemKind::Form, "[1]", 5),
            ]
        );
    }

    #[test]
    fn a_command_goes_on_while_a_bracket_is_open() {
        assert_eq!(
            texts(":explain [:find ?x\n  :where [?x]]\n:now\n"),
            vec![(":explain [:find ?x\n  :where [?x]]".into(), 1), (":now".into(), 3)]
        );
    }

    #[test]
    fn brackets_in_strings_and_comments_swallow_nothing() {
        assert_eq!(
            texts("[\"x)y\"]\n; ((( \n[2]\n[\\( 3]\n"),
            vec![("[\"x)y\"]".into(), 1), ("[2]".into(), 3), ("[\\( 3]".into(), 4)]
        );
    }

    #[test]
    fn discarded_forms_are_no_items() {
        assert_eq!(texts("#_ [1 2] [3] #_ #_ a b 4"), vec![("[3]".into(), 1), ("4".into(), 1)]);
    }

    #[test]
    fn tags_keep_their_form() {
        assert_eq!(texts("#inst \"2020\" 1"), vec![("#inst \"2020\"".into(), 1), ("1".into(), 1)]);
    }

    #[test]
    fn an_unclosed_form_does_not_swallow_the_rest() {
        let all = items("[1 2\n[3]\n:now\n");
        assert!(
            matches!(&all[0].kind, ItemKind::Broken { why, .. } if why.contains("not closed")),
            "{all:?}"
        );
        assert_eq!(all[1].text, "[3]");
        assert_eq!((all[2].text.as_str(), all[2].line), (":now", 3));
    }

    #[test]
    fn a_wrong_bracket_is_named_and_the_next_line_runs() {
        let all = items("[1 (2] 3\n[4]");
        assert!(matches!(&all[0].kind, ItemKind::Broken { at: (5, 6), .. }), "{all:?}");
        assert_eq!(all[1].text, "[4]");
        let all = items("]\n5");
        assert!(matches!(all[0].kind, ItemKind::Broken { .. }));
        assert_eq!(all[1].text, "5");
    }

    #[test]
    fn bytes_that_are_not_text_are_reported_with_their_line() {
        let mut script = Script::new(&b"[1]\n[\"\xff\"]\n[2]\n"[..]);
        assert_eq!(script.next_item().unwrap().unwrap().kind, ItemKind::Form);
        let bad = script.next_item().unwrap().unwrap();
        assert!(matches!(bad.kind, ItemKind::Broken { .. }));
        assert_eq!(bad.line, 2);
        assert_eq!(script.next_item().unwrap().unwrap().text, "[2]");
    }

    #[test]
    fn a_lone_quote_in_a_command_ends_with_its_line() {
        assert_eq!(texts(":echo it\"s\n[1]\n"), vec![(":echo it\"s".into(), 1), ("[1]".into(), 2)]);
    }

    #[test]
    fn no_newline_at_the_end_loses_nothing() {
        assert_eq!(texts(":now"), vec![(":now".into(), 1)]);
        assert_eq!(texts("42"), vec![("42".into(), 1)]);
        assert_eq!(texts("[1\n 2]"), vec![("[1\n 2]".into(), 1)]);
    }
}
