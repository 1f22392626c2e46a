//! Rows on the wire: EDN, JSON, NDJSON, CSV, a chunk at a time.
//!
//! | shape | EDN and JSON `rows` | NDJSON | CSV |
//! |---|---|---|---|
//! | relation | list of rows | one array a line | one record a row |
//! | collection | list of values | one value a line | one field a record |
//! | tuple | the one row, or nil | one line, or none | one record, or none |
//! | scalar | the value, or nil | one line, or none | one record, or none |
//! | maps (`:keys` …) | list of maps | one object a line | one record a row |
//! | map (`:keys` …, tuple) | the one map, or nil | one line, or none | one record, or none |
//!
//! 1. NDJSON ends with `{"done":true,"rows":n}`: a stream without it was cut.
//! 2. What is encoded depends on the rows and the head alone: the same answer has
//!    the same bytes.

use super::value::{self, Style};
use annals::{Rows, Value};
use std::{borrow::Cow, fmt::Write as _};

/// What the find specification asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `[:find ?a ?b …]`
    Rel,
    /// `[:find [?a ...] …]`
    Coll,
    /// `[:find [?a ?b] …]`
    Tuple,
    /// `[:find ?a . …]`
    Scalar,
    /// A relation with `:keys`, `:strs` or `:syms`
    Maps,
    /// A tuple with `:keys`, `:strs` or `:syms`
    Map,
}

impl Shape {
    /// Its name in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Shape::Rel => "rel",
            Shape::Coll => "coll",
            Shape::Tuple => "tuple",
            Shape::Scalar => "scalar",
            Shape::Maps => "maps",
            Shape::Map => "map",
        }
    }
}

/// Rows, decoded one at a time.
#[derive(Clone, Debug)]
pub enum Lines {
    /// Those of a query's answer.
    Answer(Rows),
    /// Values at hand.
    Values(Vec<Vec<Value>>),
}

impl Lines {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Lines::Answer(rows) => rows.len(),
            Lines::Values(rows) => rows.len(),
        }
    }
    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// One of them.
    pub fn row(&self, i: usize) -> Cow<'_, [Value]> {
        match self {
            Lines::Answer(rows) => Cow::Owned(rows.row(i)),
            Lines::Values(rows) => Cow::Borrowed(&rows[i]),
        }
    }
}

/// An answer to be encoded.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its shape.
    pub shape: Shape,
    /// What each column is called.
    pub columns: Vec<String>,
    /// The keys of maps, as values.
    pub keys: Vec<Value>,
    /// Rows of values; a collection has rows of one.
    pub rows: Lines,
    /// Names and values that come before the rows: the basis.
    pub head: Vec<(&'static str, Value)>,
    /// Whether to say the type of each column.
    pub types: bool,
    /// How faithful JSON is.
    pub style: Style,
}

/// The encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the formats")]
pub enum Encoding {
    Edn,
    Json,
    Ndjson,
    Csv,
}

/// Encodes a table piece by piece.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    encoding: Encoding,
    next: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Rows,
    Done,
}

impl Encoder {
    /// Nothing encoded yet.
    pub fn new(table: Table, encoding: Encoding) -> Encoder {
        Encoder { table, encoding, next: 0, state: State::Head }
    }

    /// About `bytes` more of the answer; None after the end.
    pub fn chunk(&mut self, bytes: usize) -> Option<String> {
        if self.state == State::Done {
            return None;
        }
        let mut out = String::with_capacity(bytes.min(self.table.rows.len() * 32 + 512));
        if self.state == State::Head {
            self.head(&mut out);
            self.state = State::Rows;
        }
        let last = if self.is_one() { self.table.rows.len().min(1) } else { self.table.rows.len() };
        while self.next < last && out.len() < bytes {
            self.row(&mut out, self.next);
            self.next += 1;
        }
        if self.next >= last {
            self.tail(&mut out, last);
            self.state = State::Done;
        }
        Some(out)
    }

    /// Is all of it encoded?
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn is_one(&self) -> bool {
        matches!(self.table.shape, Shape::Tuple | Shape::Scalar | Shape::Map)
    }

    fn head(&self, out: &mut String) {
        let t = &self.table;
        match self.encoding {
            Encoding::Json => {
                out.push('{');
                for (name, v) in &t.head {
                    value::write_str(out, name);
                    out.push(':');
                    value::write(out, v, Style::Plain);
                    out.push(',');
                }
                let _ = write!(out, "\"shape\":\"{}\",\"columns\":[", t.shape.name());
                for (i, c) in t.columns.iter().enumerate() {
                    comma(out, i);
                    value::write_str(out, c);
                }
                out.push(']');
                if matches!(t.shape, Shape::Maps | Shape::Map) {
                    out.push_str(",\"keys\":[");
                    for (i, k) in t.keys.iter().enumerate() {
                        comma(out, i);
                        value::write(out, k, Style::Plain);
                    }
                    out.push(']');
                }
                if t.types {
                    out.push_str(",\"types\":[");
                    for i in 0..t.columns.len() {
                        comma(out, i);
                        value::write_str(out, self.column_type(i));
                    }
                    out.push(']');
                }
                out.push_str(",\"rows\":");
                out.push_str(if self.is_one() { "" } else { "[" });
            }
            Encoding::Edn => {
                out.push('{');
                for (name, v) in &t.head {
                    let _ = write!(out, ":{name} {} ", annals::edn::print(v));
                }
                if t.types {
                    self.edn_types(out);
                }
                out.push_str(":rows ");
                out.push_str(if self.is_one() { "" } else { "[" });
            }
            Encoding::Ndjson => {}
            Encoding::Csv => {
                for (i, c) in t.columns.iter().enumerate() {
                    comma(out, i);
                    csv_field(out, c);
                }
                out.push_str("\r\n");
            }
        }
    }

    /// Shape, columns, keys and types, for readers that want the values exactly.
    fn edn_types(&self, out: &mut String) {
        let t = &self.table;
        let texts = |texts: &mut dyn Iterator<Item = &str>| {
            annals::edn::print(&Value::vector(texts.map(Value::string)))
        };
        let _ = write!(out, ":shape \"{}\" ", t.shape.name());
        let _ = write!(out, ":columns {} ", texts(&mut t.columns.iter().map(String::as_str)));
        if matches!(t.shape, Shape::Maps | Shape::Map) {
            let _ = write!(out, ":keys {} ", annals::edn::print(&Value::vector(t.keys.iter().cloned())));
        }
        let _ = write!(out, ":types {} ", texts(&mut (0..t.columns.len()).map(|i| self.column_type(i))));
    }

    fn row(&self, out: &mut String, i: usize) {
        let t = &self.table;
        let row = &*t.rows.row(i);
        match self.encoding {
            Encoding::Json | Encoding::Ndjson => {
                if self.encoding == Encoding::Json {
                    comma(out, i);
                }
                match t.shape {
                    Shape::Rel | Shape::Tuple => json_items(out, row, t.style),
                    Shape::Coll | Shape::Scalar => value::write(out, first(row), t.style),
                    Shape::Maps | Shape::Map => {
                        out.push('{');
                        for (j, (k, v)) in t.keys.iter().zip(row).enumerate() {
                            comma(out, j);
                            match k {
                                Value::String(s) => value::write_str(out, s),
                                k => value::write_str(out, &annals::edn::print(k)),
                            }
                            out.push(':');
                            value::write(out, v, t.style);
                        }
                        out.push('}');
                    }
                }
                if self.encoding == Encoding::Ndjson {
                    out.push('\n');
                }
            }
            Encoding::Edn => {
                if i > 0 {
                    out.push(' ');
                }
                match t.shape {
                    Shape::Rel | Shape::Tuple => {
                        out.push('[');
                        for (j, v) in row.iter().enumerate() {
                            if j > 0 {
                                out.push(' ');
                            }
                            let _ = annals::edn::write(out, v);
                        }
                        out.push(']');
                    }
                    Shape::Coll | Shape::Scalar => drop(annals::edn::write(out, first(row))),
                    Shape::Maps | Shape::Map => {
                        let map = Value::map(t.keys.iter().cloned().zip(row.iter().cloned()));
                        let _ = annals::edn::write(out, &map);
                    }
                }
            }
            Encoding::Csv => {
                for (j, v) in row.iter().enumerate() {
                    comma(out, j);
                    csv_value(out, v);
                }
                out.push_str("\r\n");
            }
        }
    }

    fn tail(&self, out: &mut String, rows: usize) {
        match self.encoding {
            Encoding::Json if self.is_one() => out.push_str(if rows == 0 { "null}" } else { "}" }),
            Encoding::Json => out.push_str("]}"),
            Encoding::Edn if self.is_one() => out.push_str(if rows == 0 { "nil}" } else { "}" }),
            Encoding::Edn => out.push_str("]}"),
            Encoding::Ndjson => {
                out.push_str("{\"done\":true,");
                let _ = write!(out, "\"rows\":{rows}");
                for (name, v) in &self.table.head {
                    out.push(',');
                    value::write_str(out, name);
                    out.push(':');
                    value::write(out, v, Style::Plain);
                }
                out.push_str("}\n");
            }
            Encoding::Csv => {}
        }
    }

    /// The kind all values of a column share, `mixed`, or `nil` when there are none.
    fn column_type(&self, i: usize) -> &'static str {
        let mut kind = None;
        for r in 0..self.table.rows.len() {
            match (self.table.rows.row(r).get(i).map(Value::kind), kind) {
                (None | Some("nil"), _) => {}
                (Some(k), None) => kind = Some(k),
                (Some(k), Some(before)) if k == before => {}
                (Some(_), Some(_)) => return "mixed",
            }
        }
        kind.unwrap_or("nil")
    }
}

fn first(row: &[Value]) -> &Value {
    row.first().unwrap_or(&Value::Nil)
}

fn json_items(out: &mut String, row: &[Value], style: Style) {
    out.push('[');
    for (i, v) in row.iter().enumerate() {
        comma(out, i);
        value::write(out, v, style);
    }
    out.push(']');
}

/// A field as RFC 4180 has it. Text that a spreadsheet would take for a formula
/// is quoted like any other and not altered: the file is data, not a sheet.
fn csv_value(out: &mut String, v: &Value) {
    match v {
        Value::Nil => {}
        Value::String(s) => csv_field(out, s),
        Value::Vector(_) | Value::List(_) | Value::Set(_) | Value::Map(_) | Value::Tagged(_) => {
            csv_field(out, &annals::edn::print(v));
        }
        scalar => {
            let mut text = String::new();
            value::write(&mut text, scalar, Style::Plain);
            csv_field(out, text.trim_matches('"'));
        }
    }
}

fn csv_field(out: &mut String, text: &str) {
    if text.contains([',', '"', '\n', '\r']) {
        out.push('"');
        out.push_str(&text.replace('"', "\"\""));
        out.push('"');
    } else {
        out.push_str(text);
    }
}

fn comma(out: &mut String, i: usize) {
    if i > 0 {
        out.push(',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(shape: Shape, rows: Vec<Vec<Value>>) -> Table {
        Table {
            shape,
            columns: vec!["?a".into(), "?b".into()],
            keys: vec![Value::keyword("a"), Value::keyword("b")],
            rows: Lines::Values(rows),
            head: vec![("basis-t", Value::Long(7))],
            types: true,
            style: Style::Plain,
        }
    }

    fn whole(t: &Table, encoding: Encoding, bytes: usize) -> String {
        let mut e = Encoder::new(t.clone(), encoding);
        std::iter::from_fn(|| e.chunk(bytes)).collect()
    }

    fn rows() -> Vec<Vec<Value>> {
        vec![vec![Value::Long(1), "x,\"y\"".into()], vec![Value::Long(2), Value::keyword("a/b")]]
    }

    #[test]
    fn every_encoding_is_the_same_in_any_chunks() {
        for encoding in [Encoding::Edn, Encoding::Json, Encoding::Ndjson, Encoding::Csv] {
            for shape in [Shape::Rel, Shape::Coll, Shape::Tuple, Shape::Scalar, Shape::Maps, Shape::Map] {
                let t = table(shape, rows());
                assert_eq!(whole(&t, encoding, 1), whole(&t, encoding, 1 << 20));
            }
        }
    }

    #[test]
    fn json_is_json_and_says_types() {
        for shape in [Shape::Rel, Shape::Coll, Shape::Tuple, Shape::Scalar, Shape::Maps, Shape::Map] {
            for rows in [rows(), vec![]] {
                let doc: serde_json::Value =
                    serde_json::from_str(&whole(&table(shape, rows), Encoding::Json, 1)).unwrap();
                assert_eq!(doc["basis-t"], 7);
            }
        }
        let doc: serde_json::Value =
            serde_json::from_str(&whole(&table(Shape::Rel, rows()), Encoding::Json, 9)).unwrap();
        assert_eq!(doc["types"], serde_json::json!(["long", "mixed"]));
        assert_eq!(doc["rows"], serde_json::json!([[1, "x,\"y\""], [2, ":a/b"]]));
    }

    #[test]
    fn ndjson_closes_with_a_record_and_csv_quotes() {
        let text = whole(&table(Shape::Rel, rows()), Encoding::Ndjson, 1);
        assert_eq!(text.lines().last(), Some("{\"done\":true,\"rows\":2,\"basis-t\":7}"));
        let text = whole(&table(Shape::Rel, rows()), Encoding::Csv, 1);
        assert_eq!(text, "?a,?b\r\n1,\"x,\"\"y\"\"\"\r\n2,:a/b\r\n");
        assert!(whole(&table(Shape::Scalar, vec![]), Encoding::Json, 1).ends_with("\"rows\":null}"));
    }
}
