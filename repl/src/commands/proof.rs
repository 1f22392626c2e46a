//! Why a row is in an answer, and why another is not: proofs drawn as trees.
//!
//! The proof itself is the database's ([`annals::Db::prove`]); here it is only shown: each
//! clause as it was written, and under it what satisfied it.

use super::{label, value_text};
use crate::{
    ask,
    backend::Db,
    fail::{Failure, Outcome},
    form::{self, FormKind},
    output::{
        Rows, Shape, show,
        table::{counted, cut, visible},
    },
    session::{Asked, Session, read_edn},
    shell::highlight,
    term::{Screen, theme},
};
use annals::{Datom, Proof, ProofStep, Value, diagnostic::nearest, edn};
use std::fmt::Write as _;
use unicode_width::UnicodeWidthStr as _;

/// Deepest level drawn; below it the number of steps left out is said.
const DEEPEST: usize = 24;
/// Most lines drawn: a recursive proof can be as long as its longest path.
const MOST_LINES: usize = 2_000;

/// `:why`, `:why N`: why a row of the last answer is in it.
pub fn why_row(s: &mut Session, n: usize) -> Outcome {
    let asked = s.asked.clone().ok_or_else(|| {
        Failure::usage("there is no answer to explain yet")
            .help("ask a query first; or :why ENTITY :ATTR for a fact")
    })?;
    let Some(row) = n.checked_sub(1).and_then(|i| asked.rows.rows.get(i)) else {
        let all = counted(asked.rows.rows.len() as u64, "row");
        return Err(Failure::usage(format!("the last answer has {all}, not a row {n}"))
            .help("rows are counted from 1, as they were printed"));
    };
    let row = row.clone();
    let proof = ask::prove(&asked.text, &asked.db, &asked.given, &row)?;
    let Some(proof) = proof else {
        return Err(Failure::refused(
            "shell/not-proved",
            format!("row {n} is not in the answer of this moment"),
        )
        .help("ask the query again: another transaction may have taken the row away"));
    };
    show_proof(s, &asked, &row, &proof)
}

fn show_proof(s: &mut Session, asked: &Asked, row: &[Value], proof: &Proof) -> Outcome {
    if !s.draws() {
        let mut rows = Rows::new([":row", ":because"], Shape::Map);
        rows.rows.push(vec![Value::vector(row.iter().cloned()), proof_value(&asked.db, proof)]);
        return s.print(&rows);
    }
    let names: Vec<String> = row
        .iter()
        .zip(&asked.rows.columns)
        .map(|(v, c)| {
            let name = s.out.paint(theme::VARIABLE, &c.name);
            format!("{name} {}", visible(&value_text(&asked.db, v, true)))
        })
        .collect();
    let mut drawing = Drawing { db: &asked.db, screen: &s.out, text: String::new(), lines: 0 };
    drawing.steps(&proof.steps, "", 0);
    let text = drawing.text;
    s.say(format!("{}  {}", names.join("  "), s.out.paint(theme::DIM, "because")))?;
    s.page(&text)
}

/// A proof as data: a vector of `{:clause … :fact […]}` and their kin.
fn proof_value(db: &Db, p: &Proof) -> Value {
    let k = Value::keyword;
    let text = |t: &str| Value::string(one_line(t));
    Value::vector(p.steps.iter().map(|step| match step {
        ProofStep::Fact { clause, datom } => {
            Value::map([(k("clause"), text(clause)), (k("fact"), datom_value(db, datom))])
        }
        ProofStep::Test { clause, bindings } => Value::map([
            (k("clause"), text(clause)),
            (
                k("bindings"),
                Value::map(bindings.iter().map(|(n, v)| (Value::Symbol(annals::Symbol::new(n)), v.clone()))),
            ),
        ]),
        ProofStep::Absent { clause } => {
            Value::map([(k("clause"), text(clause)), (k("absent"), Value::Bool(true))])
        }
        ProofStep::Branch { rule, clause, proof } => Value::map([
            (k("clause"), text(clause)),
            (k("rule"), rule.as_deref().map_or(Value::Nil, Value::string)),
            (k("because"), proof_value(db, proof)),
        ]),
        ProofStep::Rule { name, args, proof } => Value::map([
            (k("rule"), Value::string(name.as_str())),
            (k("args"), Value::vector(args.iter().cloned())),
            (k("because"), proof_value(db, proof)),
        ]),
    }))
}

fn datom_value(db: &Db, d: &Datom) -> Value {
    let a = db.ident(d.a.entity()).map_or(Value::Ref(d.a.entity()), Value::Keyword);
    Value::vector([Value::Ref(d.e), a, d.v.clone(), Value::Long(i64::try_from(d.t.0).unwrap_or(i64::MAX))])
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A tree being drawn.
struct Drawing<'a> {
    db: &'a Db,
    screen: &'a Screen,
    text: String,
    lines: usize,
}

impl Drawing<'_> {
    fn steps(&mut self, steps: &[ProofStep], indent: &str, depth: usize) {
        let (tee, corner, bar) = match self.screen.unicode {
            true => ("├─ ", "╰─ ", "│  "),
            false => ("+- ", "`- ", "|  "),
        };
        if depth >= DEEPEST {
            let left = counted(count(steps), "step");
            self.line(indent, corner, &self.screen.paint(theme::DIM, format!("… {left} more")).to_string());
            return;
        }
        for (i, step) in steps.iter().enumerate() {
            if self.lines >= MOST_LINES {
                let left = counted(count(&steps[i..]), "step");
                self.line(
                    indent,
                    corner,
                    &self.screen.paint(theme::DIM, format!("… {left} more")).to_string(),
                );
                return;
            }
            let last = i + 1 == steps.len();
            let mark = if last { corner } else { tee };
            let below = format!("{indent}{}", if last { "   " } else { bar });
            match step {
                ProofStep::Fact { clause, datom } => {
                    self.clause(indent, mark, clause, "");
                    let fact = self.fact(datom, below.width());
                    self.line(&below, "", &fact);
                }
                ProofStep::Test { clause, bindings } => {
                    self.clause(indent, mark, clause, "");
                    let text: Vec<String> = bindings
                        .iter()
                        .map(|(n, v)| {
                            let v = visible(&value_text(self.db, v, true));
                            format!("{} {v}", self.screen.paint(theme::VARIABLE, n))
                        })
                        .collect();
                    if !text.is_empty() {
                        self.line(&below, "", &text.join("  "));
                    }
                }
                ProofStep::Absent { clause } => {
                    self.clause(indent, mark, clause, "nothing matches it");
                }
                ProofStep::Branch { rule, clause, proof } => {
                    let note = if rule.is_some() { "a rule" } else { "one of its branches" };
                    self.clause(indent, mark, clause, note);
                    self.steps(&proof.steps, &below, depth + 1);
                }
                ProofStep::Rule { name, args, proof } => {
                    let args: Vec<String> = args.iter().map(|v| value_text(self.db, v, true)).collect();
                    self.clause(indent, mark, &format!("({name} {})", args.join(" ")), "a rule");
                    self.steps(&proof.steps, &below, depth + 1);
                }
            }
        }
    }

    fn clause(&mut self, indent: &str, mark: &str, clause: &str, note: &str) {
        let extra = if note.is_empty() { 0 } else { note.width() + 2 };
        let room = self.screen.width().saturating_sub(indent.width() + mark.width() + extra).max(8);
        let text = cut(&visible(&one_line(clause)), room, self.screen);
        let mut text = highlight::paint(&text, None, None, self.screen);
        if !note.is_empty() {
            let _ = write!(text, "  {}", self.screen.paint(theme::DIM, note));
        }
        self.line(indent, mark, &text);
    }

    /// `[:city/name "Utrecht"] :city/people 376000  t2 2026-11-21 06:14:11`.
    fn fact(&self, d: &Datom, used: usize) -> String {
        let when = self.db.instant_of(d.t).map_or(String::new(), show::moment);
        let a = self.db.ident(d.a.entity()).map_or_else(|| d.a.entity().to_string(), |k| k.to_string());
        let e = visible(&label(self.db, d.e));
        let v = visible(&value_text(self.db, &d.v, true));
        // The fact matters more than its time: to the millisecond, the minute, the day, or by t alone.
        let t = format!("t{}", d.t);
        let room = self.screen.width().saturating_sub(used + e.width() + a.width() + t.width() + 5);
        let fits = [23, 16, 10].into_iter().find(|n| v.width() + n <= room);
        let when = match fits {
            Some(n) => format!("{t} {}", when.chars().take(n).collect::<String>()),
            None => t,
        };
        let v = cut(&v, (room + 1).max(8), self.screen);
        format!("{e} {} {v}  {}", self.screen.paint(theme::KEYWORD, a), self.screen.paint(theme::DIM, when))
            .trim_end()
            .to_owned()
    }

    fn line(&mut self, indent: &str, mark: &str, text: &str) {
        let rails = self.screen.paint(theme::DIM, format!("{indent}{mark}"));
        let _ = writeln!(self.text, "{rails}{text}");
        self.lines += 1;
    }
}

/// Steps of a proof, with all below them.
fn count(steps: &[ProofStep]) -> u64 {
    steps
        .iter()
        .map(|s| match s {
            ProofStep::Branch { proof, .. } | ProofStep::Rule { proof, .. } => 1 + count(&proof.steps),
            _ => 1,
        })
        .sum()
}

/// The query and the row of `:why-not QUERY ROW` and `:why-not ROW`; none when no row is named.
pub fn row_asked(s: &Session, args: &str) -> Outcome<Option<(String, String)>> {
    let Some((first, rest)) = form::split_form(args) else { return Ok(None) };
    let query = form::kind(first) == FormKind::Query;
    match (query, rest.trim()) {
        (true, "") => Ok(None),
        (true, row) => Ok(Some((first.to_owned(), row.to_owned()))),
        (false, "") => {
            match &s.last_query {
                Some(q) => Ok(Some((q.clone(), first.to_owned()))),
                None => Err(Failure::usage("there is no last query")
                    .help("write it before the row: :why-not QUERY ROW")),
            }
        }
        (false, _) => Err(Failure::usage("usage: :why-not [QUERY] [ROW]")
            .help("as in  :why-not [:find ?o :where [?o :order/status :shipped]] [17]")),
    }
}

/// `:why-not QUERY ROW`: the clause that keeps a row out of an answer.
pub fn why_not_row(s: &mut Session, query: &str, row: &str) -> Outcome {
    let db = s.db()?;
    let given = s.given();
    let values = match read_edn(row, "row")? {
        Value::Vector(vs) | Value::List(vs) => vs.to_vec(),
        one => vec![one],
    };
    let columns = form::find_names(query).len();
    if values.len() != columns {
        return Err(Failure::usage(format!(
            "the row has {} and :find has {columns}",
            counted(values.len() as u64, "value")
        ))
        .help("write one value for each element of :find, as the table shows them")
        .of("row", row));
    }
    let mut missing = ask::why_not(query, &db, &given, &values)?;
    // An entity may be written by the name it has in the table.
    let named: Vec<Value> = values
        .iter()
        .map(|v| match v {
            Value::Keyword(k) => db.entid(k.as_str()).map_or_else(|| v.clone(), Value::Ref),
            v => v.clone(),
        })
        .collect();
    if missing.is_some() && named != values {
        let again = ask::why_not(query, &db, &given, &named)?;
        let further = |m: &annals::Missing| m.satisfied.len();
        if again.as_ref().is_none_or(|a| missing.as_ref().is_some_and(|m| further(a) > further(m))) {
            missing = again;
        }
    }
    let Some(missing) = missing else {
        return s.say("it is in the answer: ask the query, and :why N explains row N");
    };
    if !s.draws() {
        let mut rows = Rows::new([":clause", ":rows-before", ":satisfied"], Shape::Map);
        rows.rows.push(vec![
            Value::string(one_line(&missing.clause)),
            Value::Long(missing.rows_before as i64),
            Value::vector(missing.satisfied.iter().map(|c| Value::string(one_line(c)))),
        ]);
        return s.print(&rows);
    }
    let (yes, no) = if s.out.unicode { ("✓", "✗") } else { ("+", "x") };
    for c in &missing.satisfied {
        let clause = highlight::paint(&one_line(c), None, None, &s.out);
        s.say(format!("{} {clause}", s.out.paint(theme::GOOD, yes)))?;
    }
    let clause = highlight::paint(&one_line(&missing.clause), None, None, &s.out);
    s.say(format!("{} {clause}", s.out.paint(theme::BAD, no)))?;
    let ways = counted(missing.rows_before as u64, "way");
    let words = match (missing.satisfied.is_empty(), missing.rows_before) {
        (true, _) => format!("no fact matches it with {}", edn::print(&Value::vector(values))),
        (false, _) => format!("the clauses above hold in {ways}, never together with this one"),
    };
    s.say(s.out.paint(theme::DIM, words))?;
    nearby(s, &db, &missing.clause)
}

/// If the clause names a constant that no fact of its attribute has, the nearest one that some fact has.
pub fn nearby(s: &Session, db: &Db, clause: &str) -> Outcome {
    let Ok(Value::Vector(parts)) = edn::read_value(clause) else { return Ok(()) };
    let [_, Value::Keyword(a), wanted, ..] = &parts[..] else { return Ok(()) };
    let text = crate::output::data::field(wanted);
    if !matches!(wanted, Value::String(_) | Value::Keyword(_)) || text.starts_with('?') {
        return Ok(());
    }
    let Ok(facts) = db.datoms("aevt", &[Value::Keyword(a.clone())]) else { return Ok(()) };
    let known: Vec<String> = facts.iter().take(10_000).map(|d| crate::output::data::field(&d.v)).collect();
    match nearest(&text, known.iter().map(String::as_str)) {
        Some(near) if near != text => {
            let near = match wanted {
                Value::String(_) => edn::print(&Value::string(near)),
                _ => near.to_owned(),
            };
            s.say(s.out.paint(theme::DIM, format!("some entity has {a} {near}")))
        }
        _ => Ok(()),
    }
}
