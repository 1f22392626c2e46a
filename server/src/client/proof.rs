//! Why a row is in an answer, why another is not, what a query would do, and which events a fact
//! rests on: asked of a server.

use super::{
    db::Db,
    decode::{self, Members},
    error::ClientError,
    transport::{Ask, Media, encode},
};
use annals::{
    EntityId, IntoInputs, Missing, Proof, ProofStep, QueryOptions, Schema, Span, Value, event::Recorded,
};
use serde_json::Value as Json;

/// One step of a plan as a server tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanStep {
    /// How deep within other steps; 0 at the top.
    pub depth: u32,
    /// The clause as written.
    pub clause: String,
    /// The index read, or the operator.
    pub how: String,
    /// Rows that the planner expects of it.
    pub expected: u64,
}

/// An event that a fact rests on, as a server tells of it.
#[derive(Clone, Debug, PartialEq)]
pub struct FactSupport {
    /// The event.
    pub event: Recorded,
    /// The projection that made the fact of it, and its version.
    pub projection: Option<(String, u64)>,
    /// The id of the command that the event came of.
    pub command: Option<String>,
    /// What led to it, nearest first.
    pub chain: Vec<SupportCause>,
}

/// A link in the chain of what led to an event.
#[derive(Clone, Debug, PartialEq)]
pub enum SupportCause {
    /// Another event.
    Event(Box<Recorded>),
    /// A command, by its id.
    Command(String),
    /// Something this database does not know, by its id.
    Outside(String),
}

/// Levels of steps that are read.
const DEEPEST: u32 = 64;

impl Db {
    /// Why a row is in the answer of a query: the facts, tests and rules it rests on. None if it is
    /// not in the answer. Very long proofs are cut by the server; a step then says how much is left out.
    pub fn prove(
        &self,
        q: impl AsRef<str>,
        inputs: impl IntoInputs,
        row: &[Value],
        options: &QueryOptions,
    ) -> Result<Option<Proof>, ClientError> {
        let row = Value::vector(row.iter().cloned());
        let ask = self.ask("/prove", q.as_ref(), inputs, options, &[("row", row)])?;
        match self.connection().members(Ask { cancel: Some(&options.cancel), ..ask }) {
            Ok(doc) => proof(doc.list("because")?, &*self.schema()?).map(Some),
            Err(ClientError::Refused(r)) if r.code == "query/no-such-row" => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Why a row is not in the answer: the first clause that cannot be satisfied together with those
    /// before it. None if it is in the answer.
    pub fn why_not(
        &self,
        q: impl AsRef<str>,
        inputs: impl IntoInputs,
        row: &[Value],
        options: &QueryOptions,
    ) -> Result<Option<Missing>, ClientError> {
        let row = Value::vector(row.iter().cloned());
        let ask = self.ask("/why-not", q.as_ref(), inputs, options, &[("row", row)])?;
        let doc = self.connection().members(Ask { cancel: Some(&options.cancel), ..ask })?;
        if doc.flag("present") {
            return Ok(None);
        }
        let span = Members::of(doc.need("span")?.clone())?;
        let place =
            |name: &str| Ok::<_, ClientError>(usize::try_from(span.number(name)?).unwrap_or(usize::MAX));
        Ok(Some(Missing {
            clause: doc.text("clause")?.to_owned(),
            span: Span::new(place("start")?, place("end")?),
            rows_before: usize::try_from(doc.number("rows-before")?).unwrap_or(usize::MAX),
            satisfied: doc.list("satisfied")?.iter().map(text).collect(),
        }))
    }

    /// The steps a query would take, with the rows expected at each. Nothing is run.
    pub fn plan(&self, q: impl AsRef<str>, inputs: impl IntoInputs) -> Result<Vec<PlanStep>, ClientError> {
        let ask = self.ask("/plan", q.as_ref(), inputs, &QueryOptions::default(), &[])?;
        let doc = self.connection().members(ask)?;
        let mut out = Vec::new();
        steps(doc.list("plan")?, 0, &mut out)?;
        Ok(out)
    }
}

impl Db {
    /// The events that a fact rests on, each with projection, command and what led to it. None for a
    /// fact that was transacted without events.
    pub fn fact_support(
        &self,
        e: EntityId,
        attr: &str,
        value: &Value,
    ) -> Result<Vec<FactSupport>, ClientError> {
        let path = format!("/facts/{}/{}/why", e.raw(), encode(attr));
        let ask = Ask::get(&path).param("v", annals::edn::print(value)).param("as_of", self.t());
        let reply = self.connection().call(ask.accept(Media::Json))?;
        let doc: Json =
            serde_json::from_slice(&reply.body).map_err(|e| ClientError::answer(e.to_string()))?;
        let facts = doc["facts"].as_array().ok_or_else(|| ClientError::answer("it has no facts"))?;
        let support = facts.iter().flat_map(|f| f["support"].as_array().into_iter().flatten());
        support.map(one_support).collect()
    }
}

fn one_support(s: &Json) -> Result<FactSupport, ClientError> {
    let id = |v: &Json| v["id"].as_str().map(str::to_owned);
    let cause = |c: &Json| {
        Ok(match (c.get("event"), c.get("command"), c.get("outside")) {
            (Some(e), _, _) => SupportCause::Event(Box::new(decode::event(e)?)),
            (_, Some(command), _) => SupportCause::Command(id(command).unwrap_or_default()),
            (_, _, Some(Json::String(outside))) => SupportCause::Outside(outside.clone()),
            _ => return Err(ClientError::answer("a cause is none that is known")),
        })
    };
    let chain = s["chain"].as_array().into_iter().flatten();
    Ok(FactSupport {
        event: decode::event(&s["event"])?,
        projection: s
            .get("projection")
            .and_then(|p| Some((p["name"].as_str()?.to_owned(), p["version"].as_u64()?))),
        command: s.get("command").and_then(id),
        chain: chain.map(cause).collect::<Result<_, ClientError>>()?,
    })
}

fn text(v: &Value) -> String {
    match v {
        Value::String(s) => s.to_string(),
        other => annals::edn::print(other),
    }
}

fn steps(plan: &[Value], depth: u32, out: &mut Vec<PlanStep>) -> Result<(), ClientError> {
    for step in plan {
        let step = Members::of(step.clone())?;
        out.push(PlanStep {
            depth,
            clause: step.text("detail")?.to_owned(),
            how: step.text("op")?.to_owned(),
            expected: step.number("expected")?,
        });
        if depth < DEEPEST {
            steps(step.list_or_empty("children"), depth + 1, out)?;
        }
    }
    Ok(())
}

fn proof(told: &[Value], schema: &Schema) -> Result<Proof, ClientError> {
    let steps = told.iter().map(|s| step(&Members::of(s.clone())?, schema)).collect::<Result<_, _>>()?;
    Ok(Proof { steps })
}

fn step(s: &Members, schema: &Schema) -> Result<ProofStep, ClientError> {
    let clause = || s.text("clause").map(str::to_owned);
    if let Some(n) = s.maybe_number("left-out") {
        return Ok(ProofStep::Test { clause: format!("… {n} more, not told"), bindings: Vec::new() });
    }
    if let Some(fact) = s.get("fact") {
        return Ok(ProofStep::Fact { clause: clause()?, datom: decode::datom(fact, schema)? });
    }
    if let Some(bindings) = s.get("bindings") {
        let one = |b: &Value| {
            let b = Members::of(b.clone())?;
            let kind = b.text("type")?;
            let value = b.get("value").cloned().unwrap_or(Value::Nil);
            Ok::<_, ClientError>((b.text("name")?.to_owned(), decode::of_kind(value, kind)))
        };
        let bindings = decode::list(bindings).unwrap_or(&[]).iter().map(one).collect::<Result<_, _>>()?;
        return Ok(ProofStep::Test { clause: clause()?, bindings });
    }
    if s.flag("absent") {
        return Ok(ProofStep::Absent { clause: clause()? });
    }
    let proof = self::proof(s.list("because")?, schema)?;
    match s.get("args") {
        Some(args) => {
            let kinds = s.list_or_empty("types").iter().map(text).collect::<Vec<_>>();
            let kinds = kinds.iter().map(String::as_str).chain(std::iter::repeat(""));
            let args = decode::list(args).unwrap_or(&[]).iter().cloned().zip(kinds);
            Ok(ProofStep::Rule {
                name: s.text("rule")?.to_owned(),
                args: args.map(|(v, kind)| decode::of_kind(v, kind)).collect(),
                proof,
            })
        }
        None => {
            Ok(ProofStep::Branch { rule: s.maybe_text("rule").map(str::to_owned), clause: clause()?, proof })
        }
    }
}
