//! How a query runs, and which clause leaves it without rows.

use crate::{
    ask,
    fail::{Failure, Outcome},
    form,
    lexer::{Kind, tokens},
    output::{
        Rows, Shape,
        table::{Cell, Head, Table, counted, thousands},
    },
    session::Session,
    shell::{dispatch::elapsed, highlight},
    term::theme,
};
use annals::{Answer, Value};
use annals_server::client::PlanStep;
use std::collections::BTreeSet;

/// The clauses of a query's `:where`, and the text with others in their place.
struct Clauses<'a> {
    text: &'a str,
    clauses: Vec<std::ops::Range<usize>>,
}

impl<'a> Clauses<'a> {
    fn of(text: &'a str) -> Option<Clauses<'a>> {
        let mut depth = 0usize;
        let mut where_at = None;
        for t in tokens(text) {
            match t.kind {
                Kind::Open(_) => depth += 1,
                Kind::Close(_) => depth = depth.saturating_sub(1),
                Kind::Keyword if depth == 1 && t.text(text) == ":where" => where_at = Some(t.span.end),
                _ => {}
            }
        }
        let mut at = where_at?;
        let map = text.trim_start().starts_with('{');
        if map {
            at += text[at..].find('[')? + 1;
        }
        let mut clauses = Vec::new();
        while let Some((form, rest)) = form::split_form(&text[at..]) {
            if !form.starts_with(['[', '(']) {
                break;
            }
            let start = form.as_ptr() as usize - text.as_ptr() as usize;
            clauses.push(start..start + form.len());
            at = text.len() - rest.len();
        }
        (!clauses.is_empty()).then_some(Clauses { text, clauses })
    }

    fn clause(&self, i: usize) -> &'a str {
        &self.text[self.clauses[i].clone()]
    }

    /// Variables of a clause.
    fn variables(&self, i: usize) -> BTreeSet<&'a str> {
        let text = self.clause(i);
        tokens(text).into_iter().filter(|t| t.kind == Kind::Variable).map(|t| &text[t.span]).collect()
    }

    /// A query for the number of rows of these clauses, with the query's `:in`.
    fn count_query(&self, which: &[usize]) -> String {
        let body: Vec<&str> = which.iter().map(|i| self.clause(*i)).collect();
        let vars: BTreeSet<&str> = which.iter().flat_map(|i| self.variables(*i)).collect();
        let find = match vars.is_empty() {
            true => "(count ?one)".to_owned(),
            false => vars.into_iter().collect::<Vec<_>>().join(" "),
        };
        let ground = if find.starts_with('(') { "[(ground 1) ?one] " } else { "" };
        format!("[:find {find} {} :where {ground}{}]", self.in_part(), body.join(" "))
    }

    fn in_part(&self) -> String {
        let n = form::names(self.text);
        match n.in_end {
            None => String::new(),
            Some(end) => {
                let start = self.text[..end].rfind(":in").unwrap_or(end);
                let part = &self.text[start..end];
                if n.map { part.replacen('[', "", 1) } else { part.to_owned() }
            }
        }
    }
}

/// `:why-not`: adds clauses one at a time until no row is left.
pub fn why_not(s: &mut Session, query: &str) -> Outcome {
    let db = s.db()?;
    let given = s.given();
    let full = ask::ask(query, &db, &given)?;
    if !full.rows.rows.is_empty() {
        return s.say(format!("it has rows: {}", counted(full.rows.rows.len() as u64, "row")));
    }
    let Some(c) = Clauses::of(query) else {
        return Err(Failure::usage("the query has no :where to look into"));
    };
    let rows_of =
        |which: &[usize]| ask::ask(&c.count_query(which), &db, &given).map(|a| a.rows.rows.len()).ok();
    let alone: Vec<Option<usize>> = (0..c.clauses.len()).map(|i| rows_of(&[i])).collect();
    // Patterns that find least first, always joined to what is there already; what cannot
    // stand alone (predicates, not) as soon as it can run.
    let mut taken: Vec<usize> = Vec::new();
    let mut left: Vec<usize> = (0..c.clauses.len()).collect();
    let mut t = Table::new([Head::new("clause"), Head::right("alone"), Head::right("together")]);
    let mut rows = Rows::new([":clause", ":alone", ":together"], Shape::Maps);
    let mut culprit = None;
    while !left.is_empty() && culprit.is_none() {
        let bound: BTreeSet<&str> = taken.iter().flat_map(|i| c.variables(*i)).collect();
        let joined = |i: usize| taken.is_empty() || c.variables(i).iter().any(|v| bound.contains(v));
        let mut order = left.clone();
        order.sort_by_key(|i| (!joined(*i), alone[*i].is_none(), alone[*i].unwrap_or(usize::MAX)));
        let next = order.into_iter().find_map(|i| {
            let mut with = taken.clone();
            with.push(i);
            rows_of(&with).map(|n| (i, n))
        });
        let Some((i, n)) = next else { break };
        taken.push(i);
        left.retain(|l| *l != i);
        let text = c.clause(i).split_whitespace().collect::<Vec<_>>().join(" ");
        rows.rows.push(vec![
            Value::string(&*text),
            alone[i].map_or(Value::Nil, |n| number(n as u64)),
            number(n as u64),
        ]);
        t.rows.push(vec![
            Cell::plain(text),
            Cell::new(alone[i].map_or_else(|| "–".to_owned(), |n| n.to_string()), theme::DIM),
            Cell::new(n.to_string(), if n == 0 { theme::BAD } else { anstyle::Style::new() }),
        ]);
        if n == 0 {
            culprit = Some(i);
        }
    }
    if !s.draws() {
        return s.print(&rows);
    }
    s.page(&t.draw(&s.out, s.look().layout))?;
    let Some(i) = culprit else {
        return s.say("no clause alone is to blame: the answer is empty after :find, :limit or :having");
    };
    let clause = highlight::paint(c.clause(i), None, None, &s.out);
    match alone[i] {
        Some(0) => {
            s.say(format!("{clause} finds nothing at all"))?;
            super::proof::nearby(s, &db, c.clause(i))
        }
        _ => s.say(format!("no row is left once {clause} joins the clauses above it")),
    }
}

/// `:explain`: runs the query and shows what each clause did, in the order it was done.
pub fn explain(s: &mut Session, query: &str) -> Outcome {
    let given = s.given();
    show_explained(s, query, &given)
}

/// Runs a query and shows what each clause did; a server draws for itself.
pub fn show_explained(s: &Session, query: &str, given: &ask::Given) -> Outcome {
    let db = s.db()?;
    let Some(told) = ask::explained(query, &db, given)? else {
        return show_run(s, &ask::explain(query, &db, given)?);
    };
    if !s.draws() {
        let mut rows = Rows::new(["explain"], Shape::Scalar);
        rows.rows.push(vec![told]);
        return s.print(&rows);
    }
    let mut t = Table::new([Head::new("clause"), Head::new("how"), Head::right("rows"), Head::right("time")]);
    if let Some(plan) = told.get(&Value::keyword("plan")) {
        told_steps(plan, 0, &mut t);
    }
    draw(s, &t)?;
    let long = |k: &str| match told.get(&Value::keyword(k)) {
        Some(Value::Long(n)) => u64::try_from(*n).unwrap_or(0),
        _ => 0,
    };
    s.note(s.err.paint(
        theme::DIM,
        format!(
            "{} at t{} · {} read, {} made · {} held at most · {}",
            counted(long("rows"), "row"),
            long("basis-t"),
            counted(long("rows-read"), "row"),
            thousands(long("rows-made")),
            super::look::bytes(long("peak-bytes")),
            elapsed(long("elapsed-us"))
        ),
    ));
    Ok(())
}

/// Deepest level of a server's plan that is shown.
const DEEPEST: usize = 64;

/// The steps a server tells of, each with those within it.
fn told_steps(plan: &Value, depth: usize, t: &mut Table) {
    let (Value::Vector(steps) | Value::List(steps)) = plan else { return };
    if depth > DEEPEST {
        return;
    }
    for step in steps.iter() {
        let get = |k: &str| step.get(&Value::keyword(k));
        let text = |k: &str| match get(k) {
            Some(Value::String(text)) => text.split_whitespace().collect::<Vec<_>>().join(" "),
            _ => String::new(),
        };
        let number = |k: &str| match get(k) {
            Some(Value::Long(n)) => u64::try_from(*n).unwrap_or(0),
            _ => 0,
        };
        t.rows.push(vec![
            Cell::plain(format!("{}{}", "  ".repeat(depth), text("detail"))),
            Cell::new(text("op"), theme::KEYWORD),
            Cell::plain(thousands(number("actual"))),
            Cell::new(elapsed(number("us")), theme::DIM),
        ]);
        if let Some(children) = get("children") {
            told_steps(children, depth + 1, t);
        }
    }
}

/// `:plan`: what each clause would do; nothing is run.
pub fn plan(s: &mut Session, query: &str) -> Outcome {
    let given = s.given();
    let plan = ask::plan(query, &s.db()?, &given)?;
    show_plan(s, &plan)
}

/// The steps a query would take, with the rows expected of each.
pub fn show_plan(s: &Session, plan: &[PlanStep]) -> Outcome {
    if !s.draws() {
        let mut rows = Rows::new([":depth", ":clause", ":how", ":expected"], Shape::Maps);
        rows.rows.extend(plan.iter().map(|step| {
            vec![
                Value::Long(step.depth.into()),
                Value::string(step.clause.as_str()),
                Value::string(step.how.as_str()),
                number(step.expected),
            ]
        }));
        return s.print(&rows);
    }
    let mut t = Table::new([Head::new("clause"), Head::new("how"), Head::right("expected")]);
    for step in plan {
        t.rows.push(vec![
            clause(step.depth, &step.clause),
            Cell::new(step.how.as_str(), theme::KEYWORD),
            Cell::plain(format!("~{}", thousands(step.expected))),
        ]);
    }
    draw(s, &t)?;
    s.note(s.err.paint(theme::DIM, "not run; :explain runs it and shows the rows found"));
    Ok(())
}

/// What a run did, clause by clause.
pub fn show_run(s: &Session, answer: &Answer) -> Outcome {
    let stats = &answer.stats;
    if !s.draws() {
        let mut rows =
            Rows::new([":depth", ":clause", ":how", ":runs", ":expected", ":rows", ":micros"], Shape::Maps);
        rows.rows.extend(stats.steps.iter().map(|step| {
            vec![
                Value::Long(step.depth.into()),
                Value::string(&*step.clause),
                Value::string(step.how),
                number(step.runs),
                number(step.estimated),
                number(step.rows),
                number(step.micros),
            ]
        }));
        return s.print(&rows);
    }
    let repeats = stats.steps.iter().any(|step| step.runs > 1);
    let mut t = Table::new([
        Head::new("clause"),
        Head::new("how"),
        Head::right("expected"),
        Head::right("rows"),
        Head::right("time"),
    ]);
    if repeats {
        t.heads.insert(2, Head::right("runs"));
    }
    for step in &stats.steps {
        // Ten times off is worth a look.
        let (low, high) = (step.rows.min(step.estimated) + 1, step.rows.max(step.estimated) + 1);
        let style = if high / low >= 10 { theme::NUMBER } else { anstyle::Style::new() };
        let mut row = vec![
            clause(step.depth, &step.clause),
            Cell::new(step.how, theme::KEYWORD),
            Cell::new(format!("~{}", thousands(step.estimated)), theme::DIM),
            Cell::new(thousands(step.rows), style),
            Cell::new(elapsed(step.micros), theme::DIM),
        ];
        if repeats {
            row.insert(2, Cell::new(thousands(step.runs), theme::DIM));
        }
        t.rows.push(row);
    }
    draw(s, &t)?;
    let used = stats.used;
    s.note(s.err.paint(
        theme::DIM,
        format!(
            "{} at t{} · {} read, {} made · {} held at most · {} of it to prepare · {}",
            counted(answer.rows.len() as u64, "row"),
            answer.basis_t,
            counted(used.rows_read, "row"),
            thousands(used.rows),
            super::look::bytes(used.peak_bytes),
            elapsed(stats.prepare_us),
            elapsed(used.elapsed_us)
        ),
    ));
    Ok(())
}

fn number(n: u64) -> Value {
    Value::Long(i64::try_from(n).unwrap_or(i64::MAX))
}

fn clause(depth: u32, text: &str) -> Cell {
    let indent = "  ".repeat(depth as usize);
    Cell::plain(format!("{indent}{}", text.split_whitespace().collect::<Vec<_>>().join(" ")))
}

fn draw(s: &Session, t: &Table) -> Outcome {
    if t.rows.is_empty() {
        return s.say(s.out.paint(theme::DIM, "no steps: the answer was known before the first one"));
    }
    s.page(&t.draw(&s.out, s.look().layout))
}
