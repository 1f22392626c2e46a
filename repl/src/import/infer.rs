//! What type a column of text has: the narrowest that holds all of it.
//!
//! `long` before `double` before `instant`, `uuid`, `boolean`; what fits none is a
//! `string`. A column like `007` or `+4912` stays text: reading it as a number would lose something.

use annals::{Instant, Value, ValueType};
use uuid::Uuid;

/// What the values of a column have been so far.
#[derive(Clone, Debug)]
pub struct Guess {
    fits: [bool; CANDIDATES.len()],
    seen: u64,
}

const CANDIDATES: [ValueType; 5] =
    [ValueType::Boolean, ValueType::Long, ValueType::Double, ValueType::Instant, ValueType::Uuid];

impl Default for Guess {
    fn default() -> Guess {
        Guess { fits: [true; CANDIDATES.len()], seen: 0 }
    }
}

impl Guess {
    /// Takes a value into account; empty text says nothing.
    pub fn see(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.seen += 1;
        for (fits, t) in self.fits.iter_mut().zip(CANDIDATES) {
            *fits = *fits && read(t, text).is_some();
        }
    }

    /// The narrowest type that holds everything seen.
    pub fn value_type(&self) -> ValueType {
        let first = self.fits.iter().zip(CANDIDATES).find(|(fits, _)| **fits && self.seen > 0);
        first.map_or(ValueType::String, |(_, t)| t)
    }
}

/// Text as a value of a type; none when it is not one, or would not print the same again.
pub fn read(t: ValueType, text: &str) -> Option<Value> {
    match t {
        ValueType::String => Some(Value::string(text)),
        ValueType::Boolean => match text {
            "true" | "TRUE" | "True" => Some(Value::Bool(true)),
            "false" | "FALSE" | "False" => Some(Value::Bool(false)),
            _ => None,
        },
        ValueType::Long => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let padded = digits.len() > 1 && digits.starts_with('0');
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            (plain && !padded).then(|| text.parse().ok().map(Value::Long)).flatten()
        }
        ValueType::Double => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let padded = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
            let starts = digits.bytes().next().is_some_and(|b| b.is_ascii_digit());
            (starts && !padded).then(|| text.parse().ok().and_then(Value::double)).flatten()
        }
        ValueType::Instant => {
            let year = text.len() >= 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
            let text = if text.len() > 10 && text.as_bytes()[10] == b' ' {
                text.replacen(' ', "T", 1)
            } else {
                text.to_owned()
            };
            year.then(|| Instant::parse(&text).map(Value::Instant)).flatten()
        }
        ValueType::Uuid => (text.len() == 36).then(|| Uuid::parse_str(text).ok().map(Value::Uuid)).flatten(),
        ValueType::Keyword => {
            let name = text.strip_prefix(':').unwrap_or(text);
            (!name.is_empty() && !name.contains(char::is_whitespace)).then(|| Value::keyword(name))
        }
        _ => annals::edn::read_value(text).ok(),
    }
}

/// A column's heading as the name of an attribute: `Unit Price (EUR)` is `unit-price-eur`.
pub fn attribute_name(heading: &str) -> String {
    let mut out = String::new();
    let mut dash = false;
    let mut lower = false;
    for c in heading.trim().chars() {
        if c.is_alphanumeric() {
            // unitPrice is unit-price.
            if (dash || c.is_uppercase() && lower) && !out.is_empty() {
                out.push('-');
            }
            out.extend(c.to_lowercase());
            lower = c.is_lowercase() || c.is_numeric();
            dash = false;
        } else {
            dash = true;
            lower = false;
        }
    }
    if out.starts_with(|c: char| c.is_numeric()) { format!("n{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_type_that_holds_all_wins() {
        for (values, want) in [
            (&["1", "2"][..], ValueType::Long),
            (&["1", "2.5"], ValueType::Double),
            (&["1", "x"], ValueType::String),
            (&["007", "8"], ValueType::String),
            (&["true", "False"], ValueType::Boolean),
            (&["2026-01-01", "2026-01-01T10:00:00Z", "2026-01-02 10:00:00"], ValueType::Instant),
            (&["9b8822f4-0c2c-5667-99b5-6867b7a270c6"], ValueType::Uuid),
            (&["", ""], ValueType::String),
            (&["NaN"], ValueType::String),
            (&["99999999999999999999"], ValueType::Double),
        ] {
            let mut g = Guess::default();
            values.iter().for_each(|v| g.see(v));
            assert_eq!(g.value_type(), want, "{values:?}");
        }
    }

    #[test]
    fn headings_become_names() {
        assert_eq!(
            ["Unit Price (EUR)", "unitPrice", "id", "2nd", "__x y"].map(attribute_name),
            ["unit-price-eur", "unit-price", "id", "n2nd", "x-y"]
        );
    }
}
