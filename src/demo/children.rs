//! The processes of the demonstration: started, listened to with a deadline, and ended in every case.
#![forbid(unsafe_code)]

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    prctl,
    signal::{SigSet, Signal},
    wait::{WaitPidFlag, WaitStatus, waitpid},
};

use super::DemoError;
use crate::sys::startup;

/// Longest time without a sign of life.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest time that a process takes to end once its output has ended.
const END: Duration = Duration::from_secs(10);
/// This program, whatever has become of its file.
const SELF: &str = "/proc/self/exe";

/// The supervisors of programs that were ended: they write into the folder of the demonstration until
/// they end as well. Dropping this waits for them.
pub(super) struct Orphans(());

impl Orphans {
    /// Makes this process the parent of those that lose theirs.
    pub(super) fn adopt() -> Self {
        if let Err(error) = prctl::set_child_subreaper(true) {
            tracing::debug!(%error, "the supervisors are not waited for");
        }
        Self(())
    }
}

impl Drop for Orphans {
    fn drop(&mut self) {
        const INTERVAL: Duration = Duration::from_millis(5);
        let deadline = Instant::now() + END;
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                if Instant::now() > deadline {
                    return;
                }
                thread::sleep(INTERVAL);
            }
        }
    }
}

/// Which of the two processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Client,
}

impl Role {
    /// For messages and file names.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// What happens while the demonstration waits.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A process says something.
    Line(Role, String),
    /// A process says no more.
    Silent(Role),
    /// The user wants an end.
    Signal(Signal),
}

/// Everything the demonstration waits for.
pub(super) struct Events {
    sender: Sender<Event>,
    receiver: Receiver<Event>,
}

impl Events {
    /// Starts to listen for the signals that end programs: the processes are to be ended first. To be
    /// called while the process has one thread.
    ///
    /// # Errors
    /// EAGAIN: no thread.
    pub(super) fn new() -> io::Result<Self> {
        let (sender, receiver) = channel();
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
            .into_iter()
            .collect();
        signals.thread_block()?;
        let to = sender.clone();
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                while let Ok(signal) = signals.wait() {
                    // The receiver lives as long as the process.
                    let _ = to.send(Event::Signal(signal));
                }
            })?;
        Ok(Self { sender, receiver })
    }

    /// Waits for the next.
    ///
    /// # Errors
    /// A signal; [`PATIENCE`] has run out.
    pub(super) fn next(&self) -> Result<Event, DemoError> {
        match self.receiver.recv_timeout(PATIENCE) {
            Ok(Event::Signal(signal)) => Err(DemoError::Interrupted(signal)),
            Ok(event) => Ok(event),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(DemoError::Stalled(PATIENCE))
            }
        }
    }
}

/// One of the two processes. Dropping it ends it.
pub(super) struct Process {
    role: Role,
    child: Child,
    errors: PathBuf,
}

impl Process {
    /// Starts this program as the one of `role`, with `arguments`; wrapped, in a quicwrap of its own.
    ///
    /// # Errors
    /// EAGAIN, ENOMEM, EMFILE; ENOSPC for its messages.
    pub(super) fn start(
        role: Role,
        arguments: &[String],
        wrapped: bool,
        folder: &Path,
        events: &Events,
    ) -> io::Result<Self> {
        let errors = folder.join(format!("{}.err", role.name()));
        let mut child = command(wrapped, folder)
            .arg(format!("__demo-{}", role.name()))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors)?)
            .spawn()?;
        let output = child.stdout.take();
        let process = Self {
            role,
            child,
            errors,
        };
        let to = events.sender.clone();
        thread::Builder::new()
            .name(role.name().into())
            .spawn(move || {
                let lines = output
                    .into_iter()
                    .flat_map(|output| BufReader::new(output).lines());
                for line in lines.map_while(Result::ok) {
                    let _ = to.send(Event::Line(role, line));
                }
                let _ = to.send(Event::Silent(role));
            })?;
        Ok(process)
    }

    /// Waits for the end of a process whose output has ended.
    ///
    /// # Errors
    /// It does not end, or has failed: what it said of that.
    pub(super) fn finish(mut self) -> Result<(), DemoError> {
        let deadline = Instant::now() + END;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(self.failed(Some(status))),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
                Ok(None) | Err(_) => return Err(self.failed(None)),
            }
        }
    }

    fn failed(&self, status: Option<ExitStatus>) -> DemoError {
        DemoError::Program {
            name: self.role.name(),
            end: status.map_or_else(
                || "does not end".to_owned(),
                |status| format!("ended with {status}"),
            ),
            said: self.said(),
        }
    }

    /// What it has said on standard error.
    pub(super) fn said(&self) -> String {
        let said = fs::read_to_string(&self.errors).unwrap_or_default();
        said.trim_end().to_owned()
    }
}

/// The start of a command line: this program, or this program wrapped in itself.
fn command(wrapped: bool, folder: &Path) -> Command {
    startup::allow_huge_pages();
    let mut command = Command::new(SELF);
    // The caller's settings are not the demonstration's, but for what it may want to look into.
    let kept = |name: &str| name.starts_with("QUICWRAP_LOG") || name == "QUICWRAP_KEYLOG";
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("QUICWRAP_") && !kept(&text) {
            command.env_remove(name);
        }
    }
    if wrapped {
        let state = folder.join("state");
        command.args(["--config", "/dev/null", "--state-dir"]);
        command.arg(state).args(["--", SELF]);
    }
    command
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // A wrapped program is ended by its supervisor when its front process is killed.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
