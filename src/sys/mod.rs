//! Raw system calls: the only home of `unsafe`.
//!
//! Everything here is a thin, checked wrapper that nix, socket2 or std do not offer. The rest of the
//! program is safe code and calls these.

pub(crate) mod allocator;
pub(crate) mod fd;
pub(crate) mod interrupt;
pub(crate) mod pidfd;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod ptrace;
pub(crate) mod seccomp;
pub(crate) mod shared_memory;
pub(crate) mod socket;
pub(crate) mod startup;
pub(crate) mod wait;

use nix::errno::Errno;

/// Turns a system call's −1 into the thread's errno, as errno(3) describes.
fn check(result: libc::c_long) -> nix::Result<libc::c_long> {
    if result == -1 {
        Err(Errno::last())
    } else {
        Ok(result)
    }
}
