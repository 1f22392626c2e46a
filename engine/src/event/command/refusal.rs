//! A rule's refusal as data, so that it can be stored and answered again, and what telling it
//! to the sender takes.

use crate::DbError;
use crate::event::{data::DataError, wire, wire_name};
use annals_model::Value;
use serde::{Serialize, de::DeserializeOwned};

/// A refusal by a rule, when the type of its error is not at hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The stable code of the rule: `account/overdrawn`.
    pub code: String,
    /// What it said to people.
    pub message: String,
    /// The error as data.
    pub detail: Value,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for Refusal {}

/// The code of a refusal that nobody could be told.
pub(crate) const UNHEARD: &str = "command/unheard";

/// Why a refusal could not be told to who sent the command.
#[derive(Debug)]
pub(crate) enum Unheard {
    /// The process that sent it cannot take it.
    Sender { process: String, why: String },
    /// The database could not be read.
    Db(DbError),
}
impl From<DbError> for Unheard {
    fn from(e: DbError) -> Unheard {
        Unheard::Db(e)
    }
}

/// What a refusal does beside being stored: rows for its transaction. When it fails, the
/// refusal is not stored either.
pub(crate) type OnRefusal<'a> = &'a dyn Fn(&Refusal) -> Result<Vec<annals_storage::Row>, Unheard>;

const VARIANT: &str = "error";
const PAYLOAD: &str = "data";

/// A rule's error as what is stored: `{:error "Overdrawn" :data {…}}`.
pub(crate) fn refusal<E>(area: &str, error: &E) -> Result<Refusal, DataError>
where
    E: std::error::Error + Serialize + DeserializeOwned,
{
    let (name, payload) = wire::write(error).map_err(|e| DataError::Serialize(e.0))?;
    let name =
        name.or_else(|| wire_name::of_struct(error).map(str::to_owned)).unwrap_or_else(wire::type_name::<E>);
    let code = format!("{area}/{}", kebab(&name));
    let detail =
        Value::map([(Value::keyword(VARIANT), Value::string(&name)), (Value::keyword(PAYLOAD), payload)]);
    Ok(Refusal { code, message: error.to_string(), detail })
}

pub(crate) fn read_refusal<E: DeserializeOwned>(detail: &Value) -> Option<E> {
    let Some(Value::String(name)) = detail.get(&Value::keyword(VARIANT)) else { return None };
    wire::read(name, detail.get(&Value::keyword(PAYLOAD))?).ok()
}

/// `OutOfStock` as `out-of-stock`.
fn kebab(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for (i, c) in name.chars().enumerate() {
        if c.is_uppercase() && i > 0 && !out.ends_with('-') {
            out.push('-');
        }
        out.extend(c.to_lowercase().map(|c| if c.is_alphanumeric() { c } else { '-' }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_refusals_are_in_lower_case_with_dashes() {
        assert_eq!(kebab("OutOfStock"), "out-of-stock");
        assert_eq!(kebab("overdrawn"), "overdrawn");
        assert_eq!(kebab("not_paid"), "not-paid");
    }
}
