//! Rules that fold: over facts, over other rules, and through recursion.
//!
//! Recursive ones end on every graph: hops grow by one, a bottleneck takes one of the values
//! that are there, a path only gets shorter.

use super::*;

impl Gen<'_, '_> {
    /// Rules that fold, and a call of one of them.
    pub(super) fn folded(&mut self) {
        if self.rng.chance(45) { self.grouped() } else { self.improved() }
    }

    /// A fold outside of recursion: of an attribute's values, or of a rule's answers.
    fn grouped(&mut self) {
        let [x, y, n] = ["?x", "?y", "?n"].map(sym);
        let (a, b) = (self.any_attr(), self.any_attr());
        let long = self.attr(|a| a.of == ValueType::Long);
        let link = self.ref_attr().key();
        let name = self.fresh("group").replace('?', "");
        let (f, number) = match self.rng.below(8) {
            0 | 1 => ("count", None),
            2 => ("count-distinct", None),
            3 => ("distinct", None),
            4 => ("max", Some(self.rng.within(1, 3))),
            _ => (*self.rng.pick(&["min", "max"]), None),
        };
        let fold = call(f, number.map(Value::Long).into_iter().chain([n.clone()]));
        let value = |a: &Attr| vector([x.clone(), a.key(), n.clone()]);
        let (mut head, mut definitions) = (vec![x.clone(), fold.clone()], Vec::new());
        match self.rng.below(5) {
            // The values of an attribute, apart by what points here.
            0 => {
                head.extend([Value::keyword("with"), y.clone()]);
                definitions.push(vec![value(&a), vector([y, link, x.clone()])]);
            }
            // Two definitions, one set.
            1 => {
                definitions.push(vec![value(&a)]);
                definitions.push(vec![value(&b), vector([x.clone(), link, sym("_")])]);
            }
            // What points here, in one group or by what it points to.
            2 => {
                if self.rng.chance(40) {
                    head = vec![fold];
                }
                definitions.push(vec![vector([n, link, x.clone()])]);
            }
            // Answers of a recursive rule.
            3 => {
                let reach = self.fresh("r").replace('?', "");
                let z = sym("?z");
                self.rules.push(vector([
                    call(&reach, [x.clone(), y.clone()]),
                    vector([x.clone(), link.clone(), y.clone()]),
                ]));
                self.rules.push(vector([
                    call(&reach, [x.clone(), y.clone()]),
                    vector([x.clone(), link, z.clone()]),
                    call(&reach, [z, y]),
                ]));
                definitions.push(vec![call(&reach, [x.clone(), n])]);
            }
            // Two folds of one head.
            _ => {
                head.push(call("count", [y.clone()]));
                definitions.push(vec![value(&a), vector([x.clone(), b.key(), y])]);
            }
        }
        for body in &definitions {
            self.rules.push(vector([call(&name, head.clone())].into_iter().chain(body.iter().cloned())));
        }
        let longs = (f == "count" || f == "count-distinct")
            || (number.is_none()
                && f != "distinct"
                && definitions.len() == 1
                && Some(&a.ident) == long.as_ref().map(|l| &l.ident));
        let mut args = Vec::new();
        for h in head.iter().take_while(|h| !matches!(h, Value::Keyword(_))) {
            args.push(match h {
                Value::Symbol(_) => self.end(),
                _ if args.len() == 2 || longs => self.result(),
                _ => {
                    // Of any type: shown, but joined with nothing.
                    let name = self.fresh("any");
                    self.hidden.push(name.clone());
                    sym(&name)
                }
            });
        }
        self.clauses.push(call(&name, args));
    }

    /// A fold through recursion.
    fn improved(&mut self) {
        let [x, y, z, d, e, f, w] = ["?x", "?y", "?z", "?d", "?e", "?f", "?w"].map(sym);
        let link = self.ref_attr().key();
        let other = self.ref_attr().key();
        let long = self.attr(|a| a.of == ValueType::Long).map(|a| a.key());
        let name = self.fresh("best").replace('?', "");
        let second = format!("{name}b");
        let edge = |f: &Value, t: &Value| vector([f.clone(), link.clone(), t.clone()]);
        let is = |f: &str, args: &[&Value], to: &Value| {
            vector([call(f, args.iter().map(|a| (*a).clone())), to.clone()])
        };
        let of = |n: &str, args: &[&Value]| call(n, args.iter().map(|a| (*a).clone()));
        let least = |n: &str| call(n, [x.clone(), y.clone(), call("min", [d.clone()])]);
        let one = is("ground", &[&Value::Long(1)], &d);
        let base = vector([least(&name), edge(&x, &y), one.clone()]);
        let step = is("inc", &[&e], &d);
        let (rules, shape): (Vec<Value>, usize) = match (self.rng.below(10), long) {
            (0, _) => (vec![base, vector([least(&name), edge(&x, &z), of(&name, &[&z, &y, &e]), step])], 3),
            (1, _) => (vec![base, vector([least(&name), of(&name, &[&x, &z, &e]), edge(&z, &y), step])], 3),
            (2, _) => {
                let sum = is("+", &[&e, &f], &d);
                (
                    vec![
                        base,
                        vector([least(&name), of(&name, &[&x, &z, &e]), of(&name, &[&z, &y, &f]), sum]),
                    ],
                    3,
                )
            }
            (3, _) => {
                let near = vector([call("<", [d.clone(), Value::Long(self.rng.within(2, 4))])]);
                (vec![base, vector([least(&name), of(&name, &[&x, &z, &e]), edge(&z, &y), step, near])], 3)
            }
            (4, _) => (
                vec![
                    base,
                    vector([least(&name), of(&second, &[&x, &z, &e]), edge(&z, &y), step.clone()]),
                    vector([
                        least(&second),
                        of(&name, &[&x, &z, &e]),
                        vector([z.clone(), other, y.clone()]),
                        step,
                    ]),
                ],
                3,
            ),
            (5, Some(long)) | (6, Some(long)) => {
                let head = call(&name, [x.clone(), y.clone(), call("max", [d.clone()])]);
                (
                    vec![
                        vector([head.clone(), edge(&x, &y), vector([x.clone(), long.clone(), d.clone()])]),
                        vector([
                            head,
                            of(&name, &[&x, &z, &e]),
                            edge(&z, &y),
                            vector([z.clone(), long, w.clone()]),
                            is("min", &[&e, &w], &d),
                        ]),
                    ],
                    3,
                )
            }
            (7, Some(long)) => {
                let fold: &str = self.rng.pick::<&str>(&["min", "max"]);
                let head = call(&name, [x.clone(), call(fold, [d.clone()])]);
                (
                    vec![
                        vector([head.clone(), vector([x.clone(), long, d.clone()])]),
                        vector([head, edge(&x, &y), of(&name, &[&y, &d])]),
                    ],
                    2,
                )
            }
            (8, Some(long)) => {
                let head =
                    call(&name, [x.clone(), y.clone(), call("min", [d.clone()]), call("max", [e.clone()])]);
                let [g, h] = ["?g", "?h"].map(sym);
                (
                    vec![
                        vector([
                            head.clone(),
                            edge(&x, &y),
                            vector([x.clone(), long.clone(), d.clone()]),
                            is("identity", &[&d], &e),
                        ]),
                        vector([
                            head,
                            of(&name, &[&x, &z, &g, &h]),
                            edge(&z, &y),
                            vector([z.clone(), long, w.clone()]),
                            is("min", &[&g, &w], &d),
                            is("max", &[&h, &w], &e),
                        ]),
                    ],
                    4,
                )
            }
            _ => {
                let head = call(&name, [x.clone(), y.clone(), call("shortest", [d.clone()])]);
                (
                    vec![
                        vector([head.clone(), edge(&x, &y), is("vector", &[&x, &y], &d)]),
                        vector([head, of(&name, &[&x, &z, &e]), edge(&z, &y), is("conj", &[&e, &y], &d)]),
                    ],
                    5,
                )
            }
        };
        self.rules.extend(rules);
        let from = self.end();
        let to = if shape == 2 { sym("_") } else { self.end() };
        match shape {
            2 => {
                let r = self.result();
                self.clauses.push(call(&name, [from, r]));
            }
            3 => {
                let r = self.result();
                self.clauses.push(call(&name, [from, to, r]));
                if self.rng.chance(15) {
                    let [e, f] = [(); 2].map(|()| self.bound(Ty::Entity).expect("there is a root"));
                    let far = Value::Long(self.rng.within(1, 3));
                    self.clauses.push(call("not", [call(&name, [e, f, far])]));
                }
            }
            4 => {
                let (r, s) = (self.result(), self.result());
                self.clauses.push(call(&name, [from, to, r, s]));
            }
            _ => {
                // A path holds its ends as data: a lookup ref stays one.
                let path = sym(&self.fresh("path"));
                let found = matches!(&to, Value::Symbol(s) if self.hidden.iter().all(|h| h != s.as_str()));
                self.clauses.push(call(&name, [from, to, path.clone()]));
                let n = self.new_var(Ty::Of(ValueType::Long));
                self.clauses.push(vector([call("count", [path.clone()]), n]));
                // A lookup ref taken out of a path is computed: data, which nothing looks up.
                let second = self.new_var(if found { Ty::Entity } else { Ty::Data });
                self.clauses.push(vector([call("nth", [path, Value::Long(1)]), second]));
            }
        }
    }

    /// An argument that is not folded.
    fn end(&mut self) -> Value {
        match self.rng.below(10) {
            0 => sym("_"),
            1 => self.entity_constant(),
            2..=5 => self.bound(Ty::Entity).expect("there is a root"),
            _ => self.new_var(Ty::Entity),
        }
    }

    /// A number that is folded.
    fn result(&mut self) -> Value {
        match self.rng.below(10) {
            0 => sym("_"),
            1 => Value::Long(self.rng.within(1, 3)),
            2 => self.bound(Ty::Of(ValueType::Long)).unwrap_or_else(|| sym("_")),
            _ => self.new_var(Ty::Of(ValueType::Long)),
        }
    }
}
