//! What a single token means: numbers, symbols, keywords, characters, strings,
//! and the values of the tags we know.
//!
//! 1. Every refusal names the code, the place and, where one can be guessed,
//!    what should have been written.
//! 2. Work is linear in the token; numbers of unbounded types are bounded to
//!    [`MAX_DIGITS`], because reading their digits is not linear.

use annals_model::{Diagnostic, Instant, Keyword, Span, Symbol, Value, diagnostic::nearest};
use bigdecimal::BigDecimal;
use num_bigint::BigInt;
use std::{str::FromStr, sync::Arc};
use uuid::Uuid;

/// Most digits of an `N` or `M` literal, and the largest exponent of the latter.
pub const MAX_DIGITS: usize = 10_000;

type Read<V = Value> = Result<V, Diagnostic>;

fn refuse(code: &'static str, span: Span, message: String, label: &str) -> Diagnostic {
    Diagnostic::new(code, message).at(span, label)
}

/// Long tokens are cut in messages.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(40) {
        None => text.to_owned(),
        Some((i, _)) => format!("{}…", &text[..i]),
    }
}

/// A token that begins neither with a colon nor with a dispatch character.
pub(super) fn token(text: &str, span: Span) -> Read {
    match text {
        "nil" => return Ok(Value::Nil),
        "true" => return Ok(Value::Bool(true)),
        "false" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned.starts_with(|c: char| c.is_ascii_digit()) {
        number(text, unsigned, span)
    } else {
        symbol(text, span)
    }
}

fn number(text: &str, unsigned: &str, span: Span) -> Read {
    let bad = || refuse("edn/number", span, format!("`{}` is not a number", shown(text)), "malformed number");
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = unsigned.split_at(digits);
    if let Some(denominator) = rest.strip_prefix('/')
        && !denominator.is_empty()
        && denominator.bytes().all(|c| c.is_ascii_digit())
    {
        let d = refuse("edn/ratio", span, format!("`{}` is a ratio", shown(text)), "no such type");
        let quotient = whole.parse::<f64>().ok().zip(denominator.parse::<f64>().ok()).map(|(a, b)| a / b);
        return Err(match quotient {
            Some(q) if q.is_finite() => {
                let sign = if text.starts_with('-') { "-" } else { "" };
                d.help(format!("write a double, {sign}{q:?}, or a decimal, {sign}{q:?}M"))
            }
            _ => d.help("write a double or a decimal"),
        });
    }
    if whole.len() > 1 && whole.starts_with('0') {
        let plain = whole.trim_start_matches('0');
        let plain = if plain.is_empty() { "0" } else { plain };
        return Err(bad().help(format!("numbers have no leading zeros: {}{rest}", shown(plain))));
    }
    let (rest, suffix) = match rest.as_bytes().last() {
        Some(b'N') => (&rest[..rest.len() - 1], Some('N')),
        Some(b'M') => (&rest[..rest.len() - 1], Some('M')),
        _ => (rest, None),
    };
    match (rest.is_empty(), suffix) {
        (true, None) => text.parse::<i64>().map(Value::Long).map_err(|_| {
            refuse("edn/number-range", span, format!("{} does not fit 64 bits", shown(text)), "too large")
                .help("end it with N for an integer of any size")
        }),
        (true, Some('N')) => {
            limited(digits, span)?;
            let n = text.trim_end_matches('N').parse::<BigInt>().map_err(|_| bad())?;
            Ok(Value::BigInt(Arc::new(n)))
        }
        (_, Some('N')) => Err(bad().help("N ends an integer; end a decimal with M")),
        (_, suffix) => {
            if !is_fraction(rest) {
                return Err(match whole {
                    "0" if rest.starts_with(['x', 'X']) => bad().help("write numbers in decimal"),
                    _ if rest == "." => bad().help(format!("write {whole}.0")),
                    _ => bad(),
                });
            }
            if suffix == Some('M') { decimal(text, span, bad) } else { double(text, span, bad) }
        }
    }
}

/// `.digits`, `e±digits`, or both.
fn is_fraction(rest: &str) -> bool {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|c| c.is_ascii_digit());
    let (fraction, exponent) = match rest.find(['e', 'E']) {
        Some(i) => (&rest[..i], Some(&rest[i + 1..])),
        None => (rest, None),
    };
    let fraction_ok = fraction.is_empty() || fraction.strip_prefix('.').is_some_and(digits);
    let exponent_ok = exponent.is_none_or(|e| digits(e.strip_prefix(['-', '+']).unwrap_or(e)));
    fraction_ok && exponent_ok
}

fn double(text: &str, span: Span, bad: impl Fn() -> Diagnostic) -> Read {
    let d: f64 = text.parse().map_err(|_| bad())?;
    if d.is_infinite() {
        return Err(refuse(
            "edn/number-range",
            span,
            format!("{} does not fit a double", shown(text)),
            "too large",
        )
        .help("end it with M for a decimal of any size, or write ##Inf"));
    }
    Value::double(d).ok_or_else(bad)
}

fn decimal(text: &str, span: Span, bad: impl Fn() -> Diagnostic) -> Read {
    let body = text.trim_end_matches('M');
    limited(body.len(), span)?;
    let too_far = || {
        refuse("edn/number-range", span, format!("the exponent of {} is too large", shown(text)), "too large")
            .help(format!("exponents of decimals go up to {MAX_DIGITS}"))
    };
    if let Some(i) = body.find(['e', 'E']) {
        let exponent: i64 = body[i + 1..].parse().map_err(|_| too_far())?;
        if exponent.unsigned_abs() > MAX_DIGITS as u64 {
            return Err(too_far());
        }
    }
    BigDecimal::from_str(body).map(|d| Value::BigDec(Arc::new(d))).map_err(|_| bad())
}

fn limited(digits: usize, span: Span) -> Read<()> {
    if digits <= MAX_DIGITS {
        return Ok(());
    }
    Err(refuse("edn/number-range", span, format!("a number of {digits} digits"), "too long")
        .help(format!("numbers have at most {MAX_DIGITS} digits")))
}

/// May this character stand in a symbol or keyword?
fn is_name_char(c: char) -> bool {
    c.is_alphanumeric()
        || ".*+!-_?$%&=<>:#'|/".contains(c)
        || (!c.is_ascii() && !c.is_control() && !c.is_whitespace())
}

/// Complains when `name` (namespace, slash, name) is not well formed.
fn check_name(name: &str, whole: &str, what: &str, span: Span) -> Read<()> {
    let bad = |why: &str| Err(refuse("edn/symbol", span, format!("`{}` is not a {what}", shown(whole)), why));
    if let Some(c) = name.chars().find(|c| !is_name_char(*c)) {
        let d = refuse("edn/symbol", span, format!("`{}` is not a {what}", shown(whole)), "malformed");
        return Err(match c {
            '@' | '`' | '~' | '^' => d.help(format!("`{c}` is Clojure code, not data")),
            c => d.help(format!("`{c}` cannot stand in a name")),
        });
    }
    match name.find('/') {
        None => Ok(()),
        Some(_) if name == "/" => Ok(()),
        Some(0) => bad("nothing stands before the slash"),
        Some(i) if i + 1 == name.len() => bad("nothing stands after the slash"),
        Some(i) => match &name[i + 1..] {
            "/" => Ok(()),
            local if local.contains('/') => bad("only one slash"),
            _ => Ok(()),
        },
    }
}

/// A symbol.
pub(super) fn symbol(text: &str, span: Span) -> Read {
    check_name(text, text, "symbol", span)?;
    Ok(Value::Symbol(Symbol::new(text)))
}

/// `:name`.
pub(super) fn keyword(text: &str, span: Span) -> Read {
    let name = &text[1..];
    let bad = || refuse("edn/symbol", span, format!("`{}` is not a keyword", shown(text)), "malformed");
    if name.is_empty() {
        return Err(bad().help("a name follows the colon"));
    }
    if let Some(local) = name.strip_prefix(':') {
        return Err(bad().help(format!("keywords are written in full: :{}", shown(local))));
    }
    if name == "/" {
        return Err(bad());
    }
    check_name(name, text, "keyword", span)?;
    Ok(Value::Keyword(Keyword::new(name)))
}

/// `##Inf`, `##-Inf`.
pub(super) fn symbolic(text: &str, span: Span) -> Read {
    match text {
        "##Inf" => Ok(Value::Double(f64::INFINITY)),
        "##-Inf" => Ok(Value::Double(f64::NEG_INFINITY)),
        "##NaN" => Err(refuse("edn/nan", span, "not-a-number is no value".into(), "refused")
            .help("it equals nothing, so it could never be found again; leave the fact out")),
        _ => Err(refuse("edn/syntax", span, format!("`{}` is no number", shown(text)), "unknown")
            .help("there are ##Inf and ##-Inf")),
    }
}

const CHARACTERS: [(&str, char); 6] = [
    ("newline", '\n'),
    ("space", ' '),
    ("tab", '\t'),
    ("return", '\r'),
    ("backspace", '\u{8}'),
    ("formfeed", '\u{c}'),
];

/// `\c`, `\newline`, `\u03a9`.
pub(super) fn character(text: &str, span: Span) -> Read {
    let name = &text[1..];
    let mut chars = name.chars();
    let bad = || refuse("edn/character", span, format!("`{}` is no character", shown(text)), "unknown");
    match (chars.next(), chars.next()) {
        (Some(c), None) if !c.is_whitespace() => return Ok(Value::Char(c)),
        (Some(_), None) | (None, _) => {
            return Err(bad().help("blanks have names: \\space, \\newline, \\tab, \\return"));
        }
        _ => {}
    }
    if let Some((_, c)) = CHARACTERS.iter().find(|(n, _)| *n == name) {
        return Ok(Value::Char(*c));
    }
    if let Some(hex) = name.strip_prefix('u')
        && hex.len() == 4
        && let Ok(code) = u32::from_str_radix(hex, 16)
    {
        return char::from_u32(code).map(Value::Char).ok_or_else(|| bad().help("half of a surrogate pair"));
    }
    Err(match nearest(name, CHARACTERS.iter().map(|(n, _)| *n)) {
        Some(n) => bad().help(format!("did you mean \\{n}?")),
        None => bad().help("write one character, its name, or \\uXXXX"),
    })
}

/// The text within the quotation marks; complaints go to `complain`, and a bad
/// escape stands for nothing.
pub(super) fn string(text: &str, span: Span, complain: &mut dyn FnMut(Diagnostic)) -> Arc<str> {
    let body = &text[1..text.len() - 1];
    if !body.contains('\\') {
        return Arc::from(body);
    }
    let mut out = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(i) = rest.find('\\') {
        out.push_str(&rest[..i]);
        let at = span.start + 1 + (body.len() - rest.len()) + i;
        match escape(&rest[i + 1..]) {
            Ok((c, used)) => {
                out.push(c);
                rest = &rest[i + 1 + used..];
            }
            Err((why, used)) => {
                let place = Span::new(at, at + 1 + used);
                let shown = &rest[i..i + 1 + used];
                complain(
                    refuse("edn/string-escape", place, format!("`{shown}` is no escape"), "unknown")
                        .help(why),
                );
                rest = &rest[i + 1 + used..];
            }
        }
    }
    out.push_str(rest);
    out.into()
}

/// The character an escape stands for and how many bytes follow the backslash.
fn escape(rest: &str) -> Result<(char, usize), (&'static str, usize)> {
    let Some(c) = rest.chars().next() else { return Err(("the string ends here", 0)) };
    let one = match c {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'b' => '\u{8}',
        'f' => '\u{c}',
        '\\' | '"' => c,
        'u' => return unicode(rest),
        _ => {
            return Err((
                "write \\\\ for a backslash; there are \\n \\t \\r \\b \\f \\\" and \\uXXXX",
                c.len_utf8(),
            ));
        }
    };
    Ok((one, 1))
}

/// `uXXXX`, or two of them for a character beyond the first 65,536.
fn unicode(rest: &str) -> Result<(char, usize), (&'static str, usize)> {
    let hex = |s: &str| {
        s.get(1..5)
            .filter(|h| h.bytes().all(|c| c.is_ascii_hexdigit()))
            .and_then(|h| u32::from_str_radix(h, 16).ok())
    };
    let Some(first) = hex(rest) else { return Err(("four hexadecimal digits follow \\u", 1)) };
    if let Some(c) = char::from_u32(first) {
        return Ok((c, 5));
    }
    let second =
        rest.get(5..).and_then(|r| r.strip_prefix('\\')).filter(|r| r.starts_with('u')).and_then(hex);
    match second {
        Some(low) if (0xD800..0xDC00).contains(&first) && (0xDC00..0xE000).contains(&low) => {
            let code = 0x1_0000 + ((first - 0xD800) << 10) + (low - 0xDC00);
            char::from_u32(code).map(|c| (c, 11)).ok_or(("no such character", 11))
        }
        _ => Err(("half of a surrogate pair", 5)),
    }
}

/// What a known tag makes of a value; `None` for tags we do not know.
pub(super) fn tagged(tag: &str, v: &Value, span: Span) -> Option<Read> {
    let bad = |help: &str| {
        let message = format!("#{tag} does not fit this {}", v.kind());
        Err(refuse("edn/tag", span, message, "cannot be read").help(help))
    };
    let text = match v {
        Value::String(s) => Some(&**s),
        _ => None,
    };
    Some(match (tag, text) {
        ("inst", Some(s)) => match Instant::parse(s) {
            Some(i) => Ok(Value::Instant(i)),
            None => bad("write #inst \"2026-03-01T12:30:00Z\" or a prefix of it"),
        },
        ("inst", None) => bad("a string follows: #inst \"2026-03-01T12:30:00Z\""),
        ("uuid", Some(s)) => match Uuid::try_parse(s).ok().filter(|_| s.len() == 36) {
            Some(u) => Ok(Value::Uuid(u)),
            None => bad("write 32 hexadecimal digits as 8-4-4-4-12"),
        },
        ("uuid", None) => bad("a string follows: #uuid \"…\""),
        ("uri", Some(s)) => Ok(Value::Uri(Arc::from(s))),
        ("uri", None) => bad("a string follows: #uri \"https://…\""),
        ("bytes", Some(s)) => match bytes(s) {
            Some(b) => Ok(Value::Bytes(b.into())),
            None => bad("write two hexadecimal digits a byte: #bytes \"00ff\""),
        },
        ("bytes", None) => bad("a string of hexadecimal digits follows: #bytes \"00ff\""),
        ("db/id", _) => bad("tempids are plain strings here: {:db/id \"new\" …}"),
        _ => return None,
    })
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| (c as char).to_digit(16);
    if !hex.len().is_multiple_of(2) {
        return None;
    }
    hex.as_bytes().chunks_exact(2).map(|pair| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8)).collect()
}
