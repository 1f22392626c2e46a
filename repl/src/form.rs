//! What a typed form is, and what a query in text names: read from tokens, so
//! that places in the text stay true.

use crate::lexer::{Kind, Token, tokens};
use annals::Span;

/// What a form means at the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormKind {
    /// `[:find …]` or `{:find …}`.
    Query,
    /// `[[…] {…}]` or `{…}`.
    Transaction,
    /// `[:db/add …]`: one form of a transaction, without its vector.
    TransactionForm,
    /// `{:stream … :type …}`.
    Event,
    /// `(pull pattern entity)`.
    Pull,
    /// `[:a/b "x"]` or a number.
    Entity,
    /// `[[(head) clause] …]`.
    Rules,
    /// `*1`.
    Result,
    /// A bare word.
    Word,
    /// Anything else.
    Other,
}

/// What a form means.
pub fn kind(text: &str) -> FormKind {
    let all: Vec<Token> = tokens(text).into_iter().filter(|t| t.kind != Kind::Comment).collect();
    let at = |i: usize| all.get(i).map(|t| (t.kind, t.text(text)));
    match (at(0), at(1), at(2)) {
        (Some((Kind::Open(']'), _)), Some((Kind::Keyword, ":find")), _) => FormKind::Query,
        (Some((Kind::Open(']'), _)), Some((Kind::Keyword, k)), _)
            if k.starts_with(":db/") || k.starts_with(":db.fn/") =>
        {
            FormKind::TransactionForm
        }
        (Some((Kind::Open(']'), _)), Some((Kind::Open(']'), _)), Some((Kind::Open(')'), _))) => {
            FormKind::Rules
        }
        (Some((Kind::Open(']'), _)), Some((Kind::Open('}' | ']' | ')') | Kind::Close(']'), _)), _) => {
            FormKind::Transaction
        }
        (Some((Kind::Open(']'), _)), Some((Kind::Keyword, _)), _) => FormKind::Entity,
        (Some((Kind::Open('}'), "{")), _, _) => map_kind(text, &all),
        (Some((Kind::Open(')'), _)), Some((Kind::Symbol, "pull")), _) => FormKind::Pull,
        (Some((Kind::Number, _)), None, _) => FormKind::Entity,
        (Some((Kind::Symbol, w)), None, _) if w.starts_with('*') => FormKind::Result,
        (Some((Kind::Symbol, _)), None, _) => FormKind::Word,
        _ => FormKind::Other,
    }
}

/// A map is a query, an event, or a transaction of one entity, by its keys.
fn map_kind(text: &str, all: &[Token]) -> FormKind {
    let mut depth = 0;
    let mut element = 0;
    let (mut stream, mut ty) = (false, false);
    for t in all {
        match t.kind {
            Kind::Open(_) => {
                depth += 1;
                if depth == 2 {
                    element += 1;
                }
            }
            Kind::Close(_) => depth -= 1,
            Kind::Tag | Kind::Discard | Kind::Prefix => {}
            _ if depth == 1 => {
                if element % 2 == 0 {
                    match t.text(text) {
                        ":find" => return FormKind::Query,
                        ":stream" => stream = true,
                        ":type" => ty = true,
                        _ => {}
                    }
                }
                element += 1;
            }
            _ => {}
        }
    }
    if stream && ty { FormKind::Event } else { FormKind::Transaction }
}

/// An element of `:in`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `$`, `$name`.
    Source(String),
    /// `%`.
    Rules,
    /// `?x`, or the first variable of a binding form.
    Value(String),
}

/// What a query's text names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The elements of `:in`; empty without one.
    pub inputs: Vec<Wanted>,
    /// Where `:in`'s last element ends, when there is an `:in`.
    pub in_end: Option<usize>,
    /// Names at the head of lists: functions, rules.
    pub heads: Vec<String>,
    /// The last byte of the query, its closing bracket.
    pub close: Option<usize>,
    /// Written as a map.
    pub map: bool,
}

/// Reads what a query names.
pub fn names(text: &str) -> Names {
    let mut n = Names::default();
    let mut depth = 0usize;
    // Depth at which the elements of :in stand, while we are in it.
    let mut in_at: Option<usize> = None;
    let mut nested: Option<usize> = None;
    let mut head = false;
    for t in tokens(text) {
        let word = t.text(text);
        match t.kind {
            Kind::Comment => continue,
            Kind::Open(close) => {
                if depth == 0 {
                    n.map = close == '}';
                }
                depth += 1;
                if n.map && in_at == Some(1) && depth == 2 {
                    // {:in [$ ?x]}: the elements stand one level deeper.
                    in_at = Some(2);
                } else if in_at == Some(depth - 1) && nested.is_none() {
                    nested = Some(n.inputs.len());
                }
                head = close == ')';
                continue;
            }
            Kind::Close(_) => {
                if depth == 1 && n.close.is_none() {
                    n.close = Some(t.span.start);
                }
                if n.map && in_at == Some(2) && depth == 2 {
                    in_at = None;
                    n.in_end.get_or_insert(t.span.start);
                }
                depth = depth.saturating_sub(1);
                if in_at == Some(depth) && nested.is_some() {
                    nested = None;
                    n.in_end = Some(t.span.end);
                }
            }
            Kind::Keyword if depth == 1 => {
                if in_at.is_some() {
                    in_at = None;
                }
                if word == ":in" {
                    in_at = Some(1);
                    if !n.map {
                        n.in_end = Some(t.span.end);
                    }
                }
            }
            Kind::Symbol if head => n.heads.push(word.to_owned()),
            _ => {}
        }
        if let Some(level) = in_at
            && depth >= level
            && word != ":in"
        {
            let wanted = match t.kind {
                Kind::Source if word == "%" => Some(Wanted::Rules),
                Kind::Source => Some(Wanted::Source(word.to_owned())),
                Kind::Variable => Some(Wanted::Value(word.to_owned())),
                Kind::Symbol if depth == level => Some(Wanted::Value(word.to_owned())),
                _ => None,
            };
            match (wanted, nested) {
                (Some(w), Some(at)) if n.inputs.len() == at => n.inputs.push(w),
                (Some(_), Some(_)) | (None, _) => {}
                (Some(w), None) => {
                    n.inputs.push(w);
                    if !n.map {
                        n.in_end = Some(t.span.end);
                    }
                }
            }
        }
        // `(` then source then name: `($ rule ?x)`.
        head = head && t.kind == Kind::Source;
    }
    n
}

/// The elements of `:find`, as written: the headings of the answer's columns.
pub fn find_names(text: &str) -> Vec<String> {
    let Some((form, _)) = split_form(text) else { return Vec::new() };
    let parts = elements(form);
    let Some(at) = parts.iter().position(|e| *e == ":find") else { return Vec::new() };
    let rest = &parts[at + 1..];
    let end = rest.iter().position(|e| e.starts_with(':')).unwrap_or(rest.len());
    let mut found: Vec<&str> = rest[..end].to_vec();
    // [?a ...] and [?a ?b], and in the map form one vector more around them.
    while let [only] = found[..]
        && only.starts_with('[')
    {
        found = elements(only);
    }
    found.into_iter().filter(|e| !matches!(*e, "..." | ".")).map(squeeze).collect()
}

/// The elements of a bracketed form.
fn elements(form: &str) -> Vec<&str> {
    let open = if form.starts_with("#{") { 2 } else { 1 };
    let mut rest = form.get(open..form.len().saturating_sub(1)).unwrap_or("");
    let mut out = Vec::new();
    while let Some((e, after)) = split_form(rest) {
        out.push(e);
        rest = after;
    }
    out
}

/// On one line, with single blanks.
fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A query's text with `%` put into its `:in`, and how to bring places back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithRules {
    /// The new text.
    pub text: String,
    at: usize,
    len: usize,
}

impl WithRules {
    /// `query` with rules among its inputs.
    pub fn new(query: &str, n: &Names) -> WithRules {
        let (at, insert) = match (n.in_end, n.map) {
            (Some(at), _) => (at, " %"),
            (None, false) => (n.close.unwrap_or(query.len()), " :in $ %"),
            (None, true) => (n.close.unwrap_or(query.len()), " :in [$ %]"),
        };
        let text = format!("{}{insert}{}", &query[..at], &query[at..]);
        WithRules { text, at, len: insert.len() }
    }
    /// A place in the new text as one in the old.
    pub fn back(&self, s: Span) -> Span {
        let back = |i: usize| if i >= self.at + self.len { i - self.len } else { i.min(self.at) };
        Span::new(back(s.start), back(s.end))
    }
}

/// Splits off the first form of `text`: its text and the rest. None when there is no whole form.
pub fn split_form(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0usize;
    let mut start = None;
    let mut hidden = 0;
    for t in tokens(text) {
        match t.kind {
            Kind::Comment => continue,
            Kind::Discard if depth == 0 && start.is_none() => {
                hidden += 1;
                continue;
            }
            _ => {}
        }
        start.get_or_insert(t.span.start);
        match t.kind {
            Kind::Open(_) => depth += 1,
            Kind::Close(_) => depth = depth.saturating_sub(1),
            Kind::Tag | Kind::Prefix => continue,
            _ => {}
        }
        if depth == 0 {
            if hidden > 0 {
                hidden -= 1;
                start = None;
                continue;
            }
            return start.map(|s| (&text[s..t.span.end], &text[t.span.end..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_what_they_look_like() {
        use FormKind::*;
        for (text, want) in [
            ("[:find ?x]", Query),
            ("{:find [?x]}", Query),
            ("[[:db/add 1 :a 2]]", Transaction),
            ("[{:a/b 1}]", Transaction),
            ("[]", Transaction),
            ("{:a/b 1}", Transaction),
            ("{:stream \"s\" :type \"T\" :data {:find 1}}", Event),
            ("{:a/b {:find 1} :c/d :find}", Transaction),
            ("[:db/add 1 :a 2]", TransactionForm),
            ("[[(r ?x) [?x :a]]]", Rules),
            ("[:order/id \"A\"]", Entity),
            ("17", Entity),
            ("(pull [*] 17)", Pull),
            ("*1", Result),
            ("quit", Word),
            ("\"x\"", Other),
        ] {
            assert_eq!(kind(text), want, "{text}");
        }
    }

    #[test]
    fn inputs_are_named_in_order() {
        use Wanted::*;
        let v = |s: &str| Value(s.into());
        let n = names(
            "[:find ?x :in $ % ?id [?c ...] [[?a ?b]] :where [?x :a ?id] (reach ?x ?c) [(count ?a) ?n]]",
        );
        assert_eq!(n.inputs, vec![Source("$".into()), Rules, v("?id"), v("?c"), v("?a")]);
        assert_eq!(n.heads, vec!["reach", "count"]);
        let n = names("{:find [?x] :in [$ ?id [?y ...]] :where [[?x :a ?id]]}");
        assert_eq!(n.inputs, vec![Source("$".into()), v("?id"), v("?y")]);
        assert!(names("[:find ?x :where [?x :in 5]]").inputs.is_empty());
    }

    #[test]
    fn rules_are_added_and_places_come_back() {
        for (query, want) in [
            ("[:find ?x :where (r ?x)]", "[:find ?x :where (r ?x) :in $ %]"),
            ("[:find ?x :in $ ?y :where (r ?x)]", "[:find ?x :in $ ?y % :where (r ?x)]"),
            ("[:find ?x :in $ [?y ...] :where (r ?x)]", "[:find ?x :in $ [?y ...] % :where (r ?x)]"),
            ("{:find [?x] :in [$ ?y] :where [(r ?x)]}", "{:find [?x] :in [$ ?y %] :where [(r ?x)]}"),
            ("{:find [?x] :where [(r ?x)]}", "{:find [?x] :where [(r ?x)] :in [$ %]}"),
        ] {
            let w = WithRules::new(query, &names(query));
            assert_eq!(w.text, want);
            let at = w.text.find("(r").unwrap();
            assert_eq!(w.back(Span::new(at, at + 2)).start, query.find("(r").unwrap());
        }
    }

    #[test]
    fn columns_are_named_as_written() {
        for (text, want) in [
            ("[:find ?a (count  ?b) :where [?a]]", vec!["?a", "(count ?b)"]),
            ("[:find [?a ...] :where [?a]]", vec!["?a"]),
            ("[:find [?a ?b] :where [?a]]", vec!["?a", "?b"]),
            ("[:find ?a . :where [?a]]", vec!["?a"]),
            ("{:find [?a ?b] :where [[?a]]}", vec!["?a", "?b"]),
            ("{:find [[?a ...]] :where [[?a]]}", vec!["?a"]),
            ("[:find (pull ?e [:a :b]) :where [?e]]", vec!["(pull ?e [:a :b])"]),
        ] {
            assert_eq!(find_names(text), want, "{text}");
        }
    }

    #[test]
    fn forms_are_split_off_one_by_one() {
        assert_eq!(split_form(" [1 \"]\"] rest"), Some(("[1 \"]\"]", " rest")));
        assert_eq!(split_form("#inst \"2020\" x"), Some(("#inst \"2020\"", " x")));
        assert_eq!(split_form("#_ a b c"), Some(("b", " c")));
        assert_eq!(split_form("[1"), None);
        assert_eq!(split_form("  "), None);
    }
}
