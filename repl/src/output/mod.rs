//! Answers as text: data formats, tables, charts.
//!
//! [`Rows`] is the one shape everything that is printed goes through: an answer
//! of a query, a log, a schema. Where it came from does not matter here.

pub mod chart;
pub mod data;
pub mod json;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod show;
pub mod table;

use annals::Value;

/// A column of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// Its heading, `?id`, `(count ?e)`, `:t`.
    pub name: String,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Rows.
    Relation,
    /// Values.
    Collection,
    /// One row.
    Tuple,
    /// One value.
    Scalar,
    /// Rows as maps from column names.
    Maps,
    /// One row as a map.
    Map,
}

/// An answer. Every row is as long as `columns`.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Vec<Vec<Value>>,
    /// What was asked for.
    pub shape: Shape,
    /// A list that a command makes, not the answer of a query: drawn without types.
    pub listed: bool,
}

impl Rows {
    /// Rows with these column names.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>, shape: Shape) -> Rows {
        let columns = names.into_iter().map(|n| Column { name: n.to_owned() }).collect();
        Rows { columns, rows: Vec::new(), shape, listed: false }
    }

    /// The list of a command, one map a row.
    pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> Rows {
        Rows { listed: true, ..Rows::new(names, Shape::Maps) }
    }

    /// The answer as one EDN value, for `*1` and for JSON.
    pub fn to_value(&self) -> Value {
        match self.shape {
            Shape::Relation | Shape::Maps => Value::vector((0..self.rows.len()).map(|i| self.line(i))),
            Shape::Collection => Value::vector(self.rows.iter().map(|r| first(r))),
            Shape::Tuple | Shape::Map if self.rows.is_empty() => Value::Nil,
            Shape::Tuple | Shape::Map => self.line(0),
            Shape::Scalar => self.rows.first().map_or(Value::Nil, |r| first(r)),
        }
    }

    /// What stands on line `i` of row formats.
    pub fn line(&self, i: usize) -> Value {
        let row = &self.rows[i];
        match self.shape {
            Shape::Relation | Shape::Tuple => Value::vector(row.iter().cloned()),
            Shape::Collection | Shape::Scalar => first(row),
            Shape::Maps | Shape::Map => {
                Value::map(self.columns.iter().zip(row).map(|(c, v)| (key(&c.name), v.clone())))
            }
        }
    }

    /// Line `i` as EDN; maps keep the order of their columns.
    pub fn edn_line(&self, i: usize) -> String {
        if !matches!(self.shape, Shape::Maps | Shape::Map) {
            return annals::edn::print(&self.line(i));
        }
        let entries = self
            .columns
            .iter()
            .zip(&self.rows[i])
            .map(|(c, v)| format!("{} {}", c.name, annals::edn::print(v)));
        format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
    }

    /// Line `i` as JSON; objects keep the order of their columns.
    pub fn json_line(&self, i: usize) -> String {
        if !matches!(self.shape, Shape::Maps | Shape::Map) {
            return json::of(&self.line(i)).to_string();
        }
        let entries = self.columns.iter().zip(&self.rows[i]).map(|(c, v)| {
            let name = match key(&c.name) {
                Value::String(s) => s.to_string(),
                _ => c.name.clone(),
            };
            format!("{}:{}", serde_json::Value::String(name), json::of(v))
        });
        format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
    }

    /// How many lines row formats have.
    pub fn lines(&self) -> usize {
        match self.shape {
            Shape::Relation | Shape::Collection | Shape::Maps => self.rows.len(),
            Shape::Tuple | Shape::Scalar | Shape::Map => 1,
        }
    }
}

fn first(row: &[Value]) -> Value {
    row.first().cloned().unwrap_or(Value::Nil)
}

/// The key a column has in maps: `:t` is a keyword, `"t"` a string, `t` a symbol, as the column was named.
fn key(name: &str) -> Value {
    annals::edn::read_value(name).unwrap_or_else(|_| Value::string(name))
}
