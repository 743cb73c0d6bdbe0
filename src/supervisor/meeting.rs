//! Where a program's end is given its peer. AF_UNIX joins two sockets by a name alone, and a name costs
//! a socket, a bind, a listen and a close: so one listener is kept for all.
#![forbid(unsafe_code)]

use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockname, listen,
        socket,
    },
};

use super::pair::{take, take_urgent_inline};

/// Joins programs' ends with ends of ours.
#[derive(Debug, Default)]
pub(super) enum Meeting {
    /// Nothing was joined yet.
    #[default]
    Unused,
    /// By one listener.
    Kept(Listener),
    /// By a listener for each, since no other could be made.
    Brief,
}

impl Meeting {
    /// Gives a program's end that is alone its peer: our end, non-blocking. Nothing shows yet but the
    /// end of the hang-up; `show_connecting` or `show_connected` comes next.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM: socket(2). EINVAL, EISCONN: the program's end is not alone.
    pub(super) fn join(&mut self, program: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        if matches!(self, Self::Unused) {
            *self = Listener::nameless().map_or_else(
                |error| {
                    tracing::debug!(%error, "each connection is made over a listener of its own");
                    Self::Brief
                },
                Self::Kept,
            );
        }
        let ours = match self {
            Self::Kept(listener) => listener.join(program).inspect_err(|_| {
                // What may lie in its queue is not to be mistaken for the next one's peer.
                *self = Self::Unused;
            }),
            Self::Unused | Self::Brief => Listener::brief()?.join(program),
        }?;
        take_urgent_inline(ours.as_fd());
        Ok(ours)
    }
}

/// An AF_UNIX listener.
#[derive(Debug)]
pub(super) struct Listener {
    socket: OwnedFd,
    name: UnixAddr,
    /// What the name leads to.
    _file: Option<OwnedFd>,
}

impl Listener {
    /// One that no other user can reach, whose queue therefore holds nothing of anybody else's: a full
    /// one would keep connect(2) waiting. Its file has no name any more, and is reached through /proc.
    fn nameless() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("quicwrap-").tempdir()?;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_PATH);
        let place = options.open(folder.path())?;
        // Programs that ask recvfrom(2) who sends are told this, and nothing of folders.
        let path = format!("/proc/self/fd/{}/s", place.as_raw_fd());
        let (socket, _) = listening(&UnixAddr::new(path.as_str())?)?;
        let file = options.open(&path)?;
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        let listener = Self {
            socket,
            name: UnixAddr::new(name.as_str())?,
            _file: Some(file.into()),
        };
        folder.close()?;
        listener.try_out()?;
        Ok(listener)
    }

    /// One of the kernel's naming, in the network namespace. It is to live for microseconds: then nobody
    /// can take a place in the queue for long, or keep connect(2) waiting.
    fn brief() -> Result<Self, Errno> {
        let (socket, name) = listening(&UnixAddr::new_unnamed())?;
        Ok(Self {
            socket,
            name,
            _file: None,
        })
    }

    /// Whether the name leads here: there may be no /proc.
    fn try_out(&self) -> Result<(), Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let end = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        self.join(end.as_fd()).map(drop)
    }

    fn join(&self, program: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        connect(program.as_raw_fd(), &self.name)?;
        // Whoever else has connected is not of ours, and goes.
        loop {
            let taken = take(self.socket.as_fd(), SockFlag::SOCK_NONBLOCK);
            if let Some(ours) = taken.ok_or(Errno::ECONNABORTED)? {
                return Ok(ours);
            }
        }
    }
}

/// A non-blocking listener, and its name.
fn listening(name: &UnixAddr) -> Result<(OwnedFd, UnixAddr), Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    bind(listener.as_raw_fd(), name)?;
    listen(&listener, Backlog::MAXCONN)?;
    let name = getsockname(listener.as_raw_fd())?;
    Ok((listener, name))
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{MsgFlags, recv, send};

    use super::*;
    use crate::supervisor::pair::alone;

    fn joins(meeting: &mut Meeting) {
        let programs = [(); 3].map(|()| alone(false).unwrap());
        let ours = programs
            .each_ref()
            .map(|program| meeting.join(program.as_fd()).unwrap());
        for (number, (program, ours)) in (1..).zip(programs.iter().zip(&ours)) {
            send(program.as_raw_fd(), &[number], MsgFlags::empty()).unwrap();
            let mut byte = [0];
            let received = recv(ours.as_raw_fd(), &mut byte, MsgFlags::MSG_DONTWAIT);
            assert_eq!((received, byte), (Ok(1), [number]));
            // Non-blocking, or this would hang.
            let received = recv(ours.as_raw_fd(), &mut byte, MsgFlags::empty());
            assert_eq!(received, Err(Errno::EAGAIN));
        }
    }

    #[test]
    fn one_listener_joins_each_with_its_own_peer() {
        let mut meeting = Meeting::default();
        joins(&mut meeting);
        assert!(matches!(meeting, Meeting::Kept(_)));
    }

    #[test]
    fn a_listener_for_each_joins_them_as_well() {
        joins(&mut Meeting::Brief);
    }

    #[test]
    fn the_kept_listener_leaves_no_file() {
        let listener = Listener::nameless().unwrap();
        let bound: UnixAddr = getsockname(listener.socket.as_raw_fd()).unwrap();
        assert!(bound.path().unwrap().starts_with("/proc/self/fd"));
        let file = std::fs::read_link(listener.name.path().unwrap()).unwrap();
        assert!(file.to_str().unwrap().ends_with("/s (deleted)"), "{file:?}");
    }

    #[test]
    fn a_program_end_that_is_joined_cannot_be_joined_again() {
        let mut meeting = Meeting::default();
        let program = alone(false).unwrap();
        let _ours = meeting.join(program.as_fd()).unwrap();
        assert_eq!(meeting.join(program.as_fd()).map(drop), Err(Errno::EISCONN));
        joins(&mut meeting);
    }
}
