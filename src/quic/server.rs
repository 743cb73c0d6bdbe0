//! A listening endpoint: takes QUIC connections on a port and turns their streams into TCP connections
//! of the sockets that listen there.
#![forbid(unsafe_code)]

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::errno::Errno;
use quinn::{
    Connection, ConnectionError, Endpoint, EndpointConfig, Incoming, RecvStream, SendStream,
    ServerConfig, TokioRuntime, VarInt, crypto::rustls::QuicServerConfig,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Shared,
    admission::{Admission, Place, Verdict},
    alerts,
    budget::Validation,
    certificate, code, config,
    link::{Link, Share},
    preface::{LENGTH_BYTES, Preface},
    route,
    trust::Trust,
    udp::UdpSocket,
};
use crate::emul::{
    address::canonical,
    socket::SocketId,
    transport::{BridgedEnd, Events},
};

/// How long a stream may take to say who connects. It comes in one packet.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a full queue is tried again: often at first, for a burst is soon accepted.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(32);

/// A port with listeners, or with connections that were accepted while there were some.
#[derive(Debug)]
pub(super) struct Server {
    endpoint: Endpoint,
    /// The endpoint's own.
    socket: Weak<UdpSocket>,
    retired: AtomicBool,
    trust: Arc<Trust>,
    admission: Admission,
    config: ServerConfig,
    idle_timeout: Duration,
    state: Mutex<State>,
    /// Held by the connection that waits for a place in a full queue, so that those behind it keep their order.
    door: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    listeners: Vec<SocketId>,
    /// Which listener is served next, where SO_REUSEPORT lets several share the port.
    turn: usize,
    links: Vec<Arc<Link>>,
}

/// Why a port cannot take QUIC connections.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServerError {
    #[error(transparent)]
    Trust(#[from] super::trust::TrustError),
    #[error("TLS without AES-128-GCM cannot carry QUIC: {0}")]
    Suite(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    #[error("the UDP socket cannot carry QUIC: {0}")]
    Socket(#[from] std::io::Error),
}

/// Why a client's handshake came to nothing.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error(transparent)]
    Trust(#[from] super::trust::TrustError),
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
    /// Starts to serve on a bound socket that hears everybody. To be called within the runtime.
    ///
    /// # Errors
    /// No certificate to present, or a socket that lacks an option.
    pub(super) fn start(
        socket: std::net::UdpSocket,
        trust: &Arc<Trust>,
        shared: &Arc<Shared>,
    ) -> Result<Arc<Self>, ServerError> {
        // Replaced for each client; made here so that what is wrong is said now.
        let crypto = QuicServerConfig::try_from(trust.server_config(socket.local_addr()?)?)?;
        let config = ServerConfig::with_crypto(Arc::new(crypto));
        // A restarted listener with the same identity knows the connections of its predecessor for
        // what they are, and resets them (RFC 9000 section 10.3).
        let mut endpoint_config = EndpointConfig::new(trust.reset_key()?);
        let key = trust.connection_id_key()?;
        endpoint_config.cid_generator(move || {
            Box::new(quinn_proto::HashedConnectionIdGenerator::from_key(key))
        });
        let socket = Arc::new(UdpSocket::new(socket)?);
        let weak = Arc::downgrade(&socket);
        let endpoint = Endpoint::new_with_abstract_socket(
            super::endpoint_config(endpoint_config),
            Some(config.clone()),
            socket,
            Arc::new(TokioRuntime),
        )?;
        let idle_timeout = shared.idle_timeout;
        let server = Arc::new(Self {
            endpoint,
            socket: weak,
            retired: AtomicBool::new(false),
            trust: Arc::clone(trust),
            admission: Admission::default(),
            config,
            idle_timeout,
            state: Mutex::default(),
            door: tokio::sync::Mutex::default(),
        });
        shared
            .handle
            .spawn(Arc::clone(&server).accept(Arc::clone(shared)));
        Ok(server)
    }

    /// Takes connections for `listener` from now on.
    pub(super) fn add(&self, listener: SocketId) {
        self.state().listeners.push(listener);
    }

    /// Takes no more connections for `listener`. Returns whether it was the last one.
    pub(super) fn remove(&self, listener: SocketId) -> bool {
        let mut state = self.state();
        state.listeners.retain(|&other| other != listener);
        state.listeners.is_empty()
    }

    /// Whether anybody listens.
    pub(super) fn is_listening(&self) -> bool {
        !self.state().listeners.is_empty()
    }

    /// Whether accepted connections are open.
    pub(super) fn has_connections(&self) -> bool {
        self.state().links.iter().any(|link| link.is_used())
    }

    /// Whether this is a link of its own.
    pub(super) fn has(&self, link: &Link) -> bool {
        self.state()
            .links
            .iter()
            .any(|own| std::ptr::eq(&raw const **own, link))
    }

    /// Tells clients that nobody listens any more, so that their next connect(2) asks again.
    pub(super) fn go_away(&self) {
        for link in &self.state().links {
            if link.retire() {
                tokio::spawn(say_go_away(Arc::clone(link)));
            }
        }
    }

    /// Waits until the connections that were accepted have ended.
    pub(super) async fn unused(&self) {
        loop {
            let used = self
                .state()
                .links
                .iter()
                .find(|link| link.is_used())
                .cloned();
            match used {
                Some(link) => link.unused().await,
                None => return,
            }
        }
    }

    /// Closes all QUIC connections and takes no more.
    pub(super) fn close(&self) {
        self.endpoint.close(code::CLOSED, b"the program has ended");
    }

    /// Closes as [`Self::close`] does, and gives the UDP port up when the peers have been told.
    pub(super) async fn retire(&self) {
        /// Turns of the runtime in which each connection's task sends its farewell.
        const FAREWELL_TURNS: usize = 4;
        self.close();
        for _ in 0..FAREWELL_TURNS {
            tokio::task::yield_now().await;
        }
        self.free_port();
    }

    /// Gives the UDP port up.
    pub(super) fn free_port(&self) {
        if let Some(socket) = self.socket.upgrade() {
            socket.free_port();
        }
        self.retired.store(true, Ordering::Release);
    }

    /// Whether the UDP port is free again.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn accept(self: Arc<Self>, shared: Arc<Shared>) {
        while let Some(incoming) = self.endpoint.accept().await {
            if !self.is_listening() {
                incoming.refuse();
                continue;
            }
            match self.admission.judge(incoming.remote_address_validated()) {
                Verdict::Accept(place) => {
                    tokio::spawn(Arc::clone(&self).serve(incoming, place, Arc::clone(&shared)));
                }
                // An error says that the address has been validated, which it has not.
                Verdict::Retry => drop(incoming.retry()),
                Verdict::Ignore => incoming.ignore(),
            }
        }
    }

    async fn serve(self: Arc<Self>, incoming: Incoming, place: Place, shared: Arc<Shared>) {
        let client = canonical(incoming.remote_address());
        let connection = match self.handshake(incoming, client).await {
            Ok(connection) => connection,
            Err(error) => return error.report(&self.trust, client),
        };
        drop(place);
        let link = Link::new(connection);
        tracing::info!(%client, "accepted a QUIC connection");
        if !self.keep(&link) {
            return say_go_away(link).await;
        }
        if self.trust.asks_clients() {
            let first = VarInt::from_u32(config::FIRST_STREAMS);
            link.connection.set_max_concurrent_bi_streams(first);
        }
        let prefaces = Arc::new(Semaphore::new(config::PREFACES));
        while let Ok(place) = Arc::clone(&prefaces).acquire_owned().await
            && let Ok((send, recv)) = link.connection.accept_bi().await
        {
            match link.share() {
                Some(share) => {
                    let stream = (share, send, recv);
                    tokio::spawn(Arc::clone(&self).open(stream, place, Arc::clone(&shared)));
                }
                None => refuse(send, recv),
            }
        }
        self.state()
            .links
            .retain(|other| !Arc::ptr_eq(other, &link));
    }

    /// Completes the handshake with a client, by the certificates and CAs as they are now.
    async fn handshake(
        &self,
        incoming: Incoming,
        client: SocketAddr,
    ) -> Result<Connection, HandshakeError> {
        let mut config = self.config.clone();
        let crypto = self.trust.server_config(client)?;
        config.crypto = Arc::new(QuicServerConfig::try_from(crypto)?);
        let mtu = route::find(client, None).map_or(0, |route| route.mtu);
        // The client's part of the handshake is complete before its certificate has been looked at
        // (RFC 8446 section 4.4.2): without a stream, its connect(2) waits until it was accepted.
        let streams = if self.trust.asks_clients() {
            config::NO_STREAMS
        } else {
            config::FIRST_STREAMS
        };
        let transport = config::server_transport(mtu, self.idle_timeout, streams);
        config.transport_config(transport);
        let validation = self.validate(&incoming, mtu);
        let connecting = incoming.accept_with(Arc::new(config))?;
        let connected = tokio::time::timeout(config::HANDSHAKE_TIME, connecting).await;
        let connection = connected.map_err(|_| HandshakeError::TooLong)??;
        if let Some(validation) = validation {
            validation.proven();
        }
        Ok(connection)
    }

    /// Limits what is sent to a client until its address is known to be its own. Nobody can pretend to
    /// come from the loopback interface, where datagrams are large; and an address that a connection
    /// has is known.
    fn validate(&self, incoming: &Incoming, link_mtu: u32) -> Option<Validation> {
        let address = incoming.remote_address();
        let is_known = |link: &Arc<Link>| link.connection.remote_address() == address;
        if incoming.remote_address_validated()
            || config::is_loopback(link_mtu)
            || self.state().links.iter().any(is_known)
        {
            return None;
        }
        Some(self.socket.upgrade()?.validate(address))
    }

    /// Notes a link, unless the last listener has gone meanwhile.
    fn keep(&self, link: &Arc<Link>) -> bool {
        let mut state = self.state();
        let listening = !state.listeners.is_empty();
        if listening {
            state.links.push(Arc::clone(link));
        }
        listening
    }

    /// Turns a stream into a connection of the listener whose turn it is.
    async fn open(
        self: Arc<Self>,
        (mut share, send, mut recv): (Share, SendStream, RecvStream),
        place: OwnedSemaphorePermit,
        shared: Arc<Shared>,
    ) {
        let preface = tokio::time::timeout(PREFACE_TIMEOUT, read_preface(&mut recv)).await;
        drop(place);
        let Ok(Some(preface)) = preface else {
            tracing::info!(client = %share.connection.remote_address(), "a stream without a preface");
            return abort(send, recv, code::BAD_PREFACE);
        };
        let Some((local, peer)) = self.addresses(&share, preface) else {
            return refuse(send, recv);
        };
        let accepted = tokio::select! {
            biased;
            accepted = self.enter(local, peer, &*shared.events) => accepted,
            // Or the dead would pile up before a program that does not accept.
            _ = share.connection.closed() => return,
        };
        match accepted {
            Ok((id, end)) => {
                share.take();
                shared.bridge(id, end, share, send, recv).await;
            }
            Err(_) => refuse(send, recv),
        }
    }

    /// Hands a connection to a listener. It waits while all queues are full, as a client does whose SYN
    /// is left unanswered.
    async fn enter(
        &self,
        local: SocketAddr,
        peer: SocketAddr,
        events: &dyn Events,
    ) -> Result<(SocketId, BridgedEnd), Errno> {
        let _turn = self.door.lock().await;
        let mut pause = SHORTEST_PAUSE;
        loop {
            match self.knock(local, peer, events) {
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
        events: &dyn Events,
    ) -> Result<(SocketId, BridgedEnd), Errno> {
        let count = self.state().listeners.len();
        for _ in 0..count {
            let listener = self.next_listener().ok_or(Errno::ECONNREFUSED)?;
            match events.incoming(listener, local, peer) {
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

    /// Both addresses of a connection, as TCP would have them.
    fn addresses(&self, share: &Share, preface: Preface) -> Option<(SocketAddr, SocketAddr)> {
        let bound = self.endpoint.local_addr().ok()?;
        let ip = share.connection.local_ip().unwrap_or(bound.ip());
        let mut local = canonical(SocketAddr::new(ip, bound.port()));
        let mut peer = canonical(share.connection.remote_address());
        peer.set_port(preface.source_port);
        if let (SocketAddr::V6(local), SocketAddr::V6(peer)) = (&mut local, &peer) {
            // A link-local address means nothing without its link, ipv6(7).
            local.set_scope_id(peer.scope_id());
        }
        Some((local, peer))
    }

    fn next_listener(&self) -> Option<SocketId> {
        let mut state = self.state();
        state.turn = state.turn.wrapping_add(1);
        let count = state.listeners.len();
        state.listeners.get(state.turn.checked_rem(count)?).copied()
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

async fn read_preface(recv: &mut RecvStream) -> Option<Preface> {
    let mut field = [0; LENGTH_BYTES];
    recv.read_exact(&mut field).await.ok()?;
    let mut body = vec![0; Preface::body_length(field)?];
    recv.read_exact(&mut body).await.ok()?;
    Preface::decode(&body)
}

fn refuse(send: SendStream, recv: RecvStream) {
    abort(send, recv, code::REFUSED);
}

fn abort(mut send: SendStream, mut recv: RecvStream, code: quinn::VarInt) {
    // Closed already: then the peer knows.
    let _ = send.reset(code);
    let _ = recv.stop(code);
}
