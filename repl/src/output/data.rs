//! Rows in the data formats: EDN, JSON, NDJSON, CSV. What programs read: never
//! cut, never coloured, stable.

use super::{Rows, Shape};
use annals::{Value, edn};
use std::io::{self, Write};

/// One EDN value a line; a scalar bare, a tuple as one vector.
pub fn edn(rows: &Rows, out: &mut dyn Write) -> io::Result<()> {
    for i in 0..rows.lines() {
        match rows.rows.is_empty() {
            true => writeln!(out, "nil")?,
            false => writeln!(out, "{}", rows.edn_line(i))?,
        }
    }
    Ok(())
}

/// One JSON document.
pub fn json(rows: &Rows, out: &mut dyn Write) -> io::Result<()> {
    if !matches!(rows.shape, Shape::Relation | Shape::Collection | Shape::Maps) {
        return match rows.rows.is_empty() {
            true => writeln!(out, "null"),
            false => writeln!(out, "{}", rows.json_line(0)),
        };
    }
    // Row by row: an answer may be larger than a second copy of it should be.
    out.write_all(b"[")?;
    for i in 0..rows.rows.len() {
        write!(out, "{}{}", if i == 0 { "\n " } else { ",\n " }, rows.json_line(i))?;
    }
    writeln!(out, "{}]", if rows.rows.is_empty() { "" } else { "\n" })
}

/// One JSON value a line.
pub fn ndjson(rows: &Rows, out: &mut dyn Write) -> io::Result<()> {
    for i in 0..rows.lines() {
        match rows.rows.is_empty() {
            true => writeln!(out, "null")?,
            false => writeln!(out, "{}", rows.json_line(i))?,
        }
    }
    Ok(())
}

/// RFC 4180 with a header; keywords with their colon, collections as EDN.
pub fn csv(rows: &Rows, out: &mut dyn Write) -> io::Result<()> {
    let mut w = csv::WriterBuilder::new().flexible(false).from_writer(out);
    w.write_record(rows.columns.iter().map(|c| c.name.trim_start_matches(['?', ':'])))?;
    for row in &rows.rows {
        w.write_record(row.iter().map(field))?;
    }
    w.flush()
}

/// A value as text without EDN's quotes and tags.
pub fn field(v: &Value) -> String {
    match v {
        Value::Nil => String::new(),
        Value::String(s) | Value::Uri(s) => s.to_string(),
        Value::Instant(i) => i.to_string(),
        Value::Uuid(u) => u.to_string(),
        Value::BigInt(n) => n.to_string(),
        Value::BigDec(_) => edn::print(v).trim_end_matches('M').to_owned(),
        Value::Char(c) => c.to_string(),
        other => edn::print(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(rows: &Rows, f: fn(&Rows, &mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        f(rows, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn rows(shape: Shape) -> Rows {
        let mut r = Rows::new(["?id", "?n"], shape);
        r.rows.push(vec![Value::string("a, \"b\""), Value::Long(1)]);
        r.rows.push(vec![Value::keyword("x/y"), Value::Nil]);
        r
    }

    #[test]
    fn every_shape_prints_as_the_contract_says() {
        assert_eq!(text(&rows(Shape::Relation), edn), "[\"a, \\\"b\\\"\" 1]\n[:x/y nil]\n");
        assert_eq!(text(&rows(Shape::Collection), edn), "\"a, \\\"b\\\"\"\n:x/y\n");
        assert_eq!(text(&rows(Shape::Tuple), edn), "[\"a, \\\"b\\\"\" 1]\n");
        assert_eq!(text(&rows(Shape::Scalar), edn), "\"a, \\\"b\\\"\"\n");
        assert_eq!(text(&Rows::new(["?x"], Shape::Scalar), edn), "nil\n");
        assert_eq!(text(&Rows::new(["?x"], Shape::Relation), edn), "");
        assert_eq!(text(&Rows::new(["?x"], Shape::Relation), json), "[]\n");
        assert_eq!(text(&rows(Shape::Relation), ndjson), "[\"a, \\\"b\\\"\",1]\n[\":x/y\",null]\n");
        assert_eq!(text(&rows(Shape::Relation), csv), "id,n\n\"a, \"\"b\"\"\",1\n:x/y,\n");
    }
}
