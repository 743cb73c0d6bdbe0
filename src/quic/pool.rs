//! The client's QUIC connections: one for each peer and local address, shared by all TCP connections
//! between them.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    future,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use nix::errno::Errno;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, Side, TokioRuntime,
    crypto::rustls::QuicClientConfig,
};
use tokio::sync::{OwnedMutexGuard, watch};

use super::{
    code::{self, Refusal},
    config,
    link::{Link, Share},
    roaming::{Departure, Port, Roaming},
    udp::UdpSocket,
};
use crate::{
    network::{
        Settings,
        route::{self, Route},
        workers::Workers,
    },
    trust::Trust,
};

/// Which connections may share a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The peer's endpoint.
    pub(crate) peer: SocketAddr,
    /// The address that bind(2) chose, with port 0; unspecified if the host may choose.
    pub(crate) source: SocketAddr,
    /// Which of several links between them. Each is carried by one thread.
    pub(crate) lane: usize,
}

impl Key {
    /// The thread that carries the link. The first links to several peers are several threads', too.
    pub(crate) fn worker(&self) -> usize {
        let mut hasher = DefaultHasher::new();
        self.peer.hash(&mut hasher);
        (hasher.finish() as usize).wrapping_add(self.lane)
    }
}

/// TCP connections that each link to a peer carries before there is another, where there may be. One thread moves as much
/// for a few connections as for one; many are worth a second handshake.
const STREAMS_EACH: usize = 8;

/// What dialling a link has come to.
type Dialled = Option<Result<Arc<Link>, Refusal>>;

/// The place of a link.
#[derive(Default)]
struct Slot {
    /// What it has come to, and who waits for it.
    dialled: watch::Sender<Dialled>,
    /// Who opens a stream: one after another, so that connections come to the peer in the order in which they began.
    line: Arc<Line>,
}

/// Who waits here is served first come, first served.
type Line = tokio::sync::Mutex<()>;

/// The first place in a line: the right to open the next stream.
pub(crate) type Opening = OwnedMutexGuard<()>;

/// A place in a line.
pub(crate) struct InLine {
    dialling: watch::Receiver<Dialled>,
    turn: Pin<Box<dyn Future<Output = Opening> + Send>>,
}

/// All links to servers.
pub(crate) struct Pool {
    trust: Arc<Trust>,
    settings: Settings,
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    endpoints: Mutex<Endpoints>,
    roaming: Arc<Roaming>,
}

/// The UDP ports that links begin at.
#[derive(Default)]
struct Endpoints {
    /// By source address and thread.
    current: HashMap<(SocketAddr, usize), Current>,
    /// Those at which no link begins any more.
    former: Vec<Endpoint>,
}

/// One of them.
struct Current {
    port: Port,
    /// Links that are not in the pool any more, and their peers.
    forgotten: Vec<(SocketAddr, Weak<Link>)>,
}

impl Current {
    /// Whether a link can be dialled from here: a server that has left its port to another hears us still for as long as
    /// a connection to it is open.
    fn leads_to(&self, peer: SocketAddr) -> bool {
        let is_open = |(to, link): &(SocketAddr, Weak<Link>)| *to == peer && is_used(link);
        !self.forgotten.iter().any(is_open)
    }
}

impl Endpoints {
    fn all(&self) -> impl Iterator<Item = &Endpoint> {
        let current = self.current.values().map(|current| &current.port.endpoint);
        current.chain(&self.former)
    }
}

impl Pool {
    /// An empty pool.
    pub(crate) fn new(trust: Arc<Trust>, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            trust,
            settings,
            slots: Mutex::default(),
            endpoints: Mutex::default(),
            roaming: Arc::default(),
        })
    }

    /// On which link a new TCP connection is to be, beginning with `first`: of those that are there, on that with the
    /// fewest. Where all have many and there may be more, one more is dialled meanwhile; nobody waits for that.
    pub(crate) fn choose(self: &Arc<Self>, first: Key, workers: &Workers) -> Key {
        let (mut least, mut next, mut dialling) = (None, None, false);
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        for lane in 0..self.settings.connections {
            let key = Key { lane, ..first };
            match slots.get(&key).map(|slot| slot.dialled.borrow()).as_deref() {
                Some(Some(Ok(link))) => {
                    let streams = link.streams();
                    if least.is_none_or(|(fewest, _)| streams < fewest) {
                        least = Some((streams, key));
                    }
                }
                Some(_) => dialling = true,
                None => next = next.or(Some(key)),
            }
        }
        drop(slots);
        let Some((streams, key)) = least else {
            return first;
        };
        if let Some(next) = next.filter(|_| streams >= STREAMS_EACH && !dialling) {
            let pool = Arc::clone(self);
            // A refusal has been reported, and the links that are there go on.
            let dialled = async move { drop(pool.share(next, pool.enter(next)).await) };
            workers.get(next.worker()).handle.spawn(dialled);
        }
        key
    }

    /// Takes a place behind those who wait for the link to a peer, which is dialled if there is none. To be called within
    /// the runtime of its thread.
    pub(crate) fn enter(self: &Arc<Self>, key: Key) -> InLine {
        let (dialling, line) = self.dialled(key);
        let mut turn = Box::pin(line.lock_owned());
        // It is polling that takes the place.
        let turn = match turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Box::pin(future::ready(turn)) as _,
            Poll::Pending => turn as _,
        };
        InLine { dialling, turn }
    }

    /// A share in the link to a peer, when it is the turn of this place. Who comes while it is being dialled waits for the
    /// same result.
    pub(crate) async fn share(
        self: &Arc<Self>,
        key: Key,
        mut place: InLine,
    ) -> Result<(Share, Opening), Refusal> {
        loop {
            let turn = place.turn.await;
            let dialled = match place.dialling.wait_for(Option::is_some).await {
                Ok(dialled) => dialled.clone(),
                // The dialling task was ended with the runtime.
                Err(_) => return Err(Errno::ECONNABORTED.into()),
            };
            match dialled {
                Some(Ok(link)) => match link.share() {
                    Some(share) => return Ok((share, turn)),
                    None => self.forget(key, &link),
                },
                Some(Err(refusal)) => return Err(refusal),
                None => {}
            }
            place = self.enter(key);
        }
    }

    /// The same without waiting: none if there is no link to the peer yet, or others wait for it.
    pub(crate) fn share_at_once(&self, key: Key) -> Option<(Share, Opening)> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.get(&key)?;
        let turn = Arc::clone(&slot.line).try_lock_owned().ok()?;
        match &*slot.dialled.borrow() {
            Some(Ok(link)) => Some((link.share()?, turn)),
            _ => None,
        }
    }

    /// Whether a link is in this place, or is being dialled.
    pub(crate) fn has(&self, key: Key) -> bool {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.contains_key(&key)
    }

    /// What the link in this place is dialled to, and where to wait for it; begins to dial if nobody has.
    fn dialled(self: &Arc<Self>, key: Key) -> (watch::Receiver<Dialled>, Arc<Line>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry(key).or_insert_with(|| {
            let slot = Arc::<Slot>::default();
            tokio::spawn(Arc::clone(self).dial(key, Arc::clone(&slot)));
            slot
        });
        (slot.dialled.subscribe(), Arc::clone(&slot.line))
    }

    /// Retires the links to an address of this host whose last listener has just closed, or where the first has just
    /// begun to listen. The server says the same to each client, but a program's own next connect(2) comes before that.
    /// What a link that is still being dialled comes to is for those alone who wait for it already.
    pub(crate) fn retire(&self, local: SocketAddr) {
        let leads_there = |key: &Key| {
            let same_host = local.ip() == key.peer.ip() || local.ip().is_unspecified();
            same_host && local.port() == key.peer.port()
        };
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|key, slot| {
            if !leads_there(key) {
                return true;
            }
            match &*slot.dialled.borrow() {
                Some(Ok(link)) => {
                    let own = link.connection.local_ip();
                    if own.is_none_or(|ip| ip == key.peer.ip()) {
                        link.retire();
                    }
                    true
                }
                _ => false,
            }
        });
    }

    /// All links that are in the pool.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let linked = |slot: &Arc<Slot>| match &*slot.dialled.borrow() {
            Some(Ok(link)) => Some(Arc::clone(link)),
            _ => None,
        };
        slots.values().filter_map(linked).collect()
    }

    /// Removes a link from the pool, unless another has taken its place.
    fn forget(&self, key: Key, link: &Arc<Link>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let is_this = slots.get(&key).is_some_and(
            |slot| matches!(&*slot.dialled.borrow(), Some(Ok(other)) if Arc::ptr_eq(other, link)),
        );
        if is_this {
            slots.remove(&key);
        }
        if let Some(current) = self.endpoints().current.get_mut(&self.place(key)) {
            let this = Arc::downgrade(link);
            let is_another = |(_, own): &(SocketAddr, Weak<Link>)| !own.ptr_eq(&this);
            current
                .forgotten
                .retain(|own| is_used(&own.1) && is_another(own));
            current.forgotten.push((key.peer, this));
        }
    }

    /// Lets go of an endpoint once its connections have drained.
    async fn give_up(self: Arc<Self>, former: Endpoint) {
        former.wait_idle().await;
        self.endpoints().former.retain(is_open);
    }

    async fn dial(self: Arc<Self>, key: Key, slot: Arc<Slot>) {
        let dialled = tokio::select! {
            () = abandoned(&slot) => Err(Errno::ECONNABORTED.into()),
            dialled = self.dial_shared(key) => dialled,
        };
        match dialled {
            Ok(link) => {
                tracing::info!(peer = %key.peer, "connected over QUIC");
                slot.dialled.send_replace(Some(Ok(Arc::clone(&link))));
                self.keep(key, &link).await;
            }
            Err(refusal) => {
                // Removed first, unless another has taken its place: who asks from now on dials anew.
                let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
                if slots.get(&key).is_some_and(|own| Arc::ptr_eq(own, &slot)) {
                    slots.remove(&key);
                }
                drop(slots);
                slot.dialled.send_replace(Some(Err(refusal)));
            }
        }
    }

    async fn dial_shared(self: &Arc<Self>, key: Key) -> Result<Arc<Link>, Refusal> {
        let port = self.port(key).map_err(no_socket)?;
        self.handshake(key, port).await
    }

    /// A link of its own, from a UDP port that is the connection's if that is free. Returns the local
    /// address.
    pub(crate) async fn dial_alone(
        &self,
        key: Key,
        mut local: SocketAddr,
    ) -> Result<(Arc<Link>, SocketAddr), Refusal> {
        let socket = StdUdpSocket::bind(local).or_else(|_| {
            local.set_port(0);
            StdUdpSocket::bind(local)
        });
        let port = socket.and_then(|socket| {
            local = socket.local_addr()?;
            open(socket)
        });
        let port = port.map_err(no_socket)?;
        Ok((self.handshake(key, port).await?, local))
    }

    async fn handshake(&self, key: Key, port: Port) -> Result<Arc<Link>, Refusal> {
        let udp = self.settings.port_offset.to_udp(key.peer)?;
        let route = route::find(udp, Some(key.source))?;
        if let Some(errno) = route.probe() {
            tracing::info!(peer = %key.peer, %errno, "no QUIC connection");
            return Err(errno.into());
        }
        let config = self
            .client_config(key.peer, &route)
            .map_err(|error| Refusal {
                errno: Errno::EACCES,
                advice: Some(error.to_string()),
            })?;
        let server_name = key.peer.ip().to_string();
        let (link_mtu, source) = (route.mtu(), route.local.ip());
        let socket = port.socket.upgrade();
        let handshake = socket
            .filter(|_| !config::is_loopback(link_mtu))
            .map(|socket| socket.dial(udp));
        let connecting = port
            .endpoint
            .connect_with(config, udp, &server_name)
            // Port 0, which TCP's SYN would find closed.
            .map_err(|_| Errno::ECONNREFUSED)?;
        tokio::select! {
            connected = connecting => match connected {
                Ok(connection) => {
                    if let Some(handshake) = handshake {
                        handshake.complete();
                    }
                    Ok(self.linked(connection, link_mtu, port, source))
                }
                Err(error) => {
                    let shown = code::shown(&error);
                    tracing::info!(peer = %key.peer, error = shown, "no QUIC connection");
                    Err(self.refusal(&error))
                }
            },
            errno = route.refusal() => {
                tracing::info!(peer = %key.peer, %errno, "no QUIC connection");
                Err(errno.into())
            }
        }
    }

    /// A link whose packets leave from this port, and with this source address for now.
    fn linked(
        &self,
        connection: Connection,
        link_mtu: u32,
        port: Port,
        source: IpAddr,
    ) -> Arc<Link> {
        let bound = port.endpoint.local_addr();
        let may_move = bound.is_ok_and(|bound| bound.ip().is_unspecified());
        let departs = may_move && !config::is_loopback(link_mtu);
        let departure = departs.then(|| Departure::new(port, source));
        let link = Link::new(connection, self.settings.tuning, link_mtu, departure);
        if departs {
            self.roaming.follow(&link);
        }
        link
    }

    /// What the failure of a handshake, or of the first stream behind it, means for connect(2).
    pub(crate) fn refusal(&self, error: &ConnectionError) -> Refusal {
        code::refusal(error, self.settings.wire, |alert| {
            self.trust.refused_by_server(alert)
        })
    }

    /// Keeps a link in the pool until it is closed, idle, or the peer's listener has gone.
    async fn keep(&self, key: Key, link: &Arc<Link>) {
        tokio::select! {
            error = link.connection.closed() => {
                let error = code::shown(&error);
                tracing::info!(peer = %key.peer, error, "QUIC connection ended");
            }
            () = link.idle() => {}
            // The one thing a server says outside of streams: its listener has closed.
            goaway = link.connection.accept_uni() => {
                tracing::debug!(peer = %key.peer, told = goaway.is_ok(), "the listener has closed");
            }
        }
        link.retire();
        self.forget(key, link);
        tokio::select! {
            () = link.unused() => link.close(),
            _ = link.connection.closed() => {}
        }
    }

    fn client_config(&self, peer: SocketAddr, route: &Route) -> Result<ClientConfig, ConfigError> {
        let crypto = QuicClientConfig::try_from(self.trust.client_config(peer)?)?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        let settings = &self.settings;
        let mut transport =
            settings
                .tuning
                .transport(route.mtu(), settings.idle_timeout, config::NO_STREAMS);
        transport.qlog_stream(settings.qlog_stream(Side::Client, peer));
        config.transport_config(Arc::new(transport));
        Ok(config)
    }

    /// The port of a link. To be called on its thread.
    fn port(self: &Arc<Self>, key: Key) -> io::Result<Port> {
        let mut endpoints = self.endpoints();
        let place = self.place(key);
        match endpoints.current.get(&place) {
            Some(current) if current.leads_to(key.peer) => return Ok(current.port.clone()),
            _ => {}
        }
        let port = open(StdUdpSocket::bind(key.source)?)?;
        let current = Current {
            port: port.clone(),
            forgotten: Vec::new(),
        };
        if let Some(Current { port, .. }) = endpoints.current.insert(place, current) {
            endpoints.former.push(port.endpoint.clone());
            tokio::spawn(Arc::clone(self).give_up(port.endpoint));
        }
        Ok(port)
    }

    /// The place of a link's endpoint.
    fn place(&self, key: Key) -> (SocketAddr, usize) {
        (key.source, key.worker() % self.settings.threads)
    }

    fn endpoints(&self) -> MutexGuard<'_, Endpoints> {
        self.endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a key of the peer's is recorded, which is to be held to.
    pub(crate) fn has_met(&self, peer: SocketAddr) -> bool {
        self.trust.has_met(peer)
    }

    /// Whether there is a QUIC connection that has not drained.
    pub(crate) fn has_connections(&self) -> bool {
        self.endpoints().all().any(is_open)
    }

    /// Closes all links.
    pub(crate) fn close(&self) {
        for endpoint in self.endpoints().all() {
            endpoint.close(code::CLOSED, b"the program has ended");
        }
    }
}

/// Whether it has a QUIC connection that has not drained.
fn is_open(endpoint: &Endpoint) -> bool {
    endpoint.open_connections() > 0
}

fn is_used(link: &Weak<Link>) -> bool {
    link.upgrade().is_some_and(|link| link.is_used())
}

/// An endpoint at this socket.
fn open(socket: StdUdpSocket) -> io::Result<Port> {
    let socket = UdpSocket::new(socket)?;
    let weak = Arc::downgrade(&socket);
    let endpoint = Endpoint::new_with_abstract_socket(
        super::endpoint_config(EndpointConfig::default()),
        None,
        socket,
        Arc::new(TokioRuntime),
    )?;
    Ok(Port {
        endpoint,
        socket: weak,
    })
}

fn no_socket(error: io::Error) -> Refusal {
    Refusal {
        errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EADDRNOTAVAIL)),
        advice: Some(format!("no UDP socket to reach it from: {error}")),
    }
}

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
enum ConfigError {
    #[error(transparent)]
    Trust(#[from] crate::trust::TrustError),
    #[error("TLS without AES-128-GCM cannot carry QUIC: {0}")]
    Suite(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// Resolves when nobody waits for the result any more.
async fn abandoned(slot: &Slot) {
    /// How often this is looked at, since who comes next may want it; until then it costs a few packets.
    const INTERVAL: Duration = Duration::from_secs(1);
    loop {
        tokio::time::sleep(INTERVAL).await;
        if slot.dialled.receiver_count() == 0 {
            return;
        }
    }
}

/// The wildcard address of the peer's family: the host chooses the source.
pub(crate) fn any_source(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}
