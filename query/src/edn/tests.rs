//! The reader, the printer, and both together.

use super::*;
use annals_model::{Instant, Keyword, Span, Symbol, Value};
use proptest::prelude::*;
use std::{str::FromStr, sync::Arc};

fn ok(text: &str) -> Value {
    read_value(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}
fn codes(text: &str) -> Vec<&'static str> {
    match read_all(text) {
        Ok(forms) => panic!("{text} reads as {forms:?}"),
        Err(e) => e.0.iter().map(|d| d.code).collect(),
    }
}
/// The text each complaint points at.
fn places(text: &str) -> Vec<&str> {
    let e = read_all(text).unwrap_err();
    e.0.iter().map(|d| &text[d.labels[0].span.start..d.labels[0].span.end]).collect()
}
fn sym(s: &str) -> Value {
    Value::Symbol(Symbol::new(s))
}
fn kw(s: &str) -> Value {
    Value::keyword(s)
}

#[test]
fn atoms() {
    assert_eq!(ok("nil"), Value::Nil);
    assert_eq!(ok("-12"), Value::Long(-12));
    assert_eq!(ok("+0"), Value::Long(0));
    assert_eq!(ok("9223372036854775807"), Value::Long(i64::MAX));
    assert_eq!(
        ok("123456789012345678901234567890N"),
        Value::BigInt(Arc::new("123456789012345678901234567890".parse().unwrap()))
    );
    assert_eq!(ok("-1.5e3"), Value::Double(-1500.0));
    assert_eq!(ok("-0.0"), Value::Double(0.0));
    assert_eq!(ok("1.50M"), Value::BigDec(Arc::new(bigdecimal::BigDecimal::from_str("1.50").unwrap())));
    assert_ne!(ok("1.50M"), ok("1.5M"));
    assert_eq!(ok("##-Inf"), Value::Double(f64::NEG_INFINITY));
    assert_eq!(ok(":a.b/c-d"), kw("a.b/c-d"));
    assert_eq!(ok("clojure.string/blank?"), sym("clojure.string/blank?"));
    for s in ["/", "-", "+", "...", ".", "?x", "$", "%", "*", "<=", "->x", "-a", "not=", "a'", "a#"] {
        assert_eq!(ok(s), sym(s), "{s}");
    }
    assert_eq!(ok("\\a"), Value::Char('a'));
    assert_eq!(ok("\\("), Value::Char('('));
    assert_eq!(ok("\\newline"), Value::Char('\n'));
    assert_eq!(ok("\\u03a9"), Value::Char('Ω'));
    assert_eq!(ok("\\😀"), Value::Char('😀'));
    assert_eq!(ok(r#""a\n\"\\\u0041\uD83D\uDE00""#), Value::string("a\n\"\\A😀"));
}

#[test]
fn collections_comments_and_discards() {
    assert_eq!(
        ok("[1, (a b) #{3 2} {:k \"v\"}]"),
        Value::vector([
            Value::Long(1),
            Value::List([sym("a"), sym("b")].into()),
            Value::set([Value::Long(2), Value::Long(3)]),
            Value::map([(kw("k"), Value::string("v"))]),
        ])
    );
    assert_eq!(ok("[1 #_ 2 #_ #_ 3 4 5 ; six\n #_[a #_b {c}] 7]"), ok("[1 5 7]"));
    assert_eq!(ok("[a ;)\n]"), ok("[a]"));
    assert_eq!(ok("{#_a :b 1 #_:c}"), ok("{:b 1}"));
    assert_eq!(ok("\u{feff}[1\u{a0}2]"), ok("[1 2]"));
    assert_eq!(ok("[a\"s\"b]"), ok("[a \"s\" b]"));
    assert_eq!(ok("'[?x]"), ok("(quote [?x])"));
}

#[test]
fn tags_and_namespaced_maps() {
    assert_eq!(ok("#inst \"1970-01-01T00:00:00.001-00:00\""), Value::Instant(Instant(1000)));
    assert_eq!(ok("#inst \"1970\""), Value::Instant(Instant(0)));
    assert!(matches!(ok("#uuid \"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\""), Value::Uuid(_)));
    assert_eq!(ok("#bytes \"00FF\""), Value::Bytes([0, 255].into()));
    assert_eq!(ok("#uri \"http://x\""), Value::Uri("http://x".into()));
    assert_eq!(
        ok("#my/tag #other [1]"),
        Value::Tagged(Arc::new((
            Symbol::new("my/tag"),
            Value::Tagged(Arc::new((Symbol::new("other"), ok("[1]")))),
        )))
    );
    assert_eq!(ok("#:o{:id 1, :_/x 2, :p/y 3, s 4, \"z\" 5}"), ok("{:o/id 1 :x 2 :p/y 3 o/s 4 \"z\" 5}"));
}

#[test]
fn complaints_name_code_and_place() {
    for (text, code) in [
        ("1/2", "edn/ratio"),
        ("-3/4", "edn/ratio"),
        ("##NaN", "edn/nan"),
        ("##nan", "edn/syntax"),
        ("007", "edn/number"),
        ("0x1F", "edn/number"),
        ("1.", "edn/number"),
        ("12abc", "edn/number"),
        ("1e", "edn/number"),
        ("9223372036854775808", "edn/number-range"),
        ("1e999", "edn/number-range"),
        ("1E99999999M", "edn/number-range"),
        ("1.5N", "edn/number"),
        ("::a", "edn/symbol"),
        (":", "edn/symbol"),
        (":a/", "edn/symbol"),
        ("/a", "edn/symbol"),
        ("a/b/c", "edn/symbol"),
        ("@x", "edn/symbol"),
        ("`x", "edn/symbol"),
        ("\\newlin", "edn/character"),
        ("\\ud800", "edn/character"),
        ("\\", "edn/character"),
        ("\\ ", "edn/character"),
        ("\"\\q\"", "edn/string-escape"),
        ("\"\\u12\"", "edn/string-escape"),
        ("\"\\ud800\"", "edn/string-escape"),
        ("#inst \"yesterday\"", "edn/tag"),
        ("#inst 5", "edn/tag"),
        ("#inst [1]", "edn/tag"),
        ("#uuid \"x\"", "edn/tag"),
        ("#bytes \"0\"", "edn/tag"),
        ("#db/id[:a]", "edn/tag"),
        ("#", "edn/syntax"),
        ("[#]", "edn/syntax"),
        ("# a", "edn/syntax"),
        ("#_", "edn/syntax"),
        ("[#_]", "edn/syntax"),
        ("[#tag]", "edn/syntax"),
        ("#1 2", "edn/syntax"),
        ("'", "edn/syntax"),
        ("#\"a+\"", "edn/syntax"),
        ("#(inc %)", "edn/syntax"),
        ("#::a{:b 1}", "edn/syntax"),
        ("#:a [1]", "edn/syntax"),
        ("\u{1}", "edn/syntax"),
        ("{:a}", "edn/map-odd"),
        ("{:a 1 :a 2}", "edn/duplicate"),
        ("#{1 1}", "edn/duplicate"),
        ("#:a{:b 1 :a/b 2}", "edn/duplicate"),
        ("{[1] 1 [1] 2}", "edn/duplicate"),
        ("[", "edn/unclosed"),
        ("\"abc", "edn/unclosed"),
        ("[}", "edn/mismatched"),
        ("]", "edn/mismatched"),
    ] {
        assert_eq!(codes(text)[0], code, "{text}");
    }
    assert_eq!(places("[1/2 {:a 1 :b} 08 \"x\\qy\"]"), ["1/2", ":b", "08", "\\q"]);
    assert_eq!(places("(a [b (c d) } e)"), ["}"]);
    assert_eq!(codes("[(] {)"), ["edn/mismatched", "edn/mismatched"]);
    assert_eq!(codes("((( \"x\" "), ["edn/unclosed"; 3]);
    assert_eq!(places("{:a 1 :b 2 :a 3}"), [":a"]);
}

#[test]
fn spans_are_byte_ranges() {
    let text = "[\"Ω\" :a {b 1}]";
    let form = read_one(text).unwrap();
    let items = form.as_vector().unwrap();
    let shown: Vec<&str> = items.iter().map(|f| &text[f.span.start..f.span.end]).collect();
    assert_eq!(shown, ["\"Ω\"", ":a", "{b 1}"]);
    assert_eq!(form.span, Span::new(0, text.len()));
    assert_eq!(read_one("  ").unwrap_err().code(), "edn/one-form");
    assert_eq!(read_one("a b c").unwrap_err().0[0].labels[0].span, Span::new(2, 3));
}

#[test]
fn nesting_is_bounded_whatever_nests() {
    let n = 1_000_000;
    for (open, close) in [
        ("[", "]"),
        ("(", ")"),
        ("#{", "}"),
        ("{:a ", "}"),
        ("#_", ""),
        ("#t ", ""),
        ("'", ""),
        ("#:n", ""),
        ("#_ #t [", "]"),
        ("#_ a #_ #_ ", ""),
    ] {
        let text = format!("{}1{}", open.repeat(n), close.repeat(n));
        match read_all(&text) {
            Err(e) => assert!(["edn/too-deep", "edn/syntax"].contains(&e.code()), "{open}: {e}"),
            Ok(_) => panic!("{open} nested {n} deep is accepted"),
        }
        let half = open.repeat(n);
        assert!(read_all(&half).is_err(), "{open}");
    }
    let close = "]".repeat(n);
    assert_eq!(codes(&close).len(), Limits::default().errors);
    // As deep as allowed is fine, one deeper is not.
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(read_all(&deep(256)).is_ok());
    assert_eq!(codes(&deep(257)), ["edn/too-deep"]);
    // Many discards in a row are not deep.
    assert_eq!(ok(&format!("[{} 1]", "#_ a ".repeat(10_000))), ok("[1]"));
}

#[test]
fn large_texts_take_linear_time() {
    let long = format!("\"{}\"", "x\\n".repeat(1 << 21));
    assert!(matches!(ok(&long), Value::String(s) if s.len() == 1 << 22));
    let wide = format!("[{}]", "12 ".repeat(300_000));
    assert!(matches!(ok(&wide), Value::Vector(v) if v.len() == 300_000));
    assert_eq!(codes(&format!("{}N", "9".repeat(1_000_000))), ["edn/number-range"]);
    let small = Limits { bytes: 10, ..Limits::default() };
    assert_eq!(read_all_with("[1 2 3 4 5 6]", &small).unwrap_err().code(), "edn/too-large");
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z*!_?<>=+][a-zA-Z0-9*!_?<>=.+-]{0,6}(/[a-z?][a-z0-9-]{0,5})?".prop_filter(
        "signs before digits are numbers",
        |s| {
            let s = s.strip_prefix(['+', '-']).unwrap_or(s);
            !s.starts_with(|c: char| c.is_ascii_digit()) && !["nil", "true", "false"].contains(&s)
        },
    )
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Long),
        any::<i128>().prop_map(|n| Value::BigInt(Arc::new(num_bigint::BigInt::from(n) * 1_000_003))),
        any::<f64>().prop_filter_map("no NaN", Value::double),
        (any::<i64>(), -50i64..50)
            .prop_map(|(n, s)| Value::BigDec(Arc::new(bigdecimal::BigDecimal::new(n.into(), s)))),
        (-62_000_000_000_000_000i64..250_000_000_000_000_000).prop_map(|us| Value::Instant(Instant(us))),
        any::<u128>().prop_map(|n| Value::Uuid(uuid::Uuid::from_u128(n))),
        name().prop_map(|s| Value::Keyword(Keyword::new(s))),
        name().prop_map(|s| Value::Symbol(Symbol::new(s))),
        any::<String>().prop_map(Value::from),
        "[ -~\n\t\"\\\\]{0,12}".prop_map(Value::from),
        any::<char>().prop_map(Value::Char),
        any::<String>().prop_map(|s| Value::Uri(s.into())),
        any::<Vec<u8>>().prop_map(|b| Value::Bytes(b.into())),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::vector),
            prop::collection::vec(inner.clone(), 0..6).prop_map(|v| Value::List(v.into())),
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::set),
            prop::collection::vec((inner.clone(), inner.clone()), 0..6).prop_map(Value::map),
            ("[a-z]{1,3}/[a-z]{1,3}", inner).prop_map(|(t, v)| Value::Tagged(Arc::new((Symbol::new(t), v)))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// What is printed reads back equal, on one line or on many.
    #[test]
    fn printing_is_the_inverse_of_reading(v in any_value()) {
        prop_assert_eq!(&read_value(&print(&v)).unwrap(), &v);
        prop_assert_eq!(&read_value(&print_pretty(&v, 20)).unwrap(), &v);
        prop_assert_eq!(Form::of_value(&v).into_value(), v);
    }

    /// No text makes the reader panic, and the grammar agrees with the scanner:
    /// it never has to refuse by itself.
    #[test]
    fn any_text_is_read_or_refused(s in "([\\[\\](){}#'\"\\\\;:_ \n,a1/.^~@`+-]|inst|nil|é|\u{a0}|\u{7f}|\u{0}|\\PC){0,24}") {
        if let Err(e) = read_all(&s) {
            prop_assert!(!e.0.is_empty());
            for d in e.0 {
                prop_assert!(crate::error::CODES.iter().any(|(c, _)| *c == d.code), "{}", d.code);
                prop_assert_ne!(&d.message, "this is not EDN");
                for l in d.labels {
                    prop_assert!(s.get(l.span.start..l.span.end).is_some(), "{:?}", l);
                }
            }
        }
    }
}
