//! Course subscription: a rule over two streams, guarded by a dynamic consistency boundary.

use annals::{
    Connection,
    event::{Append, AppendError, Appended, GuardQuery, NewEvent, Tag},
};

fn subscribe(
    conn: &Connection,
    student: &str,
    course: &str,
    capacity: usize,
) -> Result<Appended, Box<dyn std::error::Error>> {
    let db = conn.db();
    let tag = format!("course:{course}");
    let taken = "[:find ?e :in $ ?tag :where [?e :event/tag ?tag] [?e :event/type \"Subscribed\"]]";
    if db.query(taken, (tag.as_str(),))?.rows.len() >= capacity {
        return Err("the course is full".into());
    }
    let event = NewEvent::new("Subscribed", r#"{}"#)?.tag(Tag::new(&tag)?);
    let unchanged = GuardQuery::new(taken, [tag.as_str().into()]);
    Ok(conn.append(Append::to(format!("student-{student}")).push(event).unchanged(unchanged, db.t()))?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let conn = annals::in_memory()?;
    let stale = conn.db().t();
    subscribe(&conn, "ada", "logic", 2)?;
    subscribe(&conn, "bob", "logic", 2)?;
    assert_eq!(subscribe(&conn, "cyd", "logic", 2).unwrap_err().to_string(), "the course is full");
    // A decision made before the others subscribed is refused at the commit.
    let taken = GuardQuery::new("[:find ?e :where [?e :event/tag \"course:logic\"]]", []);
    let late = conn.append(Append::to("student-dan").event("Subscribed", "{}")?.unchanged(taken, stale));
    assert!(matches!(late, Err(AppendError::ConditionFailed { .. })));
    Ok(())
}
