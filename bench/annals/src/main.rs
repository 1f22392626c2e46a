//! `annals-bench WORKLOAD SIZE`: one JSON line an operation, in the form all peers of bench/ print.
//! `annals-bench growth CURVE X`: one JSON line a figure at size X (see `growth`).
//!
//! Only the public face of `annals`, text queries as a user would write them. Entity ids are allotted by the
//! database, so checksums map them back to the numbers of the data files through the tempids of the load.

/// As the `annals` binary has it.
#[path = "../../../repl/src/allocator.rs"]
mod allocator;
mod domain;
mod events;
mod growth;
mod harness;
mod people;
mod read_models;
mod recursion;
mod time_travel;
mod tracks;

fn main() {
    allocator::give_back_soon();
    let mut args = std::env::args().skip(1);
    let workload = args.next().unwrap_or_default();
    let size = args.next().unwrap_or_else(|| "S".into());
    if workload == "growth" {
        return growth::run(&size, args.next().and_then(|n| n.parse().ok()).unwrap_or(1));
    }
    let bench = harness::Bench::new(&workload, &size);
    match workload.as_str() {
        "w1" => people::queries(&bench),
        "w2" => people::transactions(&bench),
        "w3" => recursion::run_workload(&bench),
        "w4" => time_travel::run_workload(&bench),
        "w5" => tracks::run_workload(&bench),
        "w6" => events::run_workload(&bench),
        other => {
            eprintln!("no workload {other:?}: w1 w2 w3 w4 w5 w6");
            std::process::exit(2);
        }
    }
}
