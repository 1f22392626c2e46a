//! Clauses: patterns, predicates, functions, negation, disjunction, rules.

use super::pattern::pattern;
use super::{
    Env, NaiveError, ROUNDS_MAX, ROWS_MAX, Result, Rows, World, bind, each, fold, function, is, items, unify,
    variable, wrong,
};
use annals_model::{Symbol, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Adds every variable that occurs in a form. What a nested query says stays inside it.
pub(super) fn variables(form: &Value, out: &mut BTreeSet<Symbol>) {
    match form {
        Value::Symbol(s) if s.as_str().starts_with('?') => drop(out.insert(s.clone())),
        Value::List(call) if call.first().is_some_and(|f| is(f, "quote")) => {}
        Value::List(call) if call.first().is_some_and(|f| is(f, "q")) => {
            call.iter().skip(2).for_each(|f| variables(f, out));
        }
        Value::Vector(v) | Value::List(v) => v.iter().for_each(|f| variables(f, out)),
        _ => {}
    }
}

/// A call of a rule: its source, its name, and the arguments that are known.
type Goal = (Symbol, Symbol, Vec<Option<Value>>);
type Table = BTreeMap<Goal, BTreeSet<Vec<Value>>>;

/// The evaluation of one query.
pub(super) struct Eval<'w, 'a> {
    world: &'w World<'a>,
    /// Goals computed to their end.
    done: Table,
    /// Goals of the fixpoint that is running, with what is known so far.
    running: Option<Table>,
    /// The rule whose definitions are being run.
    within: Option<Symbol>,
}

impl<'w, 'a> Eval<'w, 'a> {
    pub fn new(world: &'w World<'a>) -> Self {
        Eval { world, done: Table::new(), running: None, within: None }
    }

    /// All ways to satisfy all clauses. `outside` are the variables that occur
    /// beyond this conjunction, with which a negation must agree.
    pub fn conjunction(
        &mut self,
        source: &Symbol,
        clauses: &[Value],
        mut rows: Rows,
        outside: &BTreeSet<Symbol>,
    ) -> Result<Rows> {
        let (mut waiting, negations): (Vec<usize>, Vec<usize>) =
            (0..clauses.len()).partition(|i| !is_negation(&clauses[*i]));
        let visible = |i: usize| {
            let mut all = outside.clone();
            for (j, other) in clauses.iter().enumerate() {
                if i != j {
                    variables(other, &mut all);
                }
            }
            all
        };
        while !waiting.is_empty() {
            let mut unbound = None;
            let mut taken = None;
            for (at, &i) in waiting.iter().enumerate() {
                match self.clause(source, &clauses[i], &rows, &visible(i)) {
                    Ok(next) => {
                        rows = next;
                        taken = Some(at);
                        break;
                    }
                    Err(NaiveError::Unbound(v)) => unbound = Some(v),
                    Err(e) => return Err(e),
                }
            }
            match (taken, unbound) {
                (Some(at), _) => drop(waiting.remove(at)),
                (None, Some(v)) => return Err(NaiveError::Unbound(v)),
                (None, None) => unreachable!("each waiting clause was taken or lacks a binding"),
            }
        }
        for i in negations {
            rows = self.clause(source, &clauses[i], &rows, &visible(i))?;
        }
        Ok(rows)
    }

    fn clause(
        &mut self,
        source: &Symbol,
        clause: &Value,
        rows: &Rows,
        outside: &BTreeSet<Symbol>,
    ) -> Result<Rows> {
        let Some(parts) = items(clause) else { return wrong(format!("not a clause: {clause:?}")) };
        let (source, parts) = match parts {
            [Value::Symbol(s), rest @ ..] if s.as_str().starts_with('$') => (s, rest),
            parts => (source, parts),
        };
        match (clause, parts) {
            (Value::List(_), [Value::Symbol(head), rest @ ..]) => match (head.as_str(), rest) {
                ("and", clauses) => self.conjunction(source, clauses, rows.clone(), outside),
                ("not", clauses) => self.not(source, clauses, rows, outside),
                ("not-join", [vars, clauses @ ..]) => self.not_join(source, vars, clauses, rows),
                ("or", branches) => {
                    let mut out = Rows::new();
                    for b in branches {
                        out.extend(self.conjunction(
                            source,
                            std::slice::from_ref(b),
                            rows.clone(),
                            outside,
                        )?);
                    }
                    Ok(out)
                }
                ("or-join", [vars, branches @ ..]) => self.or_join(source, vars, branches, rows),
                (_, args) => self.rule(source, head, args, rows),
            },
            (_, [Value::List(call)]) => function::predicate(self.world, source, call, rows),
            (_, [Value::List(call), binding]) => {
                let results = function::call(self.world, source, call, rows)?;
                let mut out = Rows::new();
                for (env, v) in results {
                    if v != Value::Nil {
                        out.extend(bind(&env, binding, &v)?);
                    }
                }
                Ok(out)
            }
            (_, places) => each(rows, |env| pattern(self.world.source(source)?, places, env)),
        }
    }

    /// Keeps the rows under which the clauses have no solution. Variables seen
    /// outside must have their values by now; the others are "for any".
    fn not(
        &mut self,
        source: &Symbol,
        clauses: &[Value],
        rows: &Rows,
        outside: &BTreeSet<Symbol>,
    ) -> Result<Rows> {
        let mut inside = BTreeSet::new();
        clauses.iter().for_each(|c| variables(c, &mut inside));
        let shared: BTreeSet<Symbol> = inside.intersection(outside).cloned().collect();
        self.without(source, clauses, rows, &shared)
    }

    fn not_join(&mut self, source: &Symbol, vars: &Value, clauses: &[Value], rows: &Rows) -> Result<Rows> {
        let shared = items(vars).unwrap_or(&[]).iter().filter_map(variable).cloned().collect();
        self.without(source, clauses, rows, &shared)
    }

    fn without(
        &mut self,
        source: &Symbol,
        clauses: &[Value],
        rows: &Rows,
        shared: &BTreeSet<Symbol>,
    ) -> Result<Rows> {
        let running = self.running.take(); // what is negated is computed to its end first
        let kept = each(rows, |env| {
            let inner = restrict(env, shared)?;
            let found = self.conjunction(source, clauses, Rows::from([inner]), shared)?;
            Ok(if found.is_empty() { vec![env.clone()] } else { vec![] })
        });
        self.running = running;
        kept
    }

    /// Only the listed variables are common to the branches and the outside.
    fn or_join(&mut self, source: &Symbol, vars: &Value, branches: &[Value], rows: &Rows) -> Result<Rows> {
        let mut shared = BTreeSet::new();
        let mut required = BTreeSet::new();
        for v in items(vars).unwrap_or(&[]) {
            match v {
                Value::Vector(vs) => required.extend(vs.iter().filter_map(variable).cloned()),
                v => shared.extend(variable(v).cloned()),
            }
        }
        shared.extend(required.iter().cloned());
        each(rows, |env| {
            restrict(env, &required)?;
            let inner: Env = env
                .iter()
                .filter(|(k, _)| shared.contains(*k))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            let mut out = Vec::new();
            for b in branches {
                for found in
                    self.conjunction(source, std::slice::from_ref(b), Rows::from([inner.clone()]), &shared)?
                {
                    let found = restrict(&found, &shared)?;
                    let mut env = env.clone();
                    env.extend(found);
                    out.push(env);
                }
            }
            Ok(out)
        })
    }

    fn rule(&mut self, source: &Symbol, name: &Symbol, args: &[Value], rows: &Rows) -> Result<Rows> {
        each(rows, |env| {
            let known = |arg: &Value| match variable(arg) {
                Some(v) => env.get(v).cloned(),
                None if is(arg, "_") => None,
                None => Some(arg.clone()),
            };
            // What is folded is not known before all of it is folded.
            let folds = fold::of(&self.world.rules, name);
            let is_folded = |i: usize| folds.and_then(|f| f.get(i)).is_some_and(Option::is_some);
            let asked = |(i, arg)| if is_folded(i) { None } else { known(arg) };
            let goal: Goal = (source.clone(), name.clone(), args.iter().enumerate().map(asked).collect());
            let mut out = Vec::new();
            for tuple in self.solve(goal)? {
                let mut found = Some(env.clone());
                for (i, (arg, v)) in args.iter().zip(&tuple).enumerate() {
                    found = found.and_then(|env| match variable(arg) {
                        // A bound argument went into the goal; the tuple carries it as it was given.
                        Some(var) => unify(&env, var, v),
                        None if is_folded(i) && !is(arg, "_") && arg != v => None,
                        None => Some(env),
                    });
                }
                out.extend(found);
            }
            Ok(out)
        })
    }

    /// The tuples of a goal: complete outside of a fixpoint, so far inside of one.
    fn solve(&mut self, goal: Goal) -> Result<BTreeSet<Vec<Value>>> {
        if let Some(tuples) = self.done.get(&goal) {
            return Ok(tuples.clone());
        }
        let rules = &self.world.rules;
        let folded = fold::of(rules, &goal.1).is_some_and(|f| f.iter().any(Option::is_some));
        let back = self.within.as_ref().is_some_and(|caller| fold::leads(rules, &goal.1, caller));
        if let Some(running) = &mut self.running
            && (!folded || back)
        {
            return Ok(running.entry(goal).or_default().clone());
        }
        let (running, within) = (self.running.take(), self.within.take());
        self.running = Some(Table::from([(goal.clone(), BTreeSet::new())]));
        let result = self.fixpoint();
        let table = std::mem::replace(&mut self.running, running).unwrap_or_default();
        self.within = within;
        result?;
        for (goal, tuples) in table {
            let tuples = fold::finished(rules, &goal.1, tuples)?;
            self.done.insert(goal, tuples);
        }
        Ok(self.done[&goal].clone())
    }

    /// Evaluates every goal that came up again and again until nothing is new.
    fn fixpoint(&mut self) -> Result<()> {
        let rules = &self.world.rules;
        let mut rounds = 0;
        loop {
            let goals: Vec<Goal> = self.table().keys().cloned().collect();
            let mut grew = false;
            for goal in &goals {
                let tuples = self.derive(goal)?;
                let known = self.table().get_mut(goal).expect("goals are never removed");
                let before = known.clone();
                known.extend(tuples);
                *known = fold::so_far(rules, &goal.1, std::mem::take(known))?;
                grew |= *known != before;
            }
            let table = self.table();
            rounds += 1;
            let rows = table.values().map(|t| t.len() + 1).sum::<usize>();
            if rows > ROWS_MAX || rounds > ROUNDS_MAX {
                return Err(NaiveError::TooLarge);
            }
            if !grew && table.len() == goals.len() {
                return Ok(());
            }
        }
    }

    fn table(&mut self) -> &mut Table {
        self.running.as_mut().expect("only called while a fixpoint runs")
    }

    fn derive(&mut self, (source, name, args): &Goal) -> Result<BTreeSet<Vec<Value>>> {
        let world = self.world;
        let mut tuples = BTreeSet::new();
        let mut defined = false;
        for rule in world.rules.iter().filter(|r| r.name == *name) {
            defined = true;
            if rule.head.len() != args.len() {
                return wrong(format!("{name} takes {} arguments", rule.head.len()));
            }
            let mut env = Some(Env::new());
            for (i, (var, arg)) in rule.head.iter().zip(args).enumerate() {
                match arg {
                    Some(v) => env = env.and_then(|env| unify(&env, var, v)),
                    None if i < rule.n_required => return Err(NaiveError::Unbound(var.to_string())),
                    None => {}
                }
            }
            let Some(env) = env else { continue };
            let shown = || rule.head.iter().chain(&rule.with);
            let outside = shown().cloned().collect();
            let within = self.within.replace(name.clone());
            let rows = self.conjunction(source, &rule.body, Rows::from([env]), &outside);
            self.within = within;
            for found in rows? {
                let tuple = shown().map(|v| found.get(v).cloned()).collect::<Option<Vec<Value>>>();
                tuples.insert(tuple.ok_or_else(|| NaiveError::Unbound(format!("{name}")))?);
            }
        }
        if defined { Ok(tuples) } else { wrong(format!("unknown rule {name}")) }
    }
}

/// The bindings of the listed variables, which must all be there.
fn restrict(env: &Env, vars: &BTreeSet<Symbol>) -> Result<Env> {
    vars.iter()
        .map(|v| match env.get(v) {
            Some(value) => Ok((v.clone(), value.clone())),
            None => Err(NaiveError::Unbound(v.to_string())),
        })
        .collect()
}

fn is_negation(clause: &Value) -> bool {
    let Value::List(parts) = clause else { return false };
    let head = parts.iter().find(|p| !matches!(p, Value::Symbol(s) if s.as_str().starts_with('$')));
    head.is_some_and(|h| is(h, "not") || is(h, "not-join"))
}
