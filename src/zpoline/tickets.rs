//! Tickets of connections that programs may accept by themselves. Who accepts one finds its ticket at the head of the
//! data, marks the connection with it, and notes by its number who has it (view.rs).
//!
//! A ticket has a secret beside its number, which can be guessed: by the number alone, a program could give itself out
//! for another's connection.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};

use super::mark::{ACCEPTED, KIND_SHIFT, LEFT, SECRET_SHIFT};
use crate::emul::socket::SocketId;

/// Connections at a time.
pub(super) const MOST: usize = 1 << SECRET_SHIFT;
const NUMBER: u64 = MOST as u64 - 1;
/// So many numbers are free before one is given again: each takes 8 bytes of a server's list.
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

/// The number of the ticket by which the table knows a connection, if it is one that has a ticket.
pub(super) fn number_of_key(key: u64) -> Option<usize> {
    (key >> KIND_SHIFT == ACCEPTED).then_some((key & NUMBER) as usize)
}

/// The tickets.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    issued: HashMap<u64, (Ticket, SocketId)>,
    /// Those that were taken back, the longest free first: a socket may outlive what is known of it, and is not to find
    /// another's names by a number that was given again at once.
    free: VecDeque<u64>,
}

impl Tickets {
    /// A ticket for a connection. None if there are too many, or no random numbers.
    pub(super) fn issue(&mut self, connection: SocketId) -> Option<Ticket> {
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
        self.issued.insert(number, (ticket, connection));
        Some(ticket)
    }

    /// The connection is no more.
    pub(super) fn take_back(&mut self, ticket: Ticket) {
        if self.connection(ticket).is_some() {
            self.issued.remove(&ticket.number());
            self.free.push_back(ticket.number());
        }
    }

    /// Whose ticket this is.
    pub(super) fn connection(&self, ticket: Ticket) -> Option<SocketId> {
        let (issued, connection) = self.issued.get(&ticket.number())?;
        (*issued == ticket).then_some(*connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_known_by_number_and_secret() {
        let mut tickets = Tickets::default();
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
    fn a_number_is_given_again_after_many_others() {
        let mut tickets = Tickets::default();
        let first = tickets.issue(SocketId(5)).unwrap();
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
    }
}
