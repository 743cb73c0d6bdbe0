//! Connections that were reset while no end of the program's was at hand to show it: they wait for accept(2), or a program
//! with the fast path has accepted them, and has said where (zpoline/tickets.rs), or handed them on since.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::errno::Errno;

use super::{
    Supervisor, pair,
    sockets::{End, ProgramEnd, Table},
    tasks::{self, Holder},
};
use crate::{
    emul::socket::SocketId,
    sys::socket::is_hung_up,
    zpoline::{mark::Mark, tickets::Ticket},
};

/// When a program is looked for first, which may be about to say that it has accepted the connection; and the longest
/// time between two looks.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LAST_LOOK: Duration = Duration::from_secs(1);
/// For so long a connection is searched for that somebody says he has, and who does not; and if we may not look there.
const PATIENCE: Duration = Duration::from_secs(10);
const FORBIDDEN_PATIENCE: Duration = Duration::from_millis(100);
/// How often one is searched for of which nobody has said so: another program may have wiped that out.
const RARELY: Duration = Duration::from_secs(60);
/// After a search of all processes there is none for so many times as long as it took.
const REST: u32 = 10;

/// A connection that is over.
#[derive(Debug)]
struct Loss {
    listener: SocketId,
    error: Errno,
    /// Since when it is searched for.
    sought: Option<Instant>,
}

/// Connections whose programs are yet to see that they are over.
#[derive(Debug, Default)]
pub(super) struct Losses {
    connections: HashMap<SocketId, Loss>,
    /// When to look at what programs say, and how long to wait then.
    next: Option<Instant>,
    interval: Duration,
    /// When to search for those that nobody says he has; and not before when for others.
    search: Option<Instant>,
    rest: Option<Instant>,
}

impl Losses {
    /// When the programs are to be looked for.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next
    }

    /// Whether one of them was accepted on this listener, or is to be.
    pub(super) fn are_of(&self, listener: SocketId) -> bool {
        let mut losses = self.connections.values();
        losses.any(|loss| loss.listener == listener)
    }

    /// The connection is no more.
    pub(super) fn forget(&mut self, connection: SocketId) {
        self.connections.remove(&connection);
    }
}

impl Table {
    /// The program's end of a connection that was accepted without the supervisor: `fd` is a copy. None if it is not. To
    /// be followed by [`Self::show_loss`].
    pub(super) fn meet(&mut self, ticket: Ticket, fd: &OwnedFd) -> Option<SocketId> {
        let connection = self.ticketed(ticket)?;
        if self.look(connection)?.program.is_some() {
            return None;
        }
        self.set_program_end(connection, ProgramEnd::of(fd)?);
        Some(connection)
    }

    /// Shows the program's end of a connection, of which `program` gives a copy, that it was reset, if it was.
    pub(super) fn show_loss(
        &mut self,
        connection: SocketId,
        program: impl FnOnce() -> Option<OwnedFd>,
    ) {
        let was_reset = self
            .look(connection)
            .is_some_and(|entry| matches!(entry.end, End::Ours(_)));
        if !was_reset {
            return;
        }
        let loss = self.lost.connections.remove(&connection);
        if let Some(loss) = &loss {
            // Programs accept on it without us again.
            self.get(loss.listener);
        }
        if let Some(ours) = self.set_end(connection, End::Closed) {
            match loss {
                Some(Loss {
                    error: Errno::EPIPE,
                    ..
                }) => {
                    drop(program);
                    pair::show_broken(ours);
                }
                _ => pair::show_reset(program, ours),
            }
        }
    }
}

impl Supervisor {
    /// Takes up a connection that was accepted without us, if it is where its program has said.
    ///
    /// # Errors
    /// ENOENT: no program has said anything. ESRCH, EBADF, ENOTSOCK: it is not there. EPERM: we may not look.
    pub(super) fn find_taken(&self, table: &mut Table, connection: SocketId) -> Result<(), Errno> {
        let mut found = Err(Errno::ENOENT);
        for (ticket, holder) in table.takers(connection) {
            found = self.meet_at(table, connection, ticket, holder);
            if found.is_ok() {
                break;
            }
        }
        found
    }

    fn meet_at(
        &self,
        table: &mut Table,
        connection: SocketId,
        ticket: Ticket,
        holder: Holder,
    ) -> Result<(), Errno> {
        let fd = self.tasks.get_fd(holder.tid, holder.fd)?;
        if Mark::of(fd.as_fd()) != Mark::Accepted(ticket) {
            return Err(Errno::ENOTSOCK);
        }
        table.meet(ticket, &fd).ok_or(Errno::ENOTSOCK)?;
        table.set_holder(connection, holder);
        table.show_loss(connection, || Some(fd));
        Ok(())
    }

    /// Keeps our `end` of a connection that is over until whoever accepts it, or has accepted it, can see that.
    pub(super) fn lose(&self, table: &mut Table, connection: SocketId, end: OwnedFd, error: Errno) {
        let issued = table.look(connection).and_then(|entry| entry.issued);
        let Some(issued) = issued else {
            table.set_end(connection, End::Ours(end));
            return;
        };
        if is_hung_up(end.as_fd()) {
            self.abandon(table, connection);
            return;
        }
        // The program may close it before it is found.
        if let Err(error) = self.watch(connection, end.as_fd()) {
            tracing::debug!(%error, "a connection that is over is not watched");
        }
        table.set_end(connection, End::Ours(end));
        let now = Instant::now();
        let loss = Loss {
            listener: issued.listener,
            error,
            sought: None,
        };
        let lost = &mut table.lost;
        lost.connections.insert(connection, loss);
        lost.interval = FIRST_LOOK;
        let next = now + FIRST_LOOK;
        lost.next = Some(lost.next.map_or(next, |sooner| sooner.min(next)));
        lost.search.get_or_insert(now + RARELY);
        // From now on who accepts there comes to us.
        table.get(issued.listener);
        self.wake();
    }

    /// Forgets a connection that no program has, or of which nobody can find out who has it: that one sees its end.
    pub(super) fn abandon(&self, table: &mut Table, connection: SocketId) {
        table.set_end(connection, End::Closed);
        self.closed(table, connection);
    }

    /// Looks for the programs of connections that are over, when it is time to.
    pub(super) fn look_for_lost(&self) {
        let now = Instant::now();
        let mut table = self.table();
        if table.lost.next.is_none_or(|next| next > now) {
            return;
        }
        let connections: Vec<SocketId> = table.lost.connections.keys().copied().collect();
        let mut sought = false;
        for connection in connections {
            sought |= self.look_for(&mut table, connection, now);
        }
        let lost = &mut table.lost;
        let may_search = lost.rest.is_none_or(|rest| rest <= now);
        if may_search && (sought || lost.search.is_some_and(|search| search <= now)) {
            drop(table);
            self.search();
            table = self.table();
            table.lost.search = Some(now + RARELY);
            table.lost.rest = Some(Instant::now() + now.elapsed() * REST);
        }
        let lost = &mut table.lost;
        lost.next = Some(Instant::now() + lost.interval);
        lost.interval = (2 * lost.interval).min(LAST_LOOK);
        if lost.connections.is_empty() {
            (lost.next, lost.search) = (None, None);
        }
    }

    /// Looks for a connection that is over where its program has said it is. Returns whether it is to be searched for.
    fn look_for(&self, table: &mut Table, connection: SocketId, now: Instant) -> bool {
        let end = table.look(connection).map(|entry| &entry.end);
        if matches!(end, Some(End::Ours(end)) if is_hung_up(end.as_fd())) {
            // The program has closed it, which is about to be told. Its descriptor may be another's by now.
            return false;
        }
        let error = match self.find_taken(table, connection) {
            // Nobody has it, as far as is known; or we have no descriptor left to look with.
            Ok(()) | Err(Errno::ENOENT | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) => {
                return false;
            }
            Err(error) => error,
        };
        let Some(loss) = table.lost.connections.get_mut(&connection) else {
            return false;
        };
        let sought = now.duration_since(*loss.sought.get_or_insert(now));
        let listener = loss.listener;
        let forbidden = error == Errno::EPERM;
        let patience = if forbidden {
            FORBIDDEN_PATIENCE
        } else {
            PATIENCE
        };
        if sought < patience {
            return true;
        }
        tracing::info!(?connection, %error, "a reset is shown as an end: its program is not found");
        self.abandon(table, connection);
        if !forbidden && let Some(listener) = table.get(listener) {
            listener.hands_on = true;
        }
        false
    }

    /// Looks at all AF_UNIX sockets of all processes.
    fn search(&self) {
        let ours = tasks::unix_sockets().unwrap_or_default();
        for (holder, _) in tasks::sockets().filter(|(_, inode)| ours.contains(inode)) {
            let Ok(fd) = self.tasks.get_fd(holder.tid, holder.fd) else {
                continue;
            };
            let Mark::Accepted(ticket) = Mark::of(fd.as_fd()) else {
                continue;
            };
            let mut table = self.table();
            let Some(connection) = table.ticketed(ticket) else {
                continue;
            };
            let mut noted = table.takers(connection);
            if table.meet(ticket, &fd).is_none() {
                continue;
            }
            table.set_holder(connection, holder);
            let issued = table.look(connection).and_then(|entry| entry.issued);
            if noted.any(|(_, noted)| self.is_handed_on(ticket, noted))
                && let Some(listener) = issued.and_then(|issued| table.get(issued.listener))
            {
                // Its program hands connections on.
                listener.hands_on = true;
            }
            table.show_loss(connection, || Some(fd));
        }
    }

    /// Whether a connection is no more where its program has said, although that thread is still there.
    fn is_handed_on(&self, ticket: Ticket, noted: Holder) -> bool {
        let there = self.tasks.get_fd(noted.tid, noted.fd);
        match there.map(|fd| Mark::of(fd.as_fd())) {
            Ok(mark) => mark != Mark::Accepted(ticket),
            Err(error) => error == Errno::EBADF,
        }
    }
}
