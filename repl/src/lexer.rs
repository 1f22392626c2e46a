//! EDN tokens with byte ranges: the one lexer behind validation, highlighting,
//! completion, bracket matching and the splitting of scripts.
//!
//! 1. Total: any text gives tokens, none of them is an error of the lexer. What
//!    is wrong with a text is for [`nesting`] and the EDN reader to say.
//! 2. Strings, comments, characters (`\(`) and discards (`#_`) never count as
//!    brackets.
//! 3. Incremental: a [`Lexer`] may be given more text later and goes on where it
//!    stopped; a string of many lines is scanned once, not once a line.
//!
//! Not here: what a form means.

use std::ops::Range;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `(`, `[`, `{` or `#{`; holds the bracket that closes it.
    Open(char),
    /// `)`, `]` or `}`.
    Close(char),
    /// `"…"`; false when the end of the text came first.
    String(bool),
    /// `; …` to the end of the line.
    Comment,
    /// `:ns/name`.
    Keyword,
    /// `?x`.
    Variable,
    /// `$` or `$name`, and `%`.
    Source,
    /// Any other name, `_` and `...` included.
    Symbol,
    /// Integer, decimal, double.
    Number,
    /// `nil`, `true`, `false`.
    Constant,
    /// `\c`, `\newline`.
    Char,
    /// `#inst`: needs a form after it.
    Tag,
    /// `#_`: hides the form after it.
    Discard,
    /// `'`, `` ` ``, `~`, `@`, `^`: reader prefixes that EDN does not have.
    Prefix,
}

/// One token and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its bytes.
    pub span: Range<usize>,
}

impl Token {
    /// The text of the token.
    pub fn text<'a>(&self, source: &'a str) -> &'a str {
        &source[self.span.clone()]
    }
}

/// A place in a text, able to go on when the text grows.
#[derive(Clone, Debug, Default)]
pub struct Lexer {
    pos: usize,
    /// Start of a string whose end has not been seen.
    string: Option<usize>,
}

impl Lexer {
    /// The next token, or none when the rest of `text` is blank or an unclosed
    /// string. `text` must begin with what earlier calls were given.
    pub fn next(&mut self, text: &str) -> Option<Token> {
        if let Some(start) = self.string {
            return self.string_end(text, start);
        }
        let rest = &text[self.pos..];
        let blank = rest.len() - rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',').len();
        let start = self.pos + blank;
        self.pos = start;
        let rest = &text[start..];
        let first = rest.chars().next()?;
        let (kind, len) = match first {
            '(' => (Kind::Open(')'), 1),
            '[' => (Kind::Open(']'), 1),
            '{' => (Kind::Open('}'), 1),
            ')' | ']' | '}' => (Kind::Close(first), 1),
            ';' => (Kind::Comment, rest.find('\n').unwrap_or(rest.len())),
            '"' => {
                self.pos = start + 1;
                self.string = Some(start);
                return self.string_end(text, start);
            }
            '\\' => (Kind::Char, character(rest)),
            '\'' | '`' | '~' | '@' | '^' => (Kind::Prefix, 1),
            '#' => match rest[1..].chars().next() {
                Some('{') => (Kind::Open('}'), 2),
                Some('_') => (Kind::Discard, 2),
                Some('!') if start == 0 => (Kind::Comment, rest.find('\n').unwrap_or(rest.len())),
                _ => (Kind::Tag, 1 + name(&rest[1..])),
            },
            _ => {
                let len = name(rest).max(first.len_utf8());
                (atom(&rest[..len]), len)
            }
        };
        self.pos = start + len;
        Some(Token { kind, span: start..self.pos })
    }

    fn string_end(&mut self, text: &str, start: usize) -> Option<Token> {
        let bytes = text.as_bytes();
        while self.pos < bytes.len() {
            match bytes[self.pos] {
                b'"' => {
                    self.pos += 1;
                    self.string = None;
                    return Some(Token { kind: Kind::String(true), span: start..self.pos });
                }
                // A backslash at the very end waits for what it escapes.
                b'\\' if self.pos + 1 == bytes.len() => return None,
                b'\\' => {
                    let escaped = text[self.pos + 1..].chars().next().map_or(0, char::len_utf8);
                    self.pos += 1 + escaped;
                }
                _ => self.pos += 1,
            }
        }
        None
    }

    /// Where the string began that the text ended in.
    pub fn open_string(&self) -> Option<usize> {
        self.string
    }

    /// Bytes consumed so far.
    pub fn position(&self) -> usize {
        self.pos
    }
}

/// Every token of a text; an unclosed string comes last.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer::default();
    let mut out = Vec::new();
    while let Some(t) = lexer.next(text) {
        out.push(t);
    }
    if let Some(start) = lexer.open_string() {
        out.push(Token { kind: Kind::String(false), span: start..text.len() });
    }
    out
}

/// Length of `\c` or `\newline`. A delimiter right after the backslash is the character itself.
fn character(rest: &str) -> usize {
    match rest[1..].chars().next() {
        None => 1,
        Some(c) if c.is_alphanumeric() => 1 + name(&rest[1..]),
        Some(c) => 1 + c.len_utf8(),
    }
}

/// Length of the longest name at the start of `rest`.
fn name(rest: &str) -> usize {
    let ends =
        |c: char| c.is_whitespace() || matches!(c, '(' | ')' | '[' | ']' | '{' | '}' | '"' | ';' | ',');
    rest.find(ends).unwrap_or(rest.len())
}

fn atom(text: &str) -> Kind {
    let mut chars = text.chars();
    let (first, second) = (chars.next(), chars.next());
    match (first, second) {
        (Some(':'), _) => Kind::Keyword,
        (Some('?'), Some(_)) => Kind::Variable,
        (Some('$'), _) => Kind::Source,
        (Some('%'), None) => Kind::Source,
        (Some(c), _) if c.is_ascii_digit() => Kind::Number,
        (Some('+' | '-'), Some(d)) if d.is_ascii_digit() => Kind::Number,
        _ if matches!(text, "nil" | "true" | "false") => Kind::Constant,
        _ => Kind::Symbol,
    }
}

/// How the brackets of a text stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nesting {
    /// Every bracket and string is closed.
    Closed,
    /// These brackets are open, outermost first; each with the bracket that would close it.
    Open {
        /// Place of the opening bracket, and its closing one.
        brackets: Vec<(usize, char)>,
        /// Start of an unclosed string.
        string: Option<usize>,
        /// The text ends in a tag or discard that needs a form.
        dangling: bool,
    },
    /// A closing bracket that fits none, and the one it should have been, if any is open.
    Mismatch {
        /// The wrong bracket.
        at: Range<usize>,
        /// The innermost open bracket: its place and what would close it.
        open: Option<(usize, char)>,
    },
}

/// The brackets of a whole text.
pub fn nesting(text: &str) -> Nesting {
    let mut open: Vec<(usize, char)> = Vec::new();
    let (mut string, mut dangling) = (None, false);
    for t in tokens(text) {
        match t.kind {
            Kind::Comment => continue,
            Kind::Open(close) => open.push((t.span.start, close)),
            Kind::Close(c) => match open.pop() {
                Some((_, close)) if close == c => {}
                innermost => return Nesting::Mismatch { at: t.span, open: innermost },
            },
            Kind::String(false) => string = Some(t.span.start),
            _ => {}
        }
        dangling = matches!(t.kind, Kind::Tag | Kind::Discard | Kind::Prefix);
    }
    if open.is_empty() && string.is_none() && !dangling {
        Nesting::Closed
    } else {
        Nesting::Open { brackets: open, string, dangling }
    }
}

/// The bracket that belongs to the one at or just before byte `pos`.
pub fn matching(text: &str, pos: usize) -> Option<(usize, usize)> {
    let all = tokens(text);
    let here = all.iter().position(|t| {
        matches!(t.kind, Kind::Open(_) | Kind::Close(_)) && t.span.start <= pos && pos <= t.span.end
    })?;
    let mut depth = 0usize;
    if let Kind::Open(_) = all[here].kind {
        for t in &all[here..] {
            match t.kind {
                Kind::Open(_) => depth += 1,
                Kind::Close(_) => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return Some((all[here].span.start, t.span.start));
            }
        }
    } else {
        for t in all[..=here].iter().rev() {
            match t.kind {
                Kind::Close(_) => depth += 1,
                Kind::Open(_) => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return Some((all[here].span.start, t.span.start));
            }
        }
    }
    None
}

/// Columns to indent a new line by, so that it lines up inside the innermost
/// open bracket at the end of `text`: under the first element for `[` and `{`, two in
/// for a list whose head is a name.
pub fn indentation(text: &str) -> usize {
    let Nesting::Open { brackets, string: None, .. } = nesting(text) else { return 0 };
    let Some(&(at, close)) = brackets.last() else { return 0 };
    let line = text[..at].rfind('\n').map_or(0, |i| i + 1);
    let column = unicode_width::UnicodeWidthStr::width(&text[line..at]);
    let width = if text[at..].starts_with('#') { 2 } else { 1 };
    column + if close == ')' { 2 } else { width }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        tokens(text).into_iter().map(|t| t.kind).collect()
    }

    #[test]
    fn strings_comments_and_characters_hide_brackets() {
        for text in ["\"x)y\"", "; ]\n", "\\(", "\\)", "\"a\\\"]\"", "[\\[ \"]\" ; ]\n]"] {
            assert_eq!(nesting(text), Nesting::Closed, "{text}");
        }
    }

    #[test]
    fn every_kind_is_told_apart() {
        use Kind::*;
        assert_eq!(
            kinds("[?x :a/b $ % $s -1 1.5M nil foo _ #inst \"2020\" #_ z #{1} \\newline]"),
            vec![
                Open(']'),
                Variable,
                Keyword,
                Source,
                Source,
                Source,
                Number,
                Number,
                Constant,
                Symbol,
                Symbol,
                Tag,
                String(true),
                Discard,
                Symbol,
                Open('}'),
                Number,
                Close('}'),
                Char,
                Close(']')
            ]
        );
    }

    #[test]
    fn an_open_bracket_a_string_and_a_tag_wait_for_more() {
        assert!(matches!(nesting("[:find (count"), Nesting::Open { brackets, .. } if brackets.len() == 2));
        assert!(matches!(nesting("\"half"), Nesting::Open { string: Some(0), .. }));
        assert!(matches!(nesting("#inst"), Nesting::Open { dangling: true, .. }));
        assert!(matches!(nesting("[1)"), Nesting::Mismatch { open: Some((0, ']')), .. }));
        assert!(matches!(nesting("]"), Nesting::Mismatch { open: None, .. }));
    }

    #[test]
    fn text_may_arrive_in_pieces() {
        let mut lexer = Lexer::default();
        let mut text = std::string::String::from("[\"one\\");
        assert_eq!(lexer.next(&text).unwrap().kind, Kind::Open(']'));
        assert_eq!(lexer.next(&text), None);
        text.push_str("\"two\" 3]");
        assert_eq!(lexer.next(&text).unwrap().text(&text), "\"one\\\"two\"");
        assert_eq!(lexer.next(&text).unwrap().kind, Kind::Number);
    }

    #[test]
    fn brackets_find_their_partner_over_strings() {
        let text = "[a \")\" (b)]";
        assert_eq!(matching(text, 0), Some((0, 10)));
        assert_eq!(matching(text, 11), Some((10, 0)));
        assert_eq!(matching(text, 7), Some((7, 9)));
    }

    #[test]
    fn new_lines_line_up() {
        assert_eq!(indentation("[:find ?x"), 1);
        assert_eq!(indentation("[:find ?x :where [?x"), 18);
        assert_eq!(indentation("(or [?a]"), 2);
        assert_eq!(indentation("[1]"), 0);
    }

    #[test]
    fn any_text_lexes() {
        for text in ["\u{0}\u{fffd}#", "\\", "\"\\", "#", "# {", "é?ö:", "''"] {
            let all = tokens(text);
            assert!(all.windows(2).all(|w| w[0].span.end <= w[1].span.start), "{text:?}");
        }
    }
}
