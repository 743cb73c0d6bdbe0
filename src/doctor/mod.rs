//! `quicwrap doctor`: what this kernel and its settings allow, and what to change.
//!
//! Whatever can be tried is tried: a child process is wrapped in the very filter that programs get, and
//! its calls are answered as the supervisor answers them.
#![forbid(unsafe_code)]

mod finding;
mod kernel;
mod settings;
mod trial;

use std::io::{self, Write};

use self::finding::can_wrap;
use crate::cli::FAILURE;

/// Says what was found, on standard error. Returns the exit status: whether wrapping can work. To be
/// called while the process has one thread.
pub(crate) fn run() -> u8 {
    let trial = trial::run();
    let mut findings = kernel::findings(&kernel::Offer::read(), &trial);
    findings.extend(settings::findings(&trial));
    let works = can_wrap(&findings);
    let mut report: String = findings
        .iter()
        .map(|finding| format!("{finding}\n"))
        .collect();
    report.push_str(if works {
        "\nquicwrap can wrap programs here.\n"
    } else {
        "\nquicwrap cannot wrap programs here: see what is missing above.\n"
    });
    // With standard error closed there is nobody to tell; the exit status remains.
    let _ = io::stderr().write_all(report.as_bytes());
    if works { 0 } else { FAILURE }
}
