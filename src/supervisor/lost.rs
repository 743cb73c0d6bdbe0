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
    tasks,
};
use crate::{
    emul::socket::SocketId,
    zpoline::{mark::Mark, tickets::Ticket},
};

/// When a program is looked for first, which may be about to say that it has accepted the connection; and the longest
/// time between two looks.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LAST_LOOK: Duration = Duration::from_secs(1);
/// A search of all processes takes no more than this part of the time.
const SEARCHES: u32 = 10;

/// A connection that is over.
#[derive(Debug)]
struct Loss {
    listener: SocketId,
    error: Errno,
}

/// Connections whose programs are yet to see that they are over.
#[derive(Debug, Default)]
pub(super) struct Losses {
    connections: HashMap<SocketId, Loss>,
    /// When to look for the programs, and how long to wait then.
    next: Option<Instant>,
    interval: Duration,
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
    /// The program's end of a connection that was accepted without the supervisor: `fd` is a copy. None if it is not.
    pub(super) fn meet(&mut self, ticket: Ticket, fd: &OwnedFd) -> Option<SocketId> {
        let connection = self.ticketed(ticket)?;
        if self.look(connection)?.program.is_some() {
            return None;
        }
        self.set_program_end(connection, ProgramEnd::of(fd)?);
        self.show_loss(connection, fd);
        Some(connection)
    }

    /// Shows the program's end of a connection that it was reset, if it was.
    pub(super) fn show_loss(&mut self, connection: SocketId, program: &OwnedFd) {
        let was_reset = self
            .look(connection)
            .is_some_and(|entry| matches!(entry.end, End::Ours(_)));
        if !was_reset {
            return;
        }
        let loss = self.lost.connections.remove(&connection);
        // Programs accept on it without us again.
        let _ = loss.as_ref().map(|loss| self.get(loss.listener).is_some());
        if let Some(ours) = self.set_end(connection, End::Closed) {
            match loss {
                Some(Loss {
                    error: Errno::EPIPE,
                    ..
                }) => pair::show_broken(ours),
                _ => pair::show_reset(|| program.try_clone().ok(), ours),
            }
        }
    }
}

impl Supervisor {
    /// The program's end of a connection that was accepted without us, if it is where the program has said.
    pub(super) fn taken(&self, table: &mut Table, connection: SocketId) -> Option<OwnedFd> {
        let (ticket, holder) = table.taker(connection)?;
        let fd = self.tasks.get_fd(holder.tid, holder.fd).ok()?;
        if Mark::of(fd.as_fd()) != Mark::Accepted(ticket) {
            return None;
        }
        table.meet(ticket, &fd)?;
        table.set_holder(connection, holder);
        Some(fd)
    }

    /// Keeps our `end` of a connection that is over until whoever accepts it, or has accepted it, can see that.
    pub(super) fn lose(&self, table: &mut Table, connection: SocketId, end: OwnedFd, error: Errno) {
        let issued = table.look(connection).and_then(|entry| entry.issued);
        let Some(issued) = issued else {
            table.set_end(connection, End::Ours(end));
            return;
        };
        // The program may close it before it is found.
        if let Err(error) = self.watch(connection, end.as_fd()) {
            tracing::debug!(%error, "a connection that is over is not watched");
        }
        table.set_end(connection, End::Ours(end));
        let listener = issued.listener;
        table
            .lost
            .connections
            .insert(connection, Loss { listener, error });
        table.lost.interval = FIRST_LOOK;
        table.lost.next = Some(Instant::now() + FIRST_LOOK);
        // From now on who accepts there comes to us.
        table.get(listener);
        self.wake();
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
            if self.taken(&mut table, connection).is_none() && table.taker(connection).is_some() {
                sought = true;
                // Its program hands connections on.
                let issued = table.look(connection).and_then(|entry| entry.issued);
                if let Some(listener) = issued.and_then(|issued| table.get(issued.listener)) {
                    listener.hands_on = true;
                }
            }
        }
        if sought || table.lost.interval >= LAST_LOOK {
            drop(table);
            self.search();
            table = self.table();
        }
        let lost = &mut table.lost;
        let pause = lost.interval.max(now.elapsed() * SEARCHES);
        lost.interval = (2 * lost.interval).min(LAST_LOOK);
        lost.next = (!lost.connections.is_empty()).then(|| Instant::now() + pause);
    }

    /// Looks at all sockets of all processes.
    fn search(&self) {
        for holder in tasks::sockets() {
            let Ok(fd) = self.tasks.get_fd(holder.tid, holder.fd) else {
                continue;
            };
            if let Mark::Accepted(ticket) = Mark::of(fd.as_fd()) {
                let mut table = self.table();
                if let Some(connection) = table.meet(ticket, &fd) {
                    table.set_holder(connection, holder);
                }
            }
        }
    }
}
