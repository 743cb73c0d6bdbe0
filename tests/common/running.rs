//! A started program: looking at its output, waiting for its end, ending it.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::{becomes_true, net, wait_until};

/// A program that has not been waited for. Dropping it kills its whole process group.
pub(crate) struct Running {
    child: Child,
    words: Vec<OsString>,
    out: PathBuf,
    err: PathBuf,
    timeout: Duration,
}

/// A program that has ended.
pub(crate) struct Done {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    words: Vec<OsString>,
}

impl Running {
    pub(super) fn new(
        child: Child,
        words: Vec<OsString>,
        out: PathBuf,
        err: PathBuf,
        timeout: Duration,
    ) -> Self {
        Running {
            child,
            words,
            out,
            err,
            timeout,
        }
    }

    /// The pid a shell would see: front when wrapped, the program itself when not.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap_or_else(|e| panic!("{signal} to {:?}: {e}", self.words));
    }

    /// Writes to a standard input that was asked for with `piped`.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let pipe = self.child.stdin.as_mut().expect("built with piped()");
        pipe.write_all(bytes.as_ref())
            .and_then(|()| pipe.flush())
            .expect("the program reads its input");
    }

    /// Ends the program's standard input.
    pub(crate) fn close_input(&mut self) {
        self.child.stdin = None;
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.out).unwrap_or_default()).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.err).unwrap_or_default()).into_owned()
    }

    /// Waits until standard output contains `text`.
    pub(crate) fn wait_stdout(&mut self, text: &str) {
        self.wait_output(text, |me| me.stdout().contains(text));
    }

    /// Waits until standard error contains `text`.
    pub(crate) fn wait_stderr(&mut self, text: &str) {
        self.wait_output(text, |me| me.stderr().contains(text));
    }

    /// Waits until the program listens on `port`: over UDP when wrapped, over TCP when not.
    pub(crate) fn wait_listening(&mut self, port: u16) {
        self.wait_output(&format!("a listener on port {port}"), |_| {
            net::is_served(port)
        });
    }

    fn wait_output(&mut self, what: &str, seen: impl Fn(&Self) -> bool) {
        let (mut there, mut ended) = (false, None);
        becomes_true(self.timeout, || {
            // In this order, so that output written just before the end is not missed.
            ended = self.child.try_wait().expect("wait");
            // Kept, not asked again: /proc/net/udp can pass over a socket while others come and go.
            there = seen(self);
            there || ended.is_some()
        });
        assert!(
            there,
            "no {what:?} from {:?} (ended {ended:?})\n{}",
            self.words,
            self.report()
        );
    }

    /// Waits for the end; past its time limit the program is killed and the test fails.
    pub(crate) fn finish(mut self) -> Done {
        let status = self.wait_status();
        let stdout = std::fs::read(&self.out).unwrap_or_default();
        Done {
            status,
            stdout,
            stderr: self.stderr(),
            words: std::mem::take(&mut self.words),
        }
    }

    /// Has the program ended?
    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_some()
    }

    fn wait_status(&mut self) -> ExitStatus {
        self.close_input();
        let mut status = None;
        becomes_true(self.timeout, || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        status.unwrap_or_else(|| {
            panic!(
                "{:?} did not end within {:?}\n{}",
                self.words,
                self.timeout,
                self.report()
            );
        })
    }

    /// Asks the program to end (SIGTERM) and waits for that.
    pub(crate) fn stop(self) -> Done {
        self.signal(Signal::SIGTERM);
        self.finish()
    }

    fn report(&self) -> String {
        format!(
            "--- stdout\n{}\n--- stderr\n{}",
            last(&self.stdout()),
            last(&self.stderr())
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = killpg(self.pid(), Signal::SIGKILL);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Done {
    /// Fails the test unless the program exited with 0.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        self.exits(0)
    }

    /// Fails the test unless the program exited with `code`.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        let report = format!(
            "--- stdout\n{}\n--- stderr\n{}",
            last(&self.text()),
            last(&self.stderr)
        );
        assert_eq!(
            self.status.code(),
            Some(code),
            "{:?}: {}\n{report}",
            self.words,
            self.status
        );
        self
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Exit code, or 128+n for a signal: what a shell would put into `$?`.
    pub(crate) fn shell_status(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().expect("code or signal"))
    }

    #[track_caller]
    pub(crate) fn stderr_has(&self, text: &str) {
        assert!(
            self.stderr.contains(text),
            "no {text:?} on stderr of {:?}:\n{}",
            self.words,
            self.stderr
        );
    }
}

/// State letter of a process (`R`, `S`, `T`, `Z` …) from /proc/PID/stat, None when it is gone.
pub(crate) fn process_state(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name is in parentheses and may itself contain some.
    stat.rsplit(')').next()?.trim().chars().next()
}

/// Waits until `pid` is in one of these states.
pub(crate) fn wait_state(pid: Pid, states: &str) {
    wait_until(&format!("{pid} in state {states}"), || {
        process_state(pid).is_some_and(|s| states.contains(s))
    });
}

/// Direct children of a process.
pub(crate) fn children(pid: Pid) -> Vec<Pid> {
    let parent_of = |child: &i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        stat.rsplit(')')
            .next()?
            .split_whitespace()
            .nth(1)?
            .parse()
            .ok()
    };
    let all = super::running_pids();
    all.into_iter()
        .filter(|c| parent_of(c) == Some(pid.as_raw()))
        .map(Pid::from_raw)
        .collect()
}

/// The end of a long output, where the reason usually is.
fn last(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
