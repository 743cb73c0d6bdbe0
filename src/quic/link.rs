//! One QUIC connection and the TCP connections on it.
#![forbid(unsafe_code)]

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quinn::{Connection, VarInt};
use tokio::sync::watch;

use super::{code, config};

/// How long a QUIC connection without streams is kept for the next connect(2).
const IDLE_LIFE: Duration = Duration::from_secs(30);

/// A QUIC connection.
#[derive(Debug)]
pub(crate) struct Link {
    /// quinn's handle.
    pub(crate) connection: Connection,
    /// Whether no new stream may begin.
    retired: Mutex<bool>,
    /// Streams in use.
    streams: watch::Sender<usize>,
    /// Streams that a listener has taken.
    taken: Mutex<Taken>,
}

/// How many streams of a server's link listeners have taken, and what the client may do for that.
#[derive(Debug)]
struct Taken {
    now: usize,
    /// As many as there ever were, in whole powers of two: the window is for these.
    windows: usize,
    /// Streams that the client may have open.
    allowed: u32,
}

/// A share in a link: while it lives, the link does.
#[derive(Debug)]
pub(crate) struct Share {
    link: Arc<Link>,
    taken: bool,
}

impl Share {
    /// Notes that a listener has taken the stream. The client may then have more of them, and more
    /// bytes in flight.
    pub(crate) fn take(&mut self) {
        if !std::mem::replace(&mut self.taken, true) {
            self.link.grow();
        }
    }
}

impl Share {
    /// The link, which may outlive the share.
    pub(crate) fn link(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }
}

impl std::ops::Deref for Share {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.link
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.link.streams.send_modify(|count| *count -= 1);
        if self.taken {
            self.link.taken().now -= 1;
        }
    }
}

impl Link {
    /// A link over an established connection.
    pub(crate) fn new(connection: Connection) -> Arc<Self> {
        Arc::new(Self {
            connection,
            retired: Mutex::new(false),
            streams: watch::Sender::new(0),
            taken: Mutex::new(Taken {
                now: 0,
                windows: 0,
                allowed: config::FIRST_STREAMS,
            }),
        })
    }

    /// A share for a new stream; none when the link is closed or about to be.
    pub(crate) fn share(self: &Arc<Self>) -> Option<Share> {
        let retired = self.retired();
        if *retired || self.connection.close_reason().is_some() {
            return None;
        }
        self.streams.send_modify(|count| *count += 1);
        Some(Share {
            link: Arc::clone(self),
            taken: false,
        })
    }

    /// One more stream has been taken.
    fn grow(&self) {
        let mut taken = self.taken();
        taken.now += 1;
        if taken.now > taken.windows {
            taken.windows = taken.now.next_power_of_two();
            let window = config::receive_window(taken.windows);
            self.connection.set_receive_window(window);
        }
        if taken.allowed < config::MAX_STREAMS && taken.now > taken.allowed as usize / 2 {
            taken.allowed *= 2;
            let more = VarInt::from_u32(taken.allowed);
            self.connection.set_max_concurrent_bi_streams(more);
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets no new stream begin. Returns whether one could until now.
    pub(crate) fn retire(&self) -> bool {
        !std::mem::replace(&mut *self.retired(), true)
    }

    /// How many streams are in use.
    pub(crate) fn streams(&self) -> usize {
        *self.streams.borrow()
    }

    /// Whether any is.
    pub(crate) fn is_used(&self) -> bool {
        self.streams() > 0
    }

    /// Retires the link if no stream is on it. Decided under the lock that [`Self::share`] takes.
    fn retire_if_unused(&self) -> bool {
        let mut retired = self.retired();
        let unused = !self.is_used();
        *retired |= unused;
        unused
    }

    fn retired(&self) -> MutexGuard<'_, bool> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves once a link that was retired carries no stream.
    pub(crate) async fn unused(&self) {
        // An error means that the sender is gone, which `self` owns.
        let _ = self.streams.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Resolves, and retires the link, once it has carried no stream for a while.
    pub(crate) async fn idle(&self) {
        let mut streams = self.streams.subscribe();
        loop {
            let _ = streams.wait_for(|count| *count == 0).await;
            if tokio::time::timeout(IDLE_LIFE, streams.changed())
                .await
                .is_err()
                && self.retire_if_unused()
            {
                return;
            }
        }
    }

    /// Tells the peer that the link is no longer needed.
    pub(crate) fn close(&self) {
        self.connection.close(code::CLOSED, b"unused");
    }
}
