//! One part of the demonstration: a server and a client, over one of the two protocols.
#![forbid(unsafe_code)]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{
    DemoError,
    bar::Bar,
    children::{Event, Events, Process, Role},
    counters::Counters,
    programs::{LISTENING, MOVED, PROGRESS_AT, TOOK},
};

/// What is to be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    /// Connections, one after another.
    pub(super) connections: u64,
    /// Bytes on each.
    pub(super) bytes: u64,
}

/// How it is to be carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    /// Wrapped.
    Quic,
    /// As it is.
    Tcp,
}

impl Carrier {
    /// For the report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Quic => "QUIC",
            Self::Tcp => "native TCP",
        }
    }
}

/// What has become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Sizes and checksums of the connections in order, as the client and the server say.
    pub(super) sent: Vec<String>,
    pub(super) received: Vec<String>,
    /// From the first connect to the last answer, by the client's clock.
    pub(super) took: Duration,
    /// What the kernel sent meanwhile.
    pub(super) counted: Counters,
}

/// Moves `load`.
///
/// # Errors
/// A process cannot be started, fails, or makes no progress.
pub(super) fn run(
    carrier: Carrier,
    load: Load,
    folder: &Path,
    events: &Events,
    bar: &Bar,
) -> Result<Outcome, DemoError> {
    let wrapped = carrier == Carrier::Quic;
    let start = |role, arguments: &[String]| {
        Process::start(role, arguments, wrapped, folder, events).map_err(DemoError::Start)
    };
    let before = Counters::now().map_err(DemoError::Counters)?;
    let count = format!("--count={}", load.connections);
    let server = start(Role::Server, std::slice::from_ref(&count))?;
    let Some(address) = listening(events).map_err(|error| error.with_words(&[&server]))? else {
        server.finish()?;
        return Err(DemoError::Silent);
    };
    let client = start(
        Role::Client,
        &[address, count, format!("--bytes={}", load.bytes)],
    )?;
    let mut record = Record::new();
    record
        .follow(events, bar)
        .map_err(|error| error.with_words(&[&client, &server]))?;
    // First, for its failure tells more than the server's.
    client.finish()?;
    server.finish()?;
    let after = Counters::now().map_err(DemoError::Counters)?;
    Ok(Outcome {
        took: record.took.ok_or(DemoError::Silent)?,
        sent: record.sent,
        received: record.received,
        counted: after.since(before),
    })
}

/// Where the server listens, if it does.
fn listening(events: &Events) -> Result<Option<String>, DemoError> {
    Ok(match events.next()? {
        Event::Line(Role::Server, line) => line.strip_prefix(LISTENING).map(str::to_owned),
        _ => None,
    })
}

/// What the two have said so far.
struct Record {
    sent: Vec<String>,
    received: Vec<String>,
    took: Option<Duration>,
    begin: Instant,
}

impl Record {
    fn new() -> Self {
        Self {
            sent: Vec::new(),
            received: Vec::new(),
            took: None,
            begin: Instant::now(),
        }
    }

    /// Listens until the client, and then the server, has nothing more to say.
    fn follow(&mut self, events: &Events, bar: &Bar) -> Result<(), DemoError> {
        let (mut client, mut server) = (true, true);
        while client || server {
            match events.next()? {
                Event::Line(role, line) => self.note(role, &line, bar),
                Event::Silent(Role::Client) => {
                    client = false;
                    if self.took.is_none() {
                        // It has failed: the server would wait for it in vain.
                        return Ok(());
                    }
                }
                Event::Silent(Role::Server) => server = false,
                Event::Signal(_) => {}
            }
        }
        Ok(())
    }

    fn note(&mut self, role: Role, line: &str, bar: &Bar) {
        let number = |text: &str| text.parse::<u64>().ok();
        if let Some(moved) = line.strip_prefix(MOVED) {
            match role {
                Role::Client => self.sent.push(moved.to_owned()),
                Role::Server => self.received.push(moved.to_owned()),
            }
            bar.connections(self.sent.len() as u64, self.begin.elapsed());
        } else if let Some(bytes) = line.strip_prefix(PROGRESS_AT).and_then(number) {
            bar.bytes(bytes, self.begin.elapsed());
        } else if let Some(micros) = line.strip_prefix(TOOK).and_then(number) {
            self.took = Some(Duration::from_micros(micros));
        }
    }
}
