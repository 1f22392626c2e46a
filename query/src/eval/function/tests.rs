//! The standard functions, called as queries write them.

use super::*;
use crate::edn::{print, read_value};

mod manual;

/// The answer of a call written as EDN, `(+ 1 2)`.
fn call(text: &str) -> Result<Value, FnError> {
    let Ok(Value::List(form)) = read_value(text) else { panic!("{text} is no call") };
    let Value::Symbol(name) = &form[0] else { panic!("{text} names nothing") };
    let f = Library::standard().function(name.as_str()).unwrap_or_else(|| panic!("no function {name}"));
    f.call(&form[1..])
}
fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let found = match call(text) {
            Ok(v) => print(&v),
            Err(e) => e.code().to_owned(),
        };
        assert_eq!(&found, expected, "{text}");
    }
}

#[test]
fn arithmetic_keeps_types_and_never_wraps() {
    check(&[
        ("(+ 1 2 3)", "6"),
        ("(+)", "0"),
        ("(*)", "1"),
        ("(- 9)", "-9"),
        ("(- 9 1 1)", "7"),
        ("(* 2 2.5)", "5.0"),
        ("(+ 1 2N)", "3N"),
        ("(+ 1N 0.5M)", "1.5M"),
        ("(+ 0.5M 0.5)", "1.0"),
        ("(* 1.50M 2)", "3.00M"),
        ("(+ 9223372036854775807 1)", "query/overflow"),
        ("(* 4000000000 4000000000)", "query/overflow"),
        ("(- -9223372036854775808 1)", "query/overflow"),
        ("(abs -9223372036854775808)", "query/overflow"),
        ("(quot -9223372036854775808 -1)", "query/overflow"),
        ("(rem -9223372036854775808 -1)", "0"),
        ("(/ 7 2)", "3"),
        ("(/ -7 2)", "-3"),
        ("(/ 7 2.0)", "3.5"),
        ("(/ 2)", "0"),
        ("(/ 1M 8)", "0.125M"),
        ("(/ 1M 3M)", "0.3333333333333333333333333333333333M"),
        ("(/ 1 0)", "query/function"),
        ("(/ 0.0 0.0)", "query/function"),
        ("(/ 1.0 0)", "##Inf"),
        ("(quot 17 5)", "3"),
        ("(quot -17 5)", "-3"),
        ("(rem -17 5)", "-2"),
        ("(mod -17 5)", "3"),
        ("(mod 17 -5)", "-3"),
        ("(mod -7.5 2)", "0.5"),
        ("(quot 7.5M 2M)", "3M"),
        ("(mod 6 3)", "0"),
        ("(mod -17N 5)", "3N"),
        ("(inc 1)", "2"),
        ("(dec 1.5)", "0.5"),
        ("(even? 2)", "true"),
        ("(odd? -3)", "true"),
        ("(odd? 3N)", "true"),
        ("(even? 1.0)", "query/type"),
        ("(pos? 0)", "false"),
        ("(neg? -0.5M)", "true"),
        ("(zero? 0N)", "true"),
        ("(zero? \"\")", "query/type"),
        ("(+ 1 \"a\")", "query/type"),
        ("(+ \"a\")", "query/type"),
        ("(floor -1.5)", "-2.0"),
        ("(ceil 1.2M)", "2M"),
        ("(round 2.5)", "3.0"),
        ("(round -2.5M)", "-3M"),
        ("(sqrt 9)", "3.0"),
        ("(sqrt -1)", "query/function"),
        ("(pow 2 10)", "1024.0"),
        ("(long 3.9)", "3"),
        ("(long \"12\")", "12"),
        ("(long \"x\")", "nil"),
        ("(long 1e300)", "query/overflow"),
        ("(bigint 3)", "3N"),
    ]);
    assert_eq!(print(&call("(double 3)").unwrap()), "3.0");
    assert_eq!(print(&call("(bigdec 0.1)").unwrap()), "0.1M");
    let mut huge = Value::BigInt(Arc::new(3.into()));
    for _ in 0..40 {
        match Library::standard().function("*").unwrap().call(&[huge.clone(), huge.clone()]) {
            Ok(v) => huge = v,
            Err(e) => return assert_eq!(e, FnError::Overflow("bigint")),
        }
    }
    panic!("repeated squaring has no end");
}

#[test]
fn comparison_crosses_number_types_and_nothing_else() {
    check(&[
        ("(= 1 1.0)", "true"),
        ("(= 1 1N 1.0M 1.0)", "true"),
        ("(= 1.0M 1.00M)", "true"),
        ("(identical? 1 1.0)", "false"),
        ("(= [1 2] (1.0 2))", "true"),
        ("(= \"1\" 1)", "false"),
        ("(!= 1 2)", "true"),
        ("(not= :a :a)", "false"),
        ("(== 2 2)", "true"),
        ("(= nil nil)", "true"),
        ("(= false nil)", "false"),
        ("(< 1 2 3)", "true"),
        ("(< 1 3 2)", "false"),
        ("(< 1)", "true"),
        ("(< 1 \"a\")", "nil"),
        ("(< nil 1)", "nil"),
        ("(<= 2 2.0)", "true"),
        ("(> 3N 2.5)", "true"),
        ("(>= \"b\" \"a\")", "true"),
        ("(< 9007199254740993 9007199254740992.0)", "false"),
        ("(= 9007199254740993 9007199254740992.0)", "false"),
        ("(< 1 ##Inf)", "true"),
        ("(> 1 ##-Inf)", "true"),
        ("(< -1.5 -1)", "true"),
        ("(< -1 -1.5)", "false"),
        ("(< 1 1.5)", "true"),
        ("(< #inst \"1969\" #inst \"1970\")", "true"),
        ("(< :a/b :b/a)", "true"),
        ("(< [1 nil] [1 2])", "true"),
        ("(compare 4 5)", "-1"),
        ("(compare \"b\" \"a\")", "1"),
        ("(compare 1 \"a\")", "nil"),
        ("(min 3 1.5 2)", "1.5"),
        ("(max \"a\" \"b\")", "\"b\""),
        ("(max 1 \"b\")", "nil"),
        ("(distinct? 1 2 1.0)", "false"),
        ("(=)", "query/arity"),
        ("(compare 1)", "query/arity"),
    ]);
    let e = Value::Ref(annals_model::EntityId::from_raw(7));
    assert!(equal(&e, &Value::Long(7)) && !equal(&e, &Value::Long(8)) && !equal(&e, &"7".into()));
}

#[test]
fn cells_compare_as_their_values_do() {
    let dict = annals_model::Dict::default();
    let values: Vec<Value> = [
        "nil",
        "true",
        "false",
        "-1",
        "0",
        "1",
        "1.0",
        "1.5",
        "0.1",
        "1N",
        "1.0M",
        "9223372036854775807",
        "\"a\"",
        "\"b\"",
        ":a",
        ":b/c",
        "#inst \"1970\"",
        "[1 2]",
        "[1.0 2]",
        "a",
        "##Inf",
    ]
    .iter()
    .map(|t| read_value(t).unwrap())
    .chain([Value::Ref(annals_model::EntityId::from_raw(1))])
    .collect();
    for a in &values {
        for b in &values {
            let (x, y) = (dict.encode(a), dict.encode(b));
            assert_eq!(cells_equal(x, y, &dict), equal(a, b), "{a:?} = {b:?}");
            assert_eq!(compare_cells(x, y, &dict), compare(a, b), "{a:?} < {b:?}");
        }
    }
}

#[test]
fn strings_count_characters() {
    check(&[
        ("(str 120)", "\"120\""),
        ("(str \"a\" nil :k/x \\c 1.0 2N 1.50M [1 \"s\"])", "\"a:k/xc1.021.50[1 \\\"s\\\"]\""),
        ("(str)", "\"\""),
        ("(pr-str \"a\" 1)", "\"\\\"a\\\" 1\""),
        ("(subs \"lantern\" 2)", "\"ntern\""),
        ("(subs \"lantern\" 1 4)", "\"ant\""),
        ("(subs \"äöü\" 1 2)", "\"ö\""),
        ("(subs \"ab\" 2)", "\"\""),
        ("(subs \"ab\" 3)", "query/function"),
        ("(subs \"ab\" 2 1)", "query/function"),
        ("(subs \"ab\" -1)", "query/function"),
        ("(clojure.string/starts-with? \"ab\" \"a\")", "true"),
        ("(ends-with? \"Bergen\" \"en\")", "true"),
        ("(includes? \"abc\" \"x\")", "false"),
        ("(starts-with? 1 \"a\")", "query/type"),
        ("(blank? \" \\n\")", "true"),
        ("(blank? nil)", "true"),
        ("(blank? \"x\")", "false"),
        ("(upper-case \"aß\")", "\"ASS\""),
        ("(lower-case \"AÄ\")", "\"aä\""),
        ("(capitalize \"hELLO\")", "\"Hello\""),
        ("(trim \" a \")", "\"a\""),
        ("(reverse \"abc\")", "\"cba\""),
        ("(replace \"a.b.c\" \".\" \"-\")", "\"a-b-c\""),
        ("(split \"a,b\" \",\")", "[\"a\" \"b\"]"),
        ("(join \"-\" [1 :b])", "\"1-:b\""),
        ("(index-of \"äb\" \"b\")", "1"),
        ("(index-of \"a\" \"b\")", "nil"),
        ("(count \"äö\")", "2"),
        ("(count [1 2 2])", "3"),
        ("(count nil)", "0"),
        ("(count 5)", "query/type"),
        ("(empty? \"\")", "true"),
        ("(not-empty [])", "nil"),
        ("(re-find \"[0-9]+\" \"ab12c3\")", "\"12\""),
        ("(re-find \"(a)(x)?\" \"ba\")", "[\"a\" \"a\" nil]"),
        ("(re-find \"x\" \"a\")", "nil"),
        ("(re-matches \"a+b\" \"aab\")", "\"aab\""),
        ("(re-matches \"a|ab\" \"ab\")", "\"ab\""),
        ("(re-matches \"a+b\" \"abx\")", "nil"),
        ("(re-seq \"[0-9]\" \"1a2\")", "[\"1\" \"2\"]"),
        ("(re-find \"(\" \"a\")", "query/function"),
        ("(re-matches \"a)(b\" \"ab\")", "query/function"),
        ("(re-find 5 \"a\")", "query/type"),
        ("(re-pattern \"a\")", "#regex \"a\""),
        ("(re-find \"(?x) a # comment\" \"a\")", "\"a\""),
        ("(re-matches \"(?x) a # comment\" \"a\")", "\"a\""),
    ]);
    let found = call("(re-find #regex \"[a-c]\" \"xb\")").unwrap();
    assert_eq!(found, "b".into());
    let bomb = Library::standard().function("re-find").unwrap();
    assert!(matches!(bomb.call(&["((a{100}){100}){100}".into(), "a".into()]), Err(FnError::Regex(_))));
}

#[test]
fn names_truth_and_collections() {
    check(&[
        ("(name :a/b)", "\"b\""),
        ("(name \"x\")", "\"x\""),
        ("(namespace :a/b)", "\"a\""),
        ("(namespace :b)", "nil"),
        ("(keyword \"a\" \"b\")", ":a/b"),
        ("(keyword \"a/b\")", ":a/b"),
        ("(keyword \"a b\")", "query/function"),
        ("(keyword \"\")", "query/function"),
        ("(symbol \"x\")", "x"),
        ("(symbol \"1\")", "query/function"),
        ("(nil? nil)", "true"),
        ("(some? false)", "true"),
        ("(true? 1)", "false"),
        ("(false? false)", "true"),
        ("(not nil)", "true"),
        ("(and 1 false 2)", "false"),
        ("(or nil false 3)", "3"),
        ("(and)", "true"),
        ("(get {:a 1} :a)", "1"),
        ("(get {:a 1} :b 9)", "9"),
        ("(get {1 :x} 1.0)", ":x"),
        ("(get [5 6] 1)", "6"),
        ("(get nil 1)", "nil"),
        ("(contains? #{1 2} 2)", "true"),
        ("(contains? [5] 1)", "false"),
        ("(contains? \"abc\" \"b\")", "true"),
        ("(contains? 5 1)", "query/type"),
        ("(nth [1 2] 1)", "2"),
        ("(nth [1] 5)", "nil"),
        ("(first [])", "nil"),
        ("(last [1 2])", "2"),
        ("(rest [1 2 3])", "[2 3]"),
        ("(keys {:a 1})", "[:a]"),
        ("(vals {:a 1})", "[1]"),
        ("(conj [1 2] 3 4)", "[1 2 3 4]"),
        ("(conj (1 2) 3 4)", "(4 3 1 2)"),
        ("(conj nil 3)", "(3)"),
        ("(vector \"s\" 1 :k)", "[\"s\" 1 :k]"),
        ("(tuple 1 nil)", "[1 nil]"),
        ("(untuple [1 2])", "[1 2]"),
        ("(untuple 5)", "query/type"),
        ("(list 1)", "(1)"),
        ("(set [1 1 2])", "#{1 2}"),
        ("(hash-map :a 1)", "{:a 1}"),
        ("(hash-map :a)", "query/arity"),
        ("(range 2 6)", "[2 3 4 5]"),
        ("(range 3)", "[0 1 2]"),
        ("(range 5 0 -2)", "[5 3 1]"),
        ("(range 5 0)", "[]"),
        ("(range 0 5 0)", "query/function"),
        ("(range 9223372036854775806 9223372036854775807)", "[9223372036854775806]"),
        ("(range -9223372036854775808 9223372036854775807)", "query/function"),
        ("(type 1)", ":long"),
        ("(string? \"\")", "true"),
        ("(inst-ms #inst \"1970-01-01T00:00:01Z\")", "1000"),
        ("(inst 1000)", "#inst \"1970-01-01T00:00:01.000Z\""),
        ("(inst \"no\")", "nil"),
    ]);
}

#[test]
fn every_function_is_described_and_takes_what_it_says() {
    let odd = [
        Value::Nil,
        Value::Bool(true),
        Value::Long(i64::MIN),
        Value::Long(0),
        Value::Double(f64::INFINITY),
        "ä".into(),
        Value::keyword("k"),
        Value::vector([]),
        Value::map([]),
        Value::Bytes([1].into()),
        Value::Instant(annals_model::Instant(i64::MIN)),
    ];
    for f in Library::standard().functions() {
        assert!(!f.doc.is_empty() && !f.doc.ends_with('.'), "{}", f.name);
        assert_eq!(f.check_arity(f.min_args), Ok(()), "{}", f.name);
        // No mix of arguments panics, and what the kinds rule out is an error or nil at run time too.
        for n in f.min_args..=f.max_args.unwrap_or(3) {
            for i in 0..odd.len().pow(n as u32) {
                let args: Vec<Value> =
                    (0..n).map(|k| odd[i / odd.len().pow(k as u32) % odd.len()].clone()).collect();
                let kinds: Vec<Kinds> = args.iter().map(Kinds::of_value).collect();
                let answer = f.call(&args);
                if f.check_kinds(&kinds).is_err() && !matches!(&*f.name, "and" | "or") {
                    assert!(!matches!(answer, Ok(ref v) if *v != Value::Nil), "{f:?} {args:?} {answer:?}");
                }
            }
        }
        if f.min_args > 0 {
            assert!(matches!(f.call(&[]), Err(FnError::Arity { .. })), "{}", f.name);
        }
    }
}

#[test]
fn misspelt_names_find_their_neighbour() {
    let lib = Library::standard();
    assert_eq!(lib.nearest_function("start-with?"), Some("starts-with?"));
    assert_eq!(lib.nearest_function(".startsWith"), Some("starts-with?"));
    assert_eq!(lib.nearest_function("clojure.string/lowercase"), Some("lower-case"));
    assert_eq!(lib.nearest_function("get-els"), Some("get-else"));
    assert_eq!(lib.nearest_function("frobnicate"), None);
    assert_eq!(lib.nearest_aggregate("average"), Some("avg"));
    assert!(lib.function("clojure.core/+").is_some() && lib.function("clojure.core/").is_none());
}

#[test]
fn registered_functions_are_called_like_the_standard_ones() {
    let mut lib = Library::standard().as_ref().clone();
    lib.register(Function::new("double-it", 1..=1, |args| add(&args[0], &args[0])));
    let f = lib.function("double-it").unwrap();
    assert_eq!(f.call(&[Value::Long(4)]), Ok(Value::Long(8)));
    assert!(matches!(f.call(&[]), Err(FnError::Arity { got: 0, min: 1, max: Some(1) })));
}
