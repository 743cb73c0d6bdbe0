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
    sockets::{Arrival, End, ProgramEnd, Table},
    tasks::Holder,
};
use crate::{
    emul::{
        outcome::{Injection, Origin},
        socket::SocketId,
    },
    sys::socket::widen,
    zpoline::preamble,
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
    /// The connections in the kernel's queue, in its order; the last may be on its way there. With `--mode zpoline` it is
    /// their tickets that tell which they are.
    lying: VecDeque<Waiting>,
    /// Connections whose accept(2) came to nothing: the next ones to be taken. For each there is a place in the
    /// kernel's queue that leads nowhere, and keeps the listener readable.
    returned: VecDeque<(Waiting, OwnedFd)>,
}

impl Queue {
    /// Whether there are connections whose accept(2) came to nothing.
    pub(super) fn has_returned(&self) -> bool {
        !self.returned.is_empty()
    }

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
    pub(super) fn queue_name(&self, listener: SocketId) -> Result<UnixAddr, Errno> {
        match self.look(listener).map(|entry| &entry.end) {
            Some(End::Listening(name)) => Ok(*name),
            _ => Err(Errno::ECONNREFUSED),
        }
    }

    /// Notes a connection that is about to be put into the listener's queue. One at a time: in the order in which they
    /// are noted they are to come to lie there. Returns what is to be sent on it first.
    ///
    /// # Errors
    /// ENOBUFS: there are too many.
    pub(super) fn enqueue(
        &mut self,
        listener: SocketId,
        waiting: Waiting,
    ) -> Result<Option<Vec<u8>>, Errno> {
        let ticket = self.issue(listener, waiting).inspect_err(|_| {
            self.remove(waiting.connection);
        })?;
        if ticket.is_none()
            && let Some(entry) = self.get(listener)
        {
            entry.queue.lying.push_back(waiting);
        }
        Ok(ticket.map(|ticket| preamble::write(ticket, &waiting.peer)))
    }

    /// Forgets a connection that has not come to lie in the queue.
    pub(super) fn turn_away(&mut self, listener: SocketId, connection: SocketId) {
        if let Some(entry) = self.get(listener) {
            let lying = &mut entry.queue.lying;
            lying.retain(|waiting| waiting.connection != connection);
        }
        self.remove(connection);
    }

    /// Which connection a program's end is of, that accept(2) has just made on this listener.
    fn identify(&mut self, listener: SocketId, fd: BorrowedFd<'_>) -> Option<Waiting> {
        if !self.is_shared() {
            return self.get(listener)?.queue.lying.pop_front();
        }
        let connection = self.ticketed(preamble::take(fd)?)?;
        let peer = self.look(connection)?.issued?.peer;
        Some(Waiting { connection, peer })
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
            // Even if nobody is known to wait: strangers are to go. The place of one that came back may be gone: a program
            // with the fast path has taken it, and asks.
            let fd = if self.is_shared() {
                pair::compete(program, flags)
            } else {
                pair::accept(program, flags)
            };
            let has_returned = self.look(listener)?.queue.has_returned();
            let may_be_place = has_returned || self.is_shared();
            let arrived = match fd {
                None if !has_returned => return None,
                Some(fd) if may_be_place && pair::is_place(fd.as_fd()) => None,
                Some(fd) => match self.identify(listener, fd.as_fd()) {
                    Some(waiting) => Some((waiting, fd)),
                    None => continue,
                },
                None => None,
            };
            let queue = &mut self.get(listener)?.queue;
            let Some((waiting, fd)) = queue.returned.pop_front() else {
                match arrived {
                    Some(arrived) => break arrived,
                    None => continue,
                }
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

    /// Links a connection with the program's end that accept(2) has made of it, and that no program has yet.
    fn arrive(&mut self, connection: SocketId, fd: &OwnedFd) {
        let Some(program) = ProgramEnd::of(fd) else {
            return;
        };
        self.set_program_end(connection, program);
        self.set_arrival(connection, Arrival::OnItsWay);
        self.mark(connection, fd);
        widen(fd.as_fd());
        self.show_loss(connection, || fd.try_clone().ok());
    }

    /// Notes who has a socket now. If it was reset on the way there, that is shown; `fd` is a copy of the program's end.
    pub(super) fn handed_over(&mut self, id: SocketId, holder: Holder, fd: OwnedFd) {
        self.set_holder(id, holder);
        if self.set_arrival(id, Arrival::There) == Some(Arrival::OnItsWay) {
            self.show_loss(id, || Some(fd));
        }
    }

    /// Notes that the program's end of a connection was closed on its way. What its peer is to see `arrival` says.
    pub(super) fn dropped(&mut self, connection: SocketId, arrival: Arrival) {
        self.set_arrival(connection, arrival);
        let entry = self.look(connection);
        if entry.is_some_and(|entry| matches!(entry.end, End::Ours(_))) {
            self.remove(connection);
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
                let place = self.queue_name(listener);
                let place = place.and_then(|name| pair::knock_for_nobody(&name));
                if let (Ok(()), Some(entry)) = (place, self.get(listener)) {
                    let waiting = Waiting { connection, peer };
                    entry.queue.returned.push_front((waiting, injection.fd));
                    self.set_arrival(connection, Arrival::Waiting);
                } else {
                    drop(injection.fd);
                    self.dropped(connection, Arrival::Waiting);
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
            let waiting = Waiting { connection, peer };
            self.table.enqueue(self.id, waiting).unwrap();
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

    #[test]
    fn a_reset_on_the_way_to_nobody_leaves_nothing() {
        let mut listener = listener();
        let connection = listener.connect(1);
        let ours = listener.ours.pop().unwrap();
        drop(listener.accept().unwrap());
        listener.table.set_end(connection, End::Ours(ours));
        listener.table.dropped(connection, Arrival::There);
        assert!(listener.table.look(connection).is_none());
    }

    #[test]
    fn a_reset_on_the_way_to_who_accepts_is_shown_to_them() {
        let mut listener = listener();
        let connection = listener.connect(1);
        let ours = listener.ours.pop().unwrap();
        let (_, fd) = listener.accept().unwrap();
        let table = &mut listener.table;
        let arrival = |table: &Table| table.look(connection).unwrap().arrival;
        assert_eq!(arrival(table), Arrival::OnItsWay);
        table.set_end(connection, End::Ours(ours));
        let (tid, copy) = (0, fd.try_clone().unwrap());
        table.handed_over(connection, Holder { tid, fd: 0 }, copy);
        assert_eq!(arrival(table), Arrival::There);
        assert_eq!(pair::take_error(fd.as_fd()), libc::ECONNRESET);
    }
}
