//! Text to transactions: each top-level vector is one.

use super::{
    error::{Place, TransactError},
    op::Res,
};
use annals_model::tx::TxData;
use annals_query::edn::{self, Form};
use std::sync::Arc;

/// Reads any number of transactions.
///
/// ```
/// let txs = annals::read_transactions("[{:a/b 1}] [[:db/add \"x\" :a/b 2]]")?;
/// assert_eq!(txs.len(), 2);
/// # Ok::<(), annals::TransactError>(())
/// ```
pub fn read_all(text: &str) -> Result<Vec<TxData>, TransactError> {
    let forms = edn::read_all(text).map_err(|e| TransactError::Syntax(e.0))?;
    forms.into_iter().map(|f| one(text, f)).collect()
}

/// Reads exactly one transaction.
pub(crate) fn read_one(text: &str) -> Res<TxData> {
    let mut all = read_all(text)?;
    match (all.pop(), all.len()) {
        (Some(mut only), 0) => {
            only.text = Some(Arc::from(text));
            Ok(only)
        }
        (last, n) => Err(TransactError::NotOneTransaction { found: n + usize::from(last.is_some()) }),
    }
}

fn one(text: &str, form: Form) -> Res<TxData> {
    let Some(items) = form.unquoted().as_vector() else {
        return Err(TransactError::BadForm {
            form: form.to_value(),
            why: "a transaction is a vector of forms: [{:a/b 1} [:db/add e :a/b 2]]",
            at: Place::default(),
        });
    };
    let own = text.get(form.span.start..form.span.end).unwrap_or(text);
    Ok(TxData { forms: items.iter().map(Form::to_value).collect(), text: Some(Arc::from(own)) })
}
