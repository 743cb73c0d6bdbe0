//! What the kernel offers, found without changing anything.

use nix::{
    errno::Errno,
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, fork},
};

use super::check;

/// Whether filters may return SECCOMP_RET_USER_NOTIF (since 5.0).
pub(crate) fn user_notification() -> bool {
    let action: u32 = libc::SECCOMP_RET_USER_NOTIF;
    // SAFETY: the kernel reads one u32 from the pointer, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            &raw const action,
        )
    };
    check(result).is_ok()
}

/// Whether `flags` are known to SECCOMP_SET_MODE_FILTER: with a null program a kernel that knows them
/// says EFAULT, one that does not says EINVAL.
pub(crate) fn filter_flags(flags: libc::c_ulong) -> bool {
    // SAFETY: a null program is refused with EFAULT before anything is installed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            std::ptr::null::<libc::sock_fprog>(),
        )
    };
    check(result) == Err(Errno::EFAULT)
}

/// Whether sched_setaffinity(2) may be called: systemd's `SystemCallFilter=~@resources`, which many units have, ends processes
/// that do.
pub(crate) fn may_choose_processors() -> bool {
    /// More processors than any host has, in bits.
    const MOST: usize = 1 << 16;
    let set = [u8::MAX; MOST / 8];
    outlives(|| {
        // SAFETY: the kernel reads the set, whose size it is told.
        unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, set.len(), set.as_ptr()) }
    })
    .is_some()
}

/// Whether ptrace(2) may be called.
pub(crate) fn may_trace() -> bool {
    // SAFETY: there is no process 0 to detach from.
    let outcome =
        outlives(|| unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_DETACH, 0, 0, 0) });
    matches!(outcome, Some(Ok(()) | Err(Errno::ESRCH)))
}

/// What becomes of a system call that a seccomp filter may answer by ending the process: a child tries it, and nothing comes
/// back if it has ended so. Without a filter this is `Ok`, and it is not tried.
fn outlives(call: impl FnOnce() -> libc::c_long) -> Option<nix::Result<()>> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if status.lines().any(|line| line == "Seccomp:\t0") {
        return Some(Ok(()));
    }
    // SAFETY: other threads may hold locks, which the child never takes: it makes system calls alone, and the last ends it.
    match unsafe { fork() }.ok()? {
        ForkResult::Child => {
            // SAFETY: a flag of the child, which leaves no core dump.
            unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
            let error = check(call()).err().map_or(0, |error| error as i32);
            // SAFETY: nothing of the parent's is put away.
            unsafe { libc::_exit(error) }
        }
        ForkResult::Parent { child } => match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, 0)) => Some(Ok(())),
            Ok(WaitStatus::Exited(_, error)) => Some(Err(Errno::from_raw(error))),
            _ => None,
        },
    }
}

/// What io_uring_setup(2) says to a ring without entries, which no kernel makes.
pub(crate) fn io_uring_setup() -> Option<Errno> {
    // SAFETY: the kernel refuses null parameters with EFAULT, and touches no memory.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_setup,
            0,
            std::ptr::null::<libc::c_void>(),
        )
    };
    check(result).err()
}

/// Whether memory may be mapped at address 0: vm.mmap_min_addr, capabilities(7), and what a security
/// module says. To be asked before other code of this process could miss it.
///
/// # Errors
/// EPERM, EACCES: it may not. EEXIST: something is there.
pub(crate) fn page_zero() -> nix::Result<()> {
    const BYTES: usize = 4096;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: a new mapping, which replaces none, cannot be accessed, and is undone at once.
    unsafe {
        let mapped = libc::mmap(std::ptr::null_mut(), BYTES, libc::PROT_EXEC, flags, -1, 0);
        if mapped == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        check(libc::c_long::from(libc::munmap(mapped, BYTES))).map(drop)
    }
}
