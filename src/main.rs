//! The `quicwrap` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    quicwrap::cli::main()
}
