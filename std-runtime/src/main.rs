//! The `samara` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    samara::cli::main()
}
