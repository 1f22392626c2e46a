//! `annals`: the shell, the importer, the server. See the library for everything.

use std::process::ExitCode;

/// Facts are many small allocations, made by one thread and freed by another: a fifth of the time
/// of a load or a replay is the allocator's (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    annals_repl::run::main()
}
