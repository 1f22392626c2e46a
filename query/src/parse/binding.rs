//! `?x`, `_`, `[?x ...]`, `[?a _]`, `[[?a ?b]]`: how a result is taken apart.

use super::{complain, var_of};
use crate::ast::{Binding, Spanned};
use crate::edn::Form;
use crate::error::Complaints;

/// `?x`, `_`, `[?x ...]`, `[?a _]`, `[[?a ?b]]`.
pub(super) fn binding(f: &Form, c: &mut Complaints) -> Option<Spanned<Binding>> {
    let help = "write ?x, [?x ...], [?a ?b] or [[?a ?b]]";
    if let Some(v) = var_of(f) {
        return Some(v.map(Binding::Var));
    }
    if f.is_symbol("_") {
        return Some(Spanned::new(Binding::Blank, f.span));
    }
    let Some(items) = f.as_vector() else {
        complain(c, "query/binding", f, format!("a {} cannot be bound to", f.noun()), help);
        return None;
    };
    let dots = |f: &Form| f.is_symbol("...");
    let node = match items {
        [] => {
            complain(c, "query/binding", f, "an empty binding", help);
            return None;
        }
        [one, d] if dots(d) => Binding::Coll(Box::new(binding(one, c)?)),
        [tuple] if tuple.as_vector().is_some() => Binding::Coll(Box::new(binding(tuple, c)?)),
        slots => {
            if let Some(d) = slots.iter().find(|s| dots(s)) {
                complain(c, "query/binding", d, "... follows exactly one binding", help);
                return None;
            }
            let slots: Option<Vec<_>> = slots.iter().map(|s| binding(s, c)).collect();
            Binding::Tuple(slots?)
        }
    };
    Some(Spanned::new(node, f.span))
}
