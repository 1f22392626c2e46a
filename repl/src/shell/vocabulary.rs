//! The words of the moment: what completion offers and highlighting knows.
//!
//! A plain copy of names, rebuilt when the schema or the session changes, so
//! that a keystroke never touches the database.

/// An attribute's name with what one wants to know while typing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributeWord {
    /// With its colon.
    pub name: String,
    /// `ref`, `string`, …
    pub value_type: &'static str,
    /// Cardinality many.
    pub many: bool,
}

/// Everything that can be completed.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    /// Sorted by name.
    pub attributes: Vec<AttributeWord>,
    /// Idents that are not attributes, with their colon, sorted.
    pub idents: Vec<String>,
    /// Names of stored rules.
    pub rules: Vec<String>,
    /// Parameters, with their question mark.
    pub parameters: Vec<String>,
    /// Streams (the first thousand).
    pub streams: Vec<String>,
    /// Event types.
    pub event_types: Vec<String>,
    /// Projections.
    pub projections: Vec<String>,
}

impl Vocabulary {
    /// The attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&AttributeWord> {
        self.attributes.binary_search_by(|a| a.name.as_str().cmp(name)).ok().map(|i| &self.attributes[i])
    }
    /// Is it the name of something in the database?
    pub fn knows(&self, name: &str) -> bool {
        self.attribute(name).is_some() || self.idents.binary_search_by(|i| i.as_str().cmp(name)).is_ok()
    }
}
