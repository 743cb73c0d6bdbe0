//! One QUIC connection and the TCP connections on it.
#![forbid(unsafe_code)]

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use quinn::{Connection, SendStream, VarInt, WriteError};
use tokio::{sync::Notify, time::Instant};

use super::{
    code,
    config::{self, Tuning},
    roaming::Departure,
    send_window::{SendWindow, Writer},
};
use crate::emul::transport::PathInfo;

/// How long a QUIC connection without streams is kept for the next connect(2).
const IDLE_LIFE: Duration = Duration::from_secs(30);

/// A QUIC connection.
#[derive(Debug)]
pub(crate) struct Link {
    /// quinn's handle.
    pub(crate) connection: Connection,
    usage: Mutex<Usage>,
    /// Notified when the last stream has ended.
    unused: Notify,
    /// Streams that a listener has taken.
    taken: Mutex<Taken>,
    /// For what it allows them.
    tuning: Tuning,
    /// How far ahead of the network its streams write.
    window: SendWindow,
    /// Where its packets leave, if that may change.
    pub(super) departure: Option<Departure>,
}

/// What a link is used for. Each short connection changes it, and wakes nobody by that.
#[derive(Debug)]
struct Usage {
    /// No new stream may begin.
    retired: bool,
    /// Streams in use.
    streams: usize,
    /// When the last one has ended, if there is none.
    unused_since: Instant,
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
        let mut usage = self.link.usage();
        usage.streams -= 1;
        if usage.streams == 0 {
            usage.unused_since = Instant::now();
            self.link.unused.notify_waiters();
        }
        drop(usage);
        if self.taken {
            self.link.taken().now -= 1;
        }
    }
}

impl Link {
    /// A link over an established connection whose path has a first link with this MTU.
    pub(crate) fn new(
        connection: Connection,
        tuning: Tuning,
        link_mtu: u32,
        departure: Option<Departure>,
    ) -> Arc<Self> {
        let window = SendWindow::new(tuning.send_window(link_mtu));
        window.fit(&connection);
        Arc::new(Self {
            connection,
            usage: Mutex::new(Usage {
                retired: false,
                streams: 0,
                unused_since: Instant::now(),
            }),
            unused: Notify::new(),
            taken: Mutex::new(Taken {
                now: 0,
                windows: 0,
                allowed: config::FIRST_STREAMS,
            }),
            tuning,
            window,
            departure,
        })
    }

    /// A share for a new stream; none when the link is closed or about to be.
    pub(crate) fn share(self: &Arc<Self>) -> Option<Share> {
        let mut usage = self.usage();
        if usage.retired || self.connection.close_reason().is_some() {
            return None;
        }
        usage.streams += 1;
        Some(Share {
            link: Arc::clone(self),
            taken: false,
        })
    }

    /// The path, for a connection that began when so many packets and bytes had been lost: now, if that is not said. What
    /// the connection itself has moved is not in it.
    pub(crate) fn path(&self, lost_before: Option<(u64, u64)>) -> PathInfo {
        let stats = self.connection.stats();
        let lost = (stats.path.lost_packets, stats.path.lost_bytes);
        let before = lost_before.unwrap_or(lost);
        let mtu = stats.path.current_mtu;
        PathInfo {
            rtt: stats.path.rtt,
            min_rtt: stats.path.min_rtt,
            cwnd: stats.path.cwnd,
            mss: mtu.saturating_sub(config::OVERHEAD).into(),
            mtu: mtu.into(),
            lost_packets: lost.0.saturating_sub(before.0),
            lost_bytes: lost.1.saturating_sub(before.1),
            sent_packets: stats.udp_tx.datagrams,
            received_packets: stats.udp_rx.datagrams,
            ..PathInfo::default()
        }
    }

    /// Writes a chunk to a stream of the link, when it is that one's turn.
    pub(crate) async fn write(
        &self,
        writer: &mut Writer,
        send: &mut SendStream,
        chunk: Bytes,
    ) -> Result<(), WriteError> {
        let writing = writer.write(&self.window, &self.connection, send, chunk);
        writing.await
    }

    /// One more stream has been taken.
    fn grow(&self) {
        let mut taken = self.taken();
        taken.now += 1;
        if taken.now > taken.windows {
            taken.windows = taken.now.next_power_of_two();
            let window = self.tuning.receive_window(taken.windows);
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
        !std::mem::replace(&mut self.usage().retired, true)
    }

    /// How many streams are in use.
    pub(crate) fn streams(&self) -> usize {
        self.usage().streams
    }

    /// Whether any is.
    pub(crate) fn is_used(&self) -> bool {
        self.streams() > 0
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves once a link that was retired carries no stream.
    pub(crate) async fn unused(&self) {
        loop {
            let mut unused = pin!(self.unused.notified());
            // Registered before the look, so that nothing in between is missed.
            unused.as_mut().enable();
            if !self.is_used() {
                return;
            }
            unused.await;
        }
    }

    /// Resolves, and retires the link, once it has carried no stream for a while.
    pub(crate) async fn idle(&self) {
        loop {
            tokio::time::sleep_until(self.idle_at()).await;
            let mut usage = self.usage();
            if usage.streams == 0 && usage.unused_since.elapsed() >= IDLE_LIFE {
                usage.retired = true;
                return;
            }
        }
    }

    /// When that is, at the earliest.
    fn idle_at(&self) -> Instant {
        let usage = self.usage();
        let since = match usage.streams {
            0 => usage.unused_since,
            _ => Instant::now(),
        };
        since + IDLE_LIFE
    }

    /// Tells the peer that the link is no longer needed.
    pub(crate) fn close(&self) {
        self.connection.close(code::CLOSED, b"unused");
    }
}
