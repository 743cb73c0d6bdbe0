//! The gateway's connections: two sockets each, one taken and one made, whose bridges meet over a
//! socketpair.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair},
};
use tokio::{net::lookup_host, sync::oneshot};

use super::proxy::{self, ProxyVersion};
use crate::{
    emul::{
        address::canonical,
        socket::SocketId,
        transport::{
            BridgedEnd, Callers, Closing, ConnectRequest, Events, PathInfo, Progress, Transport,
        },
    },
    network::Network,
    trust::throttle::Throttle,
};

/// How long the server may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// The listening socket.
const LISTENER: SocketId = SocketId(0);

/// All connections of a gateway.
pub(super) struct Relay {
    /// HOST:PORT.
    to: String,
    proxy: Option<ProxyVersion>,
    network: OnceLock<Arc<Network>>,
    sides: Mutex<HashMap<SocketId, Side>>,
    next: AtomicU64,
    /// What clients can make it say.
    reports: Throttle,
}

/// One of a connection's two sockets.
#[derive(Debug)]
struct Side {
    other: SocketId,
    /// The end that is bridged once connect has succeeded, and who waits for that.
    attempt: Option<Attempt>,
    /// The other socket was reset: this one is to be.
    aborted: bool,
}

#[derive(Debug)]
struct Attempt {
    end: OwnedFd,
    failed: oneshot::Sender<(OwnedFd, Errno)>,
}

impl Relay {
    /// Passes connections on to `to`.
    pub(super) fn new(to: String, proxy: Option<ProxyVersion>) -> Self {
        Self {
            to,
            proxy,
            network: OnceLock::new(),
            sides: Mutex::default(),
            next: AtomicU64::new(LISTENER.0 + 1),
            reports: Throttle::default(),
        }
    }

    /// Names the network, which knows this object as its `Events`. To be called before anything listens.
    pub(super) fn set_network(&self, network: Arc<Network>) {
        if self.network.set(network).is_err() {
            tracing::error!("the network was set twice");
        }
    }

    /// The socket that listens.
    pub(super) fn listener(&self) -> SocketId {
        LISTENER
    }

    fn sides(&self) -> MutexGuard<'_, HashMap<SocketId, Side>> {
        self.sides.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn network(&self) -> Result<&Arc<Network>, Errno> {
        self.network.get().ok_or(Errno::ENETDOWN)
    }

    fn new_id(&self) -> SocketId {
        SocketId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Connects `id` to the first of the server's addresses that answers, and bridges `end`.
    async fn pass_on(self: Arc<Self>, id: SocketId, mut end: OwnedFd) {
        let mut failure = Errno::EHOSTUNREACH;
        match lookup_host(&self.to).await {
            Err(error) => self
                .reports
                .warn(|| format!("cannot look up {}: {error}; correct --to", self.to)),
            Ok(addresses) => {
                for address in addresses {
                    match self.connect(id, canonical(address), end).await {
                        None => return,
                        Some((returned, errno)) => (end, failure) = (returned, errno),
                    }
                }
                self.reports.warn(|| {
                    format!(
                        "cannot reach {}: {}; {}",
                        self.to,
                        failure.desc(),
                        advice(failure)
                    )
                });
            }
        }
        self.abort_other(id);
        self.forget(id);
        // Its hang-up tells the other side.
        drop(end);
    }

    /// Returns the end if the attempt has failed.
    async fn connect(
        self: &Arc<Self>,
        id: SocketId,
        peer: SocketAddr,
        end: OwnedFd,
    ) -> Option<(OwnedFd, Errno)> {
        let (sender, failed) = oneshot::channel();
        {
            let mut sides = self.sides();
            // The client may have gone.
            let side = sides.get_mut(&id)?;
            side.attempt = Some(Attempt {
                end,
                failed: sender,
            });
        }
        let request = ConnectRequest {
            peer,
            source: None,
            timeout: CONNECT_TIMEOUT,
        };
        let started = self.network().and_then(|network| {
            let begun = network.connect(id, request)?;
            match begun.progress {
                Progress::Pending => {}
                Progress::Established => {
                    match self.connected(id, begun.local, PathInfo::default()) {
                        Some(end) => network.carry(id, end),
                        None => network.abandon(id),
                    }
                }
                Progress::Failed(errno) => return Err(errno),
            }
            network.proceed();
            Ok(())
        });
        if let Err(errno) = started {
            self.failed(id, errno);
        }
        failed.await.ok()
    }

    fn abort_other(&self, id: SocketId) {
        let mut sides = self.sides();
        let other = sides.get(&id).map(|side| side.other);
        if let Some(side) = other.and_then(|other| sides.get_mut(&other)) {
            side.aborted = true;
        }
    }

    /// One side is over. If the other is still being connected, nobody waits for that any more.
    fn forget(&self, id: SocketId) {
        let abandoned = {
            let mut sides = self.sides();
            let other = sides.remove(&id).map(|side| side.other);
            let is_attempt =
                |other: &SocketId| sides.get(other).is_some_and(|side| side.attempt.is_some());
            let other = other.filter(is_attempt);
            other.and_then(|other| Some((other, sides.remove(&other)?)))
        };
        if let Ok(network) = self.network() {
            network.release(id);
            if let Some((other, _)) = abandoned {
                network.release(other);
            }
        }
    }

    fn greet(&self, end: &OwnedFd, client: SocketAddr, local: SocketAddr) -> Result<(), Errno> {
        let Some(version) = self.proxy else {
            return Ok(());
        };
        let header = proxy::header(version, client, local);
        // The first bytes of a new queue, which has room for them.
        send(end.as_raw_fd(), &header, MsgFlags::MSG_DONTWAIT).map(drop)
    }
}

/// What to do about a server that is not reached.
fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::EMFILE | Errno::ENFILE => "raise the limit of open files (ulimit -n)",
        _ => "is it running?",
    }
}

/// The relay as the network sees it. The methods are called within its runtime.
impl Events for Arc<Relay> {
    fn incoming(
        &self,
        _: SocketId,
        local: SocketAddr,
        peer: SocketAddr,
        _: PathInfo,
    ) -> Result<(SocketId, BridgedEnd), Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (taken_end, made_end) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
        self.greet(&taken_end, peer, local)?;
        let (taken, made) = (self.new_id(), self.new_id());
        let side = |other| Side {
            other,
            attempt: None,
            aborted: false,
        };
        self.sides()
            .extend([(taken, side(made)), (made, side(taken))]);
        tokio::spawn(Arc::clone(self).pass_on(made, made_end));
        Ok((taken, BridgedEnd::new(taken_end)))
    }

    fn connected(&self, id: SocketId, _: SocketAddr, _: PathInfo) -> Option<BridgedEnd> {
        let attempt = self.sides().get_mut(&id)?.attempt.take()?;
        Some(BridgedEnd::new(attempt.end))
    }

    fn failed(&self, id: SocketId, error: Errno) {
        let attempt = self
            .sides()
            .get_mut(&id)
            .and_then(|side| side.attempt.take());
        if let Ok(network) = self.network() {
            network.abandon(id);
        }
        if let Some(attempt) = attempt {
            // Received by pass_on, which waits.
            let _ = attempt.failed.send((attempt.end, error));
        }
    }

    fn path(&self, _: SocketId, _: PathInfo) {}

    fn closing(&self, id: SocketId) -> Closing {
        match self.sides().get(&id) {
            Some(side) if side.aborted => Closing::Abort,
            _ => Closing::Orderly,
        }
    }

    fn peer_finished(&self, _: SocketId) {}

    fn reset(&self, id: SocketId, end: OwnedFd, _: Errno) {
        self.abort_other(id);
        self.forget(id);
        drop(end);
    }

    fn finished(&self, id: SocketId, _end: BorrowedFd<'_>) {
        self.forget(id);
    }

    fn closed(&self, id: SocketId) {
        self.forget(id);
    }

    fn holder(&self, _id: SocketId) -> Option<i32> {
        None
    }

    fn callers(&self) -> Option<Callers> {
        None
    }

    fn drained(&self) {}
}
