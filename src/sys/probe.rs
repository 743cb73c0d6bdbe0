//! What the kernel offers, found without changing anything.

use nix::errno::Errno;

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
