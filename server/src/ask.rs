//! What a query request says, from EDN, from JSON, or from a URL.
//!
//! 1. The text of the query is kept as the client wrote it, so that a complaint's
//!    span points into what was sent: into the member `query` of JSON, into the
//!    whole body of EDN (`of` says which).
//! 2. A member nobody knows is refused: a misspelt `as_off` must not answer for now.
//! 3. `as_of` and `as-of` are one name, in all three.

use crate::{
    call::Call,
    extract::{self, Format, Params, bad},
    failure::OrProblem,
    routes::transact::json,
    wire::{
        problem::{Class, Problem},
        value,
    },
};
use annals::{
    Db, IntoTimePoint, TimePoint, Value,
    edn::{self, Form, FormKind},
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};

/// A piece of EDN text and where it began in the body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Text {
    /// The text.
    pub text: Arc<str>,
    /// Bytes before it.
    pub offset: usize,
    /// `query`, `rules`, `body`: what spans point into.
    pub of: &'static str,
}

/// A request to `/query` and its kin.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "documented in docs/http.md under the same names")]
pub struct Ask {
    pub query: Text,
    pub args: Vec<Value>,
    pub rules: Option<Arc<str>>,
    pub as_of: Option<Value>,
    pub since: Option<Value>,
    pub history: bool,
    pub min_t: Option<u64>,
    pub min_position: Option<u64>,
    pub wait: Option<Duration>,
    pub timeout_ms: Option<u64>,
    pub limit: Option<u64>,
    pub types: bool,
    pub exact: bool,
    pub t1: Option<Value>,
    pub t2: Option<Value>,
    pub row: Option<Vec<Value>>,
}

const NAMES: [&str; 18] = [
    "query",
    "args",
    "args_edn",
    "rules",
    "as_of",
    "since",
    "history",
    "min_t",
    "min_position",
    "wait",
    "timeout_ms",
    "limit",
    "types",
    "exact",
    "t1",
    "t2",
    "row",
    "q",
];

/// Most bytes of one query text.
const QUERY_BYTES: usize = 256 << 10;

impl Ask {
    /// Reads the body of a POST.
    pub async fn post(call: &mut Call) -> Result<(Format, Ask, Bytes), Problem> {
        let max = call.limits().body_bytes;
        let (sent, body) = call.body(max).await?;
        let ask = match sent {
            Format::Edn => Ask::of_edn(extract::utf8(&body)?)?,
            _ => Ask::of_json(&json(&body)?)?,
        };
        Ok((sent, ask.checked()?, body))
    }

    /// Reads the parameters of a GET: `q`, `args` (an EDN vector), `as_of`, ….
    pub fn get(params: &Params) -> Result<Ask, Problem> {
        let mut ask = Ask {
            query: text_of(params.get("q").or(params.get("query")).unwrap_or(""), "query"),
            ..Ask::default()
        };
        if let Some(text) = params.get("args") {
            ask.args = vector("args", text)?;
        }
        ask.rules = params.get("rules").map(Arc::from);
        let time = |name: &str| params.get(name).map(Value::string);
        (ask.as_of, ask.since, ask.t1, ask.t2) = (time("as_of"), time("since"), time("t1"), time("t2"));
        ask.history = params.flag("history")?;
        ask.types = params.flag("types")?;
        ask.exact = params.flag("exact")?;
        ask.min_t = params.number("min_t")?;
        ask.min_position = params.number("min_position")?;
        ask.timeout_ms = params.number("timeout_ms")?;
        ask.limit = params.number("limit")?;
        ask.wait = params.get("wait").map(|w| extract::duration("wait", w)).transpose()?;
        ask.checked()
    }

    fn checked(self) -> Result<Ask, Problem> {
        if self.query.text.trim().is_empty() {
            return Err(Problem::new(Class::Syntax, "request/no-query", "the request has no query")
                .hint("send {\"query\": \"[:find …]\"}"));
        }
        if self.query.text.len() > QUERY_BYTES {
            return Err(Problem::new(
                Class::TooLarge,
                "request/query-too-large",
                format!("a query is at most {QUERY_BYTES} bytes"),
            ));
        }
        Ok(self)
    }

    fn of_json(json: &serde_json::Value) -> Result<Ask, Problem> {
        use serde_json::Value as Json;
        let Json::Object(members) = json else {
            return Err(member("body", "the body is a JSON object with a member \"query\""));
        };
        let mut ask = Ask::default();
        for (name, v) in members {
            let name = name.replace('-', "_");
            let want = |ok: Option<u64>, what: &str| ok.ok_or_else(|| member(&name, what)).map(Some);
            match name.as_str() {
                _ if v.is_null() => {}
                "query" | "q" => {
                    ask.query = text_of(
                        v.as_str().ok_or_else(|| member(&name, "is the query's EDN text, as a string"))?,
                        "query",
                    )
                }
                "rules" => {
                    ask.rules = Some(
                        v.as_str()
                            .ok_or_else(|| member(&name, "is the rules' EDN text, as a string"))?
                            .into(),
                    )
                }
                "args" => {
                    let list = v.as_array().ok_or_else(|| member(&name, "is an array"))?;
                    ask.args = list.iter().map(value::read).collect::<Result<_, _>>()?;
                }
                "args_edn" => {
                    ask.args =
                        vector(&name, v.as_str().ok_or_else(|| member(&name, "is EDN text, as a string"))?)?
                }
                "as_of" => ask.as_of = Some(value::read(v)?),
                "since" => ask.since = Some(value::read(v)?),
                "t1" => ask.t1 = Some(value::read(v)?),
                "t2" => ask.t2 = Some(value::read(v)?),
                "row" => {
                    let list = v.as_array().ok_or_else(|| member(&name, "is an array"))?;
                    ask.row = Some(list.iter().map(value::read).collect::<Result<_, _>>()?);
                }
                "history" => ask.history = v.as_bool().ok_or_else(|| member(&name, "is true or false"))?,
                "types" => ask.types = v.as_bool().ok_or_else(|| member(&name, "is true or false"))?,
                "exact" => ask.exact = v.as_bool().ok_or_else(|| member(&name, "is true or false"))?,
                "min_t" => ask.min_t = want(v.as_u64(), "is a t")?,
                "min_position" => ask.min_position = want(v.as_u64(), "is a position")?,
                "timeout_ms" => ask.timeout_ms = want(v.as_u64(), "is a whole number of milliseconds")?,
                "limit" => ask.limit = want(v.as_u64(), "is a number of rows")?,
                "wait" => {
                    let text = v.as_str().map_or_else(|| v.to_string(), str::to_owned);
                    ask.wait = Some(extract::duration("wait", &text)?);
                }
                _ => return Err(unknown(&name)),
            }
        }
        Ok(ask)
    }

    /// `{:query [:find …] :args […] …}`, or the bare query.
    fn of_edn(body: &str) -> Result<Ask, Problem> {
        let form = edn::read_one(body).map_err(|e| syntax(e, "body"))?;
        let entries = match &form.kind {
            FormKind::Map(entries) if entries.iter().any(|(k, _)| k.as_keyword() == Some("query")) => entries,
            _ => return Ok(Ask { query: slice(body, &form), ..Ask::default() }),
        };
        let mut ask = Ask::default();
        for (key, form) in entries {
            let Some(name) = key.as_keyword() else { return Err(unknown("(not a keyword)")) };
            let name = name.replace('-', "_");
            let v = form.to_value();
            let whole = || match &v {
                Value::Long(n) => u64::try_from(*n).map_err(|_| member(&name, "is not negative")),
                _ => Err(member(&name, "is a whole number")),
            };
            let flag = || match &v {
                Value::Bool(b) => Ok(*b),
                _ => Err(member(&name, "is true or false")),
            };
            match name.as_str() {
                _ if v == Value::Nil => {}
                "query" | "q" => {
                    ask.query = match &v {
                        Value::String(s) => text_of(s, "query"),
                        _ => slice(body, form),
                    }
                }
                "rules" => {
                    ask.rules = Some(match &v {
                        Value::String(s) => s.clone(),
                        _ => slice(body, form).text,
                    })
                }
                "args" => match &v {
                    Value::Vector(items) | Value::List(items) => ask.args = items.to_vec(),
                    _ => return Err(member(&name, "is a vector")),
                },
                "as_of" => ask.as_of = Some(v),
                "since" => ask.since = Some(v),
                "t1" => ask.t1 = Some(v),
                "t2" => ask.t2 = Some(v),
                "row" => match &v {
                    Value::Vector(items) | Value::List(items) => ask.row = Some(items.to_vec()),
                    _ => return Err(member(&name, "is a vector")),
                },
                "history" => ask.history = flag()?,
                "types" => ask.types = flag()?,
                "exact" => ask.exact = flag()?,
                "min_t" => ask.min_t = Some(whole()?),
                "min_position" => ask.min_position = Some(whole()?),
                "timeout_ms" => ask.timeout_ms = Some(whole()?),
                "limit" => ask.limit = Some(whole()?),
                "wait" => ask.wait = Some(Duration::from_millis(whole()?)),
                _ => return Err(unknown(&name)),
            }
        }
        Ok(ask)
    }

    /// The view of time that was asked for.
    pub fn view(&self, db: Db) -> Result<Db, Problem> {
        apply_view(db, self.as_of.as_ref(), self.since.as_ref(), self.history)
    }

    /// Will the answer be the same for ever? So when its time is past for certain.
    pub fn is_fixed(&self, newest: &Db) -> bool {
        match self.as_of.as_ref().and_then(|v| v.into_time_point().ok()) {
            Some(TimePoint::T(t)) => t <= newest.t(),
            // An instant is past when a later transaction exists: instants ascend strictly.
            Some(point @ TimePoint::Instant(_)) => newest.t_of(point).is_ok_and(|t| t < newest.t()),
            None => false,
        }
    }
}

fn apply_view(db: Db, as_of: Option<&Value>, since: Option<&Value>, history: bool) -> Result<Db, Problem> {
    let mut db = db;
    if let Some(t) = as_of {
        // As of the newest transaction, or a later time, is now; and now is quicker to read.
        let t = db.t_of(t).or_problem()?;
        if t < db.t() {
            db = db.as_of(t);
        }
    }
    let now = as_of.is_none() && since.is_none() && !history;
    if let Some(t) = since {
        db = db.since(t).or_problem()?;
    }
    // A write may overtake who asks about now, whose moment is then past. Nobody comes back to that one: a column
    // of it would only push out of the cache what others do come back to.
    Ok(match () {
        () if now => db.uncached(),
        () if history => db.history(),
        () => db,
    })
}

/// The view that URL parameters ask for.
pub fn view(db: Db, params: &Params) -> Result<Db, Problem> {
    let time = |name: &str| params.get(name).map(Value::string);
    apply_view(db, time("as_of").as_ref(), time("since").as_ref(), params.flag("history")?)
}

/// Complaints about a text, with what their spans point into.
pub fn syntax(e: annals::ParseErrors, of: &str) -> Problem {
    Problem::from_diagnostics(Class::Syntax, e.0).with("of", of)
}

fn text_of(text: &str, of: &'static str) -> Text {
    Text { text: text.into(), offset: 0, of }
}

fn slice(body: &str, form: &Form) -> Text {
    Text { text: body[form.span.start..form.span.end].into(), offset: form.span.start, of: "body" }
}

fn vector(name: &str, text: &str) -> Result<Vec<Value>, Problem> {
    match edn::read_value(text).map_err(|e| syntax(e, "args"))? {
        Value::Vector(items) | Value::List(items) => Ok(items.to_vec()),
        _ => Err(bad(name, "is not an EDN vector")),
    }
}

fn member(name: &str, what: &str) -> Problem {
    Problem::new(Class::Syntax, "request/member", format!("member {name:?} {what}"))
}

fn unknown(name: &str) -> Problem {
    let name: String = name.chars().take(40).collect();
    Problem::new(Class::Syntax, "request/unknown-member", format!("there is no member {name:?}"))
        .hint(format!("known: {}", NAMES.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_about_now_and_is_overtaken_by_a_write_leaves_nothing_in_the_cache() {
        let conn = annals::in_memory().unwrap();
        conn.transact(
            "[{:db/ident :a/k :db/valueType :db.type/long :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
              {:db/ident :a/n :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]",
        )
        .unwrap();
        let forms: Vec<String> = (0..2_000).map(|i| format!("{{:a/k {i} :a/n {i}}}")).collect();
        conn.transact(format!("[{}]", forms.join("\n"))).unwrap();
        let bytes = || conn.stats().unwrap().cache_bytes;
        let overtaken = |as_of: Option<Value>| {
            let db = apply_view(conn.db(), as_of.as_ref(), None, false).unwrap();
            conn.transact(format!("[{{:a/k 7 :a/n {}}}]", 5_000 + conn.db().t().0)).unwrap();
            let rows = db.query("[:find (count ?e) . :where [?e :a/n]]", ()).unwrap();
            assert_eq!(rows.scalar(), Some(Value::Long(2_000)));
        };
        // The first look at the past loads what the attribute held before; from then on nothing is added.
        overtaken(None);
        let before = bytes();
        (0..10).for_each(|_| overtaken(None));
        assert!(before > 0 && bytes() < before + 2_000, "{before} {}", bytes());
        // A moment that somebody names is kept.
        let t = conn.db().t().0 as i64 - 3;
        overtaken(Some(Value::Long(t)));
        assert!(bytes() > before + 2_000 * 8, "{before} {}", bytes());
    }
}
