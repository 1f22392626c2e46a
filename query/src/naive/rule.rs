//! One definition of a rule, read from its form.

use super::{NaiveError, Result, items, variable, wrong};
use annals_model::{Symbol, Value};

/// One definition of a rule.
pub(super) struct Rule {
    pub name: Symbol,
    /// The head; its first `n_required` must be bound by the call.
    pub head: Vec<Symbol>,
    pub n_required: usize,
    /// How each head variable is folded: the aggregate and its number.
    pub folds: Vec<Option<(String, Option<usize>)>>,
    /// The variables of `:with`.
    pub with: Vec<Symbol>,
    pub body: Vec<Value>,
}

impl Rule {
    /// From `[(name [?required …] ?var …) clause …]`.
    pub fn of(form: &Value) -> Result<Rule> {
        let Some([head, body @ ..]) = items(form) else { return wrong("a rule is a vector") };
        let Some([Value::Symbol(name), args @ ..]) = items(head) else { return wrong("a rule has a head") };
        let (mut head, mut n_required, mut folds, mut with) = (Vec::new(), 0, Vec::new(), Vec::new());
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg {
                Value::Vector(required) => {
                    head.extend(required.iter().filter_map(variable).cloned());
                    n_required = head.len();
                    folds.resize(n_required, None);
                }
                Value::List(fold) => {
                    let (f, n, v) = match &fold[..] {
                        [Value::Symbol(f), v] => (f, None, v),
                        [Value::Symbol(f), Value::Long(n), v] => (f, usize::try_from(*n).ok(), v),
                        _ => return Err(NaiveError::Unsupported("a fold with other arguments".into())),
                    };
                    head.extend(variable(v).cloned());
                    folds.push(Some((f.to_string(), n)));
                }
                Value::Keyword(k) if k.as_str() == "with" => {
                    with.extend(args.by_ref().filter_map(variable).cloned());
                }
                arg => {
                    head.extend(variable(arg).cloned());
                    folds.push(None);
                }
            }
        }
        Ok(Rule { name: name.clone(), head, n_required, folds, with, body: body.to_vec() })
    }
}
