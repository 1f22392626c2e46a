//! Runs conformance cases and ends with `N passed, M failed`.
//!
//! - `ANNALS_CASES=FOLDER` runs the `.edn` files of a folder;
//! - `ANNALS_CASES_LINES=FILE` runs a file with one case a line;
//! - with neither, `../shared/conformance` is run when it is there, and always
//!   the project's own cases in `tests/cases`.
//!
//! Advisory cases are reported and never fail.

use annals_tests::conformance::{
    Outcome,
    case::{self, Read},
    run,
};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

fn from_root(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace");
    if Path::new(path).is_absolute() { path.into() } else { root.join(path) }
}

fn folder(path: &Path) -> Read {
    case::read_folder(path)
        .unwrap_or_else(|e| (Vec::new(), vec![(path.display().to_string(), e.to_string())]))
}

/// One case a line; a line that cannot be read is a failure, the others still run.
fn lines(path: &Path) -> Read {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) => return (Vec::new(), vec![(path.display().to_string(), e.to_string())]),
    };
    let (mut cases, mut broken) = (Vec::new(), Vec::new());
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        match case::read(line) {
            Ok(read) => cases.extend(read),
            Err(why) => broken.push((format!("{}:{}", path.display(), i + 1), why)),
        }
    }
    (cases, broken)
}

fn choose() -> Read {
    match (env::var("ANNALS_CASES_LINES"), env::var("ANNALS_CASES")) {
        (Ok(file), _) => lines(&from_root(&file)),
        (_, Ok(path)) => folder(&from_root(&path)),
        _ => {
            let (mut cases, mut broken) = folder(&from_root("tests/cases"));
            let shared = from_root("../shared/conformance");
            if shared.is_dir() {
                let more = folder(&shared);
                cases.extend(more.0);
                broken.extend(more.1);
            } else {
                println!("skipped: {} is not here; only the project's own cases run", shared.display());
            }
            (cases, broken)
        }
    }
}

fn main() -> ExitCode {
    // `cargo test -- --list` and filters by name come here too: there is one test.
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "--list") {
        println!("conformance: test");
        return ExitCode::SUCCESS;
    }
    let wanted = arguments.iter().find(|a| !a.starts_with('-'));
    let (cases, broken) = choose();
    let (mut passed, mut failed, mut advisory) = (0u32, 0u32, 0u32);
    let (from, mut slowest) = (Instant::now(), (0, String::new()));
    for (file, why) in &broken {
        failed += 1;
        println!("FAILED {file}\n  expected: cases\n  actual:   {why}");
    }
    for case in
        cases.iter().filter(|c| wanted.is_none_or(|w| c.name.contains(w.as_str()) || w == "conformance"))
    {
        let started = Instant::now();
        // A panic is a failure of its case, not the end of the run.
        let outcome = std::panic::catch_unwind(|| run(case)).unwrap_or_else(|_| Outcome::Fail {
            expected: "no panic".into(),
            actual: "a panic (see above)".into(),
        });
        let took = started.elapsed().as_millis();
        if took > slowest.0 {
            slowest = (took, case.name.clone());
        }
        match outcome {
            Outcome::Pass => passed += 1,
            Outcome::Fail { expected, actual } if case.is("advisory") => {
                advisory += 1;
                println!("advisory {}\n  expected: {expected}\n  actual:   {actual}", case.name);
            }
            Outcome::Fail { expected, actual } => {
                failed += 1;
                println!("FAILED {}\n  expected: {expected}\n  actual:   {actual}", case.name);
            }
        }
    }
    println!(
        "{} cases in {:.1} s; slowest {} ms ({}); {advisory} advisory differences, not counted",
        cases.len(),
        from.elapsed().as_secs_f64(),
        slowest.0,
        slowest.1
    );
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
