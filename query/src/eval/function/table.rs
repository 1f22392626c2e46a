//! The table of standard functions, in the order the manual shows them.
//!
//! | column | meaning |
//! |---|---|
//! | name | as called; `clojure.core/` and `clojure.string/` may stand before it |
//! | usage | its arguments; `?` after one: may be left out; `…`: may be repeated |
//! | kinds | what each argument may be, the last for all further ones; then the result |
//! | doc | one sentence |

use super::{Body, FnError, Function, Kinds, Relation, data, number, text};
use annals_model::Value;
use std::sync::Arc;

const ANY: Kinds = Kinds::ANY;
const BOOL: Kinds = Kinds::BOOLEAN;
const INT: Kinds = Kinds::INTEGER;
const NUM: Kinds = Kinds::NUMBER;
const STR: Kinds = Kinds::STRING.or(Kinds::OTHER);
const TEXT: Kinds = Kinds::STRING;
const NAME: Kinds = Kinds::NAMED.or(Kinds::STRING);
const COLL: Kinds = Kinds::COLL.or(Kinds::NIL);
const SIZED: Kinds = Kinds::COLL.or(Kinds::NIL).or(Kinds::STRING).or(Kinds::BYTES);
const SEQ: Kinds = Kinds::COLL.or(Kinds::STRING);
const TIME: Kinds = Kinds::INSTANT;
/// Truth, or nil where values do not compare.
const TEST: Kinds = Kinds::BOOLEAN.or(Kinds::NIL);

type Plain = fn(&[Value]) -> Result<Value, FnError>;

/// `name usage, min..=max, [params] -> result, function, doc`; no max: any number.
struct Row(&'static str, &'static str, usize, Option<usize>, &'static [Kinds], Kinds, Plain, &'static str);

/// Every standard function.
pub(super) fn functions() -> impl Iterator<Item = Function> {
    ROWS.iter().map(|Row(name, usage, min, max, params, result, eval, doc)| Function {
        name: (*name).into(),
        min_args: *min,
        max_args: *max,
        params: Arc::from(*params),
        result: *result,
        relation: match *name {
            "<" | "<=" | ">" | ">=" | "compare" | "min" | "max" => Relation::Ordered,
            _ => Relation::Free,
        },
        predicate: *result == BOOL || *result == TEST,
        usage: (*usage).into(),
        doc: (*doc).into(),
        body: Body::Plain(*eval),
    })
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // Equality and order.
    Row("=", "x y …", 1, None, &[ANY], BOOL, data::is_equal, "true if all are equal; numbers compare by value"),
    Row("==", "x y …", 1, None, &[ANY], BOOL, data::is_equal, "the same as ="),
    Row("!=", "x y …", 1, None, &[ANY], BOOL, data::is_unequal, "true if not all are equal"),
    Row("not=", "x y …", 1, None, &[ANY], BOOL, data::is_unequal, "the same as !="),
    Row("<", "x y …", 1, None, &[ANY], TEST, data::less, "true if each is less than the next; nil if two do not compare"),
    Row("<=", "x y …", 1, None, &[ANY], TEST, data::less_or_equal, "true if none is greater than the next; nil if two do not compare"),
    Row(">", "x y …", 1, None, &[ANY], TEST, data::greater, "true if each is greater than the next; nil if two do not compare"),
    Row(">=", "x y …", 1, None, &[ANY], TEST, data::greater_or_equal, "true if none is less than the next; nil if two do not compare"),
    Row("compare", "x y", 2, Some(2), &[ANY], INT.or(Kinds::NIL), data::three_way, "-1, 0 or 1; nil if they do not compare"),
    Row("identical?", "x y", 2, Some(2), &[ANY], BOOL, |a| Ok(Value::Bool(a[0] == a[1])), "true if they are the same value of the same type"),
    Row("distinct?", "x …", 1, None, &[ANY], BOOL, data::is_distinct, "true if no two are equal"),
    Row("min", "x …", 1, None, &[ANY], ANY, data::min, "the least; nil if two do not compare"),
    Row("max", "x …", 1, None, &[ANY], ANY, data::max, "the greatest; nil if two do not compare"),
    // Truth.
    Row("nil?", "x", 1, Some(1), &[ANY], BOOL, data::is_nil, "true for nil"),
    Row("some?", "x", 1, Some(1), &[ANY], BOOL, data::is_some, "true for everything but nil"),
    Row("true?", "x", 1, Some(1), &[ANY], BOOL, data::is_true, "true for true"),
    Row("false?", "x", 1, Some(1), &[ANY], BOOL, data::is_false, "true for false"),
    Row("not", "x", 1, Some(1), &[ANY], BOOL, data::not, "true for false and nil"),
    Row("and", "x …", 0, None, &[ANY], ANY, data::and, "the first that is false or nil, else the last"),
    Row("or", "x …", 0, None, &[ANY], ANY, data::or, "the first that is neither false nor nil, else the last"),
    Row("identity", "x", 1, Some(1), &[ANY], ANY, data::identity, "its argument"),
    // Numbers.
    Row("+", "n …", 0, None, &[NUM], NUM, number::sum, "the sum; integer overflow is an error"),
    Row("-", "n m …", 1, None, &[NUM], NUM, number::difference, "the difference, or the negation of one number"),
    Row("*", "n …", 0, None, &[NUM], NUM, number::product, "the product; integer overflow is an error"),
    Row("/", "n m …", 1, None, &[NUM], NUM, number::quotient, "the quotient; of two integers its integer part"),
    Row("quot", "n m", 2, Some(2), &[NUM], NUM, number::quot, "the quotient without its fraction"),
    Row("rem", "n m", 2, Some(2), &[NUM], NUM, number::rem, "the remainder, with the sign of n"),
    Row("mod", "n m", 2, Some(2), &[NUM], NUM, number::modulo, "the remainder, with the sign of m"),
    Row("inc", "n", 1, Some(1), &[NUM], NUM, number::inc, "n + 1"),
    Row("dec", "n", 1, Some(1), &[NUM], NUM, number::dec, "n - 1"),
    Row("abs", "n", 1, Some(1), &[NUM], NUM, number::abs, "the absolute value"),
    Row("even?", "n", 1, Some(1), &[INT], BOOL, number::is_even, "true for even integers"),
    Row("odd?", "n", 1, Some(1), &[INT], BOOL, number::is_odd, "true for odd integers"),
    Row("pos?", "n", 1, Some(1), &[NUM], BOOL, number::is_pos, "true above zero"),
    Row("neg?", "n", 1, Some(1), &[NUM], BOOL, number::is_neg, "true below zero"),
    Row("zero?", "n", 1, Some(1), &[NUM], BOOL, number::is_zero, "true for zero"),
    Row("floor", "n", 1, Some(1), &[NUM], NUM, number::floor, "the greatest whole number not above n, of n's type"),
    Row("ceil", "n", 1, Some(1), &[NUM], NUM, number::ceil, "the least whole number not below n, of n's type"),
    Row("round", "n", 1, Some(1), &[NUM], NUM, number::round, "the nearest whole number, halves away from zero, of n's type"),
    Row("sqrt", "n", 1, Some(1), &[NUM], NUM, number::sqrt, "the square root, a double"),
    Row("pow", "n m", 2, Some(2), &[NUM], NUM, number::pow, "n to the power of m, a double"),
    Row("exp", "n", 1, Some(1), &[NUM], NUM, number::exp, "e to the power of n, a double"),
    Row("log", "n", 1, Some(1), &[NUM], NUM, number::log, "the natural logarithm, a double"),
    Row("long", "x", 1, Some(1), &[NUM.or(TEXT).or(Kinds::REF)], INT.or(Kinds::NIL), number::as_long, "x as a long: a number without its fraction, the digits of a string (nil if it holds none), the number of an entity"),
    Row("bigint", "n", 1, Some(1), &[NUM], INT, number::as_bigint, "n as an integer of any size"),
    Row("double", "x", 1, Some(1), &[NUM.or(TEXT)], NUM.or(Kinds::NIL), number::as_double, "x as a double; nil for a string that holds none"),
    Row("bigdec", "n", 1, Some(1), &[NUM], NUM, number::as_bigdec, "n as a decimal"),
    // Strings.
    Row("str", "x …", 0, None, &[ANY], TEXT, text::str, "the texts of its arguments joined; nil is empty"),
    Row("pr-str", "x …", 0, None, &[ANY], TEXT, text::pr_str, "its arguments as EDN"),
    Row("subs", "s start end?", 2, Some(3), &[STR, INT], TEXT, text::subs, "the characters from start up to end"),
    Row("starts-with?", "s part", 2, Some(2), &[STR], BOOL, text::starts_with, "true if s begins with part"),
    Row("ends-with?", "s part", 2, Some(2), &[STR], BOOL, text::ends_with, "true if s ends with part"),
    Row("includes?", "s part", 2, Some(2), &[STR], BOOL, text::includes, "true if s holds part"),
    Row("blank?", "s", 1, Some(1), &[STR.or(Kinds::NIL)], BOOL, text::is_blank, "true if s has nothing but blanks"),
    Row("upper-case", "s", 1, Some(1), &[STR], TEXT, text::upper_case, "s in capitals"),
    Row("lower-case", "s", 1, Some(1), &[STR], TEXT, text::lower_case, "s in small letters"),
    Row("capitalize", "s", 1, Some(1), &[STR], TEXT, text::capitalize, "s with a capital first and small letters after"),
    Row("trim", "s", 1, Some(1), &[STR], TEXT, text::trim, "s without blanks at either end"),
    Row("triml", "s", 1, Some(1), &[STR], TEXT, text::triml, "s without blanks at its beginning"),
    Row("trimr", "s", 1, Some(1), &[STR], TEXT, text::trimr, "s without blanks at its end"),
    Row("reverse", "s", 1, Some(1), &[SEQ.or(Kinds::OTHER)], SEQ, text::reverse, "a string or vector backwards"),
    Row("replace", "s match with", 3, Some(3), &[STR], TEXT, text::replace, "s with every match, a string or a re-pattern, replaced"),
    Row("split", "s at", 2, Some(2), &[STR], Kinds::COLL, text::split, "the parts of s between the matches of at, a string or a re-pattern"),
    Row("join", "between? coll", 1, Some(2), &[SEQ], TEXT, text::join, "the texts of the elements with a text between them"),
    Row("index-of", "s part", 2, Some(2), &[STR], INT.or(Kinds::NIL), text::index_of, "the place of part in s, or nil"),
    Row("last-index-of", "s part", 2, Some(2), &[STR], INT.or(Kinds::NIL), text::last_index_of, "the last place of part in s, or nil"),
    Row("re-pattern", "s", 1, Some(1), &[STR], Kinds::OTHER, text::re_pattern, "the regular expression written in s"),
    Row("re-find", "re s", 2, Some(2), &[STR], ANY, text::re_find, "the first match, with its groups if it has any, or nil"),
    Row("re-matches", "re s", 2, Some(2), &[STR], ANY, text::re_matches, "the match of the whole of s, with its groups if it has any, or nil"),
    Row("re-seq", "re s", 2, Some(2), &[STR], Kinds::COLL, text::re_seq, "all matches"),
    // Names.
    Row("name", "k", 1, Some(1), &[NAME], TEXT, data::name, "the name of a keyword or symbol, without its namespace"),
    Row("namespace", "k", 1, Some(1), &[NAME], TEXT.or(Kinds::NIL), data::namespace, "the namespace of a keyword or symbol, or nil"),
    Row("keyword", "ns? name", 1, Some(2), &[NAME.or(Kinds::NIL)], Kinds::NAMED, data::keyword, "the keyword of that name"),
    Row("symbol", "ns? name", 1, Some(2), &[NAME.or(Kinds::NIL)], Kinds::NAMED, data::symbol, "the symbol of that name"),
    // Time.
    Row("inst", "x", 1, Some(1), &[TIME.or(INT).or(TEXT)], TIME.or(Kinds::NIL), data::inst, "the instant of milliseconds or of a text; nil for a text that holds none"),
    Row("inst-ms", "t", 1, Some(1), &[TIME], INT, data::inst_ms, "milliseconds since 1970"),
    // Collections.
    Row("count", "x", 1, Some(1), &[SIZED], INT, data::count, "elements of a collection, characters of a string"),
    Row("empty?", "x", 1, Some(1), &[SIZED], BOOL, data::is_empty, "true if its count is zero"),
    Row("not-empty", "x", 1, Some(1), &[SIZED], ANY, data::not_empty, "x, or nil if its count is zero"),
    Row("get", "coll key default?", 2, Some(3), &[COLL, ANY], ANY, data::get, "what a map, set or vector has under a key"),
    Row("contains?", "coll key", 2, Some(2), &[SIZED, ANY], BOOL, data::contains, "true if a map, set or vector has the key, or a string the part"),
    Row("nth", "coll n default?", 2, Some(3), &[SEQ, ANY], ANY, data::nth, "the element at a place, from 0"),
    Row("first", "coll", 1, Some(1), &[SEQ], ANY, data::first, "the first element"),
    Row("last", "coll", 1, Some(1), &[SEQ], ANY, data::last, "the last element"),
    Row("rest", "coll", 1, Some(1), &[Kinds::COLL], Kinds::COLL, data::rest, "all elements but the first"),
    Row("keys", "m", 1, Some(1), &[Kinds::COLL], Kinds::COLL, data::keys, "the keys of a map"),
    Row("vals", "m", 1, Some(1), &[Kinds::COLL], Kinds::COLL, data::vals, "the values of a map"),
    Row("conj", "coll x …", 1, None, &[COLL, ANY], Kinds::COLL, data::conj, "a vector with more at its end, a list with more at its front"),
    Row("vector", "x …", 0, None, &[ANY], Kinds::COLL, data::vector, "a vector of its arguments"),
    Row("tuple", "x …", 1, None, &[ANY], Kinds::COLL, data::vector, "a tuple of its arguments"),
    Row("untuple", "t", 1, Some(1), &[COLL], COLL, data::untuple, "a tuple, to be taken apart by the binding"),
    Row("list", "x …", 0, None, &[ANY], Kinds::COLL, data::list, "a list of its arguments"),
    Row("set", "coll", 1, Some(1), &[Kinds::COLL], Kinds::COLL, data::set, "the distinct elements of a collection"),
    Row("hash-map", "k v …", 0, None, &[ANY], Kinds::COLL, data::hash_map, "a map of keys and values"),
    Row("range", "from? to step?", 1, Some(3), &[INT], Kinds::COLL, data::range, "the integers from (0) up to, not including, to"),
    // Kinds.
    Row("type", "x", 1, Some(1), &[ANY], Kinds::NAMED, data::kind, "the kind of a value as a keyword: :long, :string, …"),
    Row("boolean?", "x", 1, Some(1), &[ANY], BOOL, data::is_boolean, "is it a boolean"),
    Row("string?", "x", 1, Some(1), &[ANY], BOOL, data::is_string, "is it a string"),
    Row("number?", "x", 1, Some(1), &[ANY], BOOL, data::is_number, "is it a number"),
    Row("integer?", "x", 1, Some(1), &[ANY], BOOL, data::is_integer, "is it an integer of either size"),
    Row("int?", "x", 1, Some(1), &[ANY], BOOL, data::is_integer, "the same as integer?"),
    Row("double?", "x", 1, Some(1), &[ANY], BOOL, data::is_double, "is it a double"),
    Row("float?", "x", 1, Some(1), &[ANY], BOOL, data::is_double, "the same as double?"),
    Row("decimal?", "x", 1, Some(1), &[ANY], BOOL, data::is_decimal, "is it a decimal"),
    Row("keyword?", "x", 1, Some(1), &[ANY], BOOL, data::is_keyword, "is it a keyword"),
    Row("symbol?", "x", 1, Some(1), &[ANY], BOOL, data::is_symbol, "is it a symbol"),
    Row("inst?", "x", 1, Some(1), &[ANY], BOOL, data::is_inst, "is it an instant"),
    Row("uuid?", "x", 1, Some(1), &[ANY], BOOL, data::is_uuid, "is it a uuid"),
    Row("uri?", "x", 1, Some(1), &[ANY], BOOL, data::is_uri, "is it a URI"),
    Row("bytes?", "x", 1, Some(1), &[ANY], BOOL, data::is_bytes, "is it bytes"),
    Row("char?", "x", 1, Some(1), &[ANY], BOOL, data::is_char, "is it a character"),
    Row("ref?", "x", 1, Some(1), &[ANY], BOOL, data::is_ref, "is it a reference to an entity"),
    Row("vector?", "x", 1, Some(1), &[ANY], BOOL, data::is_vector, "is it a vector"),
    Row("list?", "x", 1, Some(1), &[ANY], BOOL, data::is_list, "is it a list"),
    Row("set?", "x", 1, Some(1), &[ANY], BOOL, data::is_set, "is it a set"),
    Row("map?", "x", 1, Some(1), &[ANY], BOOL, data::is_map, "is it a map"),
    Row("coll?", "x", 1, Some(1), &[ANY], BOOL, data::is_coll, "is it a vector, list, set or map"),
];
