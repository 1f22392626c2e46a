//! Pull patterns: which attributes of an entity to fetch, and how to show them.

use super::Spanned;
use annals_model::{Keyword, Span, Symbol, Value};

/// `[item+]`.
#[derive(Clone, Debug, PartialEq)]
pub struct PullPattern {
    /// What to fetch; of two items for one key the later wins.
    pub items: Vec<PullItem>,
    /// The vector.
    pub span: Span,
}

/// One element of a pattern. A map with several entries gives several items.
#[derive(Clone, Debug, PartialEq)]
pub enum PullItem {
    /// `*`: every attribute of the entity, and its id.
    Wildcard(Span),
    /// `:db/id`: the entity itself, under this key (`:as` may rename it).
    Id {
        /// The key in the answer.
        key: Value,
        /// The item.
        span: Span,
    },
    /// An attribute with its options.
    Attr(Box<PullAttr>),
}

/// An attribute within a pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct PullAttr {
    /// The attribute, without the underscore of a reverse reference.
    pub attr: Spanned<Keyword>,
    /// `:a/_rev`: follow the reference backwards.
    pub reverse: bool,
    /// The key in the answer: as written, or what `:as` says.
    pub key: Value,
    /// `:limit`.
    pub limit: PullLimit,
    /// `:default`: the value when there is none.
    pub default: Option<Value>,
    /// `:xform`: the function applied to the value.
    pub xform: Option<Spanned<Symbol>>,
    /// What to show of the entities referred to.
    pub sub: PullSub,
    /// The item.
    pub span: Span,
}

/// How many values to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PullLimit {
    /// No word: a thousand.
    #[default]
    Default,
    /// `:limit nil`.
    All,
    /// `:limit n`.
    N(usize),
}

impl PullLimit {
    /// The most values taken.
    pub fn max(self) -> usize {
        match self {
            PullLimit::Default => 1_000,
            PullLimit::All => usize::MAX,
            PullLimit::N(n) => n,
        }
    }
}

/// What to show of a referred entity.
#[derive(Clone, Debug, PartialEq)]
pub enum PullSub {
    /// Nothing said: components in full, others as `{:db/id n}`.
    None,
    /// `{:a [pattern]}`.
    Pattern(PullPattern),
    /// `{:a n}` and `{:a ...}`: the pattern around it again, to a depth or without bound.
    Recursion(Option<usize>),
}
