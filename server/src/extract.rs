//! Reading a request: media types, body with its limits, parameters.
//!
//! 1. A body is read under a size limit and an idle limit, and only after its
//!    declared type and length were found acceptable.
//! 2. Every refusal is a [`Problem`].

use crate::{
    config::Limits,
    wire::{
        problem::{Class, Problem},
        value,
    },
};
use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use std::{collections::HashMap, time::Duration};

/// A format of rows and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `application/edn`
    Edn,
    /// `application/json`
    Json,
    /// `application/x-ndjson`: one row a line, then a closing record.
    Ndjson,
    /// `text/csv` with a header line.
    Csv,
    /// `text/event-stream`
    Sse,
}

impl Format {
    /// The media type answers carry.
    pub const fn media_type(self) -> &'static str {
        match self {
            Format::Edn => "application/edn",
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv; charset=utf-8",
            Format::Sse => "text/event-stream",
        }
    }

    fn of_media_type(text: &str) -> Option<Format> {
        Some(match text {
            "application/edn" | "text/edn" => Format::Edn,
            "application/json" => Format::Json,
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Format::Ndjson,
            "text/csv" => Format::Csv,
            "text/event-stream" => Format::Sse,
            _ => return None,
        })
    }
}

/// The type of the body the client sent. Only EDN and JSON bodies are read.
pub fn body_format(headers: &HeaderMap) -> Result<Format, Problem> {
    let declared = headers.get(header::CONTENT_TYPE).map(|v| v.to_str().unwrap_or("")).unwrap_or("");
    let mut parts = declared.split(';').map(str::trim);
    let essence = parts.next().unwrap_or("").to_ascii_lowercase();
    let utf8 = parts
        .filter_map(|p| p.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .all(|(_, value)| {
            matches!(value.trim().trim_matches('"').to_ascii_lowercase().as_str(), "utf-8" | "utf8")
        });
    match Format::of_media_type(&essence) {
        Some(f @ (Format::Edn | Format::Json | Format::Ndjson)) if utf8 => Ok(f),
        _ => Err(Problem::new(
            Class::MediaType,
            "request/media-type",
            "the body's content type is not one we read",
        )
        .hint("send Content-Type: application/edn or application/json, in UTF-8")),
    }
}

/// What the client wants back, out of `offered` (first is preferred), by `Accept`.
/// Without a wish: `fallback` when it is offered, else the first.
pub fn accept(headers: &HeaderMap, offered: &[Format], fallback: Option<Format>) -> Result<Format, Problem> {
    let default = fallback.filter(|f| offered.contains(f)).unwrap_or(offered[0]);
    let wishes = headers.get_all(header::ACCEPT);
    let mut best: Option<(f32, Format)> = None;
    let mut any = false;
    for wish in wishes.iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')) {
        any = true;
        let mut parts = wish.split(';').map(str::trim);
        let range = parts.next().unwrap_or("").to_ascii_lowercase();
        let q: f32 =
            parts.find_map(|p| p.strip_prefix("q=")).and_then(|q| q.trim().parse().ok()).unwrap_or(1.0);
        let matched = match range.as_str() {
            "*/*" | "" => Some(default),
            "application/*" if offered.contains(&Format::Edn) && default == Format::Edn => Some(Format::Edn),
            "application/*" => offered.iter().copied().find(|f| f.media_type().starts_with("application/")),
            "text/*" => offered.iter().copied().find(|f| f.media_type().starts_with("text/")),
            exact => Format::of_media_type(exact).filter(|f| offered.contains(f)),
        };
        if let Some(f) = matched.filter(|_| q > 0.0)
            && best.is_none_or(|(b, _)| q > b)
        {
            best = Some((q, f));
        }
    }
    match best {
        Some((_, f)) => Ok(f),
        None if !any => Ok(default),
        None => {
            let list: Vec<&str> = offered.iter().map(|f| f.media_type()).collect();
            Err(Problem::new(
                Class::NotAcceptable,
                "request/not-acceptable",
                "no acceptable format for this answer",
            )
            .hint(format!("offered: {}", list.join(", "))))
        }
    }
}

/// Reads a whole body of at most `max` bytes.
pub async fn read_body(headers: &HeaderMap, body: Body, max: u64, limits: &Limits) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            Class::TooLarge,
            "request/body-too-large",
            format!("the body is larger than {max} bytes"),
        )
        .with("limit_bytes", max)
    };
    let declared: Option<u64> =
        headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    if declared.is_some_and(|n| n > max) {
        return Err(too_large());
    }
    let idle = Duration::from_millis(limits.body_idle_ms);
    let mut body = body;
    let mut whole = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(idle, body.frame()).await.map_err(|_| {
            Problem::new(Class::Deadline, "request/body-idle", "the body stopped arriving")
                .with("limit_ms", limits.body_idle_ms)
        })?;
        match frame {
            None => return Ok(whole.freeze()),
            Some(Err(_)) => {
                return Err(Problem::new(
                    Class::Syntax,
                    "request/body-broken",
                    "the body ended before its end",
                ));
            }
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    if whole.len() as u64 + data.len() as u64 > max {
                        return Err(too_large());
                    }
                    whole.extend_from_slice(&data);
                }
            }
        }
    }
}

/// A body as text.
pub fn utf8(bytes: &Bytes) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|e| {
        let mut p = Problem::new(Class::Syntax, "request/utf8", "the body is not UTF-8");
        p.span = Some((e.valid_up_to(), e.valid_up_to() + 1));
        p
    })
}

/// The members of a small body, with `-` in their names as `_`: a JSON object, or an EDN map with keyword keys.
pub fn members(sent: Format, body: &Bytes) -> Result<Vec<(String, annals::Value)>, Problem> {
    let shape =
        || Problem::new(Class::Syntax, "request/member", "the body is an object, or a map with keyword keys");
    match sent {
        Format::Edn => {
            match annals::edn::read_value(utf8(body)?).map_err(|e| crate::ask::syntax(e, "body"))? {
                annals::Value::Map(entries) => entries
                    .iter()
                    .map(|(k, v)| match k {
                        annals::Value::Keyword(k) => Ok((k.as_str().replace('-', "_"), v.clone())),
                        _ => Err(shape()),
                    })
                    .collect(),
                _ => Err(shape()),
            }
        }
        _ => match crate::routes::transact::json(body)? {
            serde_json::Value::Object(members) => {
                members.iter().map(|(k, v)| Ok((k.replace('-', "_"), value::read(v)?))).collect()
            }
            _ => Err(shape()),
        },
    }
}

/// Refuses a member of a small body; `known` says what there is.
pub fn unknown_member(name: &str, known: &str) -> Problem {
    let name: String = name.chars().take(40).collect();
    Problem::new(Class::Syntax, "request/unknown-member", format!("member {name:?} is unknown or malformed"))
        .hint(format!("known: {known}"))
}

/// A member that is not there.
pub fn missing_member(name: &str) -> Problem {
    Problem::new(Class::Syntax, "request/member", format!("member {name:?} is missing"))
}

/// The parameters of a URL's query part, percent-decoded. Unknown names are the route's business.
#[derive(Clone, Debug, Default)]
pub struct Params(HashMap<String, String>);

impl Params {
    /// Reads `a=1&b=x%20y`. A name given twice, or bytes that are not UTF-8, are refused.
    pub fn parse(query: Option<&str>) -> Result<Params, Problem> {
        let mut map = HashMap::new();
        for pair in query.unwrap_or("").split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = percent_decode(name, true)?;
            // `as-of` and `as_of` are one parameter.
            let name = name.replace('-', "_");
            let value = percent_decode(value, true)?;
            if map.insert(name.clone(), value).is_some() {
                return Err(bad(&name, "is given twice"));
            }
        }
        Ok(Params(map))
    }

    /// Refuses names that mean nothing here, so that a misspelt one is not ignored.
    pub fn only(self, known: &[&str]) -> Result<Params, Problem> {
        match self.0.keys().find(|k| !known.contains(&k.as_str())) {
            None => Ok(self),
            Some(k) => {
                Err(bad(k, "is not a parameter of this route").hint(format!("known: {}", known.join(", "))))
            }
        }
    }

    /// The text of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A number.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let read = |v: &str| v.parse().ok().filter(|n| *n < value::EXACT);
        self.get(name)
            .map(|v| read(v).ok_or_else(|| bad(name, "is not a whole number below 2^53")))
            .transpose()
    }

    /// `true`, `false`, or present without a value.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(_) => Err(bad(name, "is neither true nor false")),
        }
    }
}

/// A complaint about one parameter.
pub fn bad(name: &str, what: &str) -> Problem {
    let shown: String = name.chars().take(40).collect();
    Problem::new(Class::Syntax, "request/parameter", format!("parameter {shown:?} {what}"))
        .with("parameter", shown)
}

/// Decodes `%41`; `+` means a space in the query part only.
pub fn percent_decode(text: &str, plus: bool) -> Result<String, Problem> {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'%' => {
                let code = text.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok());
                out.push(code.ok_or_else(|| bad(text, "has a broken percent escape"))?);
                i += 3;
                continue;
            }
            b'+' if plus => out.push(b' '),
            b => out.push(b),
        }
        i += 1;
    }
    String::from_utf8(out).map_err(|_| bad("?", "is not UTF-8"))
}

/// `5s`, `200ms`, `2m`, or a number of milliseconds.
pub fn duration(name: &str, text: &str) -> Result<Duration, Problem> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let n: u64 = text[..digits].parse().map_err(|_| bad(name, "is not a duration like 5s or 200ms"))?;
    let ms = match &text[digits..] {
        "" | "ms" => Some(n),
        "s" => n.checked_mul(1_000),
        "m" => n.checked_mul(60_000),
        _ => None,
    };
    ms.map(Duration::from_millis).ok_or_else(|| bad(name, "is not a duration like 5s or 200ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn accept_prefers_by_quality() {
        let offered = [Format::Json, Format::Edn, Format::Csv];
        let pick =
            |a: &str| accept(&headers(header::ACCEPT, a), &offered, Some(Format::Edn)).map_err(|p| p.class);
        assert_eq!(pick("text/csv;q=0.3, application/json;q=0.5"), Ok(Format::Json));
        assert_eq!(pick("*/*"), Ok(Format::Edn));
        assert_eq!(pick("text/*"), Ok(Format::Csv));
        assert_eq!(pick("image/png"), Err(Class::NotAcceptable));
        assert_eq!(pick("application/json;q=0"), Err(Class::NotAcceptable));
        assert_eq!(accept(&HeaderMap::new(), &offered, None).unwrap(), Format::Json);
    }

    #[test]
    fn forms_and_other_charsets_are_not_read() {
        let of = |t: &str| body_format(&headers(header::CONTENT_TYPE, t)).map_err(|p| p.class);
        assert_eq!(of("application/edn; charset=utf-8"), Ok(Format::Edn));
        assert_eq!(of("application/json"), Ok(Format::Json));
        for bad in ["application/x-www-form-urlencoded", "text/plain", "application/json; charset=latin1", ""]
        {
            assert_eq!(of(bad), Err(Class::MediaType), "{bad}");
        }
    }

    #[test]
    fn parameters_are_decoded_once_and_checked() {
        let p = Params::parse(Some("as-of=5&q=%5B%3Afind+x%5D&flag")).unwrap();
        assert_eq!(
            (p.number("as_of").unwrap(), p.get("q"), p.flag("flag").unwrap()),
            (Some(5), Some("[:find x]"), true)
        );
        assert!(Params::parse(Some("a=1&a=2")).is_err());
        assert!(Params::parse(Some("a=%zz")).is_err());
        assert!(Params::parse(Some("a=%ff")).is_err());
        assert!(p.only(&["as_of"]).is_err());
    }

    #[test]
    fn durations() {
        assert_eq!(duration("wait", "5s").unwrap(), Duration::from_secs(5));
        assert_eq!(duration("wait", "20").unwrap(), Duration::from_millis(20));
        assert!(duration("wait", "5x").is_err() && duration("wait", "").is_err());
    }
}
