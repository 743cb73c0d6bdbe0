//! The AF_UNIX sockets behind an emulated socket, and how their kernel state shows what TCP would.
//!
//! The program's end is one object for life, so that registrations with epoll stay. It begins alone, a
//! stream socket without a peer, which the kernel shows as TCP shows one: writable and hung up, and no
//! use for reading or writing. It is joined with an end of ours when there is something else to show.
#![forbid(unsafe_code)]

use std::{
    io::IoSlice,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::LazyLock,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, Backlog, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr, bind, connect,
        getpeername, getsockname, getsockopt, recv, send, sendmsg, shutdown, socket,
        sockopt::PeerCredentials,
    },
};

use socket2::SockRef;

use crate::{
    emul::setsockopt::RARELY_SET,
    sys::{
        interrupt::impatiently,
        socket::{accept_fd, get_option, set_option, widen},
    },
};

/// Fewest connections that may wait whatever listen(2) said: a stream cannot be left unanswered as a
/// SYN can, so a short backlog must not turn a burst of clients away.
const LEAST_BACKLOG: usize = 1024;
/// The most, net.core.somaxconn's default.
const LARGEST_BACKLOG: usize = 4096;

/// What a filler write tries to place: more than fits at the smallest SO_SNDBUF, so that one is enough.
const FILLER: [u8; 8192] = [0; 8192];
/// The program's end of a new socket, without a peer.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM: socket(2).
pub(crate) fn alone(nonblocking: bool) -> Result<OwnedFd, Errno> {
    let mut flags = SockFlag::SOCK_CLOEXEC;
    flags.set(SockFlag::SOCK_NONBLOCK, nonblocking);
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

/// Makes a program's end that is alone a listener, or changes the backlog of one. Returns its name.
///
/// # Errors
/// As bind(2) and listen(2) for AF_UNIX: EINVAL if it was joined.
pub(crate) fn listen(program: BorrowedFd<'_>, backlog: usize) -> Result<UnixAddr, Errno> {
    let name: UnixAddr = getsockname(program.as_raw_fd())?;
    if name.path_len() == 0 {
        bind(program.as_raw_fd(), &UnixAddr::new_unnamed())?;
    }
    let backlog = backlog.clamp(LEAST_BACKLOG, LARGEST_BACKLOG) as i32;
    nix::sys::socket::listen(&program, Backlog::new(backlog)?)?;
    getsockname(program.as_raw_fd())
}

/// Our end, non-blocking, of a connection that is to [`knock`]. It has no name: the program would read that as the
/// sender's address.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM: socket(2).
pub(crate) fn caller() -> Result<OwnedFd, Errno> {
    let ours = alone(true)?;
    take_urgent_inline(ours.as_fd());
    Ok(ours)
}

/// Puts a connection of which this is our end into the queue of the listener `name`.
///
/// # Errors
/// EAGAIN: the queue is full. ECONNREFUSED: it was closed.
pub(crate) fn knock(ours: BorrowedFd<'_>, name: &UnixAddr) -> Result<(), Errno> {
    connect(ours.as_raw_fd(), name)
}

/// Sends what comes before a connection's data.
pub(crate) fn begin(ours: BorrowedFd<'_>, preamble: &[u8]) {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    if let Err(error) = send(ours.as_raw_fd(), preamble, flags) {
        // The program has closed it already.
        tracing::debug!(%error, "the first bytes of a connection");
    }
}

/// Puts a place into the queue of the listener `name` that leads nowhere. By its peer's name it is known from a connection:
/// [`is_place`].
///
/// # Errors
/// As [`caller`] and [`knock`].
pub(crate) fn knock_for_nobody(name: &UnixAddr) -> Result<(), Errno> {
    let ours = alone(true)?;
    bind(ours.as_raw_fd(), &UnixAddr::new_unnamed())?;
    knock(ours.as_fd(), name)
}

/// Whether what accept(2) has made is such a place.
pub(crate) fn is_place(accepted: BorrowedFd<'_>) -> bool {
    getpeername::<UnixAddr>(accepted.as_raw_fd()).is_ok_and(|name| name.path_len() > 0)
}

/// Takes the first connection of ours from a listener's queue: the program's end. None if there is none. Whoever else
/// has connected is turned away: a listener's name is open to every task of the host.
pub(crate) fn accept(listener: BorrowedFd<'_>, flags: SockFlag) -> Option<OwnedFd> {
    while is_readable(listener) {
        if let Some(end) = take(listener, flags)? {
            return Some(end);
        }
    }
    None
}

/// The same where programs take connections as well. What was there may be gone, and accept(2) would wait for the next:
/// whether it does is said by the open file, which is the program's and may be changed at any time.
pub(crate) fn compete(listener: BorrowedFd<'_>, flags: SockFlag) -> Option<OwnedFd> {
    /// More than the call takes by itself.
    const PATIENCE: Duration = Duration::from_millis(1);
    if !is_readable(listener) {
        return None;
    }
    impatiently(PATIENCE, || accept(listener, flags)).unwrap_or_else(|error| {
        tracing::warn!(%error, "accept(2) may wait: there is no timer");
        accept(listener, flags)
    })
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO) == Ok(1)
}

/// Takes the first connection from a queue. None within if it is not of ours.
pub(super) fn take(listener: BorrowedFd<'_>, flags: SockFlag) -> Option<Option<OwnedFd>> {
    /// Asked once: std asks the kernel each time.
    static OWN_PID: LazyLock<i32> = LazyLock::new(|| std::process::id().cast_signed());
    let flags = flags | SockFlag::SOCK_CLOEXEC;
    let accepted = accept_fd(listener, flags).ok()?;
    let peer = getsockopt(&accepted, PeerCredentials).ok()?;
    Some((peer.pid() == *OWN_PID).then_some(accepted))
}

/// Shows a joined end as neither readable nor writable, as long as it connects. Returns how many bytes of filler lie in our end's queue.
///
/// # Errors
/// Of setsockopt(2) and send(2).
pub(crate) fn show_connecting(program: BorrowedFd<'_>) -> Result<usize, Errno> {
    // SO_SNDBUF rises to its minimum of 4,608 bytes; filled up, the end is not writable.
    set_option(program, libc::SOL_SOCKET, libc::SO_SNDBUF, 1)?;
    fill(program)
}

/// Urgent bytes are to lie among the others: where they do not, AF_UNIX drops them at the next read.
pub(super) fn take_urgent_inline(ours: BorrowedFd<'_>) {
    if let Err(error) = SockRef::from(&ours).set_out_of_band_inline(true) {
        tracing::debug!(%error, "SO_OOBINLINE of a socketpair");
    }
}

fn fill(program: BorrowedFd<'_>) -> Result<usize, Errno> {
    let mut placed = 0;
    loop {
        match send(program.as_raw_fd(), &FILLER, MsgFlags::MSG_DONTWAIT) {
            // Not all: the rest had no room.
            Ok(bytes) if bytes < FILLER.len() => return Ok(placed + bytes),
            Ok(bytes) => placed += bytes,
            Err(Errno::EAGAIN) => return Ok(placed),
            Err(error) => return Err(error),
        }
    }
}

/// Shows a joined pair as connected: the buffer grows, and draining the `filler` raises EPOLLOUT,
/// level and edge; without filler the larger buffer does so. `program` is a copy of the program's end,
/// if it could be had.
pub(crate) fn show_connected(program: Option<BorrowedFd<'_>>, ours: BorrowedFd<'_>, filler: usize) {
    if let Some(program) = program {
        // sk_setsockopt wakes those who wait to write.
        widen(program);
    }
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
/// when an end is closed with data unread, so one byte is placed there if none is. Once it is shown there is no copy from
/// `program` left: what the program closes then is closed.
pub(crate) fn show_reset(program: impl FnOnce() -> Option<OwnedFd>, ours: OwnedFd) {
    let mut byte = [0];
    let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    if recv(ours.as_raw_fd(), &mut byte, peek) != Err(Errno::EAGAIN) {
        drop(program);
    } else if let Some(program) = program() {
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
    // First, so that the queue comes to an end: a program that writes without a pause would fill it all along.
    shut_down(ours.as_fd(), libc::SHUT_RD);
    let mut sink = [0; FILLER.len()];
    while matches!(
        recv(ours.as_raw_fd(), &mut sink, MsgFlags::MSG_DONTWAIT),
        Ok(1..)
    ) {}
    drop(ours);
}

/// Shuts down an end as shutdown(2) does; `how` that is none of its values does nothing. An end that
/// is alone is merely marked, as inet_shutdown marks a socket that is not connected although it then
/// says ENOTCONN.
pub(crate) fn shut_down(end: BorrowedFd<'_>, how: i32) {
    let how = match how {
        libc::SHUT_RD => Shutdown::Read,
        libc::SHUT_WR => Shutdown::Write,
        libc::SHUT_RDWR => Shutdown::Both,
        _ => return,
    };
    if let Err(error) = shutdown(end.as_raw_fd(), how) {
        tracing::debug!(%error, "an end was not shut down");
    }
}

/// Takes the pair's own pending error (0 if there is none), which stands for one of the socket's.
pub(crate) fn take_error(end: BorrowedFd<'_>) -> i32 {
    get_option(end, libc::SOL_SOCKET, libc::SO_ERROR).unwrap_or(0)
}

/// Gives an accepted connection the options of its listener that the kernel itself keeps for the pair.
/// `rare` ones have been set on the listener: [`RARELY_SET`].
pub(crate) fn inherit_options(listener: BorrowedFd<'_>, connection: BorrowedFd<'_>, rare: bool) {
    inherit_integer(listener, connection, libc::SO_KEEPALIVE);
    inherit_timeouts(listener, connection);
    if rare {
        for &option in RARELY_SET {
            inherit_integer(listener, connection, option);
        }
    }
}

fn inherit_integer(listener: BorrowedFd<'_>, connection: BorrowedFd<'_>, option: i32) {
    let default = i32::from(option == libc::SO_RCVLOWAT);
    match get_option(listener, libc::SOL_SOCKET, option) {
        Ok(value) if value != default => {
            inherited(set_option(connection, libc::SOL_SOCKET, option, value));
        }
        _ => {}
    }
}

fn inherit_timeouts(listener: BorrowedFd<'_>, connection: BorrowedFd<'_>) {
    let (from, to) = (SockRef::from(&listener), SockRef::from(&connection));
    if let Ok(timeout @ Some(_)) = from.read_timeout() {
        inherited(to.set_read_timeout(timeout));
    }
    if let Ok(timeout @ Some(_)) = from.write_timeout() {
        inherited(to.set_write_timeout(timeout));
    }
}

fn inherited<E: std::fmt::Display>(result: Result<(), E>) {
    if let Err(error) = result {
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

/// Sets or clears O_NONBLOCK on the open file, which the program does not have: no other flag is set.
///
/// # Errors
/// As fcntl(2).
pub(crate) fn set_nonblocking(end: BorrowedFd<'_>, on: bool) -> Result<(), Errno> {
    let mut flags = OFlag::empty();
    flags.set(OFlag::O_NONBLOCK, on);
    fcntl(end, FcntlArg::F_SETFL(flags)).map(drop)
}

#[cfg(test)]
mod tests {
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

    use super::*;
    use crate::supervisor::meeting::Meeting;

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

    fn connected() -> (OwnedFd, OwnedFd) {
        let program = alone(true).unwrap();
        let ours = Meeting::default().join(program.as_fd()).unwrap();
        show_connected(Some(program.as_fd()), ours.as_fd(), 0);
        (program, ours)
    }

    fn connecting() -> (OwnedFd, OwnedFd, usize) {
        let program = alone(true).unwrap();
        let ours = Meeting::default().join(program.as_fd()).unwrap();
        let filler = show_connecting(program.as_fd()).unwrap();
        (program, ours, filler)
    }

    #[test]
    fn an_end_that_is_alone_looks_like_an_unconnected_tcp_socket() {
        let program = alone(true).unwrap();
        assert_eq!(
            readiness(&program),
            EpollFlags::EPOLLOUT | EpollFlags::EPOLLHUP
        );
        let sent = send(program.as_raw_fd(), b"x", MsgFlags::MSG_NOSIGNAL);
        assert_eq!(sent, Err(Errno::ENOTCONN));
    }

    #[test]
    fn a_listening_end_is_readable_while_a_connection_waits() {
        let program = alone(true).unwrap();
        let name = listen(program.as_fd(), 5).unwrap();
        assert_eq!(readiness(&program), EpollFlags::empty());
        assert!(accept(program.as_fd(), SockFlag::empty()).is_none());
        let ours = caller().unwrap();
        knock(ours.as_fd(), &name).unwrap();
        knock_for_nobody(&name).unwrap();
        assert_eq!(readiness(&program), EpollFlags::EPOLLIN);
        let accepted = accept(program.as_fd(), SockFlag::empty()).unwrap();
        assert!(!is_place(accepted.as_fd()));
        let place = accept(program.as_fd(), SockFlag::empty()).unwrap();
        assert!(is_place(place.as_fd()));
        send(ours.as_raw_fd(), b"x", MsgFlags::empty()).unwrap();
        assert_eq!(
            recv(accepted.as_raw_fd(), &mut [0], MsgFlags::empty()),
            Ok(1)
        );
        assert_eq!(readiness(&program), EpollFlags::empty());
    }

    #[test]
    fn a_connecting_end_is_not_ready_and_takes_nothing() {
        let (program, _ours, filler) = connecting();
        assert!(filler >= 513);
        assert_eq!(readiness(&program), EpollFlags::empty());
        let sent = send(program.as_raw_fd(), b"x", MsgFlags::MSG_DONTWAIT);
        assert_eq!(sent, Err(Errno::EAGAIN));
    }

    #[test]
    fn a_connected_end_is_writable_and_carries_bytes() {
        let (program, ours, filler) = connecting();
        show_connected(Some(program.as_fd()), ours.as_fd(), filler);
        assert_eq!(readiness(&program), EpollFlags::EPOLLOUT);
        send(program.as_raw_fd(), b"hello", MsgFlags::empty()).unwrap();
        let mut bytes = [0; 16];
        let received = recv(ours.as_raw_fd(), &mut bytes, MsgFlags::empty());
        assert_eq!(received, Ok(5));
    }

    #[test]
    fn an_edge_tells_of_a_connection_that_was_never_shown_as_connecting() {
        let program = alone(true).unwrap();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let edge = EpollEvent::new(EpollFlags::EPOLLOUT | EpollFlags::EPOLLET, 0);
        epoll.add(&program, edge).unwrap();
        let mut events = [EpollEvent::empty()];
        let mut wait = || epoll.wait(&mut events, EpollTimeout::ZERO).unwrap();
        assert_eq!(wait(), 1);
        assert_eq!(wait(), 0);
        let ours = Meeting::default().join(program.as_fd()).unwrap();
        show_connected(Some(program.as_fd()), ours.as_fd(), 0);
        assert_eq!(wait(), 1);
        assert_eq!(events[0].events(), EpollFlags::EPOLLOUT);
    }

    #[test]
    fn a_failed_attempt_hangs_up_with_an_error() {
        let (program, ours, _) = connecting();
        drop(ours);
        let expected = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        assert!(readiness(&program).contains(expected));
        assert_eq!(take_error(program.as_fd()), libc::ECONNRESET);
        assert!(!readiness(&program).contains(EpollFlags::EPOLLERR));
    }

    #[test]
    fn a_reset_comes_after_the_data() {
        let (program, ours) = connected();
        send(ours.as_raw_fd(), b"data", MsgFlags::empty()).unwrap();
        let copy = program.try_clone().unwrap();
        show_reset(|| Some(copy), ours);
        let mut bytes = [0; 16];
        let mut read = || recv(program.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT);
        assert_eq!(read(), Ok(4));
        assert_eq!(read(), Err(Errno::ECONNRESET));
        let sent = send(program.as_raw_fd(), b"x", MsgFlags::MSG_NOSIGNAL);
        assert_eq!(sent, Err(Errno::EPIPE));
    }

    /// Sends without a pause until that fails, or so many bytes are sent. Returns how many were.
    fn send_on(end: &OwnedFd, most: usize) -> usize {
        let bytes = vec![0; 1 << 20];
        let mut sent = 0;
        while sent < most {
            match send(end.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL) {
                Ok(more) => sent += more,
                Err(Errno::EPIPE) => break,
                Err(error) => panic!("{error}"),
            }
        }
        sent
    }

    #[test]
    fn a_writer_without_a_pause_is_stopped() {
        use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
        // Some times what the buffers hold.
        const FAR_TOO_MUCH: usize = 32 << 20;
        // On one processor the queue is sometimes filled again whenever it is empty.
        let mut one = CpuSet::new();
        one.set(sched_getcpu().unwrap()).unwrap();
        sched_setaffinity(nix::unistd::Pid::from_raw(0), &one).unwrap();
        for _ in 0..300 {
            let (program, ours) = connected();
            set_nonblocking(program.as_fd(), false).unwrap();
            let writer = std::thread::spawn(move || send_on(&program, FAR_TOO_MUCH));
            let mut fds = [PollFd::new(ours.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut fds, PollTimeout::NONE), Ok(1));
            show_broken(ours);
            assert!(writer.join().unwrap() < FAR_TOO_MUCH);
        }
    }

    #[test]
    fn a_half_close_shows_as_tcp_shows_it() {
        let (program, ours) = connected();
        shutdown(ours.as_raw_fd(), nix::sys::socket::Shutdown::Write).unwrap();
        let expected = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP;
        assert_eq!(readiness(&program), expected);
    }
}
