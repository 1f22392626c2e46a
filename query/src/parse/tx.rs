//! Transaction data: which forms there are. What they mean needs the schema and is
//! the engine's to say.

use crate::edn::{self, Form, FormKind};
use crate::error::ParseErrors;
use annals_model::{Diagnostic, tx::TxData};
use std::sync::Arc;

/// Each top-level vector or list of a text as one transaction.
pub(super) fn transactions(text: &str) -> Result<Vec<TxData>, ParseErrors> {
    let source: Arc<str> = Arc::from(text);
    let mut errors = Vec::new();
    let mut out = Vec::new();
    for form in edn::read_all(text)? {
        match transaction(form) {
            Ok(forms) => out.push(TxData { forms, text: Some(source.clone()) }),
            Err(d) => errors.push(d),
        }
    }
    if errors.is_empty() { Ok(out) } else { Err(ParseErrors(errors)) }
}

fn transaction(form: Form) -> Result<Vec<annals_model::Value>, Diagnostic> {
    let (span, noun) = (form.span, form.noun());
    match form.kind {
        FormKind::Vector(items) | FormKind::List(items) | FormKind::Set(items) => {
            Ok(items.into_iter().map(Form::into_value).collect())
        }
        _ => Err(Diagnostic::new("tx/form", format!("a transaction is a vector of forms, not a {noun}"))
            .at(span, format!("a {noun}"))
            .help("wrap it: [ … ]")),
    }
}
