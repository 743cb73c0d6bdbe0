//! What tells the fast path whose socket it has: the SO_MAX_PACING_RATE of the program's end, 64 bits that mean
//! nothing to AF_UNIX and that any task may set. The program's own value is emulated, so that it never comes here.
//!
//! A program that forges one harms itself alone: the supervisor knows sockets by their SO_COOKIE, and what it sees first
//! as an accepted connection by a ticket that nobody else has. What the program notes
//! in a mark is read, changed and written: of two threads that do so to one socket at the same instant one is lost.
//!
//! SO_INCOMING_CPU has 32 bits more of the same kind. They keep the numbers that the program has set.
#![forbid(unsafe_code)]

use std::{
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixDatagram,
    },
    sync::LazyLock,
};

use super::tickets::Ticket;
use crate::{
    emul::{options::Name, socket::SocketId},
    sys::socket::{get_long_option, get_option, set_long_option, set_option},
};

/// A number that each network namespace has its own of (asm-generic/socket.h).
const SO_NETNS_COOKIE: i32 = 71;
/// Where the kind of a mark begins. No rate is that high.
pub(super) const KIND_SHIFT: u32 = 56;
/// The socket is in the table, under its mark. Below is the cookie.
pub(super) const EMULATED: u64 = 0x51;
/// The program has made it, and the supervisor has not seen it yet. Below is the domain.
pub(super) const NEW: u64 = 0x52;
/// A connection that was accepted. Below is its [`Ticket`](super::tickets::Ticket): a number, under which it is in the
/// table, and a secret.
pub(super) const ACCEPTED: u64 = 0x53;
/// The bit by which connect(2) has said in the program that the socket is connected.
pub(super) const ANNOUNCED_BIT: u32 = 55;
/// Options of connections that are set in the program, by the order of their slots: many programs set one for each
/// connection or answer, and nothing depends on them but the answer to getsockopt(2).
pub(super) const NOTED: [Name; 3] = [
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_CORK),
    (libc::IPPROTO_TCP, libc::TCP_QUICKACK),
];
/// The same that have a number for their value, in the slots behind. Larger ones than there is room for are asked for.
pub(super) const NUMBERS: [Number; 3] = [
    Number {
        name: (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
        shift: 0,
        bits: 13,
    },
    Number {
        name: (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
        shift: 13,
        bits: 12,
    },
    Number {
        name: (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
        shift: 25,
        bits: 7,
    },
];
/// What SO_INCOMING_CPU is by itself. The bits of a number are kept inverted, so that it stands for 0: not set.
const NO_NUMBERS: i32 = -1;
/// The bit for the first one's value; the next one says that it was set, and then come those of the second. The supervisor
/// takes them over when it is asked ([`take_noted`]).
pub(super) const NOTED_BIT: u32 = ANNOUNCED_BIT - 2 * NOTED.len() as u32;
/// What is left of a mark for the cookie or the ticket.
pub(super) const LEFT: u64 = (1 << NOTED_BIT) - 1;
/// Where the secret of a ticket begins, above its number.
pub(super) const SECRET_SHIFT: u32 = 20;

/// Where SO_INCOMING_CPU has the number that was set for an option, from 1 to the largest that it has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) name: Name,
    pub(super) shift: u32,
    pub(super) bits: u32,
}

impl Number {
    /// The largest, and the bits of it that there are.
    pub(super) const fn largest(self) -> u32 {
        (1 << self.bits) - 1
    }

    fn of(self, bits: i32) -> Option<i32> {
        match !bits.cast_unsigned() >> self.shift & self.largest() {
            0 => None,
            number => Some(number.cast_signed()),
        }
    }
}

/// A socket's mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// None of ours.
    Foreign,
    /// Of a socket that the program has made, for this domain.
    New(i32),
    /// Of a connection that was accepted: its ticket.
    Accepted(Ticket),
    /// Of another one that is in the table.
    Emulated {
        /// Whether connect(2) has returned 0, in the program.
        announced: bool,
    },
}

impl Mark {
    /// The mark of a socket, of which `fd` is a copy.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> Self {
        read(fd).map_or(Self::Foreign, Self::decode)
    }

    fn decode(bits: u64) -> Self {
        match bits >> KIND_SHIFT {
            EMULATED => Self::Emulated {
                announced: bits >> ANNOUNCED_BIT & 1 == 1,
            },
            NEW => Self::New(bits as i32),
            ACCEPTED => Self::Accepted(Ticket::of_mark(bits)),
            _ => Self::Foreign,
        }
    }
}

/// Whether the socket was made in another network namespace than ours.
pub(crate) fn is_of_another_network(fd: BorrowedFd<'_>) -> bool {
    static OWN: LazyLock<Option<u64>> =
        LazyLock::new(|| network(UnixDatagram::unbound().ok()?.as_fd()));
    network(fd) != *OWN
}

/// None before Linux 5.14.
fn network(fd: BorrowedFd<'_>) -> Option<u64> {
    get_long_option(fd, libc::SOL_SOCKET, SO_NETNS_COOKIE).ok()
}

/// Whether the option may be set in the program.
pub(crate) fn is_noted(option: Name) -> bool {
    NOTED.contains(&option) || NUMBERS.iter().any(|number| number.name == option)
}

/// The options that were set in the program since this was asked last, and their values.
pub(crate) fn take_noted(fd: BorrowedFd<'_>) -> impl Iterator<Item = (Name, i32)> {
    const ALL: u64 = (1 << ANNOUNCED_BIT) - (1 << NOTED_BIT);
    let is_known = |bits: &u64| [EMULATED, ACCEPTED].contains(&(bits >> KIND_SHIFT));
    let mark = read(fd).filter(is_known);
    let numbers = mark.map_or(NO_NUMBERS, |_| take_numbers(fd));
    let bits = mark.unwrap_or(0);
    if bits & ALL != 0 {
        set(fd, bits & !ALL);
    }
    let flags = NOTED.into_iter().zip(0..).filter_map(move |(name, index)| {
        let bits = bits >> (NOTED_BIT + 2 * index);
        (bits >> 1 & 1 == 1).then_some((name, (bits & 1) as i32))
    });
    let numbers = NUMBERS
        .into_iter()
        .filter_map(move |number| Some((number.name, number.of(numbers)?)));
    flags.chain(numbers)
}

fn take_numbers(fd: BorrowedFd<'_>) -> i32 {
    let level = libc::SOL_SOCKET;
    let bits = get_option(fd, level, libc::SO_INCOMING_CPU).unwrap_or(NO_NUMBERS);
    if bits != NO_NUMBERS
        && let Err(error) = set_option(fd, level, libc::SO_INCOMING_CPU, NO_NUMBERS)
    {
        tracing::debug!(%error, "numbers that a program has set are kept twice");
    }
    bits
}

fn read(fd: BorrowedFd<'_>) -> Option<u64> {
    get_long_option(fd, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE).ok()
}

/// Marks a socket.
pub(crate) fn set(fd: BorrowedFd<'_>, bits: u64) {
    if let Err(error) = set_long_option(fd, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, bits) {
        tracing::error!(%error, "a socket cannot be marked (SO_MAX_PACING_RATE), so its calls come to nothing; take --mode seccomp");
    }
}

/// The mark of a socket with this cookie, and what the table knows it by.
pub(crate) fn emulated(cookie: SocketId) -> u64 {
    EMULATED << KIND_SHIFT | cookie.0 & LEFT
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_keeps_its_mark() {
        let (socket, _) = UnixStream::pair().unwrap();
        assert_eq!(Mark::of(socket.as_fd()), Mark::Foreign);
        set(socket.as_fd(), emulated(SocketId(7)));
        let copy = socket.try_clone().unwrap();
        let announced = false;
        assert_eq!(Mark::of(copy.as_fd()), Mark::Emulated { announced });
        assert!(!is_of_another_network(socket.as_fd()));
    }

    #[test]
    fn what_the_program_has_set_is_taken_once() {
        let (socket, _) = UnixStream::pair().unwrap();
        assert_eq!(take_noted(socket.as_fd()).count(), 0);
        for (name, at) in NOTED.into_iter().zip((NOTED_BIT..).step_by(2)) {
            for on in [1, 0] {
                let bits = emulated(SocketId(7)) | 1 << ANNOUNCED_BIT | 2 << at;
                set(socket.as_fd(), bits | (on as u64) << at);
                assert!(take_noted(socket.as_fd()).eq([(name, on)]));
                assert_eq!(take_noted(socket.as_fd()).count(), 0);
                let announced = true;
                assert_eq!(Mark::of(socket.as_fd()), Mark::Emulated { announced });
            }
        }
    }

    #[test]
    fn numbers_have_places_of_their_own() {
        let (socket, _) = UnixStream::pair().unwrap();
        set(socket.as_fd(), emulated(SocketId(7)));
        let keep = |bits: u32| {
            let bits = !bits.cast_signed();
            set_option(
                socket.as_fd(),
                libc::SOL_SOCKET,
                libc::SO_INCOMING_CPU,
                bits,
            )
            .unwrap();
        };
        let largest = |number: Number| (number.name, number.largest().cast_signed());
        for number in NUMBERS {
            keep(number.largest() << number.shift);
            assert!(take_noted(socket.as_fd()).eq([largest(number)]));
        }
        keep(u32::MAX);
        assert!(take_noted(socket.as_fd()).eq(NUMBERS.map(largest)));
        assert_eq!(take_noted(socket.as_fd()).count(), 0);
    }

    #[test]
    fn marks_are_told_apart() {
        let announced = emulated(SocketId(7)) | 1 << ANNOUNCED_BIT;
        assert_eq!(Mark::decode(announced), Mark::Emulated { announced: true });
        let new = NEW << KIND_SHIFT | libc::AF_INET6 as u64;
        assert_eq!(Mark::decode(new), Mark::New(libc::AF_INET6));
        let ticket = Ticket::of_mark(7 << SECRET_SHIFT | 3);
        let noted = ticket.mark() | 1 << NOTED_BIT;
        assert_eq!(Mark::decode(noted), Mark::Accepted(ticket));
        assert_eq!(Mark::decode(u64::MAX), Mark::Foreign);
        assert_eq!(Mark::decode(1_000_000), Mark::Foreign);
    }
}
