//! The emulated sockets as programs with the fast path see them. Each program sees those that it has asked the supervisor
//! for, and the connections of listeners among them: view.rs.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    os::fd::RawFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    tickets::{Ticket, Tickets},
    view::{Values, View},
};
use crate::emul::{
    options::Limits,
    socket::{Socket, SocketId},
};

/// Programs that see a socket, at most: each change is written for all. Others ask for it each time.
const MOST_VIEWS: usize = 64;
/// Fewest programs of which some may be gone before they are looked for. It grows with what is left, so that the cost for
/// each program stays the same.
const FEW_VIEWS: usize = 16;

/// The views that a socket is seen in.
#[derive(Debug, Default)]
struct Seen(Vec<u64>);

#[derive(Debug)]
struct State {
    views: HashMap<u64, View>,
    sockets: HashMap<u64, Seen>,
    tickets: Tickets,
    values: Values,
    /// How many views were used when that was last looked at.
    used: usize,
}

/// All views, to be cloned for the threads that give programs the fast path.
#[derive(Debug, Clone)]
pub(crate) struct Sockets(Arc<Mutex<State>>);

impl Sockets {
    /// No program sees any.
    pub(crate) fn new(limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(State {
            views: HashMap::new(),
            sockets: HashMap::new(),
            tickets: Tickets::default(),
            values: Values::new(limits),
            used: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a program is to see.
    pub(super) fn add(&self, view: View) {
        let mut state = self.state();
        if state.views.len() >= FEW_VIEWS.max(2 * state.used) {
            state.forget_unused();
        }
        state.views.insert(view.id, view);
    }

    /// Lets a program see a socket, which is odd. Returns whether it did not, and does now.
    pub(crate) fn show_to(&self, view: u64, key: u64) -> bool {
        let state = &mut *self.state();
        let Some(view) = state.views.get_mut(&view) else {
            return false;
        };
        state.sockets.entry(key).or_default().see(view, key)
    }

    /// Gives a connection a ticket, and lets it be seen, odd, where its listener is. None if there are too many, or no
    /// random numbers.
    pub(crate) fn issue(&self, connection: SocketId, listener: Option<u64>) -> Option<Ticket> {
        let state = &mut *self.state();
        let ticket = state.tickets.issue(connection)?;
        let key = ticket.key();
        let listener = listener.and_then(|listener| state.sockets.get(&listener));
        let mut seen = Seen::default();
        for id in listener.iter().flat_map(|listener| &listener.0) {
            if let Some(view) = state.views.get_mut(id) {
                seen.see(view, key);
            }
        }
        state.sockets.insert(key, seen);
        Some(ticket)
    }

    /// The connection is no more.
    pub(crate) fn take_back(&self, ticket: Ticket) {
        self.state().tickets.take_back(ticket);
    }

    /// Whose ticket this is.
    pub(crate) fn connection(&self, ticket: Ticket) -> Option<SocketId> {
        self.state().tickets.connection(ticket)
    }

    /// The threads that have accepted a connection, as they say, and their descriptors then: of one it may be true.
    pub(crate) fn holders(&self, ticket: Ticket) -> Vec<(i32, RawFd)> {
        let state = self.state();
        let Some(seen) = state.sockets.get(&ticket.key()) else {
            return Vec::new();
        };
        let views = seen.0.iter().filter_map(|id| state.views.get(id));
        views.filter_map(|view| view.holder(ticket.key())).collect()
    }

    /// Removes a socket: programs ask for what they still have of it.
    pub(crate) fn remove(&self, key: u64) {
        let state = &mut *self.state();
        for id in state.sockets.remove(&key).unwrap_or_default().0 {
            if let Some(view) = state.views.get_mut(&id) {
                view.remove(key);
            }
        }
    }

    /// Says that the supervisor is busy with the socket. Returns whether that is news to a program.
    pub(crate) fn take_up(&self, key: u64) -> bool {
        let mut is_news = false;
        self.state()
            .each_view(key, |view, _| is_news |= view.take_up(key));
        is_news
    }

    /// Shows the socket as it is now. If it listens, `accepts` says whether connections may be accepted on it without the
    /// supervisor.
    pub(crate) fn show(&self, key: u64, socket: &Socket, accepts: bool) {
        self.state().each_view(key, |view, values| {
            view.show(key, socket, accepts, values);
        });
    }

    /// Shows the pending error at once: before the pair has one, by which the program notices.
    pub(crate) fn show_error(&self, key: u64, socket: &Socket) {
        self.state()
            .each_view(key, |view, _| view.show_error(key, socket));
    }
}

impl Seen {
    fn see(&mut self, view: &mut View, key: u64) -> bool {
        let is_new = self.0.len() < MOST_VIEWS && view.insert(key);
        if is_new {
            // It cannot have accepted what it could not see: that is of one that had the number before.
            view.clear_holder(key);
            self.0.push(view.id);
        }
        is_new
    }
}

impl State {
    fn each_view(&mut self, key: u64, mut act: impl FnMut(&mut View, &mut Values)) {
        let seen = self.sockets.get(&key);
        for id in seen.iter().flat_map(|seen| &seen.0) {
            if let Some(view) = self.views.get_mut(id) {
                act(view, &mut self.values);
            }
        }
    }

    /// Forgets views that no process has any more.
    fn forget_unused(&mut self) {
        let sockets = &mut self.sockets;
        self.views.retain(|id, view| {
            let is_used = view.is_used();
            if !is_used {
                for key in view.keys() {
                    if let Some(Seen(by)) = sockets.get_mut(&key) {
                        by.retain(|by| by != id);
                    }
                }
            }
            is_used
        });
        self.used = self.views.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emul::testing::tcp;

    /// A program that has the descriptors until they are dropped.
    fn program(sockets: &Sockets) -> (u64, [std::os::fd::OwnedFd; 2]) {
        let view = View::new().unwrap();
        let (id, lent) = (view.id, view.lend().unwrap());
        sockets.add(view);
        (id, lent)
    }

    fn sees(sockets: &Sockets, program: u64, key: u64) -> bool {
        sockets.state().views[&program]
            .keys()
            .any(|seen| seen == key)
    }

    #[test]
    fn a_program_sees_what_it_has_asked_for_and_what_comes_to_its_listeners() {
        let sockets = Sockets::new(Limits::default());
        let (server, _fds) = program(&sockets);
        let (client, _fds) = program(&sockets);
        assert!(sockets.show_to(server, 1));
        assert!(!sockets.show_to(server, 1));
        assert!(sockets.show_to(client, 2));
        let ticket = sockets.issue(SocketId(3), Some(1)).unwrap();
        let seen = |program| [1, 2, ticket.key()].map(|key| sees(&sockets, program, key));
        assert_eq!(seen(server), [true, false, true]);
        assert_eq!(seen(client), [false, true, false]);
        assert!(sockets.show_to(client, ticket.key()));
        sockets.remove(ticket.key());
        sockets.remove(1);
        assert_eq!(seen(server), [false; 3]);
        assert_eq!(seen(client), [false, true, false]);
    }

    #[test]
    fn news_are_news_to_any() {
        let sockets = Sockets::new(Limits::default());
        let (first, _fds) = program(&sockets);
        let (second, _fds) = program(&sockets);
        assert!(!sockets.take_up(1));
        sockets.show_to(first, 1);
        assert!(!sockets.take_up(1));
        sockets.show(1, &tcp(), true);
        assert!(sockets.take_up(1));
        assert!(!sockets.take_up(1));
        sockets.show(1, &tcp(), true);
        sockets.show_to(second, 1);
        assert!(sockets.take_up(1));
    }

    #[test]
    fn a_socket_is_seen_by_no_more_programs_than_can_be_told() {
        let sockets = Sockets::new(Limits::default());
        let programs: Vec<_> = (0..=MOST_VIEWS).map(|_| program(&sockets)).collect();
        let seen = programs.iter().map(|(id, _)| sockets.show_to(*id, 1));
        assert_eq!(seen.filter(|seen| *seen).count(), MOST_VIEWS);
    }

    #[test]
    fn what_a_program_says_is_known_as_long_as_it_is_there() {
        let sockets = Sockets::new(Limits::default());
        let (server, fds) = program(&sockets);
        sockets.show_to(server, 1);
        let ticket = sockets.issue(SocketId(3), Some(1)).unwrap();
        assert_eq!(sockets.holders(ticket), []);
        sockets.state().views[&server].note(ticket.key(), 7, 3);
        assert_eq!(sockets.holders(ticket), [(7, 3)]);
        drop(fds);
        let others: Vec<_> = (0..FEW_VIEWS).map(|_| program(&sockets)).collect();
        assert_eq!(sockets.state().views.len(), others.len());
        assert_eq!(sockets.holders(ticket), []);
        assert!(!sockets.show_to(server, 1));
    }
}
