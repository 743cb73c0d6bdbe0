//! The table of emulated sockets: what the emulation knows of each, its end of the pair, the queue of
//! a listener, and the calls that wait.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, HashSet, VecDeque},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, send},
};

use super::{park::Parked, tasks::Holder};
use crate::{
    emul::{
        accept::{RECORD_BYTES, Record},
        outcome::{Injection, Origin, Wait},
        socket::{Socket, SocketId, State},
        transport::Seal,
    },
    sys::fd::{receive_with_fd, send_with_fd},
};

/// Our end of a pair.
#[derive(Debug)]
pub(super) enum End {
    /// There is none yet: the program's end is alone. Nothing tells of its close; a sweep finds out.
    Alone,
    /// Here, watched for the program closing its end.
    Ours(OwnedFd),
    /// With the bridge of a connection.
    Bridged(Arc<Seal>),
    /// Closed, to show a failure or a reset. The entry stays for getsockname and the like, until a
    /// sweep finds that the socket is gone.
    Closed,
}

impl End {
    /// Whether the program's close goes unnoticed.
    fn is_untold(&self) -> bool {
        matches!(self, Self::Alone | Self::Closed)
    }
}

/// One emulated socket.
#[derive(Debug)]
pub(super) struct Entry {
    /// What the emulation knows.
    pub(super) socket: Socket,
    /// Our end of the pair.
    pub(super) end: End,
    /// Bytes of filler in our end's queue.
    pub(super) filler: usize,
    /// Inode of the program's end.
    pub(super) inode: u64,
    /// Who was last seen with the program's end.
    pub(super) holder: Option<Holder>,
    /// Connections that accept(2) has not taken.
    pub(super) queue: Queue,
    /// An accepted connection that still lies in its listener's queue.
    pub(super) unaccepted: bool,
}

impl Entry {
    /// The entry of a new socket whose program's end has this inode and is the caller's to inject.
    pub(super) fn new(socket: Socket, end: End, inode: u64) -> Self {
        Self {
            socket,
            end,
            filler: 0,
            inode,
            holder: None,
            queue: Queue::default(),
            unaccepted: false,
        }
    }
}

/// What of a listener's queue is not in the kernel.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Connections whose accept(2) came to nothing: the next ones to be taken. Each has a bare
    /// record in the pair, so that the listener stays readable.
    returned: VecDeque<(Record, OwnedFd)>,
    /// Records that found no room in the pair.
    overflow: VecDeque<(Record, Option<OwnedFd>)>,
    /// Connections that wait, wherever they lie.
    waiting: usize,
}

/// Fewest sockets without a telling end for which the kernel's list of sockets is read. It grows with
/// what a sweep leaves, so that the cost of each closed socket stays the same.
const SWEEP_THRESHOLD: usize = 256;

/// All emulated sockets and the calls that wait for them.
#[derive(Debug, Default)]
pub(super) struct Table {
    sockets: HashMap<SocketId, Entry>,
    /// Calls that wait.
    pub(super) parked: Vec<Parked>,
    /// Entries that only a sweep can end.
    untold: usize,
    /// How many of them the last sweep left.
    swept: usize,
}

impl Table {
    /// The socket's entry.
    pub(super) fn get(&mut self, id: SocketId) -> Option<&mut Entry> {
        self.sockets.get_mut(&id)
    }

    /// Adds a socket.
    pub(super) fn insert(&mut self, id: SocketId, entry: Entry) {
        self.untold += usize::from(entry.end.is_untold());
        self.sockets.insert(id, entry);
    }

    /// Removes a socket.
    pub(super) fn remove(&mut self, id: SocketId) -> Option<Entry> {
        let entry = self.sockets.remove(&id)?;
        self.untold -= usize::from(entry.end.is_untold());
        Some(entry)
    }

    /// Puts `end` in place of our end, and returns that if it was here.
    pub(super) fn set_end(&mut self, id: SocketId, end: End) -> Option<OwnedFd> {
        let entry = self.sockets.get_mut(&id)?;
        self.untold += usize::from(end.is_untold());
        self.untold -= usize::from(entry.end.is_untold());
        match std::mem::replace(&mut entry.end, end) {
            End::Ours(end) => Some(end),
            End::Alone | End::Bridged(_) | End::Closed => None,
        }
    }

    /// Whether so many sockets have no end that would tell of the program's close that it is time to
    /// look which of them are gone.
    pub(super) fn wants_sweep(&self) -> bool {
        self.untold >= SWEEP_THRESHOLD.max(2 * self.swept)
    }

    /// Removes those of them that are not among `living`, the inodes of sockets that exist, and
    /// returns their ids.
    pub(super) fn sweep(&mut self, living: &HashSet<u64>) -> Vec<SocketId> {
        let gone = |entry: &Entry| entry.end.is_untold() && !living.contains(&entry.inode);
        let gone: Vec<_> = self
            .sockets
            .iter()
            .filter(|(_, entry)| gone(entry))
            .map(|(id, _)| *id)
            .collect();
        for id in &gone {
            self.remove(*id);
        }
        self.swept = self.untold;
        gone
    }

    /// Takes the first call that waits for this.
    pub(super) fn unpark(&mut self, id: SocketId, wait: Wait) -> Option<Parked> {
        let position = self
            .parked
            .iter()
            .position(|parked| parked.socket == id && parked.wait == wait)?;
        Some(self.parked.remove(position))
    }

    /// Puts a connection into the listener's queue.
    ///
    /// # Errors
    /// ECONNREFUSED: nobody listens. ENOBUFS: as many wait as the backlog allows.
    pub(super) fn enqueue(
        &mut self,
        listener: SocketId,
        record: Record,
        connection: OwnedFd,
    ) -> Result<(), Errno> {
        let entry = self.get(listener).ok_or(Errno::ECONNREFUSED)?;
        let State::Listening { backlog } = entry.socket.state else {
            return Err(Errno::ECONNREFUSED);
        };
        if entry.queue.waiting >= backlog.max(LEAST_BACKLOG) {
            return Err(Errno::ENOBUFS);
        }
        entry.queue.waiting += 1;
        entry.push(record, Some(connection));
        Ok(())
    }

    /// Takes the first waiting connection. `program` is a copy of the listener's program end.
    pub(super) fn dequeue(
        &mut self,
        listener: SocketId,
        program: BorrowedFd<'_>,
    ) -> Option<(Record, OwnedFd)> {
        let entry = self.get(listener)?;
        let taken = entry.pop(program);
        entry.flush();
        let (record, fd) = taken?;
        entry.queue.waiting = entry.queue.waiting.saturating_sub(1);
        if let Some(accepted) = self.get(record.connection) {
            accepted.unaccepted = false;
        }
        Some((record, fd))
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
            } => {
                let Some(accepted) = self.get(connection) else {
                    return;
                };
                let State::Connected { peer, .. } = accepted.socket.state else {
                    return;
                };
                accepted.unaccepted = true;
                let record = Record { connection, peer };
                if let Some(entry) = self.get(listener) {
                    entry.queue.waiting += 1;
                    entry.queue.returned.push_front((record, injection.fd));
                    entry.push(record, None);
                }
            }
        }
    }
}

/// Fewest connections that may wait whatever listen(2) said: a stream cannot be left unanswered as a
/// SYN can, so a short backlog must not turn a burst of clients away.
const LEAST_BACKLOG: usize = 1024;

impl Entry {
    fn push(&mut self, record: Record, connection: Option<OwnedFd>) {
        self.queue.overflow.push_back((record, connection));
        self.flush();
    }

    /// Moves what waits here into the pair, as far as there is room.
    fn flush(&mut self) {
        let End::Ours(end) = &self.end else { return };
        while let Some((record, connection)) = self.queue.overflow.front() {
            let payload = record.encode();
            let sent = match connection {
                Some(fd) => send_with_fd(end.as_fd(), &payload, fd.as_fd()),
                None => {
                    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                    send(end.as_raw_fd(), &payload, flags).map(drop)
                }
            };
            match sent {
                Ok(()) => self.queue.overflow.pop_front(),
                // Full, or too many descriptors in flight: accept(2) makes room and comes here.
                Err(error) => {
                    tracing::trace!(%error, "a listening pair takes no more for now");
                    return;
                }
            };
        }
    }

    fn pop(&mut self, program: BorrowedFd<'_>) -> Option<(Record, OwnedFd)> {
        loop {
            let mut bytes = [0; RECORD_BYTES];
            let fd = receive_with_fd(program, &mut bytes, MsgFlags::MSG_DONTWAIT).ok()?;
            let record = Record::decode(&bytes, self.socket.family);
            let arrived = record.zip(fd);
            let Some(first) = self.queue.returned.pop_front() else {
                match arrived {
                    Some(connection) => return Some(connection),
                    // Bytes that are no record: the program's own doing.
                    None => continue,
                }
            };
            self.queue.returned.extend(arrived);
            return Some(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::{call::identity, pair};

    fn bridged() -> End {
        End::Bridged(Arc::default())
    }

    struct Listener {
        table: Table,
        id: SocketId,
        program: OwnedFd,
    }

    fn listener(backlog: usize) -> Listener {
        let (program, inode) = pair::alone(true).unwrap();
        let ours = pair::join(program.as_fd()).unwrap();
        let id = identity(&program).unwrap();
        let mut socket = Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        socket.state = State::Listening { backlog };
        let mut table = Table::default();
        table.insert(id, Entry::new(socket, End::Ours(ours), inode));
        Listener { table, id, program }
    }

    fn connect(listener: &mut Listener, port: u16) -> SocketId {
        let pair = pair::connected().unwrap();
        let connection = identity(&pair.program).unwrap();
        let peer = (std::net::Ipv4Addr::LOCALHOST, port).into();
        let socket = Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        let mut accepted = Entry::new(socket.accepted(peer, peer), bridged(), pair.inode);
        accepted.unaccepted = true;
        listener.table.insert(connection, accepted);
        let record = Record { connection, peer };
        listener
            .table
            .enqueue(listener.id, record, pair.program)
            .unwrap();
        connection
    }

    #[test]
    fn connections_are_taken_in_the_order_they_came() {
        let mut listener = listener(10);
        let expected: Vec<_> = (1..=5).map(|port| connect(&mut listener, port)).collect();
        let program = listener.program.as_fd();
        let table = &mut listener.table;
        let taken: Vec<_> = std::iter::from_fn(|| table.dequeue(listener.id, program))
            .map(|(record, _)| record.connection)
            .collect();
        assert_eq!(taken, expected);
    }

    #[test]
    fn a_connection_that_did_not_arrive_comes_first_again() {
        let mut listener = listener(10);
        let first = connect(&mut listener, 1);
        let second = connect(&mut listener, 2);
        let program = listener.program.as_fd();
        let (record, fd) = listener.table.dequeue(listener.id, program).unwrap();
        let origin = Origin::Accepted {
            listener: listener.id,
            connection: record.connection,
        };
        listener.table.undo(Injection {
            fd,
            cloexec: false,
            origin,
        });
        for expected in [first, second] {
            let (record, fd) = listener.table.dequeue(listener.id, program).unwrap();
            assert_eq!(record.connection, expected);
            assert_eq!(identity(&fd), Some(expected));
        }
        assert!(listener.table.dequeue(listener.id, program).is_none());
    }

    #[test]
    fn more_than_the_pair_holds_waits_outside_and_a_backlog_ends() {
        let mut listener = listener(1);
        for port in 0..LEAST_BACKLOG {
            connect(&mut listener, port as u16);
        }
        let pair = pair::connected().unwrap();
        let connection = identity(&pair.program).unwrap();
        let record = Record {
            connection,
            peer: (std::net::Ipv4Addr::LOCALHOST, 1).into(),
        };
        let refused = listener.table.enqueue(listener.id, record, pair.program);
        assert_eq!(refused, Err(Errno::ENOBUFS));
        let program = listener.program.as_fd();
        let table = &mut listener.table;
        let taken = std::iter::from_fn(|| table.dequeue(listener.id, program)).count();
        assert_eq!(taken, LEAST_BACKLOG);
    }

    #[test]
    fn what_the_program_writes_itself_is_no_connection() {
        let mut listener = listener(10);
        if let End::Ours(end) = &listener.table.get(listener.id).unwrap().end {
            send(end.as_raw_fd(), &[7; RECORD_BYTES], MsgFlags::empty()).unwrap();
        }
        let program = listener.program.as_fd();
        assert!(listener.table.dequeue(listener.id, program).is_none());
    }

    #[test]
    fn a_sweep_ends_what_is_gone_and_nothing_else() {
        let mut table = Table::default();
        let socket = Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        let ends = [End::Alone, End::Alone, End::Closed, bridged()];
        for (number, end) in (0..).zip(ends) {
            let entry = Entry::new(socket.clone(), end, number);
            table.insert(SocketId(number), entry);
        }
        assert_eq!(table.sweep(&HashSet::from([1])).len(), 2);
        assert!(table.get(SocketId(1)).is_some() && table.get(SocketId(3)).is_some());
        assert_eq!(table.untold, 1);
    }
}
