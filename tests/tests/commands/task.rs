//! S1: the task list of the frameworks' examples, thirteen times given, when, then.

use super::*;

#[test]
fn s1_01_a_task_is_created() {
    Tasks::given([]).when(create("wash")).then([named("wash")]);
}
#[test]
fn s1_02_a_task_is_created_once() {
    Tasks::given([named("wash")]).when(create("iron")).then_error(TaskError::AlreadyCreated);
}
#[test]
fn s1_03_a_task_has_a_name() {
    Tasks::given([]).when(create(" ")).then_error(TaskError::NoName);
}
#[test]
fn s1_04_what_is_not_created_is_not_completed() {
    Tasks::given([]).when(TaskCommand::Complete).then_error(TaskError::NotYetCreated);
}
#[test]
fn s1_05_a_task_is_completed() {
    Tasks::given([named("wash")]).when(TaskCommand::Complete).then([TaskEvent::Completed]);
}
#[test]
fn s1_06_completing_again_is_nothing_to_do() {
    Tasks::given([named("wash"), TaskEvent::Completed]).when(TaskCommand::Complete).then_nothing();
}
#[test]
fn s1_07_a_task_is_renamed() {
    let done = Tasks::given([named("wash")]).when(rename("iron"));
    assert_eq!(done.then([TaskEvent::Renamed { name: "iron".into() }]).state().name, "iron");
}
#[test]
fn s1_08_the_same_name_is_nothing_to_do() {
    Tasks::given([named("wash")]).when(rename("wash")).then_nothing();
}
#[test]
fn s1_09_a_completed_task_keeps_its_name() {
    Tasks::given([named("wash"), TaskEvent::Completed]).when(rename("iron")).then_error(TaskError::Closed);
}
#[test]
fn s1_10_a_completed_task_is_reopened() {
    Tasks::given([named("wash"), TaskEvent::Completed]).when(TaskCommand::Reopen).then([TaskEvent::Reopened]);
}
#[test]
fn s1_11_an_open_task_is_not_reopened() {
    Tasks::given([named("wash")]).when(TaskCommand::Reopen).then_nothing();
}
#[test]
fn s1_12_a_task_is_cancelled_and_stays_so() {
    let cancelled = [named("wash"), TaskEvent::Cancelled];
    Tasks::given([named("wash")]).when(TaskCommand::Cancel).then([TaskEvent::Cancelled]);
    Tasks::given(cancelled.clone()).when(TaskCommand::Complete).then_error(TaskError::Closed);
    Tasks::given(cancelled).when(TaskCommand::Cancel).then_nothing();
}
#[test]
fn s1_13_a_reopened_task_is_completed_again() {
    Tasks::given([named("wash"), TaskEvent::Completed, TaskEvent::Reopened])
        .when(TaskCommand::Complete)
        .then([TaskEvent::Completed]);
}
