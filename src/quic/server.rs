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
    Endpoint, EndpointConfig, Incoming, RecvStream, SendStream, ServerConfig, TokioRuntime, VarInt,
    crypto::rustls::QuicServerConfig,
};

use super::{
    Shared, code, config,
    link::{Link, Share},
    preface::Preface,
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

impl Server {
    /// Starts to serve on a bound socket that hears everybody. To be called within the runtime.
    ///
    /// # Errors
    /// No certificate to present, or a socket that lacks an option.
    pub(super) fn start(
        socket: std::net::UdpSocket,
        trust: &Trust,
        shared: &Arc<Shared>,
    ) -> Result<Arc<Self>, ServerError> {
        let crypto = QuicServerConfig::try_from(trust.server_config()?)?;
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
            if self.is_listening() {
                tokio::spawn(Arc::clone(&self).serve(incoming, Arc::clone(&shared)));
            } else {
                incoming.refuse();
            }
        }
    }

    async fn serve(self: Arc<Self>, incoming: Incoming, shared: Arc<Shared>) {
        let client = incoming.remote_address();
        let mut config = self.config.clone();
        let mtu = route::find(canonical(client), None).map_or(0, |route| route.mtu);
        let transport = config::transport(mtu, self.idle_timeout, config::FIRST_STREAMS);
        config.transport_config(transport);
        let connected = match incoming.accept_with(Arc::new(config)) {
            Ok(connecting) => connecting.await,
            Err(error) => Err(error),
        };
        let link = match connected {
            Ok(connection) => Link::new(connection),
            Err(error) => {
                tracing::info!(%client, %error, "a QUIC handshake came to nothing");
                return;
            }
        };
        tracing::info!(%client, "accepted a QUIC connection");
        if !self.keep(&link) {
            return say_go_away(link).await;
        }
        let mut allowed = config::FIRST_STREAMS;
        while let Ok((send, recv)) = link.connection.accept_bi().await {
            let Some(share) = link.share() else {
                refuse(send, recv);
                continue;
            };
            if allowed < config::MAX_STREAMS && link.streams() > allowed as usize / 2 {
                allowed *= 2;
                let more = VarInt::from_u32(allowed);
                link.connection.set_max_concurrent_bi_streams(more);
            }
            tokio::spawn(Arc::clone(&self).open(share, send, recv, Arc::clone(&shared)));
        }
        self.state()
            .links
            .retain(|other| !Arc::ptr_eq(other, &link));
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
        share: Share,
        send: SendStream,
        mut recv: RecvStream,
        shared: Arc<Shared>,
    ) {
        let preface = tokio::time::timeout(PREFACE_TIMEOUT, Preface::read(&mut recv)).await;
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
            Ok((id, end)) => shared.bridge(id, end, share, send, recv).await,
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

fn refuse(send: SendStream, recv: RecvStream) {
    abort(send, recv, code::REFUSED);
}

fn abort(mut send: SendStream, mut recv: RecvStream, code: quinn::VarInt) {
    // Closed already: then the peer knows.
    let _ = send.reset(code);
    let _ = recv.stop(code);
}
