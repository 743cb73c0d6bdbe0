//! What the supervisor must be allowed to do, tried before the program starts: programs would else fail later, and not say
//! of what.
#![forbid(unsafe_code)]

use std::os::fd::RawFd;

use nix::{
    errno::Errno,
    sys::{
        prctl::get_dumpable,
        signal::Signal,
        socket::{AddressFamily, SockFlag, SockType, socket},
        uio::{process_vm_readv, process_vm_writev},
    },
    unistd::Pid,
};

use crate::sys::pidfd;

/// What to do where a system call is not allowed.
pub(super) const PROFILE: &str = "a seccomp profile in force (systemd's SystemCallFilter=, a container's) must allow seccomp, pidfd_open, pidfd_getfd, process_vm_readv and process_vm_writev";

/// What to do where a signal has ended one of the processes, if it says so.
pub(super) fn remedy(signal: Signal) -> Option<String> {
    (signal == Signal::SIGSYS).then(|| format!("{PROFILE}; `quicwrap doctor` says more"))
}

/// What is not allowed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    /// Copies of the program's descriptors.
    #[error(
        "cannot look into the program: pidfd_open or pidfd_getfd: {0}; {PROFILE}, and kernel.yama.ptrace_scope must be 0 or 1 unless quicwrap runs as root; `quicwrap doctor` says more"
    )]
    Descriptors(Errno),
    /// The sockets that programs get.
    #[error(
        "cannot make UNIX sockets, which programs are given for TCP: {0}; systemd's RestrictAddressFamilies= must allow AF_UNIX"
    )]
    Sockets(Errno),
}

/// Tries it on a descriptor that `target` is known to have. Where this file may not be read, or gives capabilities, nobody
/// may look into it; what it executes is another matter.
///
/// # Errors
/// What is not allowed.
pub(super) fn check(target: Pid, fd: RawFd) -> Result<(), Denied> {
    if get_dumpable() == Ok(true) {
        let copied = pidfd::open(target.as_raw()).and_then(|task| pidfd::get_fd(&task, fd));
        copied.map_err(Denied::Descriptors)?;
    }
    // Their errors do not matter, for /proc/PID/mem serves as well. But a filter may end who calls them: better now.
    let _ = process_vm_readv(target, &mut [], &[]);
    let _ = process_vm_writev(target, &[], &[]);
    let flags = SockFlag::SOCK_CLOEXEC;
    let made = socket(AddressFamily::Unix, SockType::Stream, flags, None);
    made.map_err(Denied::Sockets)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn it_is_found_out_what_may_be_done() {
        let own = nix::unistd::getpid();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(check(own, file.as_raw_fd()).is_ok());
        let error = check(own, -1).unwrap_err();
        assert!(
            matches!(error, Denied::Descriptors(Errno::EBADF)),
            "{error}"
        );
    }
}
