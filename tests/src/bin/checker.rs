//! The serial-replay checker as a program.
//!
//! ```text
//! checker serve DIR ADDRESS                      a server to be killed: the library behind HTTP
//! checker threads [CLIENTS REQUESTS SEED]        clients as threads of one process, over the library
//! checker storm [CLIENTS KILLS SEED [COMMAND…]]  clients over HTTP, the server killed KILLS times;
//!                                                COMMAND starts another server, with {dir} and {address}
//! checker planted [SEED]                         what the checker finds of planted faults
//! ```
//!
//! Prints a line a run and exits 1 if a history could not have been.

use annals_tests::checker::{self, History, http, library, plant};
use std::{path::Path, process::ExitCode, time::Duration};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let at = |i: usize, default: u64| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let small = |i: usize, default: u64| usize::try_from(at(i, default)).unwrap_or(usize::MAX);
    match args.first().map(String::as_str) {
        Some("serve") if args.len() == 3 => serve(Path::new(&args[1]), &args[2]),
        Some("threads") => {
            let (clients, requests, seed) = (small(1, 8), small(2, 2_000), at(3, 1));
            let dir = tempfile::tempdir().expect("a folder");
            let conn = annals::open(dir.path()).expect("a new database opens");
            verdict(&format!("threads, seed {seed}"), &library::run(&conn, clients, requests, seed), "")
        }
        Some("storm") => {
            let (clients, kills, seed) = (small(1, 8), small(2, 50), at(3, 1));
            let dir = tempfile::tempdir().expect("a folder");
            let own = || {
                let me = std::env::current_exe().expect("a program has a path");
                vec![me.to_string_lossy().into_owned(), "serve".into(), "{dir}".into(), "{address}".into()]
            };
            let server = args.get(4..).filter(|c| !c.is_empty()).map_or_else(own, <[String]>::to_vec);
            let plan = http::Plan {
                server,
                dir: dir.path().join("checked"),
                clients,
                kills,
                between: Duration::from_millis(600),
                seed,
            };
            let (history, storm) = http::run(&plan);
            let more = format!(
                "; {} kills, {} requests sent again, slowest start {:.0?}",
                storm.kills, storm.sent_again, storm.slowest_start
            );
            verdict(&format!("storm, seed {seed}"), &history, &more)
        }
        Some("planted") => {
            let conn = annals::in_memory().expect("a database in memory opens");
            let history = library::run(&conn, 6, 200, at(1, 1));
            let mut missed = 0;
            for (fault, planted, found) in plant::trial(&history, 50, at(1, 1)) {
                println!("{fault:?}: {found} of {planted} found");
                missed += usize::from(found < planted || planted == 0);
            }
            ExitCode::from(u8::from(missed > 0))
        }
        _ => {
            eprintln!(
                "checker serve DIR ADDRESS | threads [CLIENTS REQUESTS SEED] | storm [CLIENTS KILLS SEED [COMMAND…]] | planted [SEED]"
            );
            ExitCode::from(2)
        }
    }
}

fn serve(dir: &Path, address: &str) -> ExitCode {
    let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let listen = match address.parse() {
        Ok(listen) => listen,
        Err(e) => {
            eprintln!("{address}: {e}");
            return ExitCode::from(2);
        }
    };
    let config = annals_server::Config { listen, ..annals_server::Config::default() };
    let run = annals::open(dir).map_err(|e| e.to_string());
    match run.and_then(|conn| annals_server::run(config, vec![(name, conn)]).map_err(|e| e.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn verdict(name: &str, history: &History, more: &str) -> ExitCode {
    let (summary, violations) = checker::check(history);
    println!("{name}: {summary}{more}; {} violations", violations.len());
    for v in violations.iter().take(20) {
        println!("  {v:?}");
    }
    ExitCode::from(u8::from(!violations.is_empty()))
}
