//! Text to forms.
//!
//! ```text
//! text --scan--> sound structure --pest--> tokens --atom--> forms
//! ```
//!
//! 1. Either every form of the text, or every complaint of the first stage that
//!    has any. No input makes the reader panic or recurse deeper than its limit.
//! 2. Spans are byte offsets into the text given.
//! 3. What `#_` discards must be balanced, nothing more.

use super::{
    Limits, atom,
    form::{Form, FormKind},
    scan::scan,
};
use crate::error::{Complaints, ParseErrors};
use annals_model::{Diagnostic, Keyword, Span, Symbol, Value};
use pest::{Parser, iterators::Pair};

#[derive(pest_derive::Parser)]
#[grammar = "edn/edn.pest"]
struct Grammar;

/// All forms of a text.
pub fn read_all(text: &str) -> Result<Vec<Form>, ParseErrors> {
    read_all_with(text, &Limits::default())
}

/// All forms of a text, within limits.
pub fn read_all_with(text: &str, limits: &Limits) -> Result<Vec<Form>, ParseErrors> {
    let complaints = scan(text, limits);
    if !complaints.is_empty() {
        return Err(ParseErrors(complaints));
    }
    let file = match Grammar::parse(Rule::file, text) {
        Ok(mut pairs) => pairs.next().expect("a parse yields its rule"),
        Err(e) => {
            // `scan` and the grammar agree, so this is out of reach; if they ever differ the
            // text is refused and nothing worse.
            let (start, end) = match e.location {
                pest::error::InputLocation::Pos(p) => (p, p),
                pest::error::InputLocation::Span(s) => s,
            };
            let d = Diagnostic::new("edn/syntax", "this is not EDN").at(Span::new(start, end), "here");
            return Err(ParseErrors::one(d));
        }
    };
    let mut reader = Reader { complaints: Complaints::default(), max_errors: limits.errors };
    let mut forms = Vec::new();
    for pair in file.into_inner() {
        forms.extend(reader.form(pair));
    }
    reader.complaints.or(Some(forms))
}

/// The only form of a text.
pub fn read_one(text: &str) -> Result<Form, ParseErrors> {
    let mut forms = read_all(text)?;
    match (forms.pop(), forms.first()) {
        (Some(form), None) => Ok(form),
        (Some(second), Some(_)) => {
            let second = forms.get(1).map_or(second.span, |f| f.span);
            Err(ParseErrors::one(
                Diagnostic::new("edn/one-form", "more than one form")
                    .at(second, "the text should end before this"),
            ))
        }
        (None, _) => Err(ParseErrors::one(
            Diagnostic::new("edn/one-form", "an empty text")
                .at(Span::new(0, text.len()), "a form is missing"),
        )),
    }
}

/// The only value of a text.
pub fn read_value(text: &str) -> Result<Value, ParseErrors> {
    read_one(text).map(Form::into_value)
}

struct Reader {
    complaints: Complaints,
    max_errors: usize,
}

impl Reader {
    fn complain(&mut self, d: Diagnostic) {
        if self.complaints.len() < self.max_errors {
            self.complaints.push(d);
        }
    }

    fn atom(&mut self, read: Result<Value, Diagnostic>, span: Span) -> Form {
        // A token that cannot be read stands as nil, so that the rest is read as well; the
        // complaint sees to it that the whole is refused.
        let value = read.unwrap_or_else(|d| {
            self.complain(d);
            Value::Nil
        });
        Form { kind: FormKind::Atom(value), span }
    }

    fn forms(&mut self, pair: Pair<'_, Rule>) -> Vec<Form> {
        pair.into_inner().filter_map(|p| self.form(p)).collect()
    }

    /// The form of a pair, unless the pair is a comment, a discard, or the end of the text.
    fn form(&mut self, pair: Pair<'_, Rule>) -> Option<Form> {
        let span = span(&pair);
        let text = pair.as_str();
        Some(match pair.as_rule() {
            Rule::token => self.atom(atom::token(text, span), span),
            Rule::keyword => self.atom(atom::keyword(text, span), span),
            Rule::string => {
                let s = atom::string(text, span, &mut |d| self.complain(d));
                Form { kind: FormKind::Atom(Value::String(s)), span }
            }
            Rule::character => self.atom(atom::character(text, span), span),
            Rule::symbolic => self.atom(atom::symbolic(text, span), span),
            Rule::vector => Form { kind: FormKind::Vector(self.forms(pair)), span },
            Rule::list => Form { kind: FormKind::List(self.forms(pair)), span },
            Rule::set => {
                let items = self.forms(pair);
                self.distinct(items.iter(), "element");
                Form { kind: FormKind::Set(items), span }
            }
            Rule::map => self.map(pair, span),
            Rule::tagged => self.tagged(pair, span),
            Rule::ns_map => self.ns_map(pair, span),
            Rule::quote => {
                let quote = Value::Symbol(Symbol::new("quote"));
                let sign = Form { kind: FormKind::Atom(quote), span: Span::new(span.start, span.start + 1) };
                let Some(form) = self.forms(pair).pop() else {
                    return Some(self.missing(span, "a quote quotes a form"));
                };
                Form { kind: FormKind::List(vec![sign, form]), span }
            }
            Rule::regex => {
                let d = Diagnostic::new("edn/syntax", "a regular expression literal")
                    .at(span, "Clojure code, not data");
                let help =
                    format!("write it as a string and double its backslashes: {}", atom::shown(&text[1..]));
                self.atom(Err(d.help(help)), span)
            }
            Rule::function => {
                let d =
                    Diagnostic::new("edn/syntax", "an anonymous function").at(span, "Clojure code, not data");
                self.atom(Err(d.help("queries call functions by name")), span)
            }
            Rule::bare => {
                let d = Diagnostic::new("edn/syntax", "`#` begins nothing here")
                    .at(span, "a tag, `{` or `_` should follow");
                self.atom(Err(d), span)
            }
            Rule::discard => {
                if pair.into_inner().all(|p| matches!(p.as_rule(), Rule::discard | Rule::comment)) {
                    self.missing(span, "`#_` discards the form after it");
                }
                return None;
            }
            _ => return None,
        })
    }

    fn missing(&mut self, span: Span, why: &str) -> Form {
        let d = Diagnostic::new("edn/syntax", "a form is missing").at(span, "nothing follows");
        self.atom(Err(d.help(why)), span)
    }

    fn map(&mut self, pair: Pair<'_, Rule>, span: Span) -> Form {
        let mut entries = Vec::new();
        let mut forms = pair.into_inner().filter_map(|p| self.form(p)).collect::<Vec<_>>().into_iter();
        while let Some(key) = forms.next() {
            match forms.next() {
                Some(value) => entries.push((key, value)),
                None => {
                    let d = Diagnostic::new("edn/map-odd", "a key without a value")
                        .at(key.span, "its value is missing");
                    self.complain(d.help("a map holds an even number of forms"));
                }
            }
        }
        self.distinct(entries.iter().map(|(k, _)| k), "key");
        Form { kind: FormKind::Map(entries), span }
    }

    fn tagged(&mut self, pair: Pair<'_, Rule>, span: Span) -> Form {
        let mut inner = pair.into_inner();
        let tag = inner.next().expect("a tag precedes its form");
        let tag_span = self::span(&tag);
        let name = tag.as_str();
        let form = inner.filter_map(|p| self.form(p)).last();
        let Some(form) = form else {
            return self.missing(span, &format!("#{} is the tag of a form", atom::shown(name)));
        };
        if !name.starts_with(char::is_alphabetic) {
            let message = format!("`#{}` is not a tag", atom::shown(name));
            let d = Diagnostic::new("edn/syntax", message).at(tag_span, "a tag begins with a letter");
            return self.atom(Err(d), span);
        }
        if let FormKind::Atom(v) = &form.kind {
            if let Some(read) = atom::tagged(name, v, span) {
                return self.atom(read, span);
            }
        } else if let Some(Err(d)) = atom::tagged(name, &Value::vector([]), span) {
            let message = format!("#{name} does not fit this {}", form.noun());
            return self.atom(Err(Diagnostic { message, ..d }), span);
        }
        match atom::symbol(name, tag_span) {
            Ok(Value::Symbol(tag)) => Form { kind: FormKind::Tagged(tag, Box::new(form)), span },
            Ok(_) => unreachable!("a symbol reads as a symbol"),
            Err(d) => self.atom(Err(d), span),
        }
    }

    /// `#:ns{:a 1}` is `{:ns/a 1}`; `:_/a` stays without a namespace.
    fn ns_map(&mut self, pair: Pair<'_, Rule>, span: Span) -> Form {
        let mut inner = pair.into_inner();
        let ns = inner.next().expect("a namespace precedes its map");
        let (ns, ns_span) = (ns.as_str(), self::span(&ns));
        let form = inner.filter_map(|p| self.form(p)).last();
        let sound =
            !ns.is_empty() && !ns.starts_with(':') && !ns.contains('/') && atom::symbol(ns, ns_span).is_ok();
        let Some(Form { kind: FormKind::Map(mut entries), .. }) = form.filter(|_| sound) else {
            let d = Diagnostic::new("edn/syntax", format!("`#:{}` is not a namespaced map", atom::shown(ns)));
            return self
                .atom(Err(d.at(span, "malformed").help("write #:order{:id 1} for {:order/id 1}")), span);
        };
        let rename = |own: Option<&str>, name: &str| match own {
            None => Some(format!("{ns}/{name}")),
            Some("_") => Some(name.to_owned()),
            Some(_) => None,
        };
        for (key, _) in &mut entries {
            match &mut key.kind {
                FormKind::Atom(Value::Keyword(k)) => {
                    if let Some(full) = rename(k.namespace(), k.name()) {
                        *k = Keyword::new(full);
                    }
                }
                FormKind::Atom(Value::Symbol(s)) => {
                    if let Some(full) = rename(s.namespace(), s.name()) {
                        *s = Symbol::new(full);
                    }
                }
                _ => {}
            }
        }
        self.distinct(entries.iter().map(|(k, _)| k), "key");
        Form { kind: FormKind::Map(entries), span }
    }

    /// Complains about each form that equals one before it.
    fn distinct<'f>(&mut self, forms: impl Iterator<Item = &'f Form>, what: &str) {
        let mut seen: Vec<(Value, Span)> = forms.map(|f| (f.to_value(), f.span)).collect();
        if seen.len() < 2 || self.complaints.len() >= self.max_errors {
            return;
        }
        // By value, then by place: the first of equals is the one that may stay.
        seen.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.start.cmp(&b.1.start)));
        for group in seen.chunk_by(|a, b| a.0 == b.0) {
            for (value, span) in &group[1..] {
                let shown = atom::shown(&super::print(value));
                let d = Diagnostic::new("edn/duplicate", format!("the {what} {shown} occurs twice"));
                self.complain(d.at(*span, "again here").at(group[0].1, "first here"));
            }
        }
    }
}

fn span(pair: &Pair<'_, Rule>) -> Span {
    let s = pair.as_span();
    Span::new(s.start(), s.end())
}
