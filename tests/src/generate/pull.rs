//! Random pull patterns.

use super::{Rng, data::Attr};
use annals_model::{Symbol, Value, ValueType};

/// A pattern over these attributes, nested at most `depth` deep.
pub fn pattern(rng: &mut Rng, attrs: &[Attr], depth: usize) -> Value {
    let mut parts: Vec<Value> = Vec::new();
    let mut named: Vec<String> = Vec::new();
    if rng.chance(25) {
        parts.push(Value::Symbol(Symbol::new("*")));
    }
    if parts.is_empty() || rng.chance(30) {
        parts.push(Value::keyword("db/id"));
    }
    for _ in 0..rng.within(1, 4) {
        let a = rng.pick(attrs);
        let backwards = a.of == ValueType::Ref && rng.chance(30);
        let name = if backwards { a.ident.replace('/', "/_") } else { a.ident.clone() };
        // One item an attribute: which of two wins is tested by hand.
        if named.contains(&name) {
            continue;
        }
        named.push(name.clone());
        let mut spec = Value::keyword(&name);
        let mut options = Vec::new();
        if rng.chance(12) {
            options.extend([Value::keyword("as"), Value::keyword(&format!("as/n{}", named.len()))]);
        }
        if a.of != ValueType::Ref && rng.chance(12) {
            options.extend([Value::keyword("default"), Value::string("none")]);
        }
        if a.many && rng.chance(20) {
            options.extend([Value::keyword("limit"), Value::Long(rng.within(1, 2))]);
        }
        if !options.is_empty() {
            spec = Value::vector(std::iter::once(spec).chain(options));
        }
        let nests = a.of == ValueType::Ref && depth > 0 && rng.chance(60);
        parts.push(match nests {
            false => spec,
            true => {
                let below = match rng.below(5) {
                    0 => Value::Symbol(Symbol::new("...")),
                    1 => Value::Long(rng.within(1, 3)),
                    _ => pattern(rng, attrs, depth - 1),
                };
                Value::map([(spec, below)])
            }
        });
    }
    Value::vector(parts)
}
