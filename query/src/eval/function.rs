//! Functions and predicates: what they are called, what they take, what they answer.
//!
//! 1. A function is a pure map from values to a value; it reads no database, no
//!    clock and no random number. (Those that ask a database are clauses of their
//!    own, see [`crate::ast::Expr`].)
//! 2. A predicate keeps a row unless it answers nil or false. A function that
//!    answers nil binds nothing: the row is dropped.
//! 3. Values that do not compare (`(< 1 "a")`) compare to nil. Arguments of a
//!    wrong type are an error anywhere else.
//! 4. Arithmetic never wraps and never makes not-a-number: both are errors.
//!
//! The tables are in `table`; [`Library`] adds what users register.

mod bound;
mod compare;
mod data;
mod number;
mod table;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use bound::{has_parts, heap_bytes, is_made};
pub use compare::{cells_equal, compare, compare_cells, equal, total_order};
pub(crate) use data::size;
pub use number::{add, divide};

use super::aggregate::Aggregate;
use annals_model::{Value, ValueType, diagnostic::nearest};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, LazyLock},
};

/// Why a function has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FnError {
    /// Too few or too many arguments.
    #[error("takes {}, got {got}", arguments(*.min, *.max))]
    Arity {
        /// Arguments given.
        got: usize,
        /// At least.
        min: usize,
        /// At most, if there is a most.
        max: Option<usize>,
    },
    /// An argument of a wrong type.
    #[error("argument {} is {}, not {}", arg + 1, a(found), a(expected))]
    Type {
        /// Which argument, from 0.
        arg: usize,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A fold through recursion has values of one group that no comparison orders.
    #[error("cannot keep the better of {} and {} through recursion", a(.0), a(.1))]
    Incomparable(&'static str, &'static str),
    /// The result does not fit its type.
    #[error("the result does not fit a {0}")]
    Overflow(&'static str),
    /// Division of an integer or decimal by zero.
    #[error("division by zero")]
    DivideByZero,
    /// The result would be not-a-number.
    #[error("the result is not a number")]
    NotANumber,
    /// An argument outside of what makes sense.
    #[error("argument {} is out of range: {expected}", arg + 1)]
    Range {
        /// Which argument, from 0.
        arg: usize,
        /// What it should be.
        expected: &'static str,
    },
    /// The result is larger, or nested deeper, than a value may be.
    #[error("the result is {0}")]
    TooLarge(&'static str),
    /// A regular expression that cannot be compiled.
    #[error("not a regular expression: {0}")]
    Regex(String),
    /// A registered function refused.
    #[error("{0}")]
    User(String),
}

/// A noun with its article; none before `nil`.
fn a(noun: &str) -> String {
    match noun {
        "nil" => noun.to_owned(),
        n if n.starts_with(['a', 'e', 'i', 'o', 'u']) && !n.starts_with("ur") && !n.starts_with("uu") => {
            format!("an {n}")
        }
        n => format!("a {n}"),
    }
}

fn arguments(min: usize, max: Option<usize>) -> String {
    match max {
        Some(max) if max == min => format!("{min} argument{}", if min == 1 { "" } else { "s" }),
        Some(max) => format!("{min} to {max} arguments"),
        None => format!("at least {min} argument{}", if min == 1 { "" } else { "s" }),
    }
}

impl FnError {
    /// The stable code, a row of [`crate::error::CODES`].
    pub fn code(&self) -> &'static str {
        match self {
            FnError::Arity { .. } => "query/arity",
            FnError::Type { .. } | FnError::Incomparable(..) => "query/type",
            FnError::Overflow(_) => "query/overflow",
            FnError::DivideByZero | FnError::NotANumber => "query/function",
            FnError::Range { .. } | FnError::TooLarge(_) | FnError::Regex(_) | FnError::User(_) => {
                "query/function"
            }
        }
    }
    /// What to do about it, when there is something to say.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            FnError::Overflow("long") => Some("(bigint ?x) turns a long into an integer of any size"),
            FnError::TooLarge(_) => Some("a rule that makes a value of itself needs an end: [(< ?n 100)]"),
            FnError::Incomparable(..) => {
                Some("keep values of one type in a definition, or fold outside of the recursion")
            }
            FnError::DivideByZero => Some("exclude zero by a clause before: [(!= ?x 0)]"),
            _ => None,
        }
    }
}

/// A set of kinds of values, for checking arguments before a query runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kinds(u32);

impl Kinds {
    /// Anything.
    pub const ANY: Kinds = Kinds(u32::MAX);
    /// true, false.
    pub const BOOLEAN: Kinds = Kinds(1);
    /// Integers of either size.
    pub const INTEGER: Kinds = Kinds(1 << 1);
    /// Doubles and decimals.
    pub const FRACTION: Kinds = Kinds(1 << 2);
    /// Every number.
    pub const NUMBER: Kinds = Kinds::INTEGER.or(Kinds::FRACTION);
    /// Strings.
    pub const STRING: Kinds = Kinds(1 << 3);
    /// Keywords and symbols.
    pub const NAMED: Kinds = Kinds(1 << 4);
    /// Instants.
    pub const INSTANT: Kinds = Kinds(1 << 5);
    /// References; in comparisons they also count as integers.
    pub const REF: Kinds = Kinds(1 << 6);
    /// Vectors, lists, sets, maps.
    pub const COLL: Kinds = Kinds(1 << 7);
    /// Nil.
    pub const NIL: Kinds = Kinds(1 << 8);
    /// Bytes.
    pub const BYTES: Kinds = Kinds(1 << 9);
    /// All that is left: uuids, URIs, characters, tagged values.
    pub const OTHER: Kinds = Kinds(1 << 10);

    /// Either.
    pub const fn or(self, other: Kinds) -> Kinds {
        Kinds(self.0 | other.0)
    }
    /// Do they have a kind in common?
    pub const fn meets(self, other: Kinds) -> bool {
        self.0 & other.0 != 0
    }
    /// The kind of an attribute's values.
    pub fn of_type(t: ValueType) -> Kinds {
        match t {
            ValueType::Boolean => Kinds::BOOLEAN,
            ValueType::Long | ValueType::BigInt => Kinds::INTEGER,
            ValueType::Double | ValueType::BigDec => Kinds::FRACTION,
            ValueType::Instant => Kinds::INSTANT,
            ValueType::Keyword | ValueType::Symbol => Kinds::NAMED,
            ValueType::String => Kinds::STRING,
            ValueType::Ref => Kinds::REF,
            ValueType::Bytes => Kinds::BYTES,
            ValueType::Tuple => Kinds::COLL,
            ValueType::Uuid | ValueType::Uri => Kinds::OTHER,
        }
    }
    /// The kind of a value.
    pub fn of_value(v: &Value) -> Kinds {
        match v {
            Value::Nil => Kinds::NIL,
            Value::List(_) | Value::Set(_) | Value::Map(_) => Kinds::COLL,
            Value::Char(_) | Value::Tagged(_) => Kinds::OTHER,
            v => v.value_type().map_or(Kinds::OTHER, Kinds::of_type),
        }
    }
    /// What to call it in a message.
    pub fn noun(self) -> &'static str {
        match self {
            Kinds::BOOLEAN => "boolean",
            Kinds::INTEGER => "integer",
            Kinds::FRACTION => "double or decimal",
            Kinds::NUMBER => "number",
            Kinds::STRING => "string",
            Kinds::NAMED => "keyword or symbol",
            Kinds::INSTANT => "instant",
            Kinds::REF => "reference",
            Kinds::COLL => "collection",
            Kinds::NIL => "nil",
            Kinds::BYTES => "bytes value",
            k if k == Kinds::STRING.or(Kinds::OTHER) => "string",
            _ => "value",
        }
    }
}

/// What a function does with its arguments.
pub type Eval = Arc<dyn Fn(&[Value]) -> Result<Value, FnError> + Send + Sync>;

/// How arguments depend on one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Not at all.
    Free,
    /// They must be of kinds that have an order together (`<` and its kin).
    Ordered,
}

#[derive(Clone)]
enum Body {
    Plain(fn(&[Value]) -> Result<Value, FnError>),
    Shared(Eval),
}

/// A function or predicate.
#[derive(Clone)]
pub struct Function {
    /// The name in queries.
    pub name: Arc<str>,
    /// At least so many arguments.
    pub min_args: usize,
    /// At most, if there is a most.
    pub max_args: Option<usize>,
    /// What each argument may be; the last stands for all further ones.
    pub params: Arc<[Kinds]>,
    /// What it answers.
    pub result: Kinds,
    /// How its arguments depend on one another.
    pub relation: Relation,
    /// Made to be used as a predicate.
    pub predicate: bool,
    /// Arguments by name, for `:help`: `?s start end?`.
    pub usage: Arc<str>,
    /// One sentence on what it does.
    pub doc: Arc<str>,
    body: Body,
}

impl Function {
    /// A function of any arguments, to be registered; narrow it by its public fields.
    pub fn new(
        name: &str,
        args: std::ops::RangeInclusive<usize>,
        eval: impl Fn(&[Value]) -> Result<Value, FnError> + Send + Sync + 'static,
    ) -> Function {
        Function {
            name: name.into(),
            min_args: *args.start(),
            max_args: Some(*args.end()),
            params: Arc::new([Kinds::ANY]),
            result: Kinds::ANY,
            relation: Relation::Free,
            predicate: name.ends_with('?'),
            usage: "".into(),
            doc: "".into(),
            body: Body::Shared(Arc::new(eval)),
        }
    }

    /// Does a call of `n` arguments have the right number?
    pub fn check_arity(&self, n: usize) -> Result<(), FnError> {
        match n >= self.min_args && self.max_args.is_none_or(|max| n <= max) {
            true => Ok(()),
            false => Err(FnError::Arity { got: n, min: self.min_args, max: self.max_args }),
        }
    }

    /// Can a call with arguments of these kinds ever have an answer?
    pub fn check_kinds(&self, kinds: &[Kinds]) -> Result<(), FnError> {
        for (arg, kind) in kinds.iter().enumerate() {
            let wanted = self.params.get(arg).or(self.params.last()).copied().unwrap_or(Kinds::ANY);
            if !wanted.meets(*kind) {
                return Err(FnError::Type { arg, expected: wanted.noun(), found: kind.noun() });
            }
        }
        if self.relation == Relation::Ordered {
            for (arg, pair) in kinds.windows(2).enumerate() {
                if !pair[0].ordered().meets(pair[1].ordered()) {
                    return Err(FnError::Type {
                        arg: arg + 1,
                        expected: pair[0].noun(),
                        found: pair[1].noun(),
                    });
                }
            }
        }
        Ok(())
    }

    /// The answer for a row.
    pub fn call(&self, args: &[Value]) -> Result<Value, FnError> {
        self.check_arity(args.len())?;
        match &self.body {
            Body::Plain(f) => f(args),
            Body::Shared(f) => f(args),
        }
        .and_then(bound::bounded)
    }
}

impl Kinds {
    /// The kinds it can be ordered with.
    fn ordered(self) -> Kinds {
        match self.meets(Kinds::NUMBER.or(Kinds::REF)) {
            true => self.or(Kinds::NUMBER).or(Kinds::REF),
            false => self,
        }
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} {})", self.name, self.usage)
    }
}

/// Names that queries may call: the standard ones and those registered.
#[derive(Clone, Default)]
pub struct Library {
    functions: BTreeMap<Arc<str>, Arc<Function>>,
    aggregates: BTreeMap<Arc<str>, Arc<Aggregate>>,
}

/// Namespaces under which Clojure users know the standard functions.
const CLOJURE: [&str; 5] = ["clojure.core/", "clojure.string/", "clojure.math/", "string/", "str/"];

/// Names that are clauses of their own or belong to `:find`, so that a misspelt one is recognised.
const SPECIAL: [&str; 10] =
    ["get-else", "get-some", "missing?", "q", "tx-ids", "tx-data", "fulltext", "not-join", "or-join", "pull"];

impl Library {
    /// The standard functions and aggregates.
    pub fn standard() -> &'static Arc<Library> {
        static STANDARD: LazyLock<Arc<Library>> = LazyLock::new(|| {
            let mut library = Library::default();
            for f in table::functions() {
                library.register(f);
            }
            for a in super::aggregate::standard() {
                library.register_aggregate(a);
            }
            Arc::new(library)
        });
        &STANDARD
    }
    /// Adds a function, or replaces the one of that name.
    pub fn register(&mut self, f: Function) {
        self.functions.insert(f.name.clone(), Arc::new(f));
    }
    /// Adds an aggregate, or replaces the one of that name.
    pub fn register_aggregate(&mut self, a: Aggregate) {
        self.aggregates.insert(a.name.clone(), Arc::new(a));
    }
    /// The function that a query calls by this name; `clojure.string/blank?` is `blank?`.
    pub fn function(&self, name: &str) -> Option<&Arc<Function>> {
        self.functions.get(name).or_else(|| {
            let plain = CLOJURE.iter().find_map(|ns| name.strip_prefix(ns)).filter(|n| !n.is_empty())?;
            self.functions.get(plain)
        })
    }
    /// The aggregate of this name.
    pub fn aggregate(&self, name: &str) -> Option<&Arc<Aggregate>> {
        self.aggregates.get(name)
    }
    /// Every function, by name.
    pub fn functions(&self) -> impl Iterator<Item = &Arc<Function>> {
        self.functions.values()
    }
    /// Every aggregate, by name.
    pub fn aggregates(&self) -> impl Iterator<Item = &Arc<Aggregate>> {
        self.aggregates.values()
    }
    /// The function whose name is nearest to a misspelt one.
    pub fn nearest_function(&self, wanted: &str) -> Option<&str> {
        let java = wanted.strip_prefix('.').map(|m| m.strip_prefix("to").unwrap_or(m));
        let java = java.and_then(|method| match method {
            "startsWith" => Some("starts-with?"),
            "endsWith" => Some("ends-with?"),
            "contains" => Some("includes?"),
            "equals" => Some("="),
            "before" => Some("<"),
            "after" => Some(">"),
            "UpperCase" => Some("upper-case"),
            "LowerCase" => Some("lower-case"),
            "getTime" => Some("inst-ms"),
            "length" => Some("count"),
            "substring" => Some("subs"),
            _ => None,
        });
        let names = self.functions.keys().map(|n| &**n).chain(SPECIAL);
        let local = wanted.rsplit_once('/').map_or(wanted, |(_, name)| name);
        java.or_else(|| nearest(local, names))
    }
    /// The aggregate whose name is nearest to a misspelt one.
    pub fn nearest_aggregate(&self, wanted: &str) -> Option<&str> {
        let alias = match wanted {
            "average" | "mean" => Some("avg"),
            "std" | "stdev" | "std-dev" => Some("stddev"),
            "total" => Some("sum"),
            "var" => Some("variance"),
            "countd" | "count_distinct" => Some("count-distinct"),
            _ => None,
        };
        alias.or_else(|| nearest(wanted, self.aggregates.keys().map(|n| &**n)))
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Library({} functions, {} aggregates)", self.functions.len(), self.aggregates.len())
    }
}
