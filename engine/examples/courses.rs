//! Course subscription: a rule over courses and students, each with a limit of its own.
//! No aggregate holds both; what the rule reads is its boundary, judged at the commit.
//!
//! `cargo run -p annals --example courses`

use annals::{
    Value,
    event::{Append, Decide, Decision, Dispatch, Event},
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
enum Course {
    CourseDefined { course: String, capacity: i64 },
    Subscribed { course: String, student: String },
}
impl Event for Course {
    const TYPES: &'static [(&'static str, u32)] = &[("CourseDefined", 1), ("Subscribed", 1)];
    fn tags(&self) -> Vec<String> {
        match self {
            Course::CourseDefined { course, .. } => vec![format!("course:{course}")],
            Course::Subscribed { course, student } => {
                vec![format!("course:{course}"), format!("student:{student}")]
            }
        }
    }
}

#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
enum Refused {
    #[error("there is no such course")]
    NoCourse,
    #[error("the course is full")]
    Full,
    #[error("the student is in two courses already")]
    TooMany,
}

#[derive(Serialize)]
struct Subscribe {
    course: String,
    student: String,
}

const CAPACITY: &str =
    "[:find (max ?n) . :in $ ?tag :where [?e :event/tag ?tag] [?e :event/type \"CourseDefined\"]
                                                           [?e :event/data ?d] [(get ?d :capacity) ?n]]";
const SUBSCRIBED: &str = "[:find ?e :in $ ?tag :where [?e :event/tag ?tag] [?e :event/type \"Subscribed\"]]";

impl Decision for Subscribe {
    const NAME: &'static str = "subscription";
    type Event = Course;
    type Error = Refused;

    fn decide(&self, cx: &Decide) -> Result<Vec<(String, Course)>, Refused> {
        let (course, student) = (format!("course:{}", self.course), format!("student:{}", self.student));
        let Some(Value::Long(capacity)) = cx.db.scalar(CAPACITY, (course.as_str(),)) else {
            return Err(Refused::NoCourse);
        };
        if cx.db.count(SUBSCRIBED, (course.as_str(),)) as i64 >= capacity {
            return Err(Refused::Full);
        }
        if cx.db.count(SUBSCRIBED, (student.as_str(),)) >= 2 {
            return Err(Refused::TooMany);
        }
        let e = Course::Subscribed { course: self.course.clone(), student: self.student.clone() };
        Ok(vec![(format!("student-{}", self.student), e)])
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let conn = annals::in_memory()?;
    for (course, capacity) in [("logic", 3), ("music", 30), ("dance", 30)] {
        let e = Course::CourseDefined { course: course.into(), capacity };
        conn.append(Append::to(format!("course-{course}")).push(e.to_new()?))?;
    }
    let subscribe = &|course: &str, student: &str| {
        let wish = Subscribe { course: course.into(), student: student.into() };
        conn.decide(&wish, Dispatch::new().retry(20)).map_err(|e| e.code().to_owned())
    };

    // Ten students want one of three places, all at once.
    let answers: Vec<_> = std::thread::scope(|s| {
        let wishes: Vec<_> =
            (0..10).map(|n| s.spawn(move || subscribe("logic", &format!("student {n}")))).collect();
        wishes.into_iter().filter_map(|w| w.join().ok()).collect()
    });
    let (placed, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    println!("{} have a place, {} have not", placed.len(), refused.len());
    assert_eq!(placed.len(), 3);
    assert!(refused.iter().all(|r| r.as_ref().is_err_and(|code| code == "subscription/full")));

    subscribe("music", "ada")?;
    subscribe("dance", "ada")?;
    assert_eq!(subscribe("music", "ada").unwrap_err(), "subscription/too-many");
    assert_eq!(subscribe("chess", "ben").unwrap_err(), "subscription/no-course");
    Ok(())
}

#[test]
fn it_runs() {
    main().expect("the example runs");
}
