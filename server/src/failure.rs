//! Errors of the engine as problems: the only place that maps one to the other.
//!
//! Both matches are exhaustive: a new class of error does not compile until it
//! has a status.

use crate::wire::problem::{Class, Problem};
use annals::{Diagnostic, ErrorClass};

/// The class of HTTP failure for a class of engine error.
pub fn class_of(class: ErrorClass, code: &str) -> Class {
    match class {
        ErrorClass::Syntax => Class::Syntax,
        ErrorClass::Meaning => Class::Meaning,
        ErrorClass::Conflict => Class::Conflict,
        ErrorClass::Budget => Class::Meaning,
        ErrorClass::Deadline => Class::Deadline,
        // Whoever cancelled does not wait for this answer.
        ErrorClass::Cancelled => Class::Unavailable,
        ErrorClass::NotFound => Class::NotFound,
        ErrorClass::Environment if code.ends_with("/full") || code.ends_with("-full") => Class::Full,
        ErrorClass::Environment => Class::Internal,
        ErrorClass::Locked | ErrorClass::Poisoned => Class::Unavailable,
        ErrorClass::Damaged | ErrorClass::TooNew => Class::Internal,
    }
}

/// A problem of diagnostics. What concerns this machine is logged and not told.
pub fn problem(class: ErrorClass, code: &'static str, diagnostics: Vec<Diagnostic>) -> Problem {
    let http = class_of(class, code);
    if matches!(http, Class::Internal | Class::Unavailable | Class::Full) {
        for d in &diagnostics {
            match class {
                // The client went away: nobody's fault, and nothing to look into.
                ErrorClass::Cancelled => tracing::debug!(code, "{d}"),
                _ => tracing::error!(code, "{d}"),
            }
        }
        let detail = match class {
            ErrorClass::Poisoned => {
                "writing has stopped after a failure; the outcome of the last writes is unknown"
            }
            ErrorClass::Cancelled => "the query was stopped",
            ErrorClass::Locked => "the database is held by another process",
            ErrorClass::Damaged => "stored data is damaged",
            ErrorClass::TooNew => "the database was written by a newer version",
            _ if http == Class::Full => "no space is left for the database",
            _ => "reading or writing the database failed; the outcome is unknown",
        };
        return Problem::new(http, code, detail);
    }
    Problem::from_diagnostics(http, diagnostics)
}

/// Anything of the facade that is an error.
pub trait Failure {
    /// The same as a problem.
    fn problem(&self) -> Problem;
}

impl Failure for annals::Error {
    fn problem(&self) -> Problem {
        problem(self.class(), self.code(), self.diagnostics())
    }
}
impl Failure for annals::DbError {
    fn problem(&self) -> Problem {
        problem(self.class(), self.code(), vec![self.diagnostic()])
    }
}
impl Failure for annals::TransactError {
    fn problem(&self) -> Problem {
        problem(self.class(), self.code(), self.diagnostics())
    }
}

impl Failure for annals::QueryError {
    fn problem(&self) -> Problem {
        problem(annals::query_class(self), self.code(), self.diagnostics())
    }
}

/// Turns the error of a result.
pub trait OrProblem<T> {
    /// The value, or a problem.
    fn or_problem(self) -> Result<T, Problem>;
}

impl<T, E: Failure> OrProblem<T> for Result<T, E> {
    fn or_problem(self) -> Result<T, Problem> {
        self.map_err(|e| e.problem())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_statuses() {
        for (class, code, status) in [
            (ErrorClass::Syntax, "edn/syntax", 400),
            (ErrorClass::Meaning, "query/unknown-attribute", 422),
            (ErrorClass::Conflict, "transact/cas", 409),
            (ErrorClass::Deadline, "query/timeout", 408),
            (ErrorClass::Budget, "query/row-limit", 422),
            (ErrorClass::NotFound, "db/unknown-entity", 404),
            (ErrorClass::Environment, "storage/io", 500),
            (ErrorClass::Environment, "storage/full", 507),
            (ErrorClass::Poisoned, "storage/poisoned", 503),
        ] {
            assert_eq!(class_of(class, code).status(), status, "{code}");
        }
    }

    #[test]
    fn a_failure_of_the_machine_tells_nothing_of_it() {
        let d = Diagnostic::new("storage/io", "cannot write /var/lib/secret: EIO");
        let p = problem(ErrorClass::Environment, "storage/io", vec![d]);
        assert!(!p.to_json().to_string().contains("secret"));
    }
}
