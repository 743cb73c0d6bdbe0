//! The sockets that listen on one address, and the way of a connection into one of their queues.
#![forbid(unsafe_code)]

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::errno::Errno;

use crate::emul::{
    socket::SocketId,
    transport::{BridgedEnd, Events, PathInfo},
};

/// How often a full queue is tried again: often at first, for a burst is soon accepted.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(32);

/// The listening sockets of one address.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    state: Mutex<State>,
    /// Held by the connection that goes into a queue, or waits for a place in a full one: one goes at a time
    /// ([`Events::incoming`]), and those behind keep their order.
    door: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    listeners: Vec<SocketId>,
    /// Which listener is served next, where SO_REUSEPORT lets several share the port.
    turn: usize,
    /// How often the last of them has gone.
    generation: u64,
}

/// When a connection came: who begins to listen after all have gone has nothing of it, though it may still be on its way
/// into a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    generation: u64,
}

impl Listeners {
    /// Takes connections for `listener` from now on.
    pub(crate) fn add(&self, listener: SocketId) {
        self.state().listeners.push(listener);
    }

    /// Takes no more connections for `listener`.
    pub(crate) fn remove(&self, listener: SocketId) {
        let mut state = self.state();
        let before = state.listeners.len();
        state.listeners.retain(|&other| other != listener);
        if state.listeners.is_empty() && before > 0 {
            state.generation += 1;
        }
    }

    /// Notes that a connection has come; none if nobody listens.
    pub(crate) fn arrival(&self) -> Option<Arrival> {
        let state = self.state();
        let generation = state.generation;
        (!state.listeners.is_empty()).then_some(Arrival { generation })
    }

    /// Whether nobody listens.
    pub(crate) fn is_empty(&self) -> bool {
        self.state().listeners.is_empty()
    }

    /// Whether all that listen are such.
    pub(crate) fn all(&self, is_such: impl Fn(SocketId) -> bool) -> bool {
        self.state().listeners.iter().all(|&id| is_such(id))
    }

    /// Hands a connection to a listener. It waits while all queues are full, as a client does whose SYN
    /// is left unanswered.
    ///
    /// # Errors
    /// ECONNREFUSED: nobody listens any more who did when it came. Others: there is no socket for it.
    pub(crate) async fn enter(
        &self,
        arrival: Arrival,
        (local, peer): (SocketAddr, SocketAddr),
        path: PathInfo,
        events: &dyn Events,
    ) -> Result<(SocketId, BridgedEnd), Errno> {
        let _turn = self.door.lock().await;
        let mut pause = SHORTEST_PAUSE;
        loop {
            match self.knock(arrival, (local, peer), path, events) {
                Err(Errno::EAGAIN) => {}
                result => return result,
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    /// Tries each listener once, beginning with the one whose turn it is.
    fn knock(
        &self,
        arrival: Arrival,
        (local, peer): (SocketAddr, SocketAddr),
        path: PathInfo,
        events: &dyn Events,
    ) -> Result<(SocketId, BridgedEnd), Errno> {
        let count = self.state().listeners.len();
        for _ in 0..count.max(1) {
            let listener = self.next_listener(arrival).ok_or(Errno::ECONNREFUSED)?;
            match events.incoming(listener, local, peer, path) {
                Err(Errno::EAGAIN) => {}
                result => return result,
            }
        }
        Err(Errno::EAGAIN)
    }

    fn next_listener(&self, arrival: Arrival) -> Option<SocketId> {
        let mut state = self.state();
        if state.generation != arrival.generation {
            return None;
        }
        state.turn = state.turn.wrapping_add(1);
        let count = state.listeners.len();
        state.listeners.get(state.turn.checked_rem(count)?).copied()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_after_all_have_gone_has_nothing_of_what_came_before() {
        let [first, second, third] = [1, 2, 3].map(SocketId);
        let listeners = Listeners::default();
        assert!(listeners.arrival().is_none());
        listeners.add(first);
        listeners.add(second);
        let early = listeners.arrival().unwrap();
        listeners.remove(first);
        assert_eq!(listeners.next_listener(early), Some(second));
        listeners.remove(second);
        assert_eq!(listeners.next_listener(early), None);
        listeners.add(third);
        assert_eq!(listeners.next_listener(early), None);
        let late = listeners.arrival().unwrap();
        assert_eq!(listeners.next_listener(late), Some(third));
    }
}
