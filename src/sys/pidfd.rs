//! Handles to other tasks and copies of their descriptors: pidfd_open(2), pidfd_getfd(2).

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use nix::errno::Errno;
use pidfd::PidFd;

use super::check;

/// `PIDFD_THREAD` (linux/pidfd.h, since 6.9): refer to a thread rather than to its group leader.
const PIDFD_THREAD: libc::c_uint = libc::O_EXCL as libc::c_uint;

/// Opens a handle to the process `pid` (a thread group leader).
///
/// # Errors
/// ESRCH: no such process. EINVAL: `pid` is a thread but not a leader.
pub(crate) fn open(pid: i32) -> nix::Result<PidFd> {
    open_with(pid, 0)
}

/// Opens a handle to the thread `tid`, whose descriptor table may be its own
/// (unshare(CLONE_FILES)).
///
/// # Errors
/// EINVAL before Linux 6.9; ESRCH: no such thread.
pub(crate) fn open_thread(tid: i32) -> nix::Result<PidFd> {
    open_with(tid, PIDFD_THREAD)
}

fn open_with(pid: i32, flags: libc::c_uint) -> nix::Result<PidFd> {
    // SAFETY: pidfd_open(2) takes two integers and touches no memory.
    unsafe { PidFd::open(pid, flags) }.map_err(errno)
}

/// Copies descriptor `fd` of the task behind `task`: the same open file, as dup(2) gives.
///
/// # Errors
/// EBADF: it has no such descriptor. EPERM: no PTRACE_MODE_ATTACH_REALCREDS over it.
pub(crate) fn get_fd(task: &PidFd, fd: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_getfd(2) takes three integers and touches no memory.
    let copy = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, task.as_raw_fd(), fd, 0) })?;
    // SAFETY: a successful call returns a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(copy as RawFd) })
}

/// Sends a signal to the process behind `task`, which cannot be another that got its number.
///
/// # Errors
/// ESRCH: it has ended. EPERM.
pub(crate) fn send_signal(task: &PidFd, signal: i32) -> nix::Result<()> {
    // SAFETY: a null siginfo_t asks the kernel to fill it in as kill(2) does.
    unsafe { task.send_raw_signal(signal, std::ptr::null(), 0) }.map_err(errno)
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
