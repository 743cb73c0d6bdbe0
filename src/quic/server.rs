//! A listening endpoint: takes QUIC connections on a port and turns their streams into TCP connections
//! of the sockets that listen there.
#![forbid(unsafe_code)]

mod leave;

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quinn::{
    ConnectionError, Endpoint, EndpointConfig, Incoming, RecvStream, SendStream, ServerConfig,
    Side, TokioRuntime, VarInt, crypto::rustls::QuicServerConfig,
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{
    admission::{Admission, Place, Verdict},
    code, config,
    handshakes::Handshake,
    link::{Link, Share},
    per_client::PerClient,
    preface::Preface,
    raw::{self, Wire},
    steering::{self, SteeredIds},
    udp,
};
use crate::{
    emul::address::canonical,
    network::{
        Settings,
        listeners::{Arrival, Listeners},
        route,
        shared::Shared,
    },
    trust::{Trust, alerts, certificate},
};

/// How long a stream may take to say who connects. It comes in one packet.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// A port with listeners, or with connections that were accepted while there were some.
#[derive(Debug)]
pub(crate) struct Server {
    /// One for each thread, in their order.
    entrances: Vec<Entrance>,
    retired: AtomicBool,
    /// The end of its connections is waited for.
    winding_down: AtomicBool,
    trust: Arc<Trust>,
    admission: Admission,
    config: ServerConfig,
    /// The TCP port that it stands for.
    port: u16,
    listeners: Arc<Listeners>,
    links: Mutex<Vec<Kept>>,
}

/// The connection of a client, and the number of the entrance that it came by.
#[derive(Debug)]
struct Kept {
    link: Arc<Link>,
    entrance: usize,
}

/// An endpoint on the port.
#[derive(Debug)]
struct Entrance {
    endpoint: Endpoint,
    /// The endpoint's own.
    socket: Weak<udp::UdpSocket>,
    /// Those that have taken its place.
    per_client: OnceLock<Weak<PerClient>>,
    /// The runtime of its thread.
    runtime: Handle,
}

/// Why a port cannot take QUIC connections.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    #[error(transparent)]
    Trust(#[from] crate::trust::TrustError),
    #[error("TLS without AES-128-GCM cannot carry QUIC: {0}")]
    Suite(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    #[error("the UDP socket cannot carry QUIC: {0}")]
    Socket(#[from] std::io::Error),
}

/// Why a client's handshake came to nothing.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error(transparent)]
    Trust(#[from] crate::trust::TrustError),
    #[error("TLS without AES-128-GCM cannot carry QUIC: {0}")]
    Suite(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("it was not complete within {:?}", config::HANDSHAKE_TIME)]
    TooLong,
}

impl HandshakeError {
    /// Says what can be mended here. What a client's certificate lacks has been said when it was
    /// looked at.
    fn report(&self, trust: &Trust, client: SocketAddr) {
        let alert = match self {
            Self::Connection(ConnectionError::ConnectionClosed(close)) => {
                if let Some(alert) = code::alert(close.error_code) {
                    return trust.refused_by_client(client, alert);
                }
                None
            }
            Self::Connection(ConnectionError::TransportError(error)) => code::alert(error.code),
            Self::Trust(error) => {
                return tracing::error!("cannot serve {client}: {error}");
            }
            _ => None,
        };
        if alert == Some(alerts::CERTIFICATE_REQUIRED) {
            return trust.missing_client_certificate(client);
        }
        let error = certificate::shown(&self.to_string());
        tracing::info!(%client, error, "a QUIC handshake came to nothing");
    }
}

impl Server {
    /// Starts to serve on bound sockets of one port that hear everybody, each on a thread of its own.
    ///
    /// # Errors
    /// No certificate to present, or a socket that lacks an option.
    pub(crate) fn start(
        (first, mut others): (UdpSocket, Vec<UdpSocket>),
        port: u16,
        listeners: Arc<Listeners>,
        trust: &Arc<Trust>,
        shared: &Arc<Shared>,
    ) -> Result<Arc<Self>, ServerError> {
        // Replaced for each client; made here so that what is wrong is said now.
        let crypto = trust.server_config(first.local_addr()?)?;
        let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(crypto)?));
        if !others.is_empty()
            && let Err(error) = steering::steer(&first, 1 + others.len())
        {
            tracing::warn!(%error, "one thread serves port {port}: the kernel cannot choose among several");
            others.clear();
        }
        let count = 1 + others.len();
        let sockets = std::iter::once(first).chain(others);
        let opened = sockets.enumerate().map(|(number, socket)| {
            let ids = (trust.connection_id_key()?, number, count);
            Entrance::open(socket, ids, &config, trust, shared)
        });
        let entrances = opened.collect::<Result<Vec<_>, ServerError>>()?;
        let server = Arc::new(Self {
            entrances,
            retired: AtomicBool::new(false),
            winding_down: AtomicBool::new(false),
            trust: Arc::clone(trust),
            admission: Admission::default(),
            config,
            port,
            listeners,
            links: Mutex::default(),
        });
        for (number, entrance) in server.entrances.iter().enumerate() {
            let accepting = Arc::clone(&server).accept(number, Arc::clone(shared));
            entrance.runtime.spawn(accepting);
        }
        Ok(server)
    }

    /// Whether accepted connections are open.
    pub(crate) fn has_connections(&self) -> bool {
        self.kept().iter().any(|kept| kept.link.is_used())
    }

    /// Whether there is a QUIC connection that has not drained.
    pub(crate) fn has_open_links(&self) -> bool {
        self.entrances
            .iter()
            .any(|entrance| entrance.endpoint.open_connections() > 0)
    }

    /// Whether this is a link of its own.
    pub(crate) fn has(&self, link: &Link) -> bool {
        self.kept()
            .iter()
            .any(|own| std::ptr::eq(&raw const *own.link, link))
    }

    /// Takes no more streams on the links that there are, and tells the clients, so that their next connect(2) asks
    /// again. To be called before anybody else can listen here: what comes on later links is for those.
    pub(crate) fn go_away(&self, runtime: &Handle) {
        for Kept { link, .. } in &*self.kept() {
            if link.retire() {
                runtime.spawn(say_go_away(Arc::clone(link)));
            }
        }
    }

    /// Waits until the connections that were accepted have ended.
    pub(crate) async fn unused(&self) {
        loop {
            let is_used = |kept: &&Kept| kept.link.is_used();
            let used = self
                .kept()
                .iter()
                .find(is_used)
                .map(|kept| Arc::clone(&kept.link));
            match used {
                Some(link) => link.unused().await,
                None => return,
            }
        }
    }

    /// Notes that the end of its connections is waited for. Returns whether that is news.
    pub(crate) fn begin_winding_down(&self) -> bool {
        !self.winding_down.swap(true, Ordering::AcqRel)
    }

    /// Notes that the end of its connections is not waited for any more.
    pub(crate) fn end_winding_down(&self) {
        self.winding_down.store(false, Ordering::Release);
    }

    /// Closes all QUIC connections and takes no more.
    pub(crate) fn close(&self) {
        for Entrance { endpoint, .. } in &self.entrances {
            endpoint.close(code::CLOSED, b"the program has ended");
        }
    }

    /// Closes as [`Self::close`] does, and gives the UDP port up when the peers have been told.
    pub(crate) async fn retire(&self) {
        self.close();
        for entrance in &self.entrances {
            // An error means that the runtime has ended.
            let _ = entrance.runtime.spawn(farewells()).await;
        }
        self.free_port();
    }

    /// Gives the UDP port up.
    pub(crate) fn free_port(&self) {
        let sockets = self.entrances.iter().map(|entrance| &entrance.socket);
        for socket in sockets.filter_map(Weak::upgrade) {
            socket.free_port();
        }
        let taken = self.entrances.iter().filter_map(|own| own.per_client.get());
        for sockets in taken.filter_map(Weak::upgrade) {
            sockets.free_port();
        }
        self.retired.store(true, Ordering::Release);
    }

    /// Whether the UDP port is free again.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// The connections of its clients.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.kept()
            .iter()
            .map(|kept| Arc::clone(&kept.link))
            .collect()
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn accept(self: Arc<Self>, entrance: usize, shared: Arc<Shared>) {
        while let Some(incoming) = self.entrances[entrance].endpoint.accept().await {
            if self.listeners.is_empty() {
                incoming.refuse();
                continue;
            }
            match self.admission.judge(incoming.remote_address_validated()) {
                Verdict::Accept(place) => {
                    let arrived = (incoming, entrance);
                    tokio::spawn(Arc::clone(&self).serve(arrived, place, Arc::clone(&shared)));
                }
                // An error says that the address has been validated, which it has not.
                Verdict::Retry => drop(incoming.retry()),
                Verdict::Ignore => incoming.ignore(),
            }
        }
    }

    async fn serve(self: Arc<Self>, arrived: (Incoming, usize), place: Place, shared: Arc<Shared>) {
        let client = canonical(arrived.0.remote_address());
        let entrance = arrived.1;
        let link = match self.handshake(arrived, client, &shared.settings).await {
            Ok(link) => link,
            Err(error) => return error.report(&self.trust, client),
        };
        drop(place);
        tracing::info!(%client, "accepted a QUIC connection");
        if !self.keep(&link, entrance) {
            return say_go_away(link).await;
        }
        if self.trust.asks_clients() {
            let first = VarInt::from_u32(first_streams(shared.settings.wire));
            link.connection.set_max_concurrent_bi_streams(first);
        }
        if shared.settings.wire == Wire::Raw {
            let addresses = self.addresses(&link, client.port());
            if let Some(addresses) = addresses {
                raw::serve(Arc::clone(&link), addresses, &self.listeners, &shared).await;
            }
            return self.forget(&link, entrance).await;
        }
        let prefaces = Arc::new(Semaphore::new(config::PREFACES));
        while let Ok(place) = Arc::clone(&prefaces).acquire_owned().await
            && let Ok((send, recv)) = link.connection.accept_bi().await
        {
            // In this order: the link goes with the last listener, before there is another.
            let arrival = self.listeners.arrival();
            match arrival.zip(link.share()) {
                Some((arrival, share)) => {
                    let stream = (share, send, recv);
                    let arrived = (arrival, place);
                    tokio::spawn(Arc::clone(&self).open(stream, arrived, Arc::clone(&shared)));
                }
                None => refuse(send, recv),
            }
        }
        self.forget(&link, entrance).await;
    }

    /// Forgets a connection that has ended.
    async fn forget(&self, link: &Arc<Link>, entrance: usize) {
        self.kept().retain(|kept| !Arc::ptr_eq(&kept.link, link));
        self.part_from(link, entrance).await;
    }

    /// Completes the handshake with a client, by the certificates and CAs as they are now.
    async fn handshake(
        &self,
        (incoming, entrance): (Incoming, usize),
        client: SocketAddr,
        settings: &Settings,
    ) -> Result<Arc<Link>, HandshakeError> {
        let mut config = self.config.clone();
        let crypto = self.trust.server_config(client)?;
        config.crypto = Arc::new(QuicServerConfig::try_from(crypto)?);
        let mtu = route::find(client, None).map_or(0, |route| route.mtu());
        // The client's part of the handshake is complete before its certificate has been looked at
        // (RFC 8446 section 4.4.2): without a stream, its connect(2) waits until it was accepted.
        let streams = if self.trust.asks_clients() {
            config::NO_STREAMS
        } else {
            first_streams(settings.wire)
        };
        let mut transport = settings
            .tuning
            .server_transport(mtu, settings.idle_timeout, streams);
        transport.qlog_stream(settings.qlog_stream(Side::Server, client));
        config.transport_config(Arc::new(transport));
        let handshake = self.validate(&incoming, entrance, mtu);
        let connecting = incoming.accept_with(Arc::new(config))?;
        let connected = tokio::time::timeout(config::HANDSHAKE_TIME, connecting).await;
        let connection = connected.map_err(|_| HandshakeError::TooLong)??;
        if let Some(handshake) = handshake {
            handshake.complete();
        }
        Ok(Link::new(connection, settings.tuning, mtu, None))
    }

    /// Limits what is sent to a client until its address is known to be its own, and keeps what comes from there too early.
    /// Nobody can pretend to come from the loopback interface, where datagrams are large and in order; and an address that
    /// a connection has is known.
    fn validate(&self, incoming: &Incoming, entrance: usize, link_mtu: u32) -> Option<Handshake> {
        let address = incoming.remote_address();
        let is_known = |kept: &Kept| kept.link.connection.remote_address() == address;
        if incoming.remote_address_validated()
            || config::is_loopback(link_mtu)
            || self.kept().iter().any(is_known)
        {
            return None;
        }
        let socket = self.entrances[entrance].socket.upgrade()?;
        Some(socket.serve(address))
    }

    /// Notes a link, unless the last listener has gone meanwhile.
    fn keep(&self, link: &Arc<Link>, entrance: usize) -> bool {
        let mut links = self.kept();
        let listening = !self.listeners.is_empty();
        if listening {
            let link = Arc::clone(link);
            links.push(Kept { link, entrance });
        }
        listening
    }

    /// Turns a stream into a connection of the listener whose turn it is.
    async fn open(
        self: Arc<Self>,
        (mut share, send, mut recv): (Share, SendStream, RecvStream),
        (arrival, place): (Arrival, OwnedSemaphorePermit),
        shared: Arc<Shared>,
    ) {
        let preface = tokio::time::timeout(PREFACE_TIMEOUT, Preface::read(&mut recv)).await;
        drop(place);
        let Ok(Some(preface)) = preface else {
            tracing::info!(client = %share.connection.remote_address(), "a stream without a preface");
            return abort(send, recv, code::BAD_PREFACE);
        };
        let Some(addresses) = self.addresses(&share, preface.source_port) else {
            return refuse(send, recv);
        };
        let accepted = tokio::select! {
            biased;
            accepted = self.listeners.enter(arrival, addresses, share.path(None), &*shared.events) => accepted,
            // Or the dead would pile up before a program that does not accept.
            _ = share.connection.closed() => return,
        };
        match accepted {
            Ok((id, end)) => {
                share.take();
                shared.bridge(id, end, share, (send, recv)).await;
            }
            Err(_) => refuse(send, recv),
        }
    }

    /// Both addresses of a connection, as TCP would have them.
    fn addresses(&self, link: &Link, source_port: u16) -> Option<(SocketAddr, SocketAddr)> {
        let ip = match link.connection.local_ip() {
            Some(ip) => ip,
            None => self.entrances.first()?.endpoint.local_addr().ok()?.ip(),
        };
        let mut local = canonical(SocketAddr::new(ip, self.port));
        let mut peer = canonical(link.connection.remote_address());
        peer.set_port(source_port);
        if let (SocketAddr::V6(local), SocketAddr::V6(peer)) = (&mut local, &peer) {
            // A link-local address means nothing without its link, ipv6(7).
            local.set_scope_id(peer.scope_id());
        }
        Some((local, peer))
    }
}

impl Entrance {
    /// The entrance of this number, of so many.
    fn open(
        socket: UdpSocket,
        (key, number, count): (u64, usize, usize),
        config: &ServerConfig,
        trust: &Trust,
        shared: &Shared,
    ) -> Result<Self, ServerError> {
        let runtime = shared.workers.get(number).handle.clone();
        let _runtime = runtime.enter();
        // A restarted listener with the same identity knows the connections of its predecessor for
        // what they are, and resets them (RFC 9000 section 10.3).
        let mut endpoint_config = EndpointConfig::new(trust.reset_key()?);
        endpoint_config.cid_generator(move || Box::new(SteeredIds::new(key, number, count)));
        let socket = udp::UdpSocket::new(socket)?;
        let weak = Arc::downgrade(&socket);
        let endpoint = Endpoint::new_with_abstract_socket(
            super::endpoint_config(endpoint_config),
            Some(config.clone()),
            socket,
            Arc::new(TokioRuntime),
        )?;
        Ok(Self {
            endpoint,
            socket: weak,
            per_client: OnceLock::new(),
            runtime: runtime.clone(),
        })
    }
}

/// Turns of the runtime in which each connection's task sends its farewell.
async fn farewells() {
    const TURNS: usize = 4;
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

/// How many streams a client may open at first.
fn first_streams(wire: Wire) -> u32 {
    match wire {
        Wire::Quicwrap => config::FIRST_STREAMS,
        Wire::Raw => config::ONE_STREAM,
    }
}

/// A control stream says so, and the link ends with its last TCP connection.
async fn say_go_away(link: Arc<Link>) {
    if let Ok(mut control) = link.connection.open_uni().await {
        let _ = control.finish();
    }
    link.unused().await;
    link.close();
}

fn refuse(send: SendStream, recv: RecvStream) {
    abort(send, recv, code::REFUSED);
}

fn abort(mut send: SendStream, mut recv: RecvStream, code: quinn::VarInt) {
    // Closed already: then the peer knows.
    let _ = send.reset(code);
    let _ = recv.stop(code);
}
