//! `quicwrap stats`: which wrapped programs and gateways run, and how their connections are.
//!
//! Each of them listens on a socket (listener.rs) in a directory of the user's (place.rs) and answers
//! with what report.rs defines; the command asks them all (ask.rs).
#![forbid(unsafe_code)]

mod ask;
mod listener;
mod place;
pub(crate) mod report;
mod table;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;

pub(crate) use listener::serve;
use report::Report;

/// Exit status when no such program runs, as pgrep(1) has it.
const NOT_FOUND: u8 = 1;

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct StatsOptions {
    /// Show this one alone: the pid that the shell has seen, the program's, or its supervisor's
    #[arg(value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pid: Option<i32>,

    /// Write one JSON document, see STATISTICS in quicwrap(1)
    #[arg(long)]
    json: bool,

    /// State directory of the programs, if it was named for them
    #[arg(long, value_name = "DIR", env = "QUICWRAP_STATE_DIR")]
    state_dir: Option<PathBuf>,
}

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StatsError {
    /// The directory of the sockets.
    #[error("cannot look for running programs in {}: {source}; check its owner and permissions", path.display())]
    Place {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The answer cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

/// Says on standard output what runs. Returns the exit status.
///
/// # Errors
/// A directory that cannot be read; standard output.
pub(crate) fn run(options: &StatsOptions) -> Result<u8, StatsError> {
    let mut instances = ask::all(options.state_dir.as_deref())?;
    if let Some(pid) = options.pid {
        instances.retain(|instance| instance.identity.is(pid));
        if instances.is_empty() {
            // With standard error closed there is nobody to tell; the exit status remains.
            let _ = writeln!(
                io::stderr(),
                "quicwrap: {pid} is no process of a program that you run under quicwrap, nor a gateway; `quicwrap stats` lists them"
            );
            return Ok(NOT_FOUND);
        }
    }
    let report = Report::new(instances);
    let text = if options.json {
        serde_json::to_string(&report).map_err(io::Error::from)? + "\n"
    } else {
        table::text(&report)
    };
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()?;
    Ok(0)
}
