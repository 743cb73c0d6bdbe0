//! A listener's queue. It lies in the kernel: the program's end of a listening socket is an AF_UNIX
//! listener, which our ends connect to, so that it is readable exactly while accept(2) would succeed.
#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{SockFlag, UnixAddr},
};

use super::{
    pair,
    sockets::{End, ProgramEnd, Table},
};
use crate::{
    emul::{
        outcome::{Injection, Origin},
        socket::SocketId,
    },
    sys::socket::widen,
};

/// A connection that accept(2) has not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    /// The connection.
    pub(super) connection: SocketId,
    /// Its peer, in the listener's family.
    pub(super) peer: SocketAddr,
}

/// What is known of the connections in a listener's queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The connections in the kernel's queue, in its order; the last may be on its way there.
    lying: VecDeque<Waiting>,
    /// Connections whose accept(2) came to nothing: the next ones to be taken. For each there is a place in the
    /// kernel's queue that leads nowhere, and keeps the listener readable.
    returned: VecDeque<(Waiting, OwnedFd)>,
}

impl Queue {
    /// All connections that wait.
    pub(super) fn waiting(&self) -> impl Iterator<Item = SocketId> {
        let returned = self.returned.iter().map(|(waiting, _)| waiting);
        returned
            .chain(&self.lying)
            .map(|waiting| waiting.connection)
    }
}

impl Table {
    /// The name of the listener's queue.
    ///
    /// # Errors
    /// ECONNREFUSED: nobody listens.
    pub(super) fn queue_name(&mut self, listener: SocketId) -> Result<UnixAddr, Errno> {
        match &self.get(listener).ok_or(Errno::ECONNREFUSED)?.end {
            End::Listening(name) => Ok(*name),
            _ => Err(Errno::ECONNREFUSED),
        }
    }

    /// Notes a connection that is about to be put into the listener's queue. One at a time: in the order in which they
    /// are noted they are to come to lie there.
    pub(super) fn enqueue(&mut self, listener: SocketId, waiting: Waiting) {
        if let Some(entry) = self.get(listener) {
            entry.queue.lying.push_back(waiting);
        }
    }

    /// Forgets a connection that has not come to lie in the queue.
    pub(super) fn turn_away(&mut self, listener: SocketId, connection: SocketId) {
        if let Some(entry) = self.get(listener) {
            let lying = &mut entry.queue.lying;
            lying.retain(|waiting| waiting.connection != connection);
        }
        self.remove(connection);
    }

    /// Takes the first waiting connection, and the program's end of it, which is to be `nonblocking` or not. `program`
    /// is a copy of the listener's program end.
    pub(super) fn dequeue(
        &mut self,
        listener: SocketId,
        program: BorrowedFd<'_>,
        nonblocking: bool,
    ) -> Option<(Waiting, OwnedFd)> {
        let mut flags = SockFlag::empty();
        flags.set(SockFlag::SOCK_NONBLOCK, nonblocking);
        let (waiting, fd) = loop {
            // Even if nobody is known to wait: strangers are to go.
            let fd = pair::accept(program, flags)?;
            let queue = &mut self.get(listener)?.queue;
            let arrived = if !queue.returned.is_empty() && pair::is_place(fd.as_fd()) {
                None
            } else if let Some(waiting) = queue.lying.pop_front() {
                Some((waiting, fd))
            } else {
                continue;
            };
            let Some((waiting, fd)) = queue.returned.pop_front() else {
                break arrived?;
            };
            queue.returned.extend(arrived);
            if let Err(error) = pair::set_nonblocking(fd.as_fd(), nonblocking) {
                tracing::debug!(%error, "O_NONBLOCK of a connection");
            }
            break (waiting, fd);
        };
        self.arrive(waiting.connection, &fd);
        Some((waiting, fd))
    }

    /// Links a connection with the program's end that accept(2) has made of it.
    fn arrive(&mut self, connection: SocketId, fd: &OwnedFd) {
        let Some(program) = ProgramEnd::of(fd) else {
            return;
        };
        self.mark(fd, program);
        self.set_program_end(connection, program);
        widen(fd.as_fd());
        let was_reset = self
            .get(connection)
            .is_some_and(|entry| matches!(entry.end, End::Ours(_)));
        if was_reset && let Some(ours) = self.set_end(connection, End::Closed) {
            pair::show_reset(|| fd.try_clone().ok(), ours);
        }
    }

    /// Undoes what an injection that did not arrive had prepared.
    pub(super) fn undo(&mut self, injection: Injection) {
        match injection.origin {
            Origin::Created(id) => {
                self.remove(id);
            }
            Origin::Accepted {
                listener,
                connection,
                peer,
            } => {
                if let Some(accepted) = self.get(connection) {
                    accepted.unaccepted = true;
                }
                let place = self.queue_name(listener);
                let place = place.and_then(|name| pair::knock_for_nobody(&name));
                if let (Ok(()), Some(entry)) = (place, self.get(listener)) {
                    let waiting = Waiting { connection, peer };
                    entry.queue.returned.push_front((waiting, injection.fd));
                }
            }
        }
    }

    /// Ends everything that waits, after the end of listening. Their peers see a reset.
    pub(super) fn drop_queue(&mut self, listener: SocketId, program: Option<BorrowedFd<'_>>) {
        let Some(entry) = self.get(listener) else {
            return;
        };
        let queue = std::mem::take(&mut entry.queue);
        if let Some(program) = program {
            while pair::accept(program, SockFlag::empty()).is_some() {}
        }
        for connection in queue.waiting() {
            // A bridge finds out by itself, and then asks how it was closed.
            let bridged = self
                .get(connection)
                .is_some_and(|entry| matches!(entry.end, End::Bridged(_)));
            if !bridged {
                self.remove(connection);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Arc};

    use super::*;
    use crate::{
        emul::socket::{Socket, State},
        supervisor::{call::identity, sockets::Entry},
    };

    struct Listener {
        table: Table,
        id: SocketId,
        program: OwnedFd,
        ours: Vec<OwnedFd>,
    }

    fn listener() -> Listener {
        let program = pair::alone(false).unwrap();
        let name = pair::listen(program.as_fd(), 1).unwrap();
        let end = ProgramEnd::of(&program).unwrap();
        let mut socket = Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        socket.state = State::Listening { backlog: 1 };
        let mut table = Table::default();
        table.insert(
            end.cookie,
            Entry::new(socket, End::Listening(name), Some(end)),
        );
        Listener {
            table,
            id: end.cookie,
            program,
            ours: Vec::new(),
        }
    }

    impl Listener {
        fn knock(&mut self) -> Result<OwnedFd, Errno> {
            let ours = pair::caller().unwrap();
            let name = self.table.queue_name(self.id).unwrap();
            pair::knock(ours.as_fd(), &name).map(|()| ours)
        }

        fn connect(&mut self, port: u16) -> SocketId {
            let ours = self.knock().unwrap();
            let connection = identity(&ours).unwrap();
            let peer = (Ipv4Addr::LOCALHOST, port).into();
            let socket = Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
            let end = End::Bridged(Arc::default());
            let entry = Entry::new(socket.accepted(peer, peer), end, None);
            self.table.insert(connection, entry);
            self.table.enqueue(self.id, Waiting { connection, peer });
            self.ours.push(ours);
            connection
        }

        fn accept(&mut self) -> Option<(Waiting, OwnedFd)> {
            self.table.dequeue(self.id, self.program.as_fd(), false)
        }
    }

    #[test]
    fn connections_are_taken_in_the_order_they_came() {
        let mut listener = listener();
        let expected: Vec<_> = (1..=5).map(|port| listener.connect(port)).collect();
        for connection in expected {
            let (waiting, fd) = listener.accept().unwrap();
            assert_eq!(waiting.connection, connection);
            let found = listener.table.find(identity(&fd).unwrap());
            assert_eq!(found, Some(connection));
        }
        assert!(listener.accept().is_none());
    }

    #[test]
    fn a_connection_that_did_not_arrive_comes_first_again() {
        let mut listener = listener();
        let first = listener.connect(1);
        let second = listener.connect(2);
        let (waiting, fd) = listener.accept().unwrap();
        let cookie = identity(&fd);
        let origin = Origin::Accepted {
            listener: listener.id,
            connection: waiting.connection,
            peer: waiting.peer,
        };
        listener.table.undo(Injection {
            fd,
            cloexec: false,
            origin,
        });
        let (again, fd) = listener.accept().unwrap();
        assert_eq!((again.connection, identity(&fd)), (first, cookie));
        assert_eq!(listener.accept().unwrap().0.connection, second);
        assert!(listener.accept().is_none());
    }

    #[test]
    fn what_was_not_noted_is_nobodys_and_goes() {
        let mut listener = listener();
        let _unnoted = listener.knock().unwrap();
        assert!(listener.accept().is_none());
        let connection = listener.connect(1);
        assert_eq!(listener.accept().unwrap().0.connection, connection);
    }

    #[test]
    fn a_queue_that_is_full_says_so() {
        let mut listener = listener();
        let mut kept = Vec::new();
        let full = loop {
            match listener.knock() {
                Ok(ours) => kept.push(ours),
                Err(error) => break error,
            }
        };
        assert_eq!(full, Errno::EAGAIN);
        assert!(kept.len() >= 1024);
    }

    #[test]
    fn a_reset_while_waiting_is_shown_to_who_accepts() {
        let mut listener = listener();
        let connection = listener.connect(1);
        let ours = listener.ours.pop().unwrap();
        listener.table.set_end(connection, End::Ours(ours));
        let (_, fd) = listener.accept().unwrap();
        assert_eq!(pair::take_error(fd.as_fd()), libc::ECONNRESET);
    }
}
