//! Why a request of the client came to nothing.
//!
//! 1. What the server refused is [`ClientError::Refused`] and carries all of its
//!    problem document: code, place, hint. Everything else happened on this side.
//! 2. [`ClientError::diagnostics`] has the same shape as the library's errors, with
//!    spans into the text that was sent.

use annals::{Diagnostic, ErrorClass, Label, Span};
use parking_lot::Mutex;
use serde_json::{Map, Value as Json};
use std::{collections::HashSet, path::PathBuf, time::Duration};

/// A request that was not answered.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is not one of a database.
    #[error("{url:?} is not the address of a database: {why}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The file of certificates cannot be used.
    #[error("cannot use the certificates in {path}: {why}", path = path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The server refused.
    #[error("{}", .0.detail)]
    Refused(Box<Refusal>),
    /// The server could not be reached, or the connection broke. The outcome of a
    /// write is unknown then; with an idempotency key it can be sent again.
    #[error("cannot reach {server}: {why}")]
    Unreachable {
        /// The server's address.
        server: String,
        /// What happened.
        why: String,
    },
    /// No answer in time.
    #[error("no answer within {} ms", .after.as_millis())]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// The caller raised the cancel flag. The server stops the query as well.
    #[error("the request was stopped")]
    Cancelled,
    /// The answer is larger than this client takes.
    #[error("the answer is larger than {limit_bytes} bytes")]
    TooLarge {
        /// [`super::ConnectOptions::max_answer_bytes`].
        limit_bytes: usize,
    },
    /// The answer cannot be understood: another program, or another version, answers there.
    #[error("the answer cannot be understood: {why}")]
    Answer {
        /// What was wrong with it.
        why: String,
    },
    /// What was given cannot be sent; nothing was.
    #[error("{}", .0.first().map_or("the input cannot be sent", |d| d.message.as_str()))]
    Input(Vec<Diagnostic>),
}

/// A problem document (RFC 9457) as the server sent it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// Stable, for programs: `query/unknown-attribute`.
    pub code: String,
    /// For people.
    pub detail: String,
    /// Bytes of the text that [`Refusal::of`] names.
    pub span: Option<Span>,
    /// What the span points into: `query`, `body`.
    pub of: Option<String>,
    /// The place in data: `tx[3] :order/id`.
    pub path: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// May the same request succeed later, unchanged?
    pub retryable: bool,
    /// The id under which the server's log knows the request.
    pub request_id: Option<String>,
    /// Further complaints about the same input.
    pub errors: Vec<Refusal>,
    /// Members of this kind of problem: `actual_version`, `witness`, `complete_to`.
    pub more: Map<String, Json>,
}

impl Refusal {
    /// Reads a problem document. None when it is not one.
    pub(super) fn read(status: u16, doc: &Json) -> Option<Refusal> {
        let members = doc.as_object()?;
        let text = |name: &str| members.get(name).and_then(Json::as_str).map(str::to_owned);
        let span = members.get("span").and_then(|s| {
            let at = |name: &str| usize::try_from(s.get(name)?.as_u64()?).ok();
            Some(Span::new(at("start")?, at("end")?))
        });
        let known = [
            "type",
            "title",
            "status",
            "code",
            "detail",
            "span",
            "of",
            "path",
            "hint",
            "retryable",
            "errors",
        ];
        let more = members.iter().filter(|(name, _)| !known.contains(&name.as_str()));
        let errors = members.get("errors").and_then(Json::as_array);
        Some(Refusal {
            status,
            code: text("code")?,
            detail: text("detail")?,
            span,
            of: text("of"),
            path: text("path"),
            hint: text("hint"),
            retryable: members.get("retryable").and_then(Json::as_bool).unwrap_or(false),
            request_id: None,
            errors: errors.into_iter().flatten().filter_map(|e| Refusal::read(status, e)).collect(),
            more: more.map(|(k, v)| (k.clone(), v.clone())).collect(),
        })
    }

    fn diagnostic(&self) -> Diagnostic {
        Diagnostic {
            code: known_code(&self.code),
            message: self.detail.clone(),
            labels: self.span.map(|span| Label { span, message: String::new() }).into_iter().collect(),
            path: self.path.clone(),
            help: self.hint.clone(),
        }
    }
}

impl ClientError {
    /// The stable code: the server's when it refused, else one of ours.
    pub fn code(&self) -> &str {
        match self {
            ClientError::Refused(r) => &r.code,
            ClientError::Input(all) => all.first().map_or("client/input", |d| d.code),
            other => other.own_code(),
        }
    }

    fn own_code(&self) -> &'static str {
        match self {
            ClientError::Url { .. } => "client/url",
            ClientError::Certificates { .. } => "client/certificates",
            ClientError::Refused(_) => "client/refused",
            ClientError::Unreachable { .. } => "client/unreachable",
            ClientError::TimedOut { .. } => "client/timeout",
            ClientError::Cancelled => "client/cancelled",
            ClientError::TooLarge { .. } => "client/answer-too-large",
            ClientError::Answer { .. } => "client/answer",
            ClientError::Input(_) => "client/input",
        }
    }

    /// Whose fault it is, in the classes of the library's errors.
    pub fn class(&self) -> ErrorClass {
        match self {
            ClientError::Url { .. } | ClientError::Input(_) => ErrorClass::Syntax,
            ClientError::Certificates { .. }
            | ClientError::Unreachable { .. }
            | ClientError::TooLarge { .. }
            | ClientError::Answer { .. } => ErrorClass::Environment,
            ClientError::TimedOut { .. } => ErrorClass::Deadline,
            ClientError::Cancelled => ErrorClass::Cancelled,
            ClientError::Refused(r) => match r.status {
                400 | 405 | 406 | 413 | 415 => ErrorClass::Syntax,
                404 | 410 => ErrorClass::NotFound,
                408 => ErrorClass::Deadline,
                409 | 412 => ErrorClass::Conflict,
                422 if r.code.starts_with("query/too-many") || r.code.contains("budget") => {
                    ErrorClass::Budget
                }
                422 => ErrorClass::Meaning,
                503 if r.code == "storage/poisoned" => ErrorClass::Poisoned,
                // 401, 403, 421, 429 and what is wrong over there: nothing in the request's text.
                _ => ErrorClass::Environment,
            },
        }
    }

    /// What to show: the complaint with its place and what to do, then further ones.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        match self {
            ClientError::Refused(r) => {
                std::iter::once(&**r).chain(&r.errors).map(Refusal::diagnostic).collect()
            }
            ClientError::Input(all) => all.clone(),
            other => {
                let d = Diagnostic::new(other.own_code(), other.to_string());
                vec![match other.help() {
                    Some(help) => d.help(help),
                    None => d,
                }]
            }
        }
    }

    /// What to do about it, if that is known.
    pub fn help(&self) -> Option<&str> {
        match self {
            ClientError::Refused(r) => r.hint.as_deref(),
            ClientError::Input(all) => all.first().and_then(|d| d.help.as_deref()),
            ClientError::Url { .. } => Some("write http://127.0.0.1:7407/v1/db/NAME"),
            ClientError::Certificates { .. } => Some("give a PEM file with the certificate of the authority"),
            ClientError::Unreachable { .. } => {
                Some("check the address, that the server runs, and whether it speaks http or https")
            }
            ClientError::TimedOut { .. } => Some("ask for less, or allow more time"),
            ClientError::TooLarge { .. } => Some("set a limit on the query, or raise max_answer_bytes"),
            ClientError::Answer { .. } => Some("check that an Annals server of this version answers there"),
            ClientError::Cancelled => None,
        }
    }

    /// The problem document, when the server refused.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            ClientError::Refused(r) => Some(r),
            _ => None,
        }
    }

    pub(super) fn answer(why: impl Into<String>) -> ClientError {
        ClientError::Answer { why: why.into() }
    }

    pub(super) fn input(why: impl Into<String>, help: &str) -> ClientError {
        ClientError::Input(vec![Diagnostic::new("client/input", why).help(help)])
    }
}

impl From<annals::TransactError> for ClientError {
    /// Transaction data that cannot be read; it was not sent.
    fn from(e: annals::TransactError) -> ClientError {
        ClientError::Input(e.diagnostics())
    }
}

impl From<annals::BadTimePoint> for ClientError {
    fn from(e: annals::BadTimePoint) -> ClientError {
        ClientError::input(e.to_string(), "write a t, a transaction's id, or a date-time")
    }
}

/// Codes met so far, at most [`MOST_CODES`]: diagnostics hold static ones.
static CODES: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
const MOST_CODES: usize = 1_024;

/// A server's code as a static one. There are a few hundred; a server that invents
/// thousands gets the general one.
fn known_code(code: &str) -> &'static str {
    let mut codes = CODES.lock();
    let codes = codes.get_or_insert_with(HashSet::new);
    if let Some(known) = codes.get(code) {
        return known;
    }
    if codes.len() >= MOST_CODES || code.len() > 80 {
        return "client/refused";
    }
    let code: &'static str = Box::leak(code.to_owned().into_boxed_str());
    codes.insert(code);
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_problem_document_keeps_everything_it_says() {
        let doc = json!({"type": "urn:x", "title": "Conflict", "status": 409, "code": "event/wrong-version", "detail": "at 3",
            "retryable": false, "span": {"start": 2, "end": 5}, "of": "query", "hint": "read again", "actual_version": 3,
            "errors": [{"code": "query/unbound", "detail": "?x"}]});
        let refusal = Refusal::read(409, &doc).unwrap();
        assert_eq!((refusal.span, refusal.of.as_deref()), (Some(Span::new(2, 5)), Some("query")));
        assert_eq!(refusal.more["actual_version"], 3);
        let e = ClientError::Refused(Box::new(refusal));
        assert_eq!((e.code(), e.class()), ("event/wrong-version", ErrorClass::Conflict));
        let codes: Vec<&str> = e.diagnostics().iter().map(|d| d.code).collect();
        assert_eq!(codes, ["event/wrong-version", "query/unbound"]);
        assert_eq!(Refusal::read(502, &json!("<html>")), None);
    }
}
