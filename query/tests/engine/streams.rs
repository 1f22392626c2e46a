//! Answers that are taken row by row: the same rows, and no work for those that nobody takes.

use super::*;
use annals_query::stream::RowStream;

/// Entities with an age each, some ages shared, and a tag or two.
fn crowd(n: u64) -> MemSource {
    let s = schema();
    let mut datoms = Vec::new();
    for e in 0..n {
        datoms.push(datom(&s, e, "p/age", Value::Long((e % 1000) as i64), 1, true));
        datoms.push(datom(&s, e, "p/tag", format!("t{}", e % 7).as_str(), 1, true));
        datoms.push(datom(&s, e, "p/tag", format!("u{}", e % 3).as_str(), 1, true));
        if e > 0 {
            datoms.push(datom(&s, e, "p/boss", user(e / 2), 1, true));
        }
    }
    MemSource::new(s, datoms)
}

fn stream(text: &str, inputs: &[Input], options: &QueryOptions, size: usize) -> RowStream {
    Query::parse(text).unwrap().stream(inputs, options, size).unwrap()
}

#[test]
fn a_taker_of_a_thousand_rows_pays_for_a_few_thousand() {
    let db = source(crowd(10_000));
    let o = QueryOptions { max_bytes: 8 << 20, threads: Threads::Exactly(1), ..QueryOptions::default() };
    for text in [
        "[:find ?a ?b :where [?a :p/age _] [?b :p/boss _]]",
        "[:find ?a ?b :where [?a :p/age ?x] [?b :p/age ?y] [(<= ?x ?y)]]",
        "[:find ?a ?b ?s :where [?a :p/age ?x] [?b :p/age ?y] [(+ ?x ?y) ?s]]",
    ] {
        let mut rows = stream(text, std::slice::from_ref(&db), &o, 1_000);
        let used = rows.stats().used;
        assert_eq!((used.rows, used.rows_read), (0, 0), "nothing runs before somebody asks: {text}");
        assert_eq!(rows.next().unwrap().unwrap().len(), 1_000, "{text}");
        let used = rows.stats().used;
        // Of pairs that are compared few may pass at first, so more of them are looked at.
        assert!(used.rows < 500_000, "of 10^8 pairs {} rows were made: {text}", used.rows);
        let e = Query::parse(text).unwrap().run(std::slice::from_ref(&db), &o).unwrap_err();
        assert_eq!(e.code(), "query/memory-limit", "made at once it is too much: {text}");
    }
}

#[test]
fn a_stream_has_the_rows_of_the_answer_each_once() {
    let db = source(crowd(3_000));
    let reach = "[[(over ?x ?y) [?x :p/boss ?y]] [(over ?x ?y) [?x :p/boss ?z] (over ?z ?y)]]";
    for (text, inputs, pipelined) in [
        ("[:find ?e ?a :where [?e :p/age ?a]]", vec![], true),
        ("[:find ?t :where [?e :p/tag ?t]]", vec![], true),
        // The key of what is cut is not shown: rows would come again and again.
        ("[:find ?t ?u :where [?e :p/age ?a] [?f :p/age ?a] [?e :p/tag ?t] [?f :p/tag ?u]]", vec![], true),
        ("[:find ?a :where [?e :p/age ?a] [?f :p/boss ?e] [?f :p/age ?b] [(< ?a ?b)]]", vec![], true),
        ("[:find [?a ...] :where [?e :p/age ?a] (not [?e :p/tag \"t3\"])]", vec![], true),
        (
            "[:find ?a :with ?e :where [?e :p/age ?a] (or [?e :p/tag \"t1\"] [?e :p/tag \"u1\"])]",
            vec![],
            true,
        ),
        ("[:find ?a ?b :where [?a :p/tag \"t1\"] [?b :p/tag \"t2\"]]", vec![], true),
        ("[:find ?x ?n :in $ % :where (over ?x ?y) [?y :p/age ?n]]", vec![edn(reach)], true),
        ("[:find (pull ?e [:p/age]) :where [?e :p/tag \"t3\"]]", vec![], true),
        ("[:find ?t (count ?e) :where [?e :p/tag ?t]]", vec![], false),
        ("[:find ?e ?a :where [?e :p/age ?a] :order-by ?a :limit 5]", vec![], false),
        ("[:find ?e ?a :where [?e :p/age ?a] :limit 5]", vec![], false),
        ("[:find ?e . :where [?e :p/age 3]]", vec![], false),
        ("[:find ?e :where [?e :p/age 3000]]", vec![], true),
    ] {
        let inputs = [vec![db.clone()], inputs].concat();
        let whole = Query::parse(text).unwrap().run(&inputs, &QueryOptions::default()).unwrap();
        let mut expected: Vec<_> = whole.rows.iter().collect();
        for options in ways() {
            for size in [7, 100_000] {
                let rows = stream(text, &inputs, &options, size);
                assert_eq!(rows.remaining().is_none(), pipelined, "{text}");
                assert_eq!((&rows.shape, rows.basis_t), (&whole.shape, whole.basis_t));
                let batches: Vec<_> = rows.map(Result::unwrap).collect();
                let full = batches.iter().rev().skip(1).all(|b| b.len() == size);
                assert!(full, "all batches but the last are full: {text}");
                let mut found = batches.concat();
                if pipelined {
                    found.sort();
                    expected.sort();
                }
                assert_eq!(found.len(), expected.len(), "{text}");
                assert_eq!(found, expected, "{text}");
            }
        }
    }
}

#[test]
fn what_goes_wrong_on_the_way_is_the_last_item() {
    let db = source(crowd(2_000));
    let text = "[:find ?a ?b :where [?a :p/age _] [?b :p/age _]]";
    let o = QueryOptions { max_rows: 50_000, ..QueryOptions::default() };
    let mut rows = stream(text, std::slice::from_ref(&db), &o, 1_000);
    let n = rows.by_ref().take_while(Result::is_ok).count();
    assert!(n > 1, "rows came before the limit");
    assert!(rows.next().is_none(), "and nothing after");
    let last = stream(text, std::slice::from_ref(&db), &o, 1_000).last().unwrap();
    assert_eq!(last.unwrap_err().code(), "query/row-limit");

    let cancel = Cancel::new();
    let o = QueryOptions { cancel: cancel.clone(), ..QueryOptions::default() };
    let mut rows = stream(text, std::slice::from_ref(&db), &o, 5_000);
    rows.next().unwrap().unwrap();
    cancel.cancel();
    let e = rows.find_map(Result::err).expect("it was stopped");
    assert_eq!(e.code(), "query/cancelled");
    assert!(rows.next().is_none());

    // What is remembered so that no row comes twice is paid for.
    let text = "[:find ?x ?n :where [?e :p/age ?x] [?f :p/age ?y] [(* ?x 1000) ?m] [(+ ?m ?y) ?n]]";
    let o = QueryOptions { max_bytes: 3 << 20, ..QueryOptions::default() };
    let last = stream(text, std::slice::from_ref(&db), &o, 1_000).last().unwrap();
    assert_eq!(last.unwrap_err().code(), "query/memory-limit");

    let e = Query::parse("[:find ?e :where [?e :p/agee _]]").unwrap();
    let e = e.stream(&[db], &QueryOptions::default(), 10).unwrap_err();
    assert_eq!(e.code(), "query/unknown-attribute", "what is known before is known at once");
}

#[test]
fn a_limit_without_order_stops_the_work() {
    let db = source(crowd(10_000));
    let text = "[:find ?a ?b :where [?a :p/age _] [?b :p/age _] :offset 10 :limit 25]";
    let o = QueryOptions { sorted: false, ..QueryOptions::default() };
    let mut rows = stream(text, std::slice::from_ref(&db), &o, 10);
    let sizes: Vec<usize> = rows.by_ref().map(|b| b.unwrap().len()).collect();
    assert_eq!(sizes, [10, 10, 5]);
    assert!(rows.stats().used.rows < 60_000, "{:?}", rows.stats().used);
}

#[test]
fn the_steps_of_a_stream_are_those_it_took() {
    let db = source(crowd(5_000));
    let text = "[:find ?e ?f :where [?e :p/age ?a] [?f :p/boss ?e] [?f :p/age ?b] [(< ?a ?b)]]";
    let mut rows = stream(text, std::slice::from_ref(&db), &QueryOptions::default(), 100);
    assert!(rows.stats().steps.is_empty(), "nothing runs before somebody asks");
    let n: usize = rows.by_ref().map(|b| b.unwrap().len()).sum();
    let steps = rows.stats().steps;
    assert_eq!(steps.len(), 4, "{steps:?}");
    let last = steps.iter().find(|s| s.clause.contains('<')).expect("the comparison ran");
    assert_eq!((last.rows as usize, n), (n, n), "it left what was handed out");
    fn send<S: Send + 'static>(_: S) {}
    send(rows);
}

/// Work in rows, of an answer that is taken to its end against one that is made at once.
#[test]
fn a_stream_taken_to_its_end_does_not_do_the_work_again() {
    let db = source(crowd(20_000));
    for text in [
        "[:find ?e ?a ?t :where [?e :p/age ?a] [?e :p/tag ?t]]",
        "[:find ?e ?f :where [?e :p/age ?a] [?f :p/boss ?e] [?f :p/age ?b] [(< ?a ?b)]]",
        "[:find ?e ?f :where [?e :p/age ?a] [?f :p/age ?a]]",
        "[:find ?t ?b :where [?e :p/tag ?t] [?e :p/boss ?f] [?f :p/age ?b] (not [?e :p/tag \"t3\"])]",
    ] {
        let inputs = std::slice::from_ref(&db);
        let whole = Query::parse(text).unwrap().run(inputs, &QueryOptions::default()).unwrap();
        let mut rows = stream(text, inputs, &QueryOptions::default(), 10_000);
        let n: usize = rows.by_ref().map(|b| b.unwrap().len()).sum();
        assert_eq!(n, whole.rows.len(), "{text}");
        let (once, streamed) = (whole.stats.used.rows, rows.stats().used.rows);
        assert!(streamed <= 2 * once, "{streamed} rows made for {once}: {text}");
    }
}
