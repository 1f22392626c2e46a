//! From a place in a transaction to the text it was read from. The text is read
//! again, since only refused transactions need this.

use super::error::Place;
use annals_model::{Keyword, Span};
use annals_query::edn::{self, Form, FormKind};

/// Where in `text` the place stands.
pub(crate) fn span(text: &str, place: &Place) -> Option<Span> {
    let forms = edn::read_all(text).ok()?;
    let tx = forms.first()?.unquoted();
    let Some(i) = place.form_index() else { return Some(tx.span) };
    let mut at = tx.as_vector()?.get(i)?;
    for step in place.steps() {
        match child(at, step) {
            Some(inner) => at = inner,
            None => break,
        }
    }
    Some(at.span)
}

/// Where in the form of a place an attribute is first named, forwards or in reverse.
pub(crate) fn name(text: &str, place: &Place, attr: &Keyword) -> Option<Span> {
    let forms = edn::read_all(text).ok()?;
    let form = forms.first()?.unquoted().as_vector()?.get(place.form_index()?)?;
    let reverse = Keyword::from_parts(attr.namespace(), &format!("_{}", attr.name()));
    named(form, &[attr.as_str(), reverse.as_str()]).map(|f| f.span)
}

/// The first keyword with one of these names, keys of a map before what is in it.
fn named<'f>(form: &'f Form, names: &[&str]) -> Option<&'f Form> {
    let is = |f: &&Form| f.as_keyword().is_some_and(|k| names.contains(&k));
    match &form.kind {
        FormKind::Map(entries) => {
            let keys = entries.iter().map(|(k, _)| k);
            keys.clone().find(is).or_else(|| entries.iter().find_map(|(_, v)| named(v, names)))
        }
        FormKind::Vector(items) | FormKind::List(items) | FormKind::Set(items) => {
            items.iter().find(is).or_else(|| items.iter().find_map(|f| named(f, names)))
        }
        FormKind::Atom(_) => Some(form).filter(is),
        FormKind::Tagged(..) => None,
    }
}

/// The value under an attribute of a map form, the attribute in a list form, or
/// the same somewhere inside.
fn child<'f>(form: &'f Form, attr: &Keyword) -> Option<&'f Form> {
    let is = |f: &Form| f.as_keyword() == Some(attr.as_str());
    match &form.kind {
        FormKind::Map(entries) => entries
            .iter()
            .find(|(k, _)| is(k))
            .map(|(_, v)| v)
            .or_else(|| entries.iter().find_map(|(_, v)| child(v, attr))),
        FormKind::Vector(items) | FormKind::List(items) | FormKind::Set(items) => {
            items.iter().find(|f| is(f)).or_else(|| items.iter().find_map(|f| child(f, attr)))
        }
        FormKind::Atom(_) | FormKind::Tagged(..) => None,
    }
}
