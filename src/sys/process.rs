//! fork(2) and what a child sets right before execve(2).

use std::{convert::Infallible, ffi::CString};

use nix::{
    errno::Errno,
    sys::signal::{SigHandler, Signal, signal},
    unistd::{self, ForkResult, Pid},
};

/// The two sides of a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fork {
    /// In the parent, with the child's pid.
    Parent(Pid),
    /// In the child.
    Child,
}

/// Forks. Must be called while the process has one thread.
///
/// # Errors
/// EAGAIN, ENOMEM: fork(2).
pub(crate) fn fork() -> nix::Result<Fork> {
    debug_assert_eq!(thread_count(), 1, "fork after a thread was started");
    // SAFETY: the process has a single thread (callers fork before they start any), so the child
    // inherits no lock that another thread held.
    match unsafe { unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Fork::Parent(child)),
        ForkResult::Child => Ok(Fork::Child),
    }
}

fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, |tasks| tasks.count())
}

/// Sets a signal's disposition to its default or to ignored.
///
/// # Errors
/// EINVAL for SIGKILL and SIGSTOP.
pub(crate) fn set_disposition(number: Signal, ignored: bool) -> nix::Result<()> {
    let handler = if ignored {
        SigHandler::SigIgn
    } else {
        SigHandler::SigDfl
    };
    // SAFETY: no handler function is involved, only a disposition.
    unsafe { signal(number, handler) }.map(drop)
}

/// Closes a descriptor that this process inherited and nothing in it owns.
pub(crate) fn close_inherited(fd: i32) {
    // SAFETY: the number was open before this program opened anything, so no object here owns it.
    unsafe { libc::close(fd) };
}

/// Runs `program` in place of this process, searched in PATH as the shell does; with this environment, or the present one.
///
/// # Errors
/// As execve(2); it returns only then.
pub(crate) fn exec(
    program: &[CString],
    environment: Option<&[CString]>,
) -> nix::Result<Infallible> {
    let name = program.first().ok_or(Errno::EINVAL)?;
    match environment {
        Some(environment) => unistd::execvpe(name, program, environment),
        None => unistd::execvp(name, program),
    }
}
