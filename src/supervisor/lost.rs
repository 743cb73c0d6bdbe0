//! Connections that were reset while they waited for accept(2): whoever accepts them is to see it. With the fast path a
//! program may accept them by itself, which only the kernel knows of.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::errno::Errno;

use super::{
    Supervisor,
    events::program_end,
    pair,
    peer::Peer,
    sockets::{End, ProgramEnd, Table},
};
use crate::{emul::socket::SocketId, sys::socket::is_hung_up, zpoline::tickets::Ticket};

/// When it is looked first whether one was accepted, by a program that was about to; and the longest time between two
/// looks.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LAST_LOOK: Duration = Duration::from_secs(1);
/// After a look there is none for so many times as long as it took.
const REST: u32 = 10;

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
    /// When to look for them, and how long to wait then.
    next: Option<Instant>,
    interval: Duration,
}

impl Losses {
    /// When they are to be looked for.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next
    }

    /// Whether one of them is to be accepted on this listener.
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
        self.show_loss(connection, || fd.try_clone().ok());
        Some(connection)
    }

    /// Asks what has become of a connection whose program's end is not known, and notes that. `ours` is the other end.
    pub(super) fn learn(&mut self, connection: SocketId, ours: BorrowedFd<'_>) -> Peer {
        let peer = match &self.peers {
            Some(peers) => peers.of(ours),
            // Without the fast path nobody accepts without us.
            None => Ok(Peer::Unaccepted),
        };
        let peer = peer.unwrap_or_else(|error| {
            tracing::debug!(?connection, %error, "the kernel does not say who has it");
            Peer::Unaccepted
        });
        if let Peer::Accepted(program) = peer {
            self.set_program_end(connection, program);
        }
        peer
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
    /// Keeps our `end` of a connection that is over until whoever accepts it can see that.
    pub(super) fn lose(&self, table: &mut Table, connection: SocketId, end: OwnedFd, error: Errno) {
        let issued = table.look(connection).and_then(|entry| entry.issued);
        let Some(issued) = issued else {
            if is_hung_up(end.as_fd()) {
                // With its listener, and nothing else would tell.
                return self.abandon(table, connection);
            }
            table.set_end(connection, End::Ours(end));
            return;
        };
        // It may be closed unaccepted, or by its program before it is looked for.
        if let Err(error) = self.watch(connection, end.as_fd()) {
            tracing::debug!(%error, "a connection that is over is not watched");
        }
        table.set_end(connection, End::Ours(end));
        let listener = issued.listener;
        let lost = &mut table.lost;
        lost.connections
            .insert(connection, Loss { listener, error });
        lost.interval = FIRST_LOOK;
        let next = Instant::now() + FIRST_LOOK;
        lost.next = Some(lost.next.map_or(next, |sooner| sooner.min(next)));
        // From now on who accepts there comes to us.
        table.get(listener);
        self.wake();
    }

    /// Forgets a connection that no program has.
    pub(super) fn abandon(&self, table: &mut Table, connection: SocketId) {
        table.set_end(connection, End::Closed);
        self.closed(table, connection);
    }

    /// Looks which connections that are over were accepted meanwhile, when it is time to.
    pub(super) fn look_for_lost(&self) {
        let now = Instant::now();
        let mut table = self.table();
        if table.lost.next.is_none_or(|next| next > now) {
            return;
        }
        let connections: Vec<SocketId> = table.lost.connections.keys().copied().collect();
        for connection in connections {
            self.look_for(&mut table, connection);
        }
        let lost = &mut table.lost;
        let rest = lost.interval.max(now.elapsed() * REST);
        lost.next = (!lost.connections.is_empty()).then(|| Instant::now() + rest);
        lost.interval = (2 * lost.interval).min(LAST_LOOK);
    }

    fn look_for(&self, table: &mut Table, connection: SocketId) {
        let end = match table.look(connection).map(|entry| &entry.end) {
            Some(End::Ours(end)) if !is_hung_up(end.as_fd()) => end.try_clone(),
            // About to be told.
            _ => return,
        };
        if let Ok(end) = end
            && let Peer::Accepted(_) = table.learn(connection, end.as_fd())
        {
            drop(end);
            let program = program_end(&self.tasks, table, connection);
            table.show_loss(connection, || program);
        }
    }
}
