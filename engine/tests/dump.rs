//! Whole transactions out of one database and into another.

use annals::{T, event::Append};

/// What the writer remembers of streams must not outlive records that did not come through it.
#[test]
fn an_append_behind_a_loaded_dump_takes_the_next_position() {
    let append = |conn: &annals::Connection, id: u128| {
        let event = annals::event::NewEvent::new("Ticked", r#"{"n": 1}"#).unwrap();
        conn.append(Append::to("clock-1").push(event.id(uuid::Uuid::from_u128(id)))).unwrap()
    };
    let (from, to) = (annals::in_memory().unwrap(), annals::in_memory().unwrap());
    let first = append(&to, 9);
    append(&from, 1);
    append(&from, 2);
    assert_eq!((first.first.0, first.version().0), (1, 1));
    // Loaded where the database ends: positions and versions are those of the dump.
    let last = from.db().t();
    let dumped: Vec<_> = from.dump(T(2), last.next()).unwrap().collect::<Result<_, _>>().unwrap();
    let (loaded, refused) = to.load_dump(dumped);
    assert!(loaded == 1 && refused.is_none(), "{refused:?}");
    let next = append(&to, 10);
    assert_eq!((next.first.0, next.version().0), (3, 3));
}
