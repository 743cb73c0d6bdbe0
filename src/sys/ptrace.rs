//! What nix does not offer of ptrace(2), and of waiting for a tracee.

use std::ptr;

use nix::{
    errno::Errno,
    sys::wait::{Id, WaitPidFlag, WaitStatus, waitid},
    unistd::Pid,
};

use super::check;

/// PTRACE_GETSIGMASK and PTRACE_SETSIGMASK (linux/ptrace.h).
const GET_SIGNAL_MASK: libc::c_uint = 0x420a;
const SET_SIGNAL_MASK: libc::c_uint = 0x420b;

/// KCMP_VM (linux/kcmp.h).
const KCMP_VM: libc::c_long = 1;

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

/// Waits until a tracee stops. If it ends instead, its status is left to who waits for it as a child.
///
/// # Errors
/// ESRCH: it has ended.
pub(crate) fn wait_for_stop(tracee: Pid) -> nix::Result<WaitStatus> {
    let every = WaitPidFlag::__WALL;
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT | every;
    loop {
        match waitid(Id::Pid(tracee), flags) {
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::ECHILD) => {
                return Err(Errno::ESRCH);
            }
            Ok(_) => return nix::sys::wait::waitpid(tracee, Some(every)),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether two tasks have the same memory: kcmp(2).
///
/// # Errors
/// ENOSYS: a kernel without CONFIG_KCMP. EPERM, ESRCH.
pub(crate) fn same_memory(one: Pid, other: Pid) -> nix::Result<bool> {
    // SAFETY: KCMP_VM takes two pids and no more, and touches no memory.
    let order = check(unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            libc::c_long::from(one.as_raw()),
            libc::c_long::from(other.as_raw()),
            KCMP_VM,
            0,
            0,
        )
    })?;
    Ok(order == 0)
}
