//! Tickets of connections that programs may accept by themselves. Who accepts one finds its ticket at the head of the
//! data, marks the connection with it, and notes here who has it.
//!
//! A ticket has a secret beside its number, which all wrapped programs can see: by the number alone, one could give
//! itself out for another's connection.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, VecDeque},
    os::fd::RawFd,
    sync::{Arc, atomic::Ordering},
};

use super::mark::{ACCEPTED, KIND_SHIFT, LEFT, SECRET_SHIFT};
use crate::{emul::socket::SocketId, sys::shared_memory::SharedMemory};

/// Connections at a time.
pub(super) const MOST: usize = 1 << SECRET_SHIFT;
const NUMBER: u64 = MOST as u64 - 1;
/// So many numbers are free before one is given again: each takes 8 bytes.
const KEPT_FREE: usize = 1 << 16;

/// A connection's ticket: a number and a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

impl Ticket {
    /// The one in a mark.
    pub(super) fn of_mark(mark: u64) -> Self {
        Self(mark & LEFT)
    }

    /// The mark of the connection.
    pub(crate) fn mark(self) -> u64 {
        ACCEPTED << KIND_SHIFT | self.0
    }

    /// What the table knows the connection by.
    pub(crate) fn key(self) -> u64 {
        ACCEPTED << KIND_SHIFT | self.number()
    }

    fn number(self) -> u64 {
        self.0 & NUMBER
    }
}

/// The tickets, and who has taken the connections, by the number: a thread in the lower half, which is not 0 then, its
/// descriptor in the upper.
#[derive(Debug)]
pub(crate) struct Tickets {
    holders: Arc<SharedMemory>,
    issued: HashMap<u64, (Ticket, SocketId)>,
    /// Those that were taken back, the longest free first: a socket may outlive what is known of it, and is not to find
    /// another's names by a number that was given again at once.
    free: VecDeque<u64>,
}

impl Tickets {
    /// None issued yet.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(crate) fn new() -> nix::Result<Self> {
        let holders = SharedMemory::for_all(c"quicwrap-accepted", MOST * size_of::<u64>())?;
        Ok(Self {
            holders: Arc::new(holders),
            issued: HashMap::new(),
            free: VecDeque::new(),
        })
    }

    /// The memory, to be mapped into programs.
    pub(crate) fn holders(&self) -> Arc<SharedMemory> {
        Arc::clone(&self.holders)
    }

    /// A ticket for a connection. None if there are too many, or no random numbers.
    pub(crate) fn issue(&mut self, connection: SocketId) -> Option<Ticket> {
        let mut secret = [0; 8];
        aws_lc_rs::rand::fill(&mut secret).ok()?;
        let next = (self.issued.len() + self.free.len()) as u64;
        let number = if self.free.len() < KEPT_FREE && next <= NUMBER {
            next
        } else {
            self.free.pop_front()?
        };
        let secret = u64::from_ne_bytes(secret) << SECRET_SHIFT;
        let ticket = Ticket(number | secret & LEFT);
        self.holders.long_words()[number as usize].store(0, Ordering::Relaxed);
        self.issued.insert(number, (ticket, connection));
        Some(ticket)
    }

    /// The connection is no more.
    pub(crate) fn take_back(&mut self, ticket: Ticket) {
        if self.connection(ticket).is_some() {
            self.issued.remove(&ticket.number());
            self.free.push_back(ticket.number());
        }
    }

    /// Whose ticket this is.
    pub(crate) fn connection(&self, ticket: Ticket) -> Option<SocketId> {
        let (issued, connection) = self.issued.get(&ticket.number())?;
        (*issued == ticket).then_some(*connection)
    }

    /// The thread that has accepted the connection, as it calls itself, and its descriptor then. Any program may have
    /// written that.
    pub(crate) fn holder(&self, ticket: Ticket) -> Option<(i32, RawFd)> {
        let word = self.holders.long_words()[ticket.number() as usize].load(Ordering::Acquire);
        let (tid, fd) = (word as i32, (word >> 32) as RawFd);
        (tid > 0 && fd >= 0).then_some((tid, fd))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_known_by_number_and_secret() {
        let mut tickets = Tickets::new().unwrap();
        let first = tickets.issue(SocketId(5)).unwrap();
        let second = tickets.issue(SocketId(6)).unwrap();
        assert_ne!(first.key(), second.key());
        assert_eq!(Ticket::of_mark(second.mark()), second);
        assert_eq!(tickets.connection(second), Some(SocketId(6)));
        let guessed = Ticket(second.0 ^ 1 << SECRET_SHIFT);
        assert_eq!(guessed.key(), second.key());
        assert_eq!(tickets.connection(guessed), None);
        tickets.take_back(guessed);
        assert_eq!(tickets.connection(second), Some(SocketId(6)));
    }

    #[test]
    fn a_number_is_given_again_and_its_holder_forgotten() {
        let mut tickets = Tickets::new().unwrap();
        let first = tickets.issue(SocketId(5)).unwrap();
        assert_eq!(tickets.holder(first), None);
        let word = &tickets.holders.long_words()[first.number() as usize];
        word.store(3 << 32 | 7, Ordering::Relaxed);
        assert_eq!(tickets.holder(first), Some((7, 3)));
        tickets.take_back(first);
        assert_eq!(tickets.connection(first), None);
        let mut others = 0;
        let again = loop {
            let ticket = tickets.issue(SocketId(6)).unwrap();
            tickets.take_back(ticket);
            if ticket.key() == first.key() {
                break ticket;
            }
            others += 1;
        };
        assert_eq!(others, KEPT_FREE - 1);
        assert_ne!(again, first);
        assert_eq!(tickets.holder(again), None);
    }
}
