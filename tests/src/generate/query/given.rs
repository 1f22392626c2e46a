//! Recursive rules that use an argument both as an entity and as data.
//!
//! In a pattern a lookup ref, an id or an ident is the entity; in a vector it is itself. A rule
//! passes on what it was given, however often it calls itself.

use super::*;

impl Gen<'_, '_> {
    /// Such a rule, and a call of it.
    pub(super) fn as_given(&mut self) {
        let [x, y, z, p, q] = ["?x", "?y", "?z", "?p", "?q"].map(sym);
        let link = self.ref_attr().key();
        let other = self.ref_attr().key();
        let name = self.fresh("given").replace('?', "");
        let second = format!("{name}b");
        let edge = |f: &Value, t: &Value| vector([f.clone(), link.clone(), t.clone()]);
        let back = vector([z.clone(), other, y.clone()]);
        let head = |n: &str| call(n, [x.clone(), y.clone(), p.clone()]);
        let of = |n: &str, f: &Value, t: &Value| call(n, [f.clone(), t.clone(), sym("_")]);
        // What is kept: both ends, one of them, or what the rule below kept.
        let ends = match self.rng.below(3) {
            0 => vec![x.clone()],
            1 => vec![y.clone()],
            _ => vec![x.clone(), y.clone()],
        };
        let keep = vector([call("vector", ends), p.clone()]);
        let mut base = vec![head(&name), edge(&x, &y), keep.clone()];
        if self.rng.chance(25) {
            let a = self.any_attr().key();
            let end = if self.rng.chance(50) { &x } else { &y };
            base.push(call("not", [vector([end.clone(), a, sym("_")])]));
        }
        let base = vector(base);
        let rules = match self.rng.below(6) {
            0 => vec![base, vector([head(&name), edge(&x, &z), of(&name, &z, &y), keep])],
            1 => vec![base, vector([head(&name), of(&name, &x, &z), edge(&z, &y), keep])],
            2 => vec![base, vector([head(&name), of(&name, &x, &z), of(&name, &z, &y), keep])],
            3 => vec![
                base,
                vector([head(&name), edge(&x, &z), of(&second, &z, &y), keep.clone()]),
                vector([head(&second), of(&name, &x, &z), back, keep]),
            ],
            // The ends change places on the way.
            4 => vec![base, vector([head(&name), of(&name, &y, &x), keep])],
            // What the call below kept goes up.
            _ => vec![
                base,
                vector([
                    head(&name),
                    edge(&x, &z),
                    call(&name, [z, y.clone(), q.clone()]),
                    vector([call("identity", [q]), p.clone()]),
                ]),
            ],
        };
        self.rules.extend(rules);
        let (from, to) = (self.argument(), self.argument());
        let kept = self.new_var(Ty::Data);
        self.clauses.push(call(&name, [from, to, kept.clone()]));
        if self.rng.chance(50) {
            let n = self.new_var(Ty::Of(ValueType::Long));
            self.clauses.push(vector([call("count", [kept]), n]));
        }
    }

    /// An argument: a constant that names an entity, an input of one or several, or a variable.
    fn argument(&mut self) -> Value {
        match self.rng.below(10) {
            0..=2 => self.entity_constant(),
            3 | 4 => {
                let link = self.ref_attr();
                self.given(&link)
            }
            5 | 6 => self.bound(Ty::Entity).expect("there is a root"),
            7 => sym("_"),
            _ => self.new_var(Ty::Entity),
        }
    }
}
