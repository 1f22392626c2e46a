//! `annals`: the shell, the importer, the server. See the library for everything.

mod allocator;

use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::give_back_soon();
    annals_repl::run::main()
}
