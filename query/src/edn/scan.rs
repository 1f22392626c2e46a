//! One linear pass over a text before any recursion: are brackets balanced,
//! strings closed, and forms nested no deeper than allowed?
//!
//! 1. Never recurses and holds one small frame a level, at most [`Limits::depth`]
//!    of them: a million open brackets cost one complaint.
//! 2. What it accepts, the grammar in `edn.pest` accepts too; both split the text
//!    into the same tokens.
//! 3. A prefix (`#tag`, `#_`, `'`) is a level of its own until its form ends,
//!    because the grammar recurses there as well.

use super::Limits;
use annals_model::{Diagnostic, Span};

/// A level that is open.
struct Frame {
    kind: Kind,
    at: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A bracket that this character closes.
    Bracket(u8),
    /// `#tag` or `'`: ends with its form, and is a form.
    Prefix,
    /// `#_`: ends with its form, and is none.
    Discard,
}

/// Complains about the structure of `text`; an empty answer means that it is sound.
pub(super) fn scan(text: &str, limits: &Limits) -> Vec<Diagnostic> {
    if text.len() > limits.bytes {
        let message = format!("a text of {} bytes; the limit is {}", text.len(), limits.bytes);
        let help = "split the text, or raise the reader's limit";
        return vec![Diagnostic::new("edn/too-large", message).help(help)];
    }
    let mut s = Scanner { text: text.as_bytes(), at: 0, open: Vec::new(), complaints: Vec::new(), limits };
    s.run();
    s.complaints
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    open: Vec<Frame>,
    complaints: Vec<Diagnostic>,
    limits: &'a Limits,
}

impl Scanner<'_> {
    fn run(&mut self) {
        while let Some(&c) = self.text.get(self.at) {
            let start = self.at;
            match c {
                b' ' | b'\n' | b',' | b'\t' | b'\r' | 0x0B | 0x0C => self.at += 1,
                b';' => self.comment(),
                b'"' => {
                    if !self.string() {
                        return;
                    }
                    self.form_ends();
                }
                b'[' => self.push(Kind::Bracket(b']'), 1),
                b'(' => self.push(Kind::Bracket(b')'), 1),
                b'{' => self.push(Kind::Bracket(b'}'), 1),
                b']' | b')' | b'}' => self.close(c),
                b'\'' => self.push(Kind::Prefix, 1),
                b'\\' => {
                    if !self.character() {
                        return;
                    }
                    self.form_ends();
                }
                b'#' => self.hash(),
                _ => {
                    self.token();
                    if self.at == start {
                        // A blank beyond ASCII, or a control character.
                        self.at += char_len(c);
                        if c.is_ascii_control() {
                            self.complaints.push(
                                Diagnostic::new("edn/syntax", format!("a control character (\\u{c:04x})"))
                                    .at(Span::new(start, self.at), "nothing begins with it"),
                            );
                        }
                    } else {
                        self.form_ends();
                    }
                }
            }
            if self.open.len() > self.limits.depth {
                let open = self.open.last().expect("deeper than the limit");
                let d = Diagnostic::new(
                    "edn/too-deep",
                    format!("forms are nested more than {} levels deep", self.limits.depth),
                );
                self.complaints.push(d.at(Span::new(open.at, open.at + 1), "one level too many"));
                return;
            }
            if self.complaints.len() >= self.limits.errors {
                return;
            }
        }
        while let Some(f) = self.open.pop() {
            if let Kind::Bracket(close) = f.kind {
                if self.complaints.len() >= self.limits.errors {
                    return;
                }
                let close = close as char;
                self.complaints.push(
                    Diagnostic::new("edn/unclosed", format!("no `{close}` closes this bracket"))
                        .at(Span::new(f.at, f.at + 1), "opened here"),
                );
            }
        }
    }

    fn push(&mut self, kind: Kind, len: usize) {
        self.open.push(Frame { kind, at: self.at });
        self.at += len;
    }

    /// A form has ended: so have the prefixes in front of it.
    fn form_ends(&mut self) {
        while let Some(f) = self.open.last() {
            match f.kind {
                Kind::Bracket(_) => return,
                Kind::Prefix => {
                    self.open.pop();
                }
                Kind::Discard => {
                    self.open.pop();
                    return;
                }
            }
        }
    }

    fn close(&mut self, c: u8) {
        // Prefixes without a form end here; the reader complains about them.
        while self.open.last().is_some_and(|f| matches!(f.kind, Kind::Prefix | Kind::Discard)) {
            self.open.pop();
        }
        let here = Span::new(self.at, self.at + 1);
        self.at += 1;
        match self.open.last() {
            Some(f) if f.kind == Kind::Bracket(c) => {
                self.open.pop();
                self.form_ends();
            }
            None => self.complaints.push(
                Diagnostic::new(
                    "edn/mismatched",
                    format!("nothing is open that `{}` could close", c as char),
                )
                .at(here, "remove it, or open it before"),
            ),
            Some(f) => {
                let Kind::Bracket(wanted) = f.kind else { unreachable!("prefixes were popped") };
                self.complaints.push(
                    Diagnostic::new(
                        "edn/mismatched",
                        format!("`{}` does not close `{}`", c as char, self.text[f.at] as char),
                    )
                    .at(here, format!("expected `{}`", wanted as char))
                    .at(Span::new(f.at, f.at + 1), "opened here"),
                );
                // Go on as if it closed the nearest bracket it fits, if there is one; the
                // brackets within were complained about with this one.
                if let Some(i) = self.open.iter().rposition(|f| f.kind == Kind::Bracket(c)) {
                    self.open.truncate(i);
                } else {
                    self.open.pop();
                }
                self.form_ends();
            }
        }
    }

    fn hash(&mut self) {
        match self.text.get(self.at + 1) {
            Some(b'{') => self.push(Kind::Bracket(b'}'), 2),
            Some(b'_') => self.push(Kind::Discard, 2),
            // A regex or a function: the string or list is the form.
            Some(b'"' | b'(') => self.at += 1,
            Some(b'#') => {
                self.at += 2;
                self.token();
                self.form_ends();
            }
            Some(b':') => {
                self.push(Kind::Prefix, 2);
                self.token();
            }
            Some(b'\'') => {
                self.at += 1;
                self.form_ends();
            }
            _ => {
                let start = self.at;
                self.at += 1;
                self.token();
                if self.at > start + 1 {
                    self.open.push(Frame { kind: Kind::Prefix, at: start });
                } else {
                    self.form_ends();
                }
            }
        }
    }

    fn comment(&mut self) {
        while self.text.get(self.at).is_some_and(|&c| c != b'\n') {
            self.at += 1;
        }
    }

    /// Moves past token characters.
    fn token(&mut self) {
        while let Some(&c) = self.text.get(self.at) {
            match c {
                b' ' | b'\n' | b',' | b'\t' | b'\r' | 0x0B | 0x0C => return,
                b'"' | b';' | b'[' | b']' | b'(' | b')' | b'{' | b'}' => return,
                // Control characters are no part of tokens; the main loop passes them by.
                0..=0x1F | 0x7F => return,
                0x80.. if self.wide_blank() => return,
                _ => self.at += char_len(c),
            }
        }
    }

    /// Does a blank beyond ASCII stand here? See `blank` in the grammar.
    fn wide_blank(&self) -> bool {
        let end = (self.at + char_len(self.text[self.at])).min(self.text.len());
        let c = std::str::from_utf8(&self.text[self.at..end]).ok().and_then(|s| s.chars().next());
        c.is_some_and(|c| c.is_whitespace() || c == '\u{feff}')
    }

    /// Moves past a string; false when it does not end.
    fn string(&mut self) -> bool {
        let start = self.at;
        self.at += 1;
        while let Some(&c) = self.text.get(self.at) {
            match c {
                b'"' => {
                    self.at += 1;
                    return true;
                }
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.complaints.push(
            Diagnostic::new("edn/unclosed", "a string is not closed")
                .at(Span::new(start, start + 1), "opened here")
                .help("a quotation mark within a string is written \\\""),
        );
        false
    }

    /// Moves past `\c`; false at the end of the text.
    fn character(&mut self) -> bool {
        let start = self.at;
        match self.text.get(self.at + 1) {
            Some(&c) => {
                self.at += 1 + char_len(c);
                self.token();
                true
            }
            None => {
                self.complaints.push(
                    Diagnostic::new("edn/character", "a backslash at the end of the text")
                        .at(Span::new(start, start + 1), "a character should follow"),
                );
                false
            }
        }
    }
}

/// Length of the character whose first byte is `c`.
fn char_len(c: u8) -> usize {
    match c {
        0..=0x7F => 1,
        0x80..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0.. => 4,
    }
}
