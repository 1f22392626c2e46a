//! `annals`: the shell, the importer, the server. See the library for everything.

use std::process::ExitCode;

fn main() -> ExitCode {
    annals_repl::run::main()
}
