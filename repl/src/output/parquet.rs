//! Rows as a Parquet file (feature `parquet`): a column for each column, typed by its values.
//!
//! | values of a column | Parquet |
//! |---|---|
//! | long; references, transactions | `INT64` |
//! | double | `DOUBLE` |
//! | boolean | `BOOLEAN` |
//! | instant | `INT64`, timestamp in microseconds, UTC |
//! | string, uri | `BYTE_ARRAY`, text |
//! | anything else, or several types | `BYTE_ARRAY`, text as in CSV |
//!
//! Every column is optional: `nil` is absence. Pages are compressed with Snappy. Written with the
//! `parquet` crate without Arrow: columns go in as they are, and the build stays small.

use super::{Rows, data::field};
use annals::{Value, ValueType};
use parquet::{
    basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical},
    data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::types::{Type, TypePtr},
};
use std::{collections::HashSet, sync::Arc};

/// Rows of one row group.
const GROUP: usize = 100_000;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Long,
    Double,
    Bool,
    Instant,
    Text,
}

/// The rows as the bytes of a file.
pub fn bytes(rows: &Rows) -> Result<Vec<u8>, String> {
    written(rows).map_err(|e| e.to_string())
}

fn written(rows: &Rows) -> Result<Vec<u8>, ParquetError> {
    let kinds: Vec<Kind> = (0..rows.columns.len()).map(|i| kind(rows, i)).collect();
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut out = Vec::new();
    let mut file = SerializedFileWriter::new(&mut out, schema(rows, &kinds)?, Arc::new(properties))?;
    for part in rows.rows.chunks(GROUP) {
        let mut group = file.next_row_group()?;
        for (i, k) in kinds.iter().enumerate() {
            column(&mut group, part, i, *k)?;
        }
        group.close()?;
    }
    file.close()?;
    Ok(out)
}

fn kind(rows: &Rows, i: usize) -> Kind {
    let of = |v: &Value| match v.value_type() {
        Some(ValueType::Long | ValueType::Ref) => Kind::Long,
        Some(ValueType::Double) => Kind::Double,
        Some(ValueType::Boolean) => Kind::Bool,
        Some(ValueType::Instant) => Kind::Instant,
        _ => Kind::Text,
    };
    let mut kinds = rows.rows.iter().map(|r| &r[i]).filter(|v| **v != Value::Nil).map(of);
    match kinds.next() {
        Some(first) if kinds.all(|k| k == first) => first,
        _ => Kind::Text,
    }
}

fn schema(rows: &Rows, kinds: &[Kind]) -> Result<TypePtr, ParquetError> {
    let mut names = HashSet::new();
    let mut fields = Vec::new();
    for (i, (c, k)) in rows.columns.iter().zip(kinds).enumerate() {
        let mut name = c.name.trim_start_matches(['?', ':']).to_owned();
        if !names.insert(name.clone()) {
            name = format!("{name}_{i}");
            names.insert(name.clone());
        }
        let (physical, logical) = match k {
            Kind::Long => (Physical::INT64, None),
            Kind::Double => (Physical::DOUBLE, None),
            Kind::Bool => (Physical::BOOLEAN, None),
            Kind::Instant => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let field = Type::primitive_type_builder(&name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical)
            .build()?;
        fields.push(Arc::new(field));
    }
    Ok(Arc::new(Type::group_type_builder("rows").with_fields(fields).build()?))
}

/// Writes one column of some rows: which values are there, and those.
fn column(
    group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    rows: &[Vec<Value>],
    i: usize,
    kind: Kind,
) -> Result<(), ParquetError> {
    let Some(mut w) = group.next_column()? else {
        return Err(ParquetError::General("a column is missing in the schema".into()));
    };
    let there: Vec<i16> = rows.iter().map(|r| i16::from(r[i] != Value::Nil)).collect();
    let values = rows.iter().map(|r| &r[i]).filter(|v| **v != Value::Nil);
    let there = Some(&there[..]);
    match kind {
        Kind::Long | Kind::Instant => {
            let values: Vec<i64> = values
                .map(|v| match v {
                    Value::Ref(e) => i64::try_from(e.raw()).unwrap_or(i64::MAX),
                    Value::Instant(at) => at.0,
                    Value::Long(n) => *n,
                    _ => 0,
                })
                .collect();
            w.typed::<Int64Type>().write_batch(&values, there, None)?;
        }
        Kind::Double => {
            let values: Vec<f64> =
                values.map(|v| if let Value::Double(d) = v { (*d).into() } else { 0.0 }).collect();
            w.typed::<DoubleType>().write_batch(&values, there, None)?;
        }
        Kind::Bool => {
            let values: Vec<bool> = values.map(|v| *v == Value::Bool(true)).collect();
            w.typed::<BoolType>().write_batch(&values, there, None)?;
        }
        Kind::Text => {
            let values: Vec<ByteArray> = values.map(|v| ByteArray::from(field(v).into_bytes())).collect();
            w.typed::<ByteArrayType>().write_batch(&values, there, None)?;
        }
    }
    w.close()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Shape;
    use parquet::{
        file::reader::{FileReader as _, SerializedFileReader},
        record::RowAccessor as _,
    };

    #[test]
    fn rows_come_back_with_their_types() {
        let mut r = Rows::new(["?n", "?s", "?d", "?mixed", "?n"], Shape::Relation);
        for n in 0..(GROUP as i64 + 5) {
            let s = if n == 1 { Value::Nil } else { Value::string(format!("row {n}")) };
            let mixed = if n % 2 == 0 { Value::Long(n) } else { Value::keyword("a/b") };
            r.rows.push(vec![
                Value::Long(n),
                s,
                Value::Double(n as f64 / 2.0),
                mixed,
                Value::Instant(annals::Instant(n)),
            ]);
        }
        let file = SerializedFileReader::new(bytes::Bytes::from(super::bytes(&r).unwrap())).unwrap();
        assert_eq!(file.metadata().num_row_groups(), 2);
        assert_eq!(file.metadata().file_metadata().num_rows(), GROUP as i64 + 5);
        let names: Vec<&str> =
            file.metadata().file_metadata().schema().get_fields().iter().map(|f| f.name()).collect();
        assert_eq!(names, ["n", "s", "d", "mixed", "n_4"]);
        let mut rows = file.get_row_iter(None).unwrap();
        let first = rows.next().unwrap().unwrap();
        assert_eq!((first.get_long(0).unwrap(), first.get_string(1).unwrap().as_str()), (0, "row 0"));
        let second = rows.next().unwrap().unwrap();
        assert_eq!((second.get_double(2).unwrap(), second.get_string(3).unwrap().as_str()), (0.5, ":a/b"));
        assert!(second.get_string(1).is_err(), "nil is absence");
    }
}
