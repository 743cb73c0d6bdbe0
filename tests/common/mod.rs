//! What the integration tests share: a sandbox per test, a builder for wrapped programs, and waits with a
//! deadline instead of sleeps.
//!
//! `QUICWRAP_TEST_NATIVE=1` runs every program plainly on TCP. That is the oracle for the tests themselves: a
//! test that fails natively tests something TCP does not promise.

// Each test crate compiles this module and uses a part of it.
#![allow(dead_code)]

pub(crate) mod command;
pub(crate) mod namespace;
pub(crate) mod net;
pub(crate) mod running;
pub(crate) mod tools;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, chown};

pub(crate) use command::Wrapped;
pub(crate) use running::{Done, Running};

/// The unprivileged user (`nobody`) that programs run as when a test asks for an ordinary user.
pub(crate) const NOBODY: u32 = 65534;

/// Long enough for any healthy step on a loaded 2-core machine; a test that reaches it has hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Every process of a sandbox inherits this variable, by which the sandbox finds what it must end.
const MARKER: &str = "QUICWRAP_TEST_SANDBOX";

/// True when the programs run on plain TCP (see the module's head).
pub(crate) fn native() -> bool {
    std::env::var_os("QUICWRAP_TEST_NATIVE").is_some_and(|v| v != "0")
}

/// Waits until `ready` says so; panics naming `what` when [`PATIENCE`] has run out.
pub(crate) fn wait_until(what: &str, ready: impl FnMut() -> bool) {
    assert!(
        becomes_true(PATIENCE, ready),
        "waited {PATIENCE:?} in vain: {what}"
    );
}

/// Polls `ready` until it holds (true) or `limit` has passed (false).
pub(crate) fn becomes_true(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if ready() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// One test's directory, state directory and processes. Dropping it ends every process it started.
pub(crate) struct Sandbox {
    dir: tempfile::TempDir,
    marker: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("quicwrap-test-")
            .tempdir()
            .expect("a temporary directory");
        // Programs that run as `nobody` must reach their files in here.
        set_mode(dir.path(), 0o755);
        let marker = format!("{MARKER}={}", dir.path().display());
        let sandbox = Sandbox { dir, marker };
        for user in ["state", "state-nobody"] {
            std::fs::create_dir(sandbox.path(user)).expect("a state directory");
            set_mode(&sandbox.path(user), 0o700);
        }
        sandbox.give_to_nobody("state-nobody");
        sandbox
    }

    /// A path inside the sandbox.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file into the sandbox and returns its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }

    /// Makes `name` belong to the ordinary user; does nothing when the tests are run by one.
    pub(crate) fn give_to_nobody(&self, name: &str) {
        if Uid::effective().is_root() {
            let path = self.path(name);
            chown(
                &path,
                Some(Uid::from_raw(NOBODY)),
                Some(Gid::from_raw(NOBODY)),
            )
            .expect("chown to nobody");
        }
    }

    /// A program to be run through quicwrap (or plainly, see [`native`]).
    pub(crate) fn wrap(&self, program: impl AsRef<std::ffi::OsStr>) -> Wrapped {
        Wrapped::new(self, program.as_ref(), !native())
    }

    /// A program to be run as it is, whatever the mode.
    pub(crate) fn plain(&self, program: impl AsRef<std::ffi::OsStr>) -> Wrapped {
        Wrapped::new(self, program.as_ref(), false)
    }

    fn marker(&self) -> (&'static str, &str) {
        (MARKER, &self.marker[MARKER.len() + 1..])
    }

    /// Pids of the sandbox's processes, found by the variable they inherited.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let wanted = self.marker.as_bytes();
        let own = std::process::id() as i32;
        let holds = |pid: &i32| {
            std::fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|env| env.split(|b| *b == 0).any(|entry| entry == wanted))
        };
        running_pids()
            .into_iter()
            .filter(|pid| *pid != own)
            .filter(holds)
            .collect()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // A process may fork while we look: look again until none is left, but not for ever.
        becomes_true(Duration::from_secs(5), || {
            let left = self.processes();
            left.iter().for_each(|pid| {
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            });
            left.is_empty()
        });
        if std::thread::panicking() && std::env::var_os("QUICWRAP_TEST_KEEP").is_some() {
            let kept = std::mem::replace(
                &mut self.dir,
                tempfile::tempdir().expect("a temporary directory"),
            );
            eprintln!("kept for inspection: {}", kept.keep().display());
        }
    }
}

/// All pids of the system.
pub(crate) fn running_pids() -> Vec<i32> {
    std::fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
