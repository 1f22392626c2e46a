//! Problem documents (RFC 9457) and the one table from class of failure to status.
//!
//! 1. Every answer that is not a success is a [`Problem`]: a stable `code`, a
//!    sentence, and where the input was text the place in it.
//! 2. [`Class::status`] is exhaustive; nothing else in the server picks a status
//!    for a failure.
//! 3. No path of this machine, no panic text and nothing of another database gets
//!    into a problem: its texts come from diagnostics about the caller's own input.

use annals::Diagnostic;
use serde_json::{Map, Value as Json, json};
use std::{
    borrow::Cow,
    ops::{Deref, DerefMut},
};

/// Whose fault a failure is and what may be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The bytes do not say anything: EDN, JSON, a parameter, a header.
    Syntax,
    /// Who are you?
    Unauthenticated,
    /// You may not.
    Forbidden,
    /// No such thing, or none you may see.
    NotFound,
    /// The thing is there, this verb is not.
    Method,
    /// No format you accept.
    NotAcceptable,
    /// Took longer than allowed: a query, or a body that never arrived.
    Deadline,
    /// The data says otherwise: cas, uniqueness, an append's condition.
    Conflict,
    /// It was there and will not be again.
    Gone,
    /// A header's precondition does not hold.
    Precondition,
    /// More bytes than allowed.
    TooLarge,
    /// Not a media type we read.
    MediaType,
    /// Wrong host name for this server.
    Misdirected,
    /// Well formed and meaningless: unknown attribute, wrong type, refused by a rule, over budget.
    Meaning,
    /// Too many at once.
    TooMany,
    /// Not now: starting, stopping, behind, poisoned.
    Unavailable,
    /// No space.
    Full,
    /// Our fault.
    Internal,
}

impl Class {
    /// Every class, for tests and the OpenAPI document.
    pub const ALL: [Class; 18] = [
        Class::Syntax,
        Class::Unauthenticated,
        Class::Forbidden,
        Class::NotFound,
        Class::Method,
        Class::NotAcceptable,
        Class::Deadline,
        Class::Conflict,
        Class::Gone,
        Class::Precondition,
        Class::TooLarge,
        Class::MediaType,
        Class::Misdirected,
        Class::Meaning,
        Class::TooMany,
        Class::Unavailable,
        Class::Full,
        Class::Internal,
    ];

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Class::Syntax => 400,
            Class::Unauthenticated => 401,
            Class::Forbidden => 403,
            Class::NotFound => 404,
            Class::Method => 405,
            Class::NotAcceptable => 406,
            Class::Deadline => 408,
            Class::Conflict => 409,
            Class::Gone => 410,
            Class::Precondition => 412,
            Class::TooLarge => 413,
            Class::MediaType => 415,
            Class::Misdirected => 421,
            Class::Meaning => 422,
            Class::TooMany => 429,
            Class::Unavailable => 503,
            Class::Full => 507,
            Class::Internal => 500,
        }
    }

    /// The standard's words for the status.
    pub const fn title(self) -> &'static str {
        match self {
            Class::Syntax => "Bad Request",
            Class::Unauthenticated => "Unauthorized",
            Class::Forbidden => "Forbidden",
            Class::NotFound => "Not Found",
            Class::Method => "Method Not Allowed",
            Class::NotAcceptable => "Not Acceptable",
            Class::Deadline => "Request Timeout",
            Class::Conflict => "Conflict",
            Class::Gone => "Gone",
            Class::Precondition => "Precondition Failed",
            Class::TooLarge => "Content Too Large",
            Class::MediaType => "Unsupported Media Type",
            Class::Misdirected => "Misdirected Request",
            Class::Meaning => "Unprocessable Content",
            Class::TooMany => "Too Many Requests",
            Class::Unavailable => "Service Unavailable",
            Class::Full => "Insufficient Storage",
            Class::Internal => "Internal Server Error",
        }
    }

    /// May the same request succeed later, unchanged?
    pub const fn retryable(self) -> bool {
        matches!(self, Class::Deadline | Class::TooMany | Class::Unavailable)
    }
}

/// One failure, ready to be sent. Boxed: successes are the common case and should
/// not carry its size.
#[derive(Clone, Debug)]
pub struct Problem(Box<Details>);

/// The members of a [`Problem`].
#[derive(Clone, Debug)]
pub struct Details {
    /// Decides the status.
    pub class: Class,
    /// Stable, for programs: `query/unknown-attribute`.
    pub code: Cow<'static, str>,
    /// For people.
    pub detail: String,
    /// Bytes `[start, end)` of the text the caller sent under `of`, a member of `more`; of the body without one.
    pub span: Option<(usize, usize)>,
    /// The place in data that was not text: `tx[3] :person/name`.
    pub path: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Seconds.
    pub retry_after_s: Option<u32>,
    /// Other complaints about the same input.
    pub also: Vec<Diagnostic>,
    /// Members of this kind of problem: `actual_version`, `witness`, `basis_t`.
    pub more: Map<String, Json>,
}

impl Deref for Problem {
    type Target = Details;
    fn deref(&self) -> &Details {
        &self.0
    }
}
impl DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut Details {
        &mut self.0
    }
}

impl Problem {
    /// A problem without a place.
    pub fn new(class: Class, code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Problem {
        Problem(Box::new(Details {
            class,
            code: code.into(),
            detail: detail.into(),
            span: None,
            path: None,
            hint: None,
            retry_after_s: class.retryable().then_some(1),
            also: Vec::new(),
            more: Map::new(),
        }))
    }

    /// From one or more diagnostics; the first one speaks, the others go along.
    pub fn from_diagnostics(class: Class, all: impl IntoIterator<Item = Diagnostic>) -> Problem {
        let mut all = all.into_iter();
        let Some(first) = all.next() else {
            return Problem::new(class, "request/refused", "the request was refused");
        };
        let mut p = Problem::new(class, first.code, first.message);
        p.span = first.labels.first().map(|l| (l.span.start, l.span.end));
        p.path = first.path;
        p.hint = first.help;
        p.also = all.collect();
        p
    }

    /// Says what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a member.
    pub fn with(mut self, name: &str, value: impl Into<Json>) -> Problem {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// The document, without `instance` (the request id, which the edge adds as a header).
    pub fn to_json(&self) -> Json {
        let mut doc = json!({
            "type": format!("urn:annals:problem:{}", self.code),
            "title": self.class.title(),
            "status": self.class.status(),
            "code": self.code,
            "detail": self.detail,
            "retryable": self.class.retryable(),
        });
        let members = doc.as_object_mut().expect("an object was just written");
        if let Some((start, end)) = self.span {
            members.insert("span".into(), json!({"start": start, "end": end}));
            // Where nothing else is said, it is the body as it was sent.
            members.insert("of".into(), self.more.get("of").cloned().unwrap_or_else(|| "body".into()));
        }
        if let Some(path) = &self.path {
            members.insert("path".into(), path.as_str().into());
        }
        if let Some(hint) = &self.hint {
            members.insert("hint".into(), hint.as_str().into());
        }
        if !self.also.is_empty() {
            let also = self.also.iter().map(|d| Problem::from_diagnostics(self.class, [d.clone()]).brief());
            members.insert("errors".into(), also.collect());
        }
        for (name, value) in &self.more {
            members.entry(name).or_insert_with(|| value.clone());
        }
        doc
    }

    fn brief(&self) -> Json {
        let mut doc = json!({"code": self.code, "detail": self.detail});
        if let Some((start, end)) = self.span {
            doc["span"] = json!({"start": start, "end": end});
        }
        if let Some(path) = &self.path {
            doc["path"] = path.as_str().into();
        }
        if let Some(hint) = &self.hint {
            doc["hint"] = hint.as_str().into();
        }
        doc
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annals::Span;

    #[test]
    fn a_diagnostic_keeps_its_place_and_help() {
        let d = Diagnostic::new("query/unknown-attribute", "unknown attribute :a/b")
            .at(Span::new(3, 7), "here")
            .help("did you mean :a/c?");
        let doc = Problem::from_diagnostics(Class::Meaning, [d]).to_json();
        assert_eq!(doc["status"], 422);
        assert_eq!((&doc["span"], &doc["of"]), (&json!({"start": 3, "end": 7}), &json!("body")));
        assert_eq!(doc["hint"], "did you mean :a/c?");
    }

    #[test]
    fn members_cannot_overwrite_the_standard_ones() {
        let doc = Problem::new(Class::Conflict, "append/wrong-version", "x").with("status", 200).to_json();
        assert_eq!(doc["status"], 409);
    }

    #[test]
    fn statuses_are_distinct() {
        let all: std::collections::BTreeSet<u16> = Class::ALL.iter().map(|c| c.status()).collect();
        assert_eq!(all.len(), Class::ALL.len());
    }
}
