//! What nix does not offer of ptrace(2).

use std::ptr;

use nix::unistd::Pid;

use super::check;

/// PTRACE_GETSIGMASK and PTRACE_SETSIGMASK (linux/ptrace.h).
const GET_SIGNAL_MASK: libc::c_uint = 0x420a;
const SET_SIGNAL_MASK: libc::c_uint = 0x420b;

/// The signals that a stopped tracee blocks, as the kernel's 64 bits.
///
/// # Errors
/// ESRCH: it is not stopped.
pub(crate) fn signal_mask(tracee: Pid) -> nix::Result<u64> {
    let mut mask = 0u64;
    request_mask(GET_SIGNAL_MASK, tracee, &raw mut mask)?;
    Ok(mask)
}

/// Changes them.
///
/// # Errors
/// As [`signal_mask`].
pub(crate) fn set_signal_mask(tracee: Pid, mask: u64) -> nix::Result<()> {
    let mut mask = mask;
    request_mask(SET_SIGNAL_MASK, tracee, &raw mut mask)
}

fn request_mask(request: libc::c_uint, tracee: Pid, mask: *mut u64) -> nix::Result<()> {
    // SAFETY: both requests take the size of the kernel's sigset_t, 8, and a pointer to one, which
    // outlives the call.
    check(unsafe {
        libc::ptrace(
            request,
            tracee.as_raw(),
            ptr::without_provenance_mut::<libc::c_void>(size_of::<u64>()),
            mask,
        )
    })
    .map(drop)
}

/// How a stopped tracee goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    /// Until something happens.
    Run,
    /// For one instruction.
    Step,
    /// On its own.
    Free,
}

/// Lets a stopped tracee go on; in a stop by a signal, with `signal`, or 0 for none. nix has no names
/// for real-time signals, of which the C library uses two itself.
///
/// # Errors
/// ESRCH: it is not stopped.
pub(crate) fn resume(tracee: Pid, how: Resume, signal: i32) -> nix::Result<()> {
    let request = match how {
        Resume::Run => libc::PTRACE_CONT,
        Resume::Step => libc::PTRACE_SINGLESTEP,
        Resume::Free => libc::PTRACE_DETACH,
    };
    // SAFETY: these requests take a number and touch no memory of this process.
    check(unsafe {
        libc::ptrace(
            request,
            tracee.as_raw(),
            ptr::null_mut::<libc::c_void>(),
            libc::c_long::from(signal),
        )
    })
    .map(drop)
}
