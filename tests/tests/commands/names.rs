//! S12, S58: names and schemas, and code that is renamed.

use super::*;

#[test]
fn s58_a_renamed_enum_reads_the_old_file() {
    mod old {
        use super::*;
        #[derive(serde::Serialize, serde::Deserialize)]
        pub enum DoorEvent {
            Opened { by: String },
        }
        impl Event for DoorEvent {
            const TYPES: &'static [(&'static str, u32)] = &[("Opened", 1)];
        }
    }
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    enum GateHappening {
        #[serde(rename = "Opened")]
        SwungOpen { by: String },
    }
    impl Event for GateHappening {
        const TYPES: &'static [(&'static str, u32)] = &[("Opened", 1)];
    }
    let conn = memory();
    let e = old::DoorEvent::Opened { by: "Ada".into() }.to_new().unwrap();
    conn.append(Append::to("door-1").push(e)).unwrap();
    let stored = conn.db().events().stream(&StreamId::new("door-1").unwrap(), Version(1), 1).unwrap();
    assert_eq!(stored[0].read::<GateHappening>().unwrap(), GateHappening::SwungOpen { by: "Ada".into() });
}

#[test]
fn s58_a_renamed_decision_is_the_same_request() {
    use annals::event::Decision;
    #[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
    #[error("shut")]
    struct Shut;
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    enum Rung {
        Rung,
    }
    impl Event for Rung {
        const TYPES: &'static [(&'static str, u32)] = &[("Rung", 1)];
    }
    #[derive(serde::Serialize)]
    struct Ring {
        times: u32,
    }
    #[derive(serde::Serialize)]
    #[serde(rename = "Ring")]
    struct PressTheBell {
        times: u32,
    }
    impl Decision for Ring {
        const NAME: &'static str = "bell";
        type Event = Rung;
        type Error = Shut;
        fn decide(&self, _: &Decide<'_>) -> Result<Vec<(String, Rung)>, Shut> {
            Ok((0..self.times).map(|_| ("bell-1".to_owned(), Rung::Rung)).collect())
        }
    }
    impl Decision for PressTheBell {
        const NAME: &'static str = "bell";
        type Event = Rung;
        type Error = Shut;
        fn decide(&self, _: &Decide<'_>) -> Result<Vec<(String, Rung)>, Shut> {
            Ok((0..self.times).map(|_| ("bell-1".to_owned(), Rung::Rung)).collect())
        }
    }
    let conn = memory();
    conn.decide(&Ring { times: 2 }, Dispatch::id(command(1).0)).unwrap();
    let again = conn.decide(&PressTheBell { times: 2 }, Dispatch::id(command(1).0)).unwrap();
    assert!(again.is_replay() && conn.db().events().head().unwrap().0 == 2);
}

#[test]
fn unknown_types_and_missing_upcasters_are_errors_of_their_own() {
    let conn = memory();
    let load = |id: &str| conn.repository::<Account>().load(id).unwrap_err();
    conn.append(Append::to("account-1").push(NewEvent::new("Melted", json!({})).unwrap())).unwrap();
    let e = load("1");
    assert_eq!(e.code(), "event/unknown-type");
    assert!(
        e.to_string().contains("event #1 is of type Melted")
            || e.to_string().contains("event 1 is of type Melted"),
        "{e}"
    );
    let old = NewEvent::new("AccountOpened", json!({"name": "Ada"})).unwrap().schema(0);
    conn.append(Append::to("account-2").push(old)).unwrap();
    assert_eq!(load("2").code(), "event/not-upcast");
    let newer = NewEvent::new("AccountOpened", json!({"owner": "Ada"})).unwrap().schema(9);
    conn.append(Append::to("account-3").push(newer)).unwrap();
    assert_eq!(load("3").code(), "event/newer-schema");
    let other = NewEvent::new("AccountOpened", json!({"owner": 7})).unwrap();
    conn.append(Append::to("account-4").push(other)).unwrap();
    assert_eq!(load("4").code(), "event/other-shape");
}
