//! Values to EDN text: the inverse of the reader.
//!
//! 1. What the reader read prints so that it reads back equal. A few values have
//!    no notation of their own: a reference prints as a plain number.
//! 2. Printing is total: it never fails and never panics.

use annals_model::Value;
use bigdecimal::BigDecimal;
use std::fmt::{self, Write};

/// The text of a value, on one line.
pub fn print(v: &Value) -> String {
    let mut out = String::new();
    write(&mut out, v).expect("writing to a string does not fail");
    out
}

/// Writes the text of a value, on one line.
pub fn write(out: &mut impl Write, v: &Value) -> fmt::Result {
    match v {
        Value::Nil => out.write_str("nil"),
        Value::Bool(b) => write!(out, "{b}"),
        Value::Long(n) => write!(out, "{n}"),
        Value::BigInt(n) => write!(out, "{n}N"),
        Value::Double(d) => write_double(out, *d),
        Value::BigDec(d) => write_decimal(out, d),
        Value::Instant(i) => write!(out, "#inst \"{i}\""),
        Value::Uuid(u) => write!(out, "#uuid \"{u}\""),
        Value::Keyword(k) => write!(out, "{k}"),
        Value::Symbol(s) => write!(out, "{s}"),
        Value::String(s) => write_string(out, s),
        Value::Uri(s) => {
            out.write_str("#uri ")?;
            write_string(out, s)
        }
        Value::Ref(e) => write!(out, "{}", e.raw()),
        Value::Bytes(b) => {
            out.write_str("#bytes \"")?;
            b.iter().try_for_each(|byte| write!(out, "{byte:02x}"))?;
            out.write_str("\"")
        }
        Value::Char(c) => write_char(out, *c),
        Value::Vector(items) => write_items(out, "[", items, "]"),
        Value::List(items) => write_items(out, "(", items, ")"),
        Value::Set(items) => write_items(out, "#{", items, "}"),
        Value::Map(entries) => {
            out.write_str("{")?;
            for (i, (k, v)) in entries.iter().enumerate() {
                if i > 0 {
                    out.write_str(", ")?;
                }
                write(out, k)?;
                out.write_str(" ")?;
                write(out, v)?;
            }
            out.write_str("}")
        }
        Value::Tagged(t) => {
            write!(out, "#{} ", t.0)?;
            write(out, &t.1)
        }
    }
}

fn write_items(out: &mut impl Write, open: &str, items: &[Value], close: &str) -> fmt::Result {
    out.write_str(open)?;
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.write_str(" ")?;
        }
        write(out, item)?;
    }
    out.write_str(close)
}

fn write_double(out: &mut impl Write, d: f64) -> fmt::Result {
    if d == f64::INFINITY {
        out.write_str("##Inf")
    } else if d == f64::NEG_INFINITY {
        out.write_str("##-Inf")
    } else {
        // `Debug` always shows a point or an exponent, so that it reads as a double.
        write!(out, "{d:?}")
    }
}

/// Digits and scale exactly, so that `1.50M` stays apart from `1.5M`.
fn write_decimal(out: &mut impl Write, d: &BigDecimal) -> fmt::Result {
    const PLAIN: i64 = 40;
    let (digits, scale) = d.as_bigint_and_exponent();
    if (0..=PLAIN).contains(&scale) {
        let negative = digits.sign() == num_bigint::Sign::Minus;
        let text = digits.magnitude().to_string();
        let scale = scale as usize;
        let padded = format!("{text:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        let sign = if negative { "-" } else { "" };
        let point = if scale > 0 { "." } else { "" };
        write!(out, "{sign}{whole}{point}{fraction}M")
    } else {
        write!(out, "{digits}E{}M", -i128::from(scale))
    }
}

fn write_string(out: &mut impl Write, s: &str) -> fmt::Result {
    out.write_str("\"")?;
    let mut plain = 0;
    for (i, c) in s.char_indices() {
        let escaped: Option<&str> = match c {
            '"' => Some("\\\""),
            '\\' => Some("\\\\"),
            '\n' => Some("\\n"),
            '\r' => Some("\\r"),
            '\t' => Some("\\t"),
            '\u{8}' => Some("\\b"),
            '\u{c}' => Some("\\f"),
            c if c.is_control() || c == '\u{2028}' || c == '\u{2029}' || c == '\u{feff}' => None,
            _ => continue,
        };
        out.write_str(&s[plain..i])?;
        match escaped {
            Some(e) => out.write_str(e)?,
            None => write!(out, "\\u{:04x}", c as u32)?,
        }
        plain = i + c.len_utf8();
    }
    out.write_str(&s[plain..])?;
    out.write_str("\"")
}

fn write_char(out: &mut impl Write, c: char) -> fmt::Result {
    match c {
        '\n' => out.write_str("\\newline"),
        '\r' => out.write_str("\\return"),
        ' ' => out.write_str("\\space"),
        '\t' => out.write_str("\\tab"),
        '\u{8}' => out.write_str("\\backspace"),
        '\u{c}' => out.write_str("\\formfeed"),
        c if (c.is_control() || c.is_whitespace() || c == '\u{feff}') && (c as u32) < 0x1_0000 => {
            write!(out, "\\u{:04x}", c as u32)
        }
        c => write!(out, "\\{c}"),
    }
}

/// The text of a value over several lines where it is longer than `width`
/// columns: one element of a vector, one entry of a map a line.
pub fn print_pretty(v: &Value, width: usize) -> String {
    let mut out = String::new();
    pretty(&mut out, v, 0, 0, width).expect("writing to a string does not fail");
    out
}

/// Writes `v` at column `indent`, keeping `reserved` columns free after it for what closes around it.
fn pretty(out: &mut String, v: &Value, indent: usize, reserved: usize, width: usize) -> fmt::Result {
    let flat = print(v);
    let is_coll =
        matches!(v, Value::Vector(_) | Value::List(_) | Value::Set(_) | Value::Map(_) | Value::Tagged(_));
    if !is_coll || indent + columns(&flat) + reserved <= width {
        out.push_str(&flat);
        return Ok(());
    }
    match v {
        Value::Vector(items) => pretty_items(out, "[", items, "]", indent, reserved, width),
        Value::List(items) => pretty_items(out, "(", items, ")", indent, reserved, width),
        Value::Set(items) => pretty_items(out, "#{", items, "}", indent, reserved, width),
        Value::Map(entries) => {
            out.push('{');
            let inner = indent + 1;
            for (i, (k, v)) in entries.iter().enumerate() {
                if i > 0 {
                    out.push('\n');
                    out.extend(std::iter::repeat_n(' ', inner));
                }
                let key = print(k);
                out.push_str(&key);
                out.push(' ');
                let last = if i + 1 == entries.len() { reserved + 1 } else { 0 };
                pretty(out, v, inner + columns(&key) + 1, last, width)?;
            }
            out.push('}');
            Ok(())
        }
        Value::Tagged(t) => {
            let tag = format!("#{} ", t.0);
            out.push_str(&tag);
            pretty(out, &t.1, indent + columns(&tag), reserved, width)
        }
        _ => unreachable!("only collections are broken over lines"),
    }
}

fn pretty_items(
    out: &mut String,
    open: &str,
    items: &[Value],
    close: &str,
    indent: usize,
    reserved: usize,
    width: usize,
) -> fmt::Result {
    out.push_str(open);
    let inner = indent + open.len();
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', inner));
        }
        let last = if i + 1 == items.len() { reserved + close.len() } else { 0 };
        pretty(out, item, inner, last, width)?;
    }
    out.push_str(close);
    Ok(())
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{str::FromStr, sync::Arc};

    fn dec(text: &str) -> String {
        print(&Value::BigDec(Arc::new(BigDecimal::from_str(text).unwrap())))
    }

    #[test]
    fn decimals_keep_their_scale() {
        assert_eq!(dec("1.50"), "1.50M");
        assert_eq!(dec("-0.05"), "-0.05M");
        assert_eq!(dec("100"), "100M");
        assert_eq!(dec("1E+5"), "1E5M");
        assert_eq!(dec("1E-60"), "1E-60M");
    }

    #[test]
    fn long_values_are_broken_one_entry_a_line() {
        let v = Value::map([
            (Value::keyword("a"), Value::vector((0..5).map(Value::Long))),
            (Value::keyword("b"), Value::string("x")),
        ]);
        assert_eq!(print_pretty(&v, 80), "{:a [0 1 2 3 4], :b \"x\"}");
        assert_eq!(print_pretty(&v, 18), "{:a [0 1 2 3 4]\n :b \"x\"}");
        assert_eq!(print_pretty(&v, 10), "{:a [0\n     1\n     2\n     3\n     4]\n :b \"x\"}");
    }
}
