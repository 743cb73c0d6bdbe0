//! Descriptors: watched by the runtime, and passed between processes (unix(7)).

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    sync::Arc,
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Registers a descriptor with the runtime. A hang-up is told whatever the `interest`.
///
/// # Errors
/// ENOMEM, ENOSPC: epoll_ctl(2).
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd keeps its one number open for as long as the registration owns it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}

/// The same for one that others use as well.
///
/// # Errors
/// ENOMEM, ENOSPC: epoll_ctl(2).
pub(crate) fn watch_shared(
    fd: Arc<OwnedFd>,
    interest: Interest,
) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: as above; who shares it can only borrow it, and `replace` is not for what is watched.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}

/// Lets the number `fd` mean `other` from now on (dup3(2)): what it meant is closed. Nobody may watch it ([`watch`]):
/// tokio would keep what it knows of it for ever.
///
/// # Errors
/// EBUSY: the kernel is just opening that number.
pub(crate) fn replace(fd: BorrowedFd<'_>, other: &OwnedFd) -> nix::Result<()> {
    // SAFETY: both numbers are open and owned; the number stays open, and with its owner.
    let result = unsafe { libc::dup3(other.as_raw_fd(), fd.as_raw_fd(), libc::O_CLOEXEC) };
    Errno::result(result).map(drop)
}

/// Sends `payload` with one descriptor (SCM_RIGHTS).
///
/// # Errors
/// EAGAIN: no room. ETOOMANYREFS: too many descriptors in flight for this user.
pub(crate) fn send_with_fd(
    socket: BorrowedFd<'_>,
    payload: &[u8],
    passed: BorrowedFd<'_>,
) -> nix::Result<()> {
    let descriptors = [passed.as_raw_fd()];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(payload)],
        &[ControlMessage::ScmRights(&descriptors)],
        MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
        None,
    )
    .map(drop)
}

/// Receives exactly `payload.len()` bytes and the descriptor that came with them, if any.
///
/// # Errors
/// EAGAIN with `flags` MSG_DONTWAIT when nothing is there; ENOTCONN at the end of the stream;
/// EPROTO when the record is short.
pub(crate) fn receive_with_fd(
    socket: BorrowedFd<'_>,
    payload: &mut [u8],
    flags: MsgFlags,
) -> nix::Result<Option<OwnedFd>> {
    let expected = payload.len();
    let mut space = cmsg_space!([RawFd; 1]);
    let mut slices = [IoSliceMut::new(payload)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        flags | MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut received = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            for fd in descriptors {
                // SAFETY: the kernel has just installed this number for us; nothing else owns it.
                received = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    match message.bytes {
        0 => Err(Errno::ENOTCONN),
        n if n < expected => Err(Errno::EPROTO),
        _ => Ok(received),
    }
}
