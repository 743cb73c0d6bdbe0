//! `quicwrap demo`: an ordinary TCP server and client, wrapped, move data over QUIC, and the same on
//! native TCP beside it. The kernel's own counters prove which way the bytes went.
#![forbid(unsafe_code)]

mod bar;
mod children;
mod counters;
pub(crate) mod programs;
mod report;
mod transfer;

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::{Args, value_parser};
use nix::sys::signal::Signal;

use self::{
    bar::Bar,
    children::{Events, Orphans, Process},
    report::Part,
    transfer::{Carrier, Load},
};

/// Exit status when something does not work: what was tried is the program here, not quicwrap.
const FAILED: u8 = 1;
/// Bytes that each of the short connections sends.
const SHORT: u64 = 1024;

/// How much is to be moved.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoOptions {
    /// Size of the bulk transfer, in MiB
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = value_parser!(u32).range(1..=1 << 20))]
    mebibytes: u32,

    /// Number of short connections, one after another
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = value_parser!(u32).range(2..=1_000_000))]
    short_connections: u32,
}

/// Why the demonstration did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// No directory for the identity that it uses.
    #[error(
        "cannot make a temporary directory: {0}; does $TMPDIR, or /tmp, exist, and may you write there?"
    )]
    Folder(io::Error),
    /// No thread to wait for signals.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    /// fork, exec, a file.
    #[error("cannot start a process: {0}")]
    Start(io::Error),
    /// Without them there is no proof.
    #[error("cannot read the kernel's counters: {0}; is /proc mounted?")]
    Counters(io::Error),
    /// A process has failed.
    #[error(
        "the {name} {end}; `quicwrap doctor` says what this system allows{}",
        words(said)
    )]
    Program {
        /// Which.
        name: &'static str,
        /// How it ended.
        end: String,
        /// What it said.
        said: String,
    },
    /// A process ended well and did not say what it must.
    #[error("internal error: a process ended before it said what it did")]
    Silent,
    /// Nothing happens.
    #[error("nothing has happened for {} seconds", .0.as_secs())]
    Stalled(Duration),
    /// The same, with what the processes said.
    #[error("{cause}{}", words(said))]
    Said {
        /// What happened.
        cause: Box<DemoError>,
        /// What the processes said.
        said: String,
    },
    /// The user wants an end.
    #[error("interrupted by {0}")]
    Interrupted(Signal),
}

impl DemoError {
    /// Adds what the processes said on standard error.
    fn with_words(self, processes: &[&Process]) -> Self {
        if matches!(self, Self::Interrupted(_)) {
            return self;
        }
        let said: Vec<_> = processes.iter().map(|process| process.said()).collect();
        Self::Said {
            cause: Box::new(self),
            said: said.join("\n").trim().to_owned(),
        }
    }

    fn exit_status(&self) -> u8 {
        match self {
            // As a shell has it.
            Self::Interrupted(signal) => 128 + *signal as i32 as u8,
            _ => FAILED,
        }
    }
}

fn words(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!("\nit said:\n{said}")
    }
}

/// Runs the demonstration. Returns the exit status: 0 only if all checksums agree and the counters
/// prove that the bytes went by QUIC. To be called while the process has one thread.
pub(crate) fn run(options: &DemoOptions) -> u8 {
    match demonstrate(options) {
        Ok(Ok(verdict)) => {
            say(&format!("\nquicwrap demo: {verdict}"));
            0
        }
        Ok(Err(faults)) => {
            say(&format!("\nquicwrap demo: {faults}"));
            FAILED
        }
        Err(error) => {
            say(&format!("quicwrap demo: {error}"));
            error.exit_status()
        }
    }
}

fn demonstrate(options: &DemoOptions) -> Result<Result<String, String>, DemoError> {
    let events = Events::new().map_err(DemoError::Signals)?;
    // The identity and the known hosts of this run alone; removed at the end.
    let folder = tempfile::Builder::new()
        .prefix("quicwrap-demo-")
        .tempdir()
        .map_err(DemoError::Folder)?;
    let _orphans = Orphans::adopt();
    say(
        "quicwrap demo: an ordinary TCP server and client, each in a quicwrap of its own; the same on native TCP",
    );
    say(&report::heading());
    let bulk = Load {
        connections: 1,
        bytes: u64::from(options.mebibytes) << 20,
    };
    let short = Load {
        connections: options.short_connections.into(),
        bytes: SHORT,
    };
    let mut parts = Vec::new();
    for load in [bulk, short] {
        for carrier in [Carrier::Quic, Carrier::Tcp] {
            let bar = Bar::new(&load.title(carrier), load);
            let outcome = transfer::run(carrier, load, folder.path(), &events, &bar)?;
            drop(bar);
            let part = Part {
                load,
                carrier,
                outcome,
            };
            say(&part.line());
            parts.push(part);
        }
    }
    Ok(report::verdict(&parts))
}

fn say(message: &str) {
    // With standard error closed there is nobody to tell; the exit status remains.
    let _ = writeln!(io::stderr(), "{message}");
}
