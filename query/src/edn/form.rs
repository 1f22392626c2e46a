//! Forms: values that remember where each part of them stood.

use annals_model::{Span, Symbol, Value};

/// A value read from text, with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    /// What was read.
    pub kind: FormKind,
    /// Where it stood. Empty for forms made from values.
    pub span: Span,
}

/// The shape of a form.
#[derive(Clone, Debug, PartialEq)]
pub enum FormKind {
    /// Anything that is not a collection, and tagged values of known tags.
    Atom(Value),
    /// `[…]`.
    Vector(Vec<Form>),
    /// `(…)`.
    List(Vec<Form>),
    /// `#{…}`, in the order written.
    Set(Vec<Form>),
    /// `{…}`, in the order written.
    Map(Vec<(Form, Form)>),
    /// `#tag form`, of an unknown tag.
    Tagged(Symbol, Box<Form>),
}

impl Form {
    /// A form of a value that was not read from text.
    pub fn of_value(v: &Value) -> Form {
        let all = |items: &[Value]| items.iter().map(Form::of_value).collect();
        let kind = match v {
            Value::Vector(items) => FormKind::Vector(all(items)),
            Value::List(items) => FormKind::List(all(items)),
            Value::Set(items) => FormKind::Set(all(items)),
            Value::Map(entries) => {
                FormKind::Map(entries.iter().map(|(k, v)| (Form::of_value(k), Form::of_value(v))).collect())
            }
            Value::Tagged(t) => FormKind::Tagged(t.0.clone(), Box::new(Form::of_value(&t.1))),
            atom => FormKind::Atom(atom.clone()),
        };
        Form { kind, span: Span::default() }
    }

    /// The value, without places.
    pub fn into_value(self) -> Value {
        let all = |items: Vec<Form>| items.into_iter().map(Form::into_value);
        match self.kind {
            FormKind::Atom(v) => v,
            FormKind::Vector(items) => Value::Vector(all(items).collect()),
            FormKind::List(items) => Value::List(all(items).collect()),
            FormKind::Set(items) => Value::set(all(items)),
            FormKind::Map(entries) => {
                Value::map(entries.into_iter().map(|(k, v)| (k.into_value(), v.into_value())))
            }
            FormKind::Tagged(tag, form) => Value::Tagged((tag, form.into_value()).into()),
        }
    }

    /// A copy of the value, without places.
    pub fn to_value(&self) -> Value {
        self.clone().into_value()
    }

    /// The atom, if it is one.
    pub fn as_atom(&self) -> Option<&Value> {
        match &self.kind {
            FormKind::Atom(v) => Some(v),
            _ => None,
        }
    }
    /// The symbol, if it is one.
    pub fn as_symbol(&self) -> Option<&Symbol> {
        match &self.kind {
            FormKind::Atom(Value::Symbol(s)) => Some(s),
            _ => None,
        }
    }
    /// Is it this symbol?
    pub fn is_symbol(&self, name: &str) -> bool {
        self.as_symbol().is_some_and(|s| s.as_str() == name)
    }
    /// The text of the keyword without its colon, if it is one.
    pub fn as_keyword(&self) -> Option<&str> {
        match &self.kind {
            FormKind::Atom(Value::Keyword(k)) => Some(k.as_str()),
            _ => None,
        }
    }
    /// The elements, if it is a vector.
    pub fn as_vector(&self) -> Option<&[Form]> {
        match &self.kind {
            FormKind::Vector(items) => Some(items),
            _ => None,
        }
    }
    /// The elements, if it is a list.
    pub fn as_list(&self) -> Option<&[Form]> {
        match &self.kind {
            FormKind::List(items) => Some(items),
            _ => None,
        }
    }
    /// The elements, if it is a vector or a list.
    pub fn as_sequence(&self) -> Option<&[Form]> {
        self.as_vector().or(self.as_list())
    }
    /// The form behind a quote: `'form` and `(quote form)` mean the form itself.
    pub fn unquoted(&self) -> &Form {
        match self.as_list() {
            Some([head, inner]) if head.is_symbol("quote") => inner.unquoted(),
            _ => self,
        }
    }
    /// What to call it in a message.
    pub fn noun(&self) -> &'static str {
        match &self.kind {
            FormKind::Atom(v) => v.kind(),
            FormKind::Vector(_) => "vector",
            FormKind::List(_) => "list",
            FormKind::Set(_) => "set",
            FormKind::Map(_) => "map",
            FormKind::Tagged(..) => "tagged value",
        }
    }
}
