//! Tables: CSV with a header, NDJSON objects. One row is one entity.

use super::{
    infer::{Guess, attribute_name, read},
    rejects::Rejects,
    source::Source,
};
use crate::{
    cli::TableArgs,
    fail::{Failure, Outcome},
    output::{json, table::counted},
    progress::Progress,
    session::{Session, read_text},
};
use annals::{Cardinality, Keyword, TxData, Unique, Value, ValueType, edn};
use std::{collections::BTreeMap, io::BufRead, path::Path};

/// Rows looked at to infer a schema.
const SAMPLE: usize = 10_000;

/// A column and the attribute it becomes.
struct Field {
    heading: String,
    attr: Keyword,
    value_type: ValueType,
    many: bool,
    /// The unique attribute that its values name, for `--ref`.
    refers: Option<Keyword>,
}

/// A row: values by column; none where there is nothing.
type Row = Vec<Option<Cell>>;

enum Cell {
    Text(String),
    Json(serde_json::Value),
}

/// `import csv`.
pub fn csv(s: &mut Session, args: &TableArgs) -> Outcome {
    let mut source = Source::open(&args.file)?;
    let position = source.name.clone();
    let reader: Box<dyn BufRead + Send> = std::mem::replace(&mut source.reader, Box::new(std::io::empty()));
    let mut rows = csv::ReaderBuilder::new().flexible(true).from_reader(reader);
    let headings: Vec<String> = match rows.headers() {
        Ok(h) => h.iter().map(|h| h.trim_start_matches('\u{feff}').to_owned()).collect(),
        Err(e) => return Err(Failure::refused("import/csv", format!("{position}: {e}"))),
    };
    if headings.iter().all(|h| h.trim().is_empty()) {
        return Err(Failure::refused("import/csv", format!("{position}: there is no header line")));
    }
    let width = headings.len();
    let name = source.name.clone();
    let records = rows.into_records().enumerate().map(move |(i, r)| {
        let record = r.map_err(|e| Failure::refused("import/csv", format!("{name}: {e}")))?;
        let line = record.position().map_or(i as u64 + 2, csv::Position::line);
        if record.len() != width {
            return Ok((line, Err(format!("the row has {} fields, the header {width}", record.len()))));
        }
        let cells = record.iter().map(|f| (!f.is_empty()).then(|| Cell::Text(f.to_owned()))).collect();
        Ok((line, Ok(cells)))
    });
    table(s, args, headings, records, &source)
}

/// `import ndjson`.
pub fn ndjson(s: &mut Session, args: &TableArgs) -> Outcome {
    let mut source = Source::open(&args.file)?;
    // Columns come from the sample: objects name their own.
    let mut sample = Vec::new();
    let mut headings: Vec<String> = Vec::new();
    while sample.len() < SAMPLE
        && let Some(line) = source.next_line()?
    {
        let object = object(&source, &line)?;
        for k in object.keys() {
            if !headings.contains(k) {
                headings.push(k.clone());
            }
        }
        sample.push((source.line_number() as u64, object));
    }
    let columns = headings.clone();
    let cells = move |object: serde_json::Map<String, serde_json::Value>,
                      columns: &[String]|
          -> Result<Row, String> {
        if let Some(k) = object.keys().find(|k| !columns.contains(k)) {
            return Err(format!("field {k:?} does not occur in the first {SAMPLE} rows; give --schema"));
        }
        Ok(columns.iter().map(|c| object.get(c).filter(|v| !v.is_null()).cloned().map(Cell::Json)).collect())
    };
    let of_sample = columns.clone();
    let first = sample.into_iter().map(move |(line, o)| Ok((line, cells(o, &of_sample))));
    let empty = Source::of_bytes("", b"");
    let mut rest = std::mem::replace(&mut source, empty);
    source.name.clone_from(&rest.name);
    source.size = rest.size;
    let later = std::iter::from_fn(move || {
        let line = match rest.next_line() {
            Ok(Some(line)) => line,
            Ok(None) => return None,
            Err(f) => return Some(Err(f)),
        };
        let at = rest.line_number() as u64;
        Some(object(&rest, &line).map(|o| (at, cells(o, &columns))))
    });
    table(s, args, headings, first.chain(later), &source)
}

fn object(source: &Source, line: &str) -> Outcome<serde_json::Map<String, serde_json::Value>> {
    match serde_json::from_str(line) {
        Ok(serde_json::Value::Object(o)) => Ok(o),
        Ok(_) => Err(source.wrong("the line is JSON, but no object")),
        Err(e) => Err(source.wrong(&format!("column {}: {e}", e.column()))),
    }
}

/// Rows of any table into facts.
fn table(
    s: &mut Session,
    args: &TableArgs,
    headings: Vec<String>,
    mut rows: impl Iterator<Item = Outcome<(u64, Result<Row, String>)>>,
    source: &Source,
) -> Outcome {
    let mut sample: Vec<(u64, Result<Row, String>)> = Vec::new();
    while sample.len() < SAMPLE
        && let Some(row) = rows.next()
    {
        sample.push(row?);
    }
    let good: Vec<&Row> = sample.iter().filter_map(|(_, r)| r.as_ref().ok()).collect();
    let namespace = args.ns.clone().unwrap_or_else(|| namespace(&args.file));
    let given = args.schema.as_deref().map(|f| read_text(&f.display().to_string())).transpose()?;
    if let Some(text) = &given
        && !args.dry_run
    {
        install(s, text)?;
    }
    let fields = fields(s, args, &headings, &good, &namespace, given.is_some())?;
    let key = key_field(args, &fields)?;
    let missing: Vec<Value> = missing_schema(s, &fields, key)?;
    if args.dry_run {
        return dry_run(s, &missing, &good, &fields);
    }
    if !missing.is_empty() {
        s.conn.transact(missing)?;
    }
    let mut rejects = Rejects::open(args.rejects.as_deref())?;
    let mut progress = Progress::new(s, "rows", source.size);
    let (mut read_rows, mut datoms) = (0u64, 0u64);
    let mut batch: Vec<(u64, Value)> = Vec::new();
    let mut all = sample.into_iter().map(Ok).chain(rows);
    loop {
        let row = all.next().transpose()?;
        let ended = row.is_none();
        if let Some((line, row)) = row {
            read_rows += 1;
            if read_rows <= args.skip {
                continue;
            }
            match row.and_then(|r| entity(&r, &fields)) {
                Ok(Some(map)) => batch.push((line, map)),
                Ok(None) => {}
                Err(why) => {
                    rejects.put(&source.name, line, &why, "")?;
                }
            }
        }
        if batch.len() >= args.batch.max(1) || ended && !batch.is_empty() {
            let n = batch.len() as u64;
            let (wrote, bad) = commit(s, std::mem::take(&mut batch), &mut rejects, &source.name)?;
            datoms += wrote;
            progress.add(n - bad, source.position());
        }
        if ended {
            break;
        }
    }
    let rejected = rejects.finish()?;
    let n = progress.count();
    let took = progress.done();
    let speed = (datoms as f64 / took.as_secs_f64().max(1e-3)) as u64;
    s.note(format!(
        "{} into {namespace}, {} ({}/s){}",
        counted(n, "row"),
        counted(datoms, "fact"),
        crate::output::table::thousands(speed),
        if rejected > 0 { format!(", {rejected} rejected") } else { String::new() }
    ));
    Ok(())
}

/// Commits a batch; when it is refused, row by row, so that one bad row is found and named.
fn commit(s: &Session, batch: Vec<(u64, Value)>, rejects: &mut Rejects, name: &str) -> Outcome<(u64, u64)> {
    let forms: Vec<Value> = batch.iter().map(|(_, v)| v.clone()).collect();
    let refused = match s.conn.transact(TxData { forms, text: None }) {
        Ok(r) => return Ok((r.tx_data().len() as u64 - 1, 0)),
        Err(f) => f,
    };
    if batch.len() == 1 && !rejects.are_kept() {
        let mut f = refused;
        f.diagnostics[0].message = format!("{name}:{}: {}", batch[0].0, f.diagnostics[0].message);
        return Err(f);
    }
    let (mut wrote, mut bad) = (0, 0);
    for (line, v) in batch {
        let shown = v.clone();
        match s.conn.transact(vec![v]) {
            Ok(r) => wrote += r.tx_data().len() as u64 - 1,
            Err(e) if rejects.are_kept() => {
                let why = e.diagnostics.first().map_or("refused", |d| d.message.as_str()).to_owned();
                rejects.put(name, line, &why, &edn::print(&shown))?;
                bad += 1;
            }
            Err(e) => {
                let mut f = e;
                f.diagnostics[0].message = format!("{name}:{line}: {}", f.diagnostics[0].message);
                return Err(f.help("--rejects FILE sets such rows aside and goes on"));
            }
        }
    }
    Ok((wrote, bad))
}

fn install(s: &Session, text: &str) -> Outcome {
    let v = crate::session::read_edn(text, "schema")?;
    let attrs: Vec<Value> = match &v {
        Value::Vector(items) => items.to_vec(),
        _ => {
            return Err(
                Failure::refused("tx/form", "a schema is a vector of attribute maps").of("schema", text)
            );
        }
    };
    s.conn.transact(attrs).map(|_| ()).map_err(|f| f.of("schema", text))
}

fn namespace(file: &str) -> String {
    let stem = Path::new(file).file_name().map_or_else(|| "row".into(), |f| f.to_string_lossy().into_owned());
    let stem = stem.split('.').next().unwrap_or("row");
    let name = attribute_name(stem);
    if name.is_empty() { "row".to_owned() } else { name }
}

/// What each column becomes: an installed attribute's type if there is one, else what its values look like.
fn fields(
    s: &Session,
    args: &TableArgs,
    headings: &[String],
    sample: &[&Row],
    ns: &str,
    strict: bool,
) -> Outcome<Vec<Field>> {
    let db = s.conn.db()?;
    let schema = db.schema()?;
    let mut refs: BTreeMap<&str, Keyword> = BTreeMap::new();
    for r in &args.refs {
        let (column, attr) = r
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--ref {r}: write COLUMN=:ns/attribute")))?;
        if !headings.iter().any(|h| h == column) {
            return Err(no_column(column, headings));
        }
        let target = db.attribute(attr)?;
        if target.unique.is_none() {
            return Err(Failure::usage(format!(
                "--ref {r}: {} is not unique, so its values name no entity",
                target.ident
            )));
        }
        refs.insert(column, target.ident.clone());
    }
    let mut out: Vec<Field> = Vec::new();
    for (i, heading) in headings.iter().enumerate() {
        let own = attribute_name(heading);
        let name = match heading.strip_prefix(':') {
            Some(whole) => whole.to_owned(),
            None if own.is_empty() => format!("{ns}/column-{}", i + 1),
            None => format!("{ns}/{own}"),
        };
        let attr = Keyword::new(&name);
        if out.iter().any(|f| f.attr == attr) {
            return Err(Failure::refused(
                "import/columns",
                format!("two columns would be :{name}: {heading:?} is one of them"),
            ));
        }
        let refers = refs.get(heading.as_str()).cloned();
        let known = schema.attribute_named(&attr);
        if known.is_none() && strict && refers.is_none() {
            db.attribute(attr.as_str())?;
        }
        let (value_type, many) = match known {
            Some(a) => (a.value_type, a.is_many()),
            None if refers.is_some() => (ValueType::Ref, false),
            None => guess(sample, i),
        };
        out.push(Field { heading: heading.clone(), attr, value_type, many, refers });
    }
    Ok(out)
}

fn guess(sample: &[&Row], column: usize) -> (ValueType, bool) {
    let mut text = Guess::default();
    let mut many = false;
    let mut json: Option<ValueType> = None;
    let mut mixed = false;
    for cell in sample.iter().filter_map(|r| r[column].as_ref()) {
        let mut see = |v: &serde_json::Value| {
            let t = match v {
                serde_json::Value::Bool(_) => ValueType::Boolean,
                serde_json::Value::Number(n) if n.is_i64() => ValueType::Long,
                serde_json::Value::Number(_) => ValueType::Double,
                serde_json::Value::String(s) => {
                    text.see(s);
                    ValueType::String
                }
                _ => ValueType::String,
            };
            match json {
                None => json = Some(t),
                Some(ValueType::Long) if t == ValueType::Double => json = Some(t),
                Some(ValueType::Double) if t == ValueType::Long => {}
                Some(old) => mixed |= old != t,
            }
        };
        match cell {
            Cell::Text(t) => text.see(t),
            Cell::Json(serde_json::Value::Array(items)) => {
                many = true;
                items.iter().for_each(&mut see);
            }
            Cell::Json(v) => see(v),
        }
    }
    let t = match json {
        // A string of digits in JSON was meant as a string; dates and ids have no type there.
        Some(ValueType::String) => match text.value_type() {
            t @ (ValueType::Instant | ValueType::Uuid) => t,
            _ => ValueType::String,
        },
        Some(_) if mixed => ValueType::String,
        Some(t) => t,
        None => text.value_type(),
    };
    (t, many)
}

fn no_column(column: &str, headings: &[String]) -> Failure {
    let f = Failure::usage(format!("there is no column {column}"));
    match annals::diagnostic::nearest(column, headings.iter().map(String::as_str)) {
        Some(near) => f.help(format!("did you mean {near}?")),
        None => f.help(format!("columns: {}", headings.join(", "))),
    }
}

fn key_field<'a>(args: &TableArgs, fields: &'a [Field]) -> Outcome<Option<&'a Field>> {
    let Some(key) = &args.key else { return Ok(None) };
    let found = fields.iter().find(|f| {
        f.heading == *key || f.attr.name() == key || f.attr.as_str() == key.trim_start_matches(':')
    });
    found
        .map(Some)
        .ok_or_else(|| no_column(key, &fields.iter().map(|f| f.heading.clone()).collect::<Vec<_>>()))
}

/// Attribute maps for what is not installed yet.
fn missing_schema(s: &Session, fields: &[Field], key: Option<&Field>) -> Outcome<Vec<Value>> {
    let db = s.conn.db()?;
    let schema = db.schema()?;
    let mut out = Vec::new();
    for f in fields {
        let is_key = key.is_some_and(|k| k.attr == f.attr);
        if let Some(a) = schema.attribute_named(&f.attr) {
            if is_key && a.unique != Some(Unique::Identity) {
                return Err(Failure::usage(format!(
                    "--key {}: {} is installed and no identity",
                    f.heading, a.ident
                ))
                .help(format!("install {{:db/id {} :db/unique :db.unique/identity}} first", a.ident)));
            }
            continue;
        }
        let cardinality = if f.many { Cardinality::Many } else { Cardinality::One };
        let mut map = vec![
            (Value::keyword("db/ident"), Value::Keyword(f.attr.clone())),
            (Value::keyword("db/valueType"), Value::keyword(&format!("db.type/{}", f.value_type.name()))),
            (
                Value::keyword("db/cardinality"),
                Value::keyword(if cardinality == Cardinality::Many {
                    "db.cardinality/many"
                } else {
                    "db.cardinality/one"
                }),
            ),
        ];
        if is_key {
            map.push((Value::keyword("db/unique"), Value::keyword("db.unique/identity")));
        }
        out.push(Value::map(map));
    }
    Ok(out)
}

/// A row as a transaction map; none when it says nothing.
fn entity(row: &Row, fields: &[Field]) -> Result<Option<Value>, String> {
    let mut map = Vec::with_capacity(fields.len());
    for (cell, f) in row.iter().zip(fields) {
        let Some(cell) = cell else { continue };
        let v = match (cell, f.many) {
            (Cell::Json(serde_json::Value::Array(items)), true) => {
                let values: Result<Vec<Value>, String> =
                    items.iter().map(|j| value(&Cell::Json(j.clone()), f)).collect();
                Value::vector(values?)
            }
            (cell, true) => Value::vector([value(cell, f)?]),
            (cell, false) => value(cell, f)?,
        };
        map.push((Value::Keyword(f.attr.clone()), v));
    }
    Ok((!map.is_empty()).then(|| Value::map(map)))
}

fn value(cell: &Cell, f: &Field) -> Result<Value, String> {
    let wrong = |shown: String| format!("column {}: {shown} is no {}", f.heading, f.value_type.name());
    let plain = |t: ValueType| match cell {
        Cell::Text(text) => read(t, text).ok_or_else(|| wrong(format!("{text:?}"))),
        Cell::Json(serde_json::Value::String(text)) => {
            read(t, text).ok_or_else(|| wrong(format!("{text:?}")))
        }
        Cell::Json(j) => match (json::to_value(j), t) {
            (Value::Long(n), ValueType::Double) => Ok(Value::Double(n as f64)),
            (v, t) if v.value_type() == Some(t) => Ok(v),
            (_, ValueType::String) => Ok(Value::string(j.to_string())),
            _ => Err(wrong(j.to_string())),
        },
    };
    match &f.refers {
        Some(attr) => {
            let key = match cell {
                Cell::Text(t) => read(ValueType::Long, t).unwrap_or_else(|| Value::string(t)),
                Cell::Json(j) => json::to_value(j),
            };
            Ok(Value::vector([Value::Keyword(attr.clone()), key]))
        }
        None => plain(f.value_type),
    }
}

fn dry_run(s: &Session, schema: &[Value], sample: &[&Row], fields: &[Field]) -> Outcome {
    let lines: Vec<String> = schema.iter().map(edn::print).collect();
    s.say(crate::shell::highlight::paint(&format!("[{}]", lines.join("\n ")), None, None, &s.out))?;
    let rows: Vec<String> = sample
        .iter()
        .take(3)
        .filter_map(|r| entity(r, fields).ok().flatten())
        .map(|v| edn::print(&v))
        .collect();
    s.say(crate::shell::highlight::paint(&format!("[{}]", rows.join("\n ")), None, None, &s.out))?;
    s.note("dry run: nothing was written");
    Ok(())
}
