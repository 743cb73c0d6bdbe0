//! seccomp(2) and the ioctls of a notification listener, seccomp_unotify(2).

use std::{
    mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use nix::errno::Errno;
use seccompiler::sock_filter;

use super::check;

/// Asks for the synchronous wake-up of the waiting thread, `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`
/// (linux/seccomp.h, since 6.6).
const USER_NOTIF_FD_SYNC_WAKE_UP: libc::c_ulong = 1;

/// How a filter is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FilterFlags {
    /// Once a notification was received, only a fatal signal takes its caller away (since 5.19).
    pub(crate) wait_killable: bool,
}

/// Installs `program` on the calling thread and returns its notification listener.
///
/// # Errors
/// EACCES without `no_new_privs` and CAP_SYS_ADMIN; EBUSY when the filter chain already has a
/// listener; EINVAL when the kernel lacks a flag. seccomp(2), ERRORS.
pub(crate) fn install_with_listener(
    program: &[sock_filter],
    flags: FilterFlags,
) -> nix::Result<Listener> {
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let description = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    let mut bits = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    if flags.wait_killable {
        bits |= libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    }
    // SAFETY: `description` and the program it points to outlive the call, and seccompiler's
    // sock_filter has the layout of the kernel's struct. The kernel copies both.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            bits,
            &raw const description,
        )
    })?;
    // SAFETY: a successful call returns a new descriptor that nothing else owns.
    Ok(Listener(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
}

/// One trapped system call, as the kernel hands it over. Owned copies: nothing here changes when the
/// caller's registers or memory do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trapped {
    /// The notification's cookie, valid until it is answered or its caller has gone.
    pub(crate) id: u64,
    /// The calling thread, in the listener's PID namespace.
    pub(crate) tid: i32,
    /// System call number.
    pub(crate) number: i64,
    /// The address behind the instruction that made it.
    pub(crate) instruction_pointer: u64,
    /// The six argument registers.
    pub(crate) args: [u64; 6],
}

/// The descriptor on which trapped calls arrive.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Listener {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl Listener {
    /// Receives one notification. Poll for POLLIN first: before 6.11 this blocks for ever when no
    /// task is left.
    ///
    /// # Errors
    /// ENOENT and EINTR are ordinary (the caller was killed or interrupted meanwhile).
    pub(crate) fn receive(&self) -> nix::Result<Trapped> {
        // SAFETY: an all-zero seccomp_notif is valid, and the kernel demands zeroes (EINVAL).
        let mut notification: libc::seccomp_notif = unsafe { mem::zeroed() };
        self.ioctl(
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            &raw mut notification as usize,
        )?;
        Ok(Trapped {
            id: notification.id,
            tid: notification.pid as i32,
            number: i64::from(notification.data.nr),
            instruction_pointer: notification.data.instruction_pointer,
            args: notification.data.args,
        })
    }

    /// Answers with a return value or an errno (`−512`, ERESTARTSYS, is passed through as well).
    ///
    /// # Errors
    /// ENOENT: the caller has gone.
    pub(crate) fn answer(&self, id: u64, value: i64, error: i32) -> nix::Result<()> {
        self.send(libc::seccomp_notif_resp {
            id,
            val: value,
            error,
            flags: 0,
        })
    }

    /// Lets the kernel carry out the call as if it had not been trapped.
    ///
    /// # Errors
    /// ENOENT: the caller has gone.
    pub(crate) fn resume(&self, id: u64) -> nix::Result<()> {
        self.send(libc::seccomp_notif_resp {
            id,
            val: 0,
            error: 0,
            flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        })
    }

    /// Installs `source` in the caller. Does not answer: `SECCOMP_ADDFD_FLAG_SEND` would, and let the caller go on while
    /// `source` is still open here. `cloexec` concerns the new number only; O_NONBLOCK belongs to the open file and is
    /// set before.
    ///
    /// # Errors
    /// ENOENT: the caller has gone. EMFILE: its RLIMIT_NOFILE is reached.
    pub(crate) fn install(
        &self,
        id: u64,
        source: BorrowedFd<'_>,
        cloexec: bool,
    ) -> nix::Result<RawFd> {
        self.add_fd(libc::seccomp_notif_addfd {
            id,
            flags: 0,
            srcfd: source.as_raw_fd() as u32,
            newfd: 0,
            newfd_flags: if cloexec { libc::O_CLOEXEC as u32 } else { 0 },
        })
    }

    /// Replaces the caller's descriptor `target` by `source`, as dup3(2) would. Does not answer.
    ///
    /// # Errors
    /// ENOENT: the caller has gone. EBADF: `target` is beyond RLIMIT_NOFILE.
    pub(crate) fn replace(
        &self,
        id: u64,
        source: BorrowedFd<'_>,
        target: RawFd,
        cloexec: bool,
    ) -> nix::Result<()> {
        self.add_fd(libc::seccomp_notif_addfd {
            id,
            flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
            srcfd: source.as_raw_fd() as u32,
            newfd: target as u32,
            newfd_flags: if cloexec { libc::O_CLOEXEC as u32 } else { 0 },
        })
        .map(drop)
    }

    /// Whether the caller still waits for this notification. To be asked after each read of its
    /// memory or descriptors, which may by then belong to another task (seccomp_unotify(2)).
    pub(crate) fn is_valid(&self, id: u64) -> bool {
        self.ioctl(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id as usize)
            .is_ok()
    }

    /// Makes an answer wake the caller on this CPU at once: 6 µs a trap instead of 42 to 64.
    ///
    /// # Errors
    /// EINVAL before Linux 6.6.
    pub(crate) fn set_sync_wake_up(&self) -> nix::Result<()> {
        // The value goes by value; a pointer is EINVAL.
        self.ioctl(
            libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS,
            USER_NOTIF_FD_SYNC_WAKE_UP as usize,
        )
        .map(drop)
    }

    fn send(&self, response: libc::seccomp_notif_resp) -> nix::Result<()> {
        self.ioctl(libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const response as usize)
            .map(drop)
    }

    fn add_fd(&self, request: libc::seccomp_notif_addfd) -> nix::Result<RawFd> {
        self.ioctl(libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const request as usize)
            .map(|fd| fd as RawFd)
    }

    fn ioctl(&self, request: libc::Ioctl, argument: usize) -> nix::Result<libc::c_long> {
        // SAFETY: each caller above passes either a live pointer to the struct this request is
        // defined for, or a plain value where the request takes one.
        check(libc::c_long::from(unsafe {
            libc::ioctl(self.0.as_raw_fd(), request, argument)
        }))
    }
}
