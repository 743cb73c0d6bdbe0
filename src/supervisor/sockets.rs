//! The table of emulated sockets: what the emulation knows of each, our end of its pair, and the calls
//! that wait.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use nix::{
    errno::Errno,
    sys::{socket::UnixAddr, stat::fstat},
};

use super::{
    call::identity,
    lost::Losses,
    meeting::Meeting,
    park::Parked,
    peer::Peers,
    queue::{Queue, Waiting},
    tasks::Holder,
};
use crate::emul::{
    outcome::Wait,
    socket::{Socket, SocketId, State},
    transport::{PathInfo, Unread},
};
use crate::zpoline::{Sockets as SharedSockets, mark, tickets::Ticket};

/// Our end of a pair.
#[derive(Debug)]
pub(super) enum End {
    /// There is none yet: the program's end is alone.
    Alone,
    /// There is none: the program's end is an AF_UNIX listener of this name.
    Listening(UnixAddr),
    /// Here, watched for the program closing its end; or kept to show a reset to who accepts, or has accepted ([`Losses`]).
    Ours(OwnedFd),
    /// With the bridge of a connection.
    Bridged(Arc<Unread>),
    /// Closed, to show a failure or a reset. The entry stays for getsockname and the like, until a
    /// sweep finds that the socket is gone.
    Closed,
}

/// How far a socket has come towards its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// An accepted connection that still lies in its listener's queue, as far as is known.
    Waiting,
    /// accept(2) has taken it, and the caller does not have it yet.
    OnItsWay,
    /// A program has it.
    There,
}

impl End {
    /// Whether it cannot tell of the program's close.
    fn is_untold(&self) -> bool {
        matches!(self, Self::Alone | Self::Listening(_) | Self::Closed)
    }
}

/// What the kernel calls a program's end.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProgramEnd {
    /// Its SO_COOKIE.
    pub(super) cookie: SocketId,
    /// Its inode, under which /proc shows it.
    pub(super) inode: u64,
}

impl ProgramEnd {
    /// Of a descriptor of it.
    pub(super) fn of(fd: &OwnedFd) -> Option<Self> {
        Self::known(fd, identity(fd)?)
    }

    /// The same, if the cookie is known.
    pub(super) fn known(fd: &OwnedFd, cookie: SocketId) -> Option<Self> {
        let inode = fstat(fd).ok()?.st_ino;
        Some(Self { cookie, inode })
    }
}

/// By what a program can accept a connection without the supervisor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Issued {
    /// Its mark is made of that.
    pub(super) ticket: Ticket,
    /// On which it is to be accepted.
    pub(super) listener: SocketId,
    /// Its peer, in the listener's family.
    pub(super) peer: SocketAddr,
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
    /// The program's end; none while the connection waits for accept(2), or was accepted without the supervisor.
    pub(super) program: Option<ProgramEnd>,
    /// Who was last seen with the program's end.
    pub(super) holder: Option<Holder>,
    /// Connections that accept(2) has not taken.
    pub(super) queue: Queue,
    /// The program's end cannot be joined: shutdown(2) was called while it was alone, which the kernel keeps for good,
    /// or it is of another network namespace.
    pub(super) spent: bool,
    /// An option was set that connections inherit and hardly any has (`RARELY_SET`).
    pub(super) rarely_set: bool,
    /// The program has closed it, which was told before the bridge was at its end.
    pub(super) closed: bool,
    /// How far it has come towards its program.
    pub(super) arrival: Arrival,
    /// With `--mode zpoline`, of an accepted connection.
    pub(super) issued: Option<Issued>,
}

impl Entry {
    /// The entry of a new socket.
    pub(super) fn new(socket: Socket, end: End, program: Option<ProgramEnd>) -> Self {
        Self {
            socket,
            end,
            filler: 0,
            program,
            holder: None,
            queue: Queue::default(),
            spent: false,
            rarely_set: false,
            closed: false,
            arrival: match program {
                None => Arrival::Waiting,
                Some(_) => Arrival::There,
            },
            issued: None,
        }
    }

    /// What the fast path's table knows the socket by.
    fn key(&self) -> Option<u64> {
        match self.issued {
            Some(issued) => Some(issued.ticket.key()),
            None => Some(mark::emulated(self.program?.cookie)),
        }
    }

    /// What the program's end is to be marked with.
    fn mark(&self) -> Option<u64> {
        let mark = self.issued.map(|issued| issued.ticket.mark());
        mark.or_else(|| self.key())
    }
}

/// Fewest sockets without a telling end for which the kernel's list of sockets is read. It grows with
/// what a sweep leaves, so that the cost of each closed socket stays the same.
const SWEEP_THRESHOLD: usize = 256;

/// All emulated sockets and the calls that wait for them.
#[derive(Debug, Default)]
pub(super) struct Table {
    sockets: HashMap<SocketId, Entry>,
    /// Accepted connections by the SO_COOKIE of the program's end: they are known by that of our end,
    /// which is older.
    accepted: HashMap<SocketId, SocketId>,
    /// Where programs' ends are given their peers. Here, so that it serves one at a time.
    pub(super) meeting: Meeting,
    /// Calls that wait.
    pub(super) parked: Vec<Parked>,
    /// Entries that only a sweep can end.
    untold: usize,
    /// How many of them the last sweep left.
    swept: usize,
    /// What programs with the fast path see.
    shared: Option<SharedSockets>,
    /// Sockets that those see anew with [`Self::publish`].
    taken_up: Vec<SocketId>,
    /// Connections that are over, whose programs are yet to see it.
    pub(super) lost: Losses,
    /// What tells who has accepted a connection without the supervisor.
    pub(super) peers: Option<Peers>,
}

impl Table {
    /// A table whose sockets programs see in `shared`.
    pub(super) fn sharing(shared: Option<SharedSockets>) -> Self {
        let peers = shared.as_ref().and_then(|_| {
            let peers = Peers::new();
            let peers = peers.inspect_err(|error| {
                tracing::info!(%error, "the kernel does not tell of Unix sockets (CONFIG_UNIX_DIAG): accept(2) is made by the supervisor");
            });
            peers.ok()
        });
        Self {
            shared,
            peers,
            ..Self::default()
        }
    }

    /// The socket's entry.
    pub(super) fn get(&mut self, id: SocketId) -> Option<&mut Entry> {
        let entry = self.sockets.get_mut(&id)?;
        if let Some(shared) = &self.shared
            && let Some(key) = entry.key()
            && shared.take_up(key)
        {
            self.taken_up.push(id);
        }
        Some(entry)
    }

    /// The socket's entry, which is not changed: the fast path need not wait.
    pub(super) fn look(&self, id: SocketId) -> Option<&Entry> {
        self.sockets.get(&id)
    }

    /// Whether there is something to [`Self::publish`].
    #[inline]
    pub(super) fn has_taken_up(&self) -> bool {
        !self.taken_up.is_empty()
    }

    /// Shows programs what has become of the sockets that were taken up.
    pub(super) fn publish(&mut self) {
        let Some(shared) = &self.shared else {
            return;
        };
        for id in self.taken_up.drain(..) {
            if let Some(entry) = self.sockets.get(&id)
                && let Some(key) = entry.key()
            {
                let asks = entry.rarely_set || entry.queue.has_returned() || self.lost.are_of(id);
                let accepts = !asks && self.peers.is_some();
                shared.show(key, &entry.socket, accepts);
            }
        }
    }

    /// Lets a program see a socket that it asks for. If that listens, it may accept what waits there, and is to see it.
    pub(super) fn show_to(&mut self, view: u64, id: SocketId) {
        let Some(shared) = &self.shared else {
            return;
        };
        let mut asked = vec![id];
        let entry = self.sockets.get(&id);
        if entry.is_some_and(|entry| matches!(entry.socket.state, State::Listening { .. })) {
            let waits = |entry: &Entry| {
                let issued = entry.issued.filter(|_| entry.program.is_none());
                issued.is_some_and(|issued| issued.listener == id)
            };
            let waiting = self.sockets.iter().filter(|(_, entry)| waits(entry));
            asked.extend(waiting.map(|(id, _)| *id));
        }
        asked.retain(|id| {
            let key = self.sockets.get(id).and_then(Entry::key);
            key.is_some_and(|key| shared.show_to(view, key))
        });
        self.taken_up.append(&mut asked);
    }

    /// Gives a connection that waits for accept(2) a ticket, by which a program may accept it by itself.
    ///
    /// # Errors
    /// ENOBUFS: there are too many.
    pub(super) fn issue(
        &mut self,
        listener: SocketId,
        waiting: Waiting,
    ) -> Result<Option<Ticket>, Errno> {
        let Some(shared) = &self.shared else {
            return Ok(None);
        };
        let Waiting { connection, peer } = waiting;
        let seen_as = self.sockets.get(&listener).and_then(Entry::key);
        let ticket = shared.issue(connection, seen_as).ok_or(Errno::ENOBUFS)?;
        if let Some(entry) = self.sockets.get_mut(&connection) {
            entry.issued = Some(Issued {
                ticket,
                listener,
                peer,
            });
            // Whether it was accepted the kernel tells then.
            entry.arrival = Arrival::There;
        }
        self.taken_up.push(connection);
        Ok(Some(ticket))
    }

    /// Whether programs with the fast path see it.
    pub(super) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// The connection that has this ticket.
    pub(super) fn ticketed(&self, ticket: Ticket) -> Option<SocketId> {
        self.shared.as_ref()?.connection(ticket)
    }

    /// Who has accepted a connection without the supervisor, as programs say: it may be anything.
    pub(super) fn takers(&self, id: SocketId) -> impl Iterator<Item = Holder> + use<> {
        let issued = self.sockets.get(&id).and_then(|entry| entry.issued);
        let said = issued.zip(self.shared.as_ref());
        let said = said.map(|(issued, shared)| shared.holders(issued.ticket));
        let said = said.into_iter().flatten();
        said.map(|(tid, fd)| Holder { tid, fd })
    }

    /// Notes who has the program's end. Programs are not shown it.
    pub(super) fn set_holder(&mut self, id: SocketId, holder: Holder) {
        if let Some(entry) = self.sockets.get_mut(&id) {
            entry.holder = Some(holder);
        }
    }

    /// Notes how far it has come. Programs are not shown it. Returns how far it had come before.
    pub(super) fn set_arrival(&mut self, id: SocketId, arrival: Arrival) -> Option<Arrival> {
        let entry = self.sockets.get_mut(&id)?;
        Some(std::mem::replace(&mut entry.arrival, arrival))
    }

    /// Notes a connection's path. Programs are not shown it.
    pub(super) fn set_path(&mut self, id: SocketId, path: PathInfo) {
        if let Some(entry) = self.sockets.get_mut(&id) {
            entry.socket.path = Some(Box::new(path));
        }
    }

    /// Marks a socket's end for the fast path, before the program has it or asks for it.
    pub(super) fn mark(&self, id: SocketId, fd: &OwnedFd) {
        if self.shared.is_some()
            && let Some(mark) = self.sockets.get(&id).and_then(Entry::mark)
        {
            mark::set(fd.as_fd(), mark);
        }
    }

    /// The id of the socket whose program's end has this SO_COOKIE.
    pub(super) fn find(&self, cookie: SocketId) -> Option<SocketId> {
        if self.sockets.contains_key(&cookie) {
            return Some(cookie);
        }
        self.accepted.get(&cookie).copied()
    }

    /// Notes the program's end that accept(2) has made.
    pub(super) fn set_program_end(&mut self, id: SocketId, program: ProgramEnd) {
        if let Some(entry) = self.sockets.get_mut(&id) {
            entry.program = Some(program);
            entry.arrival = Arrival::There;
            self.accepted.insert(program.cookie, id);
        }
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
        if let Some(program) = &entry.program {
            self.accepted.remove(&program.cookie);
        }
        if let Some(shared) = &self.shared {
            if let Some(key) = entry.key() {
                shared.remove(key);
            }
            if let Some(issued) = entry.issued {
                shared.take_back(issued.ticket);
                self.lost.forget(id);
            }
        }
        Some(entry)
    }

    /// Puts `end` in place of our end, and returns that if it was here.
    pub(super) fn set_end(&mut self, id: SocketId, end: End) -> Option<OwnedFd> {
        let entry = self.sockets.get_mut(&id)?;
        if let (End::Closed, Some(shared), Some(key)) = (&end, &self.shared, entry.key()) {
            // Before our end is closed, by which the pair has an error that the program can take.
            shared.show_error(key, &entry.socket);
        }
        self.untold += usize::from(end.is_untold());
        self.untold -= usize::from(entry.end.is_untold());
        match std::mem::replace(&mut entry.end, end) {
            End::Ours(end) => Some(end),
            End::Alone | End::Listening(_) | End::Bridged(_) | End::Closed => None,
        }
    }

    /// Whether so many sockets have no end that would tell of the program's close that it is time to
    /// look which of them are gone.
    pub(super) fn wants_sweep(&self) -> bool {
        self.untold >= SWEEP_THRESHOLD.max(2 * self.swept)
    }

    /// Their inodes.
    pub(super) fn untold(&self) -> HashSet<u64> {
        self.untold_entries()
            .map(|(_, program)| program.inode)
            .collect()
    }

    /// Those of them with these inodes, which are `gone`.
    pub(super) fn swept(&mut self, gone: &HashSet<u64>) -> Vec<SocketId> {
        self.swept = self.untold.saturating_sub(gone.len());
        self.untold_entries()
            .filter(|(_, program)| gone.contains(&program.inode))
            .map(|(id, _)| id)
            .collect()
    }

    fn untold_entries(&self) -> impl Iterator<Item = (SocketId, &ProgramEnd)> {
        self.sockets
            .iter()
            .filter(|(_, entry)| entry.end.is_untold())
            .filter_map(|(id, entry)| Some((*id, entry.program.as_ref()?)))
    }

    /// Takes the first call that waits for this.
    pub(super) fn unpark(&mut self, id: SocketId, wait: Wait) -> Option<Parked> {
        let position = self
            .parked
            .iter()
            .position(|parked| parked.socket == id && parked.wait == wait)?;
        Some(self.parked.remove(position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(number: u64) -> ProgramEnd {
        ProgramEnd {
            cookie: SocketId(number),
            inode: number,
        }
    }

    fn socket() -> Socket {
        Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap()
    }

    #[test]
    fn a_sweep_finds_what_is_gone_and_nothing_else() {
        let mut table = Table::default();
        let bridged = End::Bridged(Arc::default());
        for (number, end) in (0..).zip([End::Alone, End::Alone, End::Closed, bridged]) {
            let entry = Entry::new(socket(), end, Some(program(number)));
            table.insert(SocketId(number), entry);
        }
        assert_eq!(table.untold(), HashSet::from([0, 1, 2]));
        let mut gone = table.swept(&HashSet::from([0, 2, 3]));
        gone.sort();
        assert_eq!(gone, [SocketId(0), SocketId(2)]);
    }

    #[test]
    fn an_accepted_connection_is_found_by_the_programs_end() {
        let mut table = Table::default();
        let entry = Entry::new(socket(), End::Bridged(Arc::default()), None);
        table.insert(SocketId(1), entry);
        assert_eq!(table.find(SocketId(2)), None);
        table.set_program_end(SocketId(1), program(2));
        assert_eq!(table.find(SocketId(2)), Some(SocketId(1)));
        table.remove(SocketId(1));
        assert_eq!(table.find(SocketId(2)), None);
    }
}
