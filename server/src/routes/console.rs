//! `/` and the files under it.

use crate::{
    answer::{Answer, Refusal},
    call::Call,
    console,
    wire::problem::{Class, Problem},
};

/// `GET /`
pub async fn index(call: Call) -> Answer {
    file(call, "index.html")
}

/// `GET /console/{*path}`
pub async fn asset(call: Call) -> Answer {
    let path = call.part("path").to_owned();
    file(call, &path)
}

fn file(call: Call, path: &str) -> Answer {
    console::file(path, &call.headers).ok_or_else(|| {
        Refusal::from(Problem::new(Class::NotFound, "request/no-route", "the console has no such file"))
    })
}
