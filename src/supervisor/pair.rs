//! The socketpair behind an emulated socket, and how its kernel state shows what TCP would.
#![forbid(unsafe_code)]

use std::{
    io::IoSlice,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::{
        socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, sendmsg, socketpair},
        stat::fstat,
    },
};

use socket2::SockRef;

use crate::sys::socket::{get_option, set_option};

/// Bytes each filler write tries to place: the most that AF_UNIX puts into one buffer at the
/// smallest SO_SNDBUF.
const FILLER: [u8; 2048] = [0; 2048];
/// SO_SNDBUF of a connected end, in bytes; the kernel doubles it. AF_UNIX moves 60 to 100 Gbit/s with
/// this and 24 with its default. Without privilege net.core.wmem_max caps it, at 212,992 by default,
/// which is enough.
const BULK_BUFFER: i32 = 1 << 20;

/// Both ends of a new pair.
#[derive(Debug)]
pub(crate) struct Pair {
    /// The end that the program gets.
    pub(crate) program: OwnedFd,
    /// Our end, non-blocking.
    pub(crate) ours: OwnedFd,
    /// Bytes of filler that lie in our end's queue.
    pub(crate) filler: usize,
    /// Inode of the program's end, under which /proc shows it.
    pub(crate) inode: u64,
}

/// A pair whose program's end is neither readable nor writable: an unconnected socket.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM: socketpair(2).
pub(crate) fn unconnected(nonblocking: bool) -> Result<Pair, Errno> {
    let mut pair = new(nonblocking)?;
    // SO_SNDBUF rises to its minimum of 4,608 bytes; filled up, the end is not writable.
    set_option(pair.program.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, 1)?;
    pair.filler = fill(pair.program.as_fd())?;
    Ok(pair)
}

/// A pair that carries data at once: an accepted connection.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM: socketpair(2).
pub(crate) fn connected() -> Result<Pair, Errno> {
    let pair = new(false)?;
    widen(pair.program.as_fd());
    widen(pair.ours.as_fd());
    Ok(pair)
}

fn new(nonblocking: bool) -> Result<Pair, Errno> {
    let (program, ours) = socketpair(
        AddressFamily::Unix,
        SockType::Stream,
        None,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
    )?;
    if !nonblocking {
        set_nonblocking(program.as_fd(), false)?;
    }
    let inode = fstat(&program)?.st_ino;
    Ok(Pair {
        program,
        ours,
        filler: 0,
        inode,
    })
}

fn fill(program: BorrowedFd<'_>) -> Result<usize, Errno> {
    let mut placed = 0;
    loop {
        match send(program.as_raw_fd(), &FILLER, MsgFlags::MSG_DONTWAIT) {
            Ok(bytes) => placed += bytes,
            Err(Errno::EAGAIN) => return Ok(placed),
            Err(error) => return Err(error),
        }
    }
}

/// Shows an unconnected pair as connected: the buffer grows, and draining the filler raises EPOLLOUT,
/// level and edge. `program` is a copy of the program's end, if it could be had.
pub(crate) fn show_connected(program: Option<BorrowedFd<'_>>, ours: BorrowedFd<'_>, filler: usize) {
    if let Some(program) = program {
        widen(program);
    }
    widen(ours);
    let mut sink = [0; FILLER.len()];
    let mut left = filler;
    // Exactly the filler: what the program wrote since lies behind it.
    while left > 0 {
        let room = left.min(sink.len());
        match recv(ours.as_raw_fd(), &mut sink[..room], MsgFlags::MSG_DONTWAIT) {
            Ok(0) | Err(_) => return,
            Ok(bytes) => left -= bytes,
        }
    }
}

/// Shows a reset: what was delivered is read first, then ECONNRESET; writes get EPIPE. AF_UNIX does so
/// when an end is closed with data unread, so one byte is placed there if none is.
pub(crate) fn show_reset(program: impl FnOnce() -> Option<OwnedFd>, ours: OwnedFd) {
    let mut byte = [0];
    let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    if recv(ours.as_raw_fd(), &mut byte, peek) == Err(Errno::EAGAIN)
        && let Some(program) = program()
    {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let sent = sendmsg::<()>(
            program.as_raw_fd(),
            &[IoSlice::new(&byte)],
            &[],
            flags,
            None,
        );
        tracing::trace!(?sent, "placed a byte for the reset");
    }
    drop(ours);
}

/// Shows that the peer has closed and wants no more: reads find the end, writes get EPIPE. What the
/// program wrote meanwhile is dropped, as TCP drops it.
pub(crate) fn show_broken(ours: OwnedFd) {
    let mut sink = [0; FILLER.len()];
    while matches!(
        recv(ours.as_raw_fd(), &mut sink, MsgFlags::MSG_DONTWAIT),
        Ok(1..)
    ) {}
    drop(ours);
}

/// Takes the pair's own pending error (0 if there is none), which stands for one of the socket's.
pub(crate) fn take_error(end: BorrowedFd<'_>) -> i32 {
    get_option(end, libc::SOL_SOCKET, libc::SO_ERROR).unwrap_or(0)
}

/// Gives an end the buffer that bulk data needs. A failure costs speed alone.
pub(crate) fn widen(end: BorrowedFd<'_>) {
    if let Err(error) = set_option(end, libc::SOL_SOCKET, libc::SO_SNDBUF, BULK_BUFFER) {
        tracing::debug!(%error, "SO_SNDBUF of a socketpair");
    }
}

/// Gives an accepted connection the options of its listener that the kernel itself keeps for the pair.
pub(crate) fn inherit_options(listener: BorrowedFd<'_>, connection: BorrowedFd<'_>) {
    let (from, to) = (SockRef::from(&listener), SockRef::from(&connection));
    let inherited = (|| {
        if from.keepalive()? {
            to.set_keepalive(true)?;
        }
        if let Some(timeout) = from.read_timeout()? {
            to.set_read_timeout(Some(timeout))?;
        }
        if let Some(timeout) = from.write_timeout()? {
            to.set_write_timeout(Some(timeout))?;
        }
        Ok::<_, std::io::Error>(())
    })();
    if let Err(error) = inherited {
        tracing::debug!(%error, "an option of the listener was not inherited");
    }
}

/// Whether the open file is non-blocking; dup'ed and inherited descriptors share this.
///
/// # Errors
/// As fcntl(2).
pub(crate) fn is_nonblocking(end: BorrowedFd<'_>) -> Result<bool, Errno> {
    let flags = fcntl(end, FcntlArg::F_GETFL)?;
    Ok(OFlag::from_bits_truncate(flags).contains(OFlag::O_NONBLOCK))
}

/// Sets or clears O_NONBLOCK on the open file.
///
/// # Errors
/// As fcntl(2).
pub(crate) fn set_nonblocking(end: BorrowedFd<'_>, on: bool) -> Result<(), Errno> {
    let mut flags = OFlag::from_bits_truncate(fcntl(end, FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_NONBLOCK, on);
    fcntl(end, FcntlArg::F_SETFL(flags)).map(drop)
}

#[cfg(test)]
mod tests {
    use nix::sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        socket::shutdown,
    };

    use super::*;

    fn readiness(end: &OwnedFd) -> EpollFlags {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let wanted = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP;
        epoll.add(end, EpollEvent::new(wanted, 0)).unwrap();
        let mut events = [EpollEvent::empty()];
        match epoll.wait(&mut events, EpollTimeout::ZERO).unwrap() {
            0 => EpollFlags::empty(),
            _ => events[0].events(),
        }
    }

    #[test]
    fn an_unconnected_end_is_not_ready_and_takes_nothing() {
        let pair = unconnected(true).unwrap();
        assert!(pair.filler >= 513);
        assert_eq!(readiness(&pair.program), EpollFlags::empty());
        let sent = send(pair.program.as_raw_fd(), b"x", MsgFlags::MSG_DONTWAIT);
        assert_eq!(sent, Err(Errno::EAGAIN));
    }

    #[test]
    fn a_connected_end_is_writable_and_carries_bytes() {
        let pair = unconnected(true).unwrap();
        show_connected(Some(pair.program.as_fd()), pair.ours.as_fd(), pair.filler);
        assert_eq!(readiness(&pair.program), EpollFlags::EPOLLOUT);
        send(pair.program.as_raw_fd(), b"hello", MsgFlags::empty()).unwrap();
        let mut bytes = [0; 16];
        assert_eq!(
            recv(pair.ours.as_raw_fd(), &mut bytes, MsgFlags::empty()),
            Ok(5)
        );
    }

    #[test]
    fn a_failed_attempt_hangs_up_with_an_error() {
        let pair = unconnected(true).unwrap();
        drop(pair.ours);
        let expected = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        assert!(readiness(&pair.program).contains(expected));
        assert_eq!(take_error(pair.program.as_fd()), libc::ECONNRESET);
        assert!(!readiness(&pair.program).contains(EpollFlags::EPOLLERR));
    }

    #[test]
    fn a_reset_comes_after_the_data() {
        let pair = connected().unwrap();
        send(pair.ours.as_raw_fd(), b"data", MsgFlags::empty()).unwrap();
        let copy = pair.program.try_clone().unwrap();
        show_reset(|| Some(copy), pair.ours);
        let mut bytes = [0; 16];
        let mut read = || recv(pair.program.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT);
        assert_eq!(read(), Ok(4));
        assert_eq!(read(), Err(Errno::ECONNRESET));
        let sent = send(pair.program.as_raw_fd(), b"x", MsgFlags::MSG_NOSIGNAL);
        assert_eq!(sent, Err(Errno::EPIPE));
    }

    #[test]
    fn a_half_close_shows_as_tcp_shows_it() {
        let pair = connected().unwrap();
        shutdown(pair.ours.as_raw_fd(), nix::sys::socket::Shutdown::Write).unwrap();
        let expected = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP;
        assert_eq!(readiness(&pair.program), expected);
    }
}
