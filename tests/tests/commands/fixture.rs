//! S3, S59, S6: the fixture itself.

use super::*;

#[test]
fn s59_the_fixture_fails_for_an_event_too_many_and_for_another_error() {
    let fails = |f: fn()| std::panic::catch_unwind(f).is_err();
    assert!(fails(|| {
        Tasks::given([]).when(create("wash")).then([named("wash"), TaskEvent::Completed]);
    }));
    assert!(fails(|| {
        Tasks::given([]).when(create("wash")).then([]);
    }));
    assert!(fails(|| {
        Tasks::given([]).when(create("wash")).then_error(TaskError::NoName);
    }));
    assert!(fails(|| {
        Tasks::given([]).when(TaskCommand::Complete).then_error(TaskError::Closed);
    }));
}

#[test]
fn s6_the_fixture_finds_rules_that_are_not_pure() {
    use annals_tests::domain::impure::{Ask, Clockwork};
    let said = |ask: Ask| {
        let ran = std::panic::catch_unwind(|| Fixture::<Clockwork>::given([]).when(ask));
        *ran.err().expect("an impure rule fails").downcast::<String>().expect("it says why")
    };
    assert!(said(Ask::Count).starts_with("handle is not pure"), "{}", said(Ask::Count));
    assert!(said(Ask::Remember).starts_with("handle changed the state"));
    assert!(said(Ask::Drift).starts_with("apply is not pure"));
    // A state that a snapshot would lose a part of.
    use annals_tests::domain::impure::{BrittleEvent, Lossy};
    let lost = std::panic::catch_unwind(|| {
        Fixture::<Lossy>::given([BrittleEvent::Held]).when(()).then_snapshot();
    });
    assert!(lost.unwrap_err().downcast::<String>().unwrap().starts_with("the snapshot lost something"));
    Fixture::<Account>::given([AccountEvent::Opened { owner: "Ada".into() }])
        .when(AccountCommand::Deposit { amount: 7 })
        .then_snapshot();
}

#[test]
fn the_fixture_asks_rows_of_facts_and_projections() {
    const TASKS: &str = r#"
    {:projection/name :tasks
     :projection/schema [{:db/ident :task/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one
                          :db/unique :db.unique/identity}
                         {:db/ident :task/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]
     :projection/on [{:event ["Created" "Renamed"] :assert [{:task/id $stream.key :task/name $data.name}]}]}"#;
    Tasks::given([named("wash")])
        .given_facts("[{:db/ident :color/red}]")
        .given_projection(TASKS)
        .when(rename("iron"))
        .then_rows("[:find ?n :where [_ :task/name ?n]]", (), [vec!["iron".into()]])
        .then_rows(
            "[:find ?k :where [?e :db/ident ?k] [(= ?k :color/red)]]",
            (),
            [vec![Value::keyword("color/red")]],
        );
}
