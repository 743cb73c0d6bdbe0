//! What the network reports, applied to the sockets and shown to the program.
#![forbid(unsafe_code)]

use std::{
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, atomic::Ordering},
};

use nix::errno::Errno;

use super::{
    Supervisor,
    call::Tasks,
    call::identity,
    calls::{accept_flags, accepted},
    pair,
    peer::Peer,
    queue::Waiting,
    sockets::{Arrival, End, Entry, Table},
    tasks::{self, Holder},
};
use crate::{
    emul::{
        address,
        outcome::{Outcome, Wait},
        setsockopt::aborts_on_close,
        socket::{SocketId, State},
        transport::{BridgedEnd, Callers, Closing, Events, PathInfo},
    },
    sys::socket::is_hung_up,
};

impl Events for Supervisor {
    fn connected(&self, id: SocketId, local: SocketAddr, path: PathInfo) -> Option<BridgedEnd> {
        let mut table = self.table();
        if !table.get(id)?.socket.established(local) {
            return None;
        }
        table.set_path(id, path);
        let waiting: Vec<_> = std::iter::from_fn(|| table.unpark(id, Wait::Connect)).collect();
        let fetched = match waiting.first() {
            Some(_) => None,
            None => program_end(&self.tasks, &mut table, id),
        };
        let copy = waiting.first().map(|parked| &parked.end);
        let copy = copy.or(fetched.as_ref()).map(AsFd::as_fd);
        let entry = table.get(id)?;
        let filler = std::mem::take(&mut entry.filler);
        let joined = match (table.set_end(id, End::Bridged(Arc::default())), copy) {
            (Some(ours), _) => {
                if let Err(error) = self.epoll.delete(&ours) {
                    tracing::debug!(%error, "a socketpair was not watched");
                }
                Ok(ours)
            }
            (None, Some(program)) => table.meeting.join(program),
            (None, None) => Err(Errno::EBADF),
        };
        let end = joined
            .inspect_err(|error| {
                tracing::error!(%error, "no socketpair for a connection, which is dropped; raise the limit of open files (ulimit -n)");
            })
            .map(BridgedEnd::new)
            .ok();
        match &end {
            Some(end) => {
                table.set_end(id, End::Bridged(Arc::clone(&end.unread)));
                pair::show_connected(copy, end.fd.as_fd(), filler);
            }
            None => self.connect_to_nothing(&mut table, id),
        }
        if let Some(State::Connected { announced, .. }) =
            table.get(id).map(|entry| &mut entry.socket.state)
        {
            *announced |= !waiting.is_empty();
        }
        for parked in waiting {
            let answer = end
                .as_ref()
                .map_or(Err(Errno::ENOBUFS), |_| Ok(Outcome::Value(0)));
            self.answer_parked(&mut table, parked, answer);
        }
        end
    }

    fn failed(&self, id: SocketId, error: Errno) {
        let mut table = self.table();
        let Some(entry) = table.get(id) else { return };
        if !matches!(entry.socket.state, State::Connecting { .. }) {
            return;
        }
        entry.socket.failed(error);
        self.show_failed(&mut table, id);
        let Some(parked) = table.unpark(id, Wait::Connect) else {
            return;
        };
        // The caller is told at once, and the socket can serve another attempt.
        if let Some(entry) = table.get(id) {
            entry.socket.failure_told();
        }
        self.answer_parked(&mut table, parked, Err(error));
        while let Some(parked) = table.unpark(id, Wait::Connect) {
            // __inet_stream_connect: the attempt's error is returned once.
            self.answer_parked(&mut table, parked, Err(Errno::ECONNABORTED));
        }
    }

    fn incoming(
        &self,
        listener: SocketId,
        local: SocketAddr,
        peer: SocketAddr,
        path: PathInfo,
    ) -> Result<(SocketId, BridgedEnd), Errno> {
        let ours = pair::caller().inspect_err(|error| {
            tracing::error!(%error, "no socketpair for a new connection, which is refused; raise the limit of open files (ulimit -n)");
        })?;
        let connection = identity(&ours).ok_or(Errno::ENOBUFS)?;
        let mut table = self.table();
        let name = table.queue_name(listener)?;
        let listening = &table.look(listener).ok_or(Errno::ECONNREFUSED)?.socket;
        let family = listening.family;
        let peer = address::in_family(peer, family);
        let mut socket = listening.accepted(address::in_family(local, family), peer);
        socket.path = Some(Box::new(path));
        let ours = BridgedEnd::new(ours);
        let end = End::Bridged(Arc::clone(&ours.unread));
        table.insert(connection, Entry::new(socket, end, None));
        let preamble = table.enqueue(listener, Waiting { connection, peer })?;
        drop(table);
        // This wakes the program, which may have the processor at once and then wants the table.
        let knocked = pair::knock(ours.fd.as_fd(), &name);
        if let (Ok(()), Some(preamble)) = (knocked, &preamble) {
            pair::begin(ours.fd.as_fd(), preamble);
        }
        let mut table = self.table();
        if let Err(error) = knocked {
            tracing::debug!(?listener, %error, "a connection was turned away");
            table.turn_away(listener, connection);
            return Err(error);
        }
        self.serve_waiting(&mut table, listener);
        Ok((connection, ours))
    }

    fn path(&self, id: SocketId, path: PathInfo) {
        self.table().set_path(id, path);
    }

    fn closing(&self, id: SocketId) -> Closing {
        let mut table = self.table();
        match table.get(id) {
            Some(Entry {
                arrival: Arrival::Waiting,
                ..
            }) => Closing::Abort,
            Some(entry) if entry.socket.hangs_up_while_open() => Closing::Unknown,
            Some(entry) if aborts_on_close(&entry.socket) => Closing::Abort,
            _ => Closing::Orderly,
        }
    }

    fn peer_finished(&self, id: SocketId) {
        if let Some(entry) = self.table().get(id) {
            entry.socket.ends.peer_finished = true;
        }
    }

    fn reset(&self, id: SocketId, end: OwnedFd, error: Errno) {
        let mut table = self.table();
        if self.is_closed(&mut table, id) {
            return;
        }
        if let Some(entry) = table.get(id) {
            entry.socket.reset(error);
            self.give_port_back(id, entry);
        }
        if is_between(&table, id) {
            if is_hung_up(end.as_fd()) {
                return self.abandon(&mut table, id);
            }
            table.set_end(id, End::Ours(end));
            return;
        }
        if is_unknown(&table, id) {
            match table.learn(id, end.as_fd()) {
                Peer::Unaccepted => return self.lose(&mut table, id, end, error),
                Peer::Closed => return self.abandon(&mut table, id),
                Peer::Accepted(_) => {}
            }
        }
        table.set_end(id, End::Closed);
        let entry = table.look(id);
        let may_hang_up = entry.is_some_and(|entry| entry.socket.hangs_up_while_open());
        if !may_hang_up && is_hung_up(end.as_fd()) {
            // Nobody is left to be shown it.
            return;
        }
        if error == Errno::EPIPE {
            pair::show_broken(end);
        } else {
            pair::show_reset(|| program_end(&self.tasks, &mut table, id), end);
        }
    }

    fn finished(&self, id: SocketId, end: BorrowedFd<'_>) {
        let mut table = self.table();
        if self.is_closed(&mut table, id) {
            return;
        }
        if let Some(entry) = table.get(id) {
            entry.socket.finished();
            self.give_port_back(id, entry);
        }
        let issued = table.look(id).is_some_and(|entry| entry.issued.is_some());
        if issued && is_unknown(&table, id) && !matches!(table.learn(id, end), Peer::Accepted(_)) {
            // Nothing would ever tell that it is closed.
            return self.abandon(&mut table, id);
        }
        table.set_end(id, End::Closed);
    }

    fn closed(&self, id: SocketId) {
        let mut table = self.table();
        if let Some(taker) = table.takers(id).next() {
            self.note_caller(taker.tid);
        }
        table.remove(id);
        drop(table);
        self.transport().release(id);
    }

    fn holder(&self, id: SocketId) -> Option<i32> {
        let table = self.table();
        let known = table.look(id)?.holder;
        let holder = known.or_else(|| table.takers(id).next());
        Some(holder?.tid)
    }

    fn callers(&self) -> Option<Callers> {
        Some(Callers {
            calls: self.calls.load(Ordering::Relaxed),
            last: self.last_caller.load(Ordering::Relaxed),
            answerer: self.answerer.load(Ordering::Relaxed),
        })
    }

    fn drained(&self) {
        if let Err(error) = self.drained.write(1) {
            tracing::debug!(%error, "the notification thread was not woken");
        }
    }
}

impl Supervisor {
    /// Shows that an attempt to connect has failed.
    fn show_failed(&self, table: &mut Table, id: SocketId) {
        let Some(entry) = table.get(id) else { return };
        self.give_port_back(id, entry);
        if matches!(entry.end, End::Ours(_)) {
            // Closing it with the filler unread raises EPOLLERR and EPOLLHUP.
            drop(table.set_end(id, End::Closed));
        }
    }

    /// The same for one that has failed before connect(2) returns, which tells of it if it is not `nonblocking`.
    pub(super) fn show_failed_at_once(&self, table: &mut Table, id: SocketId, nonblocking: bool) {
        let Some(entry) = table.get(id) else { return };
        if entry.socket.state != State::Failed {
            return;
        }
        if !nonblocking {
            entry.socket.failure_told();
        }
        self.show_failed(table, id);
    }

    /// After the end of an attempt or a connection, whose addresses another may have then.
    fn give_port_back(&self, id: SocketId, entry: &Entry) {
        self.transport().abandon(id);
        if !entry.socket.has_port {
            self.transport().release(id);
        }
    }

    /// A connection could not be shown: the socket can begin anew, with another end.
    fn connect_to_nothing(&self, table: &mut Table, id: SocketId) {
        table.set_end(id, End::Closed);
        if let Some(entry) = table.get(id) {
            entry.socket.disconnected();
            self.give_port_back(id, entry);
        }
    }

    /// Whether the program had closed the socket whose connection is over; it is forgotten then.
    fn is_closed(&self, table: &mut Table, id: SocketId) -> bool {
        let closed = table.get(id).is_some_and(|entry| entry.closed);
        if closed {
            table.remove(id);
            self.transport().release(id);
        }
        closed
    }

    /// Hands waiting connections to callers that wait for them.
    fn serve_waiting(&self, table: &mut Table, listener: SocketId) {
        while let Some(parked) = table.unpark(listener, Wait::Accept) {
            if !self.listener.is_valid(parked.trapped.id) {
                continue;
            }
            let call = parked.call(&self.listener);
            let nonblocking = accept_flags(&call) & libc::SOCK_NONBLOCK != 0;
            let taken = table.dequeue(listener, parked.end.as_fd(), nonblocking);
            let Some((waiting, connection)) = taken else {
                // Another caller took it without waiting.
                table.parked.push(parked);
                return;
            };
            let listening = (listener, parked.end.as_fd());
            let answer = accepted(&call, table, listening, waiting, connection);
            self.answer_parked(table, parked, answer);
        }
    }
}

/// Whether the program's end of a connection is not known: it is not accepted yet, or was without the supervisor.
fn is_unknown(table: &Table, id: SocketId) -> bool {
    table.look(id).is_some_and(|entry| entry.program.is_none())
}

/// Whether it is we who have the program's end of a connection: on its way to who accepts it, or back in the queue since it
/// did not arrive.
fn is_between(table: &Table, id: SocketId) -> bool {
    let entry = table.look(id);
    entry.is_some_and(|entry| entry.program.is_some() && entry.arrival != Arrival::There)
}

/// A copy of the program's end of a pair: from who was last seen with it, or from whoever has it.
pub(super) fn program_end(tasks: &Tasks, table: &mut Table, id: SocketId) -> Option<OwnedFd> {
    let entry = table.look(id)?;
    let program = entry.program?;
    let fetch = |holder: Holder| Some((holder, holder.fetch(tasks, program)?));
    let mut told = entry.holder.into_iter().chain(table.takers(id));
    let (holder, copy) = told
        .find_map(fetch)
        .or_else(|| fetch(tasks::find_holder(program.inode)?))?;
    table.set_holder(id, holder);
    Some(copy)
}
