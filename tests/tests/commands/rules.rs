//! S57, A5: reading in a rule.

use super::*;

#[test]
fn s57_what_a_rule_reads_is_held_at_the_commit() {
    use annals_tests::domain::guarded::{Ask, Guarded, on_handle};
    let conn = memory();
    conn.transact("[{:db/ident :limit/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
                    {:db/ident :limit/value :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]").unwrap();
    conn.transact("[{:limit/name \"day\" :limit/value 10} {:limit/name \"week\" :limit/value 1}]").unwrap();
    let repo = conn.repository::<Guarded>();
    let (other, runs) = (conn.clone(), Arc::new(AtomicU32::new(0)));
    let seen = runs.clone();
    // Between reading and writing another limit changes, then (second run) the one that was read.
    on_handle(move || match seen.fetch_add(1, Ordering::SeqCst) {
        0 => drop(other.transact("[{:limit/name \"week\" :limit/value 2}]").unwrap()),
        1 => drop(other.transact("[{:limit/name \"day\" :limit/value 3}]").unwrap()),
        _ => {}
    });
    repo.dispatch("1", Ask { amount: 5 }, Dispatch::new()).unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 1, "what was not read does not matter");
    let e = repo.dispatch("1", Ask { amount: 5 }, Dispatch::new()).unwrap_err();
    assert_eq!(e.code(), "guarded/over-limit");
    assert_eq!(runs.load(Ordering::SeqCst), 3, "decided again with what had changed");
    on_handle(|| {});
    // A read that fails is no empty answer.
    let e = repo.dispatch("broken", Ask { amount: 1 }, Dispatch::id(command(9).0)).unwrap_err();
    assert!(matches!(e, DispatchError::Read(_)), "{e}");
    assert_eq!(conn.command_status(command(9)).unwrap(), None);
}

/// Names what a rule is given, so that an unused import is not needed above.
#[test]
fn ids_made_in_a_rule_follow_from_the_command() {
    use annals_tests::domain::guarded::{Made, MadeAsk};
    let conn = memory();
    let repo = conn.repository::<Made>();
    let id_of = |stream: &str, n: u128| {
        repo.dispatch(stream, MadeAsk, Dispatch::id(command(n).0)).unwrap();
        repo.load(stream).unwrap().state.ids
    };
    let (a, b) = (id_of("1", 1), id_of("2", 2));
    assert_eq!(a.len(), 2);
    assert_ne!(a[0], a[1]);
    assert_ne!(a, b);
    let again = memory();
    again.repository::<Made>().dispatch("1", MadeAsk, Dispatch::id(command(1).0)).unwrap();
    assert_eq!(again.repository::<Made>().load("1").unwrap().state.ids, a);
    let _ = |cx: &Decide<'_>| cx.new_id();
}
