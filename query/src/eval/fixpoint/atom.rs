//! The atoms of a rule that read facts of its own fixpoint.

use super::Run;
use crate::error::QueryError;
use crate::eval::body::State;
use crate::eval::rel::{Rel, Var};
use crate::resolve::ir::Term;
use annals_model::Cell;

impl Run<'_> {
    /// Joins the state with an atom of the running fixpoint; the part it starts from is
    /// taken out of the state.
    pub(crate) fn facts_step(
        &self,
        s: &mut State<'_>,
        at: usize,
        facts: usize,
        args: &[Term],
    ) -> Result<Rel, QueryError> {
        let frame = self.frame.borrow().clone().expect("facts are read within a fixpoint only");
        let part = frame.part(at);
        let mut store = frame.fixpoint.facts[facts].borrow_mut();
        // The part with most of the atom's variables, if joining through it is less work than a scan.
        let vars: Vec<Var> = args.iter().filter_map(Term::var).collect();
        let best = (0..s.parts.len())
            .map(|i| (vars.iter().filter(|v| s.parts[i].has(**v)).count(), i))
            .filter(|(n, _)| *n > 0)
            .max_by_key(|(n, i)| (*n, std::cmp::Reverse(s.parts[*i].len)));
        if let Some((_, i)) = best
            && s.parts[i].len < 4 * store.len(part)
        {
            let mut on = Vec::new();
            for (c, a) in args.iter().enumerate() {
                if let Term::Var(v) = a
                    && s.parts[i].has(*v)
                {
                    on.push(c);
                }
            }
            let rel = s.parts[i].clone();
            let keys: Vec<&[Cell]> = on
                .iter()
                .map(|c| &**rel.col(args[*c].var().expect("a variable")).expect("it has it"))
                .collect();
            if let Some(found) = store.probe(part, &on, &keys, rel.len, self.budget) {
                let (left, right) = found?;
                s.parts.swap_remove(i);
                let mut out = rel.take(&left, false, true, self.budget);
                let mut key = rel.key.clone();
                let mut tests: Vec<(&Term, Vec<Cell>)> = Vec::new();
                for (c, a) in args.iter().enumerate() {
                    match a {
                        Term::Var(v) if !out.has(*v) => {
                            out = out.with(*v, store.fetch(c, &right), self.budget);
                            if let Some(k) = &mut key {
                                k.push(*v);
                            }
                        }
                        Term::Var(_) if on.contains(&c) => {}
                        Term::Var(_) | Term::Const(_) | Term::Ent(_) => {
                            tests.push((a, store.fetch(c, &right)))
                        }
                        Term::Blank => key = None,
                    }
                }
                let out = out.keyed(key);
                let mut keep: Vec<u32> = (0..left.len() as u32).collect();
                for (a, cells) in tests {
                    match self.fact_test(a, &out)? {
                        Some(test) => keep.retain(|i| test(*i as usize, cells[*i as usize])),
                        None => keep.clear(),
                    }
                }
                return Ok(if keep.len() < left.len() {
                    out.take(&keep, true, true, self.budget)
                } else {
                    out
                });
            }
        }
        let fresh: Vec<Var> = (0..args.len() as Var).collect();
        let all = store.rows(part, &fresh, self.budget);
        drop(store);
        self.name_columns(all, args)
    }

    /// What a term demands of a cell in a row of `rel`.
    #[expect(clippy::type_complexity, reason = "a closure")]
    fn fact_test(&self, t: &Term, rel: &Rel) -> Result<Option<Box<dyn Fn(usize, Cell) -> bool>>, QueryError> {
        Ok(match t {
            Term::Const(c) => {
                let c = self.dict.encode(c);
                Some(Box::new(move |_, x| x == c))
            }
            Term::Ent(e) => self.ent(e)?.map(|raw| -> Box<dyn Fn(usize, Cell) -> bool> {
                Box::new(move |_, x| x == crate::mem::entity_cell(raw))
            }),
            Term::Var(v) => {
                let col = rel.col(*v).expect("bound").clone();
                Some(Box::new(move |i, x| col[i] == x))
            }
            Term::Blank => Some(Box::new(|_, _| true)),
        })
    }

    /// Rows over column numbers, filtered by constants and repeated variables, over the variables of `args`.
    fn name_columns(&self, all: Rel, args: &[Term]) -> Result<Rel, QueryError> {
        let mut out = all;
        for (i, a) in args.iter().enumerate() {
            let keep: Vec<u32> = match a {
                Term::Blank => continue,
                Term::Const(_) | Term::Ent(_) => match self.fact_test(a, &out)? {
                    Some(test) => {
                        (0..out.len).filter(|r| test(*r, out.cols[i][*r])).map(|r| r as u32).collect()
                    }
                    None => vec![],
                },
                Term::Var(_) => match args[..i].iter().position(|b| b == a) {
                    None => continue,
                    Some(first) => (0..out.len)
                        .filter(|r| out.cols[i][*r] == out.cols[first][*r])
                        .map(|r| r as u32)
                        .collect(),
                },
            };
            if keep.len() < out.len {
                out = out.take(&keep, true, true, self.budget);
            }
        }
        let (mut shown, mut names): (Vec<Var>, Vec<Var>) = (vec![], vec![]);
        for (i, a) in args.iter().enumerate() {
            if let Term::Var(v) = a
                && !names.contains(v)
            {
                shown.push(i as Var);
                names.push(*v);
            }
        }
        if out.is_empty() {
            return Ok(Rel::empty(&names, self.budget));
        }
        let out = out.project(&shown);
        Ok(out.rename(|v| names[shown.iter().position(|s| *s == v).expect("projected")]))
    }
}
