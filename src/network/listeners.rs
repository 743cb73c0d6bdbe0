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
}

impl Listeners {
    /// Takes connections for `listener` from now on.
    pub(crate) fn add(&self, listener: SocketId) {
        self.state().listeners.push(listener);
    }

    /// Takes no more connections for `listener`.
    pub(crate) fn remove(&self, listener: SocketId) {
        self.state().listeners.retain(|&other| other != listener);
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
    /// ECONNREFUSED: nobody listens. Others: there is no socket for it.
    pub(crate) async fn enter(
        &self,
        local: SocketAddr,
        peer: SocketAddr,
        path: PathInfo,
        events: &dyn Events,
    ) -> Result<(SocketId, BridgedEnd), Errno> {
        let _turn = self.door.lock().await;
        let mut pause = SHORTEST_PAUSE;
        loop {
            match self.knock(local, peer, path, events) {
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
        local: SocketAddr,
        peer: SocketAddr,
        path: PathInfo,
        events: &dyn Events,
    ) -> Result<(SocketId, BridgedEnd), Errno> {
        let count = self.state().listeners.len();
        for _ in 0..count {
            let listener = self.next_listener().ok_or(Errno::ECONNREFUSED)?;
            match events.incoming(listener, local, peer, path) {
                Err(Errno::EAGAIN) => {}
                result => return result,
            }
        }
        Err(if count == 0 {
            Errno::ECONNREFUSED
        } else {
            Errno::EAGAIN
        })
    }

    fn next_listener(&self) -> Option<SocketId> {
        let mut state = self.state();
        state.turn = state.turn.wrapping_add(1);
        let count = state.listeners.len();
        state.listeners.get(state.turn.checked_rem(count)?).copied()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
