//! Strings and regular expressions.
//!
//! 1. Positions and lengths count characters (code points), never bytes.
//! 2. Regular expressions run in time linear in the text (the `regex` crate:
//!    no backtracking), and their compiled size is bounded.

use super::FnError;
use super::bound::{heap_bytes, text_of};
use crate::edn;
use annals_model::Value;
use regex::{Regex, RegexBuilder};
use std::{cell::RefCell, collections::HashMap, sync::Arc};

type Answer = Result<Value, FnError>;

/// The text of argument `arg`.
pub(super) fn text(args: &[Value], arg: usize) -> Result<&str, FnError> {
    match &args[arg] {
        Value::String(s) | Value::Uri(s) => Ok(s),
        v => Err(FnError::Type { arg, expected: "string", found: v.kind() }),
    }
}

/// The number in argument `arg`, from 0.
pub(super) fn index(args: &[Value], arg: usize) -> Result<usize, FnError> {
    match &args[arg] {
        Value::Long(n) => usize::try_from(*n).map_err(|_| FnError::Range { arg, expected: "0 or more" }),
        v => Err(FnError::Type { arg, expected: "integer", found: v.kind() }),
    }
}

/// Bytes of the strings among these.
fn total(items: &[Value]) -> Option<usize> {
    items.iter().map(heap_bytes).try_fold(0usize, usize::checked_add)
}

/// A value as `str` writes it: strings and numbers bare, everything else as EDN.
fn append(out: &mut String, v: &Value) {
    match v {
        Value::Nil => {}
        Value::String(s) | Value::Uri(s) => out.push_str(s),
        Value::Char(c) => out.push(*c),
        Value::BigInt(n) => out.push_str(&n.to_string()),
        Value::BigDec(_) => out.push_str(edn::print(v).trim_end_matches('M')),
        Value::Instant(i) => out.push_str(&i.to_string()),
        Value::Uuid(u) => out.push_str(&u.to_string()),
        v => out.push_str(&edn::print(v)),
    }
}
pub(super) fn str(args: &[Value]) -> Answer {
    if let [v @ Value::String(_)] = args {
        return Ok(v.clone());
    }
    text_of(total(args))?;
    let mut out = String::new();
    args.iter().for_each(|v| append(&mut out, v));
    Ok(out.into())
}
pub(super) fn pr_str(args: &[Value]) -> Answer {
    let texts: Vec<String> = args.iter().map(edn::print).collect();
    Ok(texts.join(" ").into())
}

/// The byte position of character `n`, which may be one past the last.
fn byte_of(s: &str, n: usize) -> Option<usize> {
    s.char_indices().map(|(i, _)| i).chain([s.len()]).nth(n)
}
pub(super) fn subs(args: &[Value]) -> Answer {
    let s = text(args, 0)?;
    let outside = |arg| FnError::Range { arg, expected: "a position within the string" };
    let from = byte_of(s, index(args, 1)?).ok_or(outside(1))?;
    let to = match args.get(2) {
        Some(_) => byte_of(s, index(args, 2)?).ok_or(outside(2))?,
        None => s.len(),
    };
    s.get(from..to).map(Value::from).ok_or(outside(2))
}

fn test(args: &[Value], f: fn(&str, &str) -> bool) -> Answer {
    Ok(Value::Bool(f(text(args, 0)?, text(args, 1)?)))
}
pub(super) fn starts_with(args: &[Value]) -> Answer {
    test(args, |s, part| s.starts_with(part))
}
pub(super) fn ends_with(args: &[Value]) -> Answer {
    test(args, |s, part| s.ends_with(part))
}
pub(super) fn includes(args: &[Value]) -> Answer {
    test(args, |s, part| s.contains(part))
}
pub(super) fn is_blank(args: &[Value]) -> Answer {
    match &args[0] {
        Value::Nil => Ok(Value::Bool(true)),
        _ => Ok(Value::Bool(text(args, 0)?.trim().is_empty())),
    }
}

fn change(args: &[Value], f: fn(&str) -> String) -> Answer {
    Ok(f(text(args, 0)?).into())
}
pub(super) fn upper_case(args: &[Value]) -> Answer {
    change(args, str::to_uppercase)
}
pub(super) fn lower_case(args: &[Value]) -> Answer {
    change(args, str::to_lowercase)
}
pub(super) fn capitalize(args: &[Value]) -> Answer {
    change(args, |s| {
        let mut chars = s.chars();
        let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
        first + &chars.as_str().to_lowercase()
    })
}
pub(super) fn trim(args: &[Value]) -> Answer {
    change(args, |s| s.trim().to_owned())
}
pub(super) fn triml(args: &[Value]) -> Answer {
    change(args, |s| s.trim_start().to_owned())
}
pub(super) fn trimr(args: &[Value]) -> Answer {
    change(args, |s| s.trim_end().to_owned())
}
pub(super) fn reverse(args: &[Value]) -> Answer {
    match &args[0] {
        Value::Vector(v) | Value::List(v) => Ok(Value::vector(v.iter().rev().cloned())),
        _ => change(args, |s| s.chars().rev().collect()),
    }
}
pub(super) fn replace(args: &[Value]) -> Answer {
    let (s, with) = (text(args, 0)?, text(args, 2)?);
    match &args[1] {
        Value::Tagged(_) => replace_all(&pattern(args, 1)?, s, with),
        _ => {
            let part = text(args, 1)?;
            let n = s.matches(part).count();
            text_of(n.checked_mul(with.len()).and_then(|more| more.checked_add(s.len() - n * part.len())))?;
            Ok(s.replace(part, with).into())
        }
    }
}
/// Replaces every match, stopping before the text grows too large.
fn replace_all(pattern: &Regex, s: &str, with: &str) -> Answer {
    let (mut out, mut last) = (String::new(), 0);
    for found in pattern.captures_iter(s) {
        let Some(whole) = found.get(0) else { continue };
        out.push_str(&s[last..whole.start()]);
        // A reference takes two bytes and stands for a match at most.
        let most = with.len() + with.matches('$').count() * whole.len();
        text_of(out.len().checked_add(most))?;
        found.expand(with, &mut out);
        last = whole.end();
    }
    text_of(out.len().checked_add(s.len() - last))?;
    out.push_str(&s[last..]);
    Ok(out.into())
}
pub(super) fn split(args: &[Value]) -> Answer {
    let s = text(args, 0)?;
    Ok(match &args[1] {
        Value::Tagged(_) => Value::vector(pattern(args, 1)?.split(s).map(Value::from)),
        _ => match text(args, 1)? {
            "" => Value::vector(s.chars().map(|c| Value::string(c.to_string()))),
            separator => Value::vector(s.split(separator).map(Value::from)),
        },
    })
}
pub(super) fn join(args: &[Value]) -> Answer {
    let (separator, coll) = match args {
        [coll] => ("", coll),
        [_, coll, ..] => (text(args, 0)?, coll),
        [] => return Err(FnError::Arity { got: 0, min: 1, max: Some(2) }),
    };
    let Some(items) = super::data::items(coll) else {
        return Err(FnError::Type { arg: args.len() - 1, expected: "collection", found: coll.kind() });
    };
    let separators = separator.len().checked_mul(items.len());
    text_of(total(items).zip(separators).and_then(|(a, b)| a.checked_add(b)))?;
    let mut out = String::new();
    for (i, v) in items.iter().enumerate() {
        if i > 0 {
            out.push_str(separator);
        }
        append(&mut out, v);
    }
    Ok(out.into())
}
/// The place of a part in characters, or nil.
fn place(args: &[Value], find: fn(&str, &str) -> Option<usize>) -> Answer {
    let (s, part) = (text(args, 0)?, text(args, 1)?);
    Ok(find(s, part).map_or(Value::Nil, |i| Value::Long(s[..i].chars().count() as i64)))
}
pub(super) fn index_of(args: &[Value]) -> Answer {
    place(args, |s, part| s.find(part))
}
pub(super) fn last_index_of(args: &[Value]) -> Answer {
    place(args, |s, part| s.rfind(part))
}

/// Compiled size of a regular expression.
const REGEX_BYTES: usize = 1 << 20;
/// Regular expressions a thread keeps compiled.
const CACHED: usize = 64;

thread_local! {
    static COMPILED: RefCell<HashMap<(Arc<str>, bool), Regex>> = RefCell::new(HashMap::new());
}

/// The regular expression of a text; `whole` makes it match the whole text only.
fn compile(source: &Arc<str>, whole: bool) -> Result<Regex, FnError> {
    COMPILED.with_borrow_mut(|compiled| {
        let key = (source.clone(), whole);
        if let Some(r) = compiled.get(&key) {
            return Ok(r.clone());
        }
        let build = |s: &str| RegexBuilder::new(s).size_limit(REGEX_BYTES).build();
        // The source by itself first: `a)(b` must not become sound by being wrapped.
        let plain = build(source).map_err(|e| FnError::Regex(e.to_string()))?;
        let r = match whole {
            false => plain,
            // The line break ends a comment that the source may end in.
            true => build(&format!(r"\A(?:{source})\z"))
                .or_else(|_| build(&format!("\\A(?:{source}\n)\\z")))
                .map_err(|e| FnError::Regex(e.to_string()))?,
        };
        if compiled.len() >= CACHED {
            compiled.clear();
        }
        compiled.insert(key, r.clone());
        Ok(r)
    })
}

/// Regular expressions are values of this tag, so that they can be bound to variables.
const TAG: &str = "regex";

fn source(v: &Value, arg: usize) -> Result<&Arc<str>, FnError> {
    match v {
        Value::String(s) => Ok(s),
        Value::Tagged(t) if t.0.as_str() == TAG => source(&t.1, arg),
        v => Err(FnError::Type { arg, expected: "regular expression or string", found: v.kind() }),
    }
}
fn pattern(args: &[Value], arg: usize) -> Result<Regex, FnError> {
    compile(source(&args[arg], arg)?, false)
}

pub(super) fn re_pattern(args: &[Value]) -> Answer {
    let s = source(&args[0], 0)?;
    compile(s, false)?;
    Ok(Value::Tagged(Arc::new((annals_model::Symbol::new(TAG), Value::String(s.clone())))))
}

/// The match as a string, or as a vector of it and its groups if there are groups.
fn captured(r: &Regex, c: &regex::Captures<'_>) -> Value {
    let group = |i: usize| c.get(i).map_or(Value::Nil, |m| Value::from(m.as_str()));
    match r.captures_len() {
        1 => group(0),
        n => Value::vector((0..n).map(group)),
    }
}
pub(super) fn re_find(args: &[Value]) -> Answer {
    let (r, s) = (pattern(args, 0)?, text(args, 1)?);
    Ok(r.captures(s).map_or(Value::Nil, |c| captured(&r, &c)))
}
pub(super) fn re_matches(args: &[Value]) -> Answer {
    let (r, s) = (compile(source(&args[0], 0)?, true)?, text(args, 1)?);
    Ok(r.captures(s).map_or(Value::Nil, |c| captured(&r, &c)))
}
pub(super) fn re_seq(args: &[Value]) -> Answer {
    let (r, s) = (pattern(args, 0)?, text(args, 1)?);
    Ok(Value::vector(r.captures_iter(s).map(|c| captured(&r, &c))))
}
