//! EDN and commands in colour.
//!
//! The painted text has the display width of the plain one, as the line editor demands.

use super::vocabulary::Vocabulary;
use crate::{
    lexer::{Kind, Nesting, Token, nesting, tokens},
    script::is_command,
    shell::complete::CLAUSE_KEYS,
    term::{Screen, theme},
};
use anstyle::Style;
use std::fmt::Write as _;

/// `text` in colour; the brackets at `pair` stand out. Unchanged when the screen takes no colour.
pub fn paint(
    text: &str,
    words: Option<&Vocabulary>,
    pair: Option<(usize, usize)>,
    screen: &Screen,
) -> String {
    if !screen.color {
        return text.to_owned();
    }
    let wrong = match nesting(text) {
        Nesting::Mismatch { at, .. } => Some(at.start),
        _ => None,
    };
    let mut out = String::with_capacity(text.len() * 2);
    let mut at = 0;
    let begin = text.len() - text.trim_start().len();
    if is_command(&text[begin..]) {
        let end = text[begin..].find(char::is_whitespace).map_or(text.len(), |i| begin + i);
        let _ = write!(out, "{}{}", &text[..begin], screen.paint(theme::CLAUSE, &text[begin..end]));
        at = end;
    }
    let mut after_open = false;
    for t in tokens(text) {
        if t.span.start < at {
            continue;
        }
        out.push_str(&text[at..t.span.start]);
        let piece = t.text(text);
        let style = if wrong == Some(t.span.start) {
            Some(theme::BAD.bold().underline())
        } else if pair.is_some_and(|(a, b)| t.span.start == a || t.span.start == b) {
            Some(theme::MATCH)
        } else {
            style(&t, piece, after_open, words)
        };
        match style {
            Some(s) => push_lines(&mut out, piece, s, screen),
            None => out.push_str(piece),
        }
        after_open = t.kind == Kind::Open(')');
        at = t.span.end;
    }
    out.push_str(&text[at..]);
    out
}

/// Each line styled by itself: a line editor moves the cursor between them.
fn push_lines(out: &mut String, piece: &str, style: Style, screen: &Screen) {
    for (i, line) in piece.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        if !line.is_empty() {
            let _ = write!(out, "{}", screen.paint(style, line));
        }
    }
}

fn style(t: &Token, piece: &str, after_open: bool, words: Option<&Vocabulary>) -> Option<Style> {
    Some(match t.kind {
        Kind::String(_) | Kind::Char => theme::STRING,
        Kind::Comment | Kind::Discard => theme::DIM,
        Kind::Number | Kind::Constant => theme::NUMBER,
        Kind::Variable | Kind::Source => theme::VARIABLE,
        Kind::Tag => theme::CLAUSE,
        Kind::Keyword if CLAUSE_KEYS.contains(&piece) => theme::CLAUSE,
        Kind::Keyword if unknown(piece, words) => theme::KEYWORD.dimmed(),
        Kind::Keyword => theme::KEYWORD,
        Kind::Symbol if after_open => theme::FUNCTION,
        Kind::Symbol | Kind::Open(_) | Kind::Close(_) | Kind::Prefix => return None,
    })
}

/// A name with a namespace that the database does not know: shown fainter, so that a slip shows while typing.
fn unknown(piece: &str, words: Option<&Vocabulary>) -> bool {
    words.is_some_and(|w| {
        !w.attributes.is_empty()
            && piece.contains('/')
            && !piece.contains("/_")
            && !piece.starts_with(":db")
            && !w.knows(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(text: &str) -> String {
        let mut out = String::new();
        let mut in_escape = false;
        for c in text.chars() {
            match c {
                '\u{1b}' => in_escape = true,
                'm' if in_escape => in_escape = false,
                c if !in_escape => out.push(c),
                _ => {}
            }
        }
        out
    }

    #[test]
    fn colour_changes_nothing_else() {
        let screen = Screen { color: true, ..Screen::plain(80) };
        for text in [
            "[:find (count ?x) . :where [?x :a/b \"s\ntwo\"]] ; c",
            ":as-of 3",
            "  \\x",
            "]",
            "[(\"",
            "#inst \"2020\" #_ a \\(",
        ] {
            assert_eq!(strip(&paint(text, None, None, &screen)), text);
            assert_eq!(paint(text, None, None, &Screen::plain(80)), text);
        }
    }
}
