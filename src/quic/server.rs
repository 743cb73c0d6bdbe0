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

use quinn::{
    Endpoint, EndpointConfig, Incoming, RecvStream, SendStream, ServerConfig, TokioRuntime, VarInt,
    crypto::rustls::QuicServerConfig,
};

use super::{
    Shared, code, config,
    link::{Link, Share},
    listeners::Listeners,
    preface::{LENGTH_BYTES, Preface},
    raw::{self, Wire},
    route,
    trust::Trust,
    udp::UdpSocket,
};
use crate::emul::address::canonical;

/// How long a stream may take to say who connects. It comes in one packet.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// A port with listeners, or with connections that were accepted while there were some.
#[derive(Debug)]
pub(super) struct Server {
    endpoint: Endpoint,
    /// The endpoint's own.
    socket: Weak<UdpSocket>,
    retired: AtomicBool,
    config: ServerConfig,
    /// The TCP port that it stands for.
    port: u16,
    listeners: Arc<Listeners>,
    links: Mutex<Vec<Arc<Link>>>,
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
        port: u16,
        listeners: Arc<Listeners>,
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
        let server = Arc::new(Self {
            endpoint,
            socket: weak,
            retired: AtomicBool::new(false),
            config,
            port,
            listeners,
            links: Mutex::default(),
        });
        shared
            .handle
            .spawn(Arc::clone(&server).accept(Arc::clone(shared)));
        Ok(server)
    }

    /// Whether accepted connections are open.
    pub(super) fn has_connections(&self) -> bool {
        self.links().iter().any(|link| link.is_used())
    }

    /// Whether this is a link of its own.
    pub(super) fn has(&self, link: &Link) -> bool {
        self.links()
            .iter()
            .any(|own| std::ptr::eq(&raw const **own, link))
    }

    /// Tells clients that nobody listens any more, so that their next connect(2) asks again.
    pub(super) fn go_away(&self) {
        for link in &*self.links() {
            if link.retire() {
                tokio::spawn(say_go_away(Arc::clone(link)));
            }
        }
    }

    /// Waits until the connections that were accepted have ended.
    pub(super) async fn unused(&self) {
        loop {
            let used = self.links().iter().find(|link| link.is_used()).cloned();
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

    fn links(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn accept(self: Arc<Self>, shared: Arc<Shared>) {
        while let Some(incoming) = self.endpoint.accept().await {
            if self.listeners.is_empty() {
                incoming.refuse();
            } else {
                tokio::spawn(Arc::clone(&self).serve(incoming, Arc::clone(&shared)));
            }
        }
    }

    async fn serve(self: Arc<Self>, incoming: Incoming, shared: Arc<Shared>) {
        let client = incoming.remote_address();
        let mut config = self.config.clone();
        let mtu = route::find(canonical(client), None).map_or(0, |route| route.mtu);
        let streams = match shared.settings.wire {
            Wire::Quicwrap => config::FIRST_STREAMS,
            Wire::Raw => config::ONE_STREAM,
        };
        let transport = config::transport(mtu, shared.settings.idle_timeout, streams);
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
        if shared.settings.wire == Wire::Raw {
            let addresses = self.addresses(&link, client.port());
            if let Some(addresses) = addresses {
                raw::serve(Arc::clone(&link), addresses, &self.listeners, &shared).await;
            }
            return self.drop_link(&link);
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
        self.drop_link(&link);
    }

    fn drop_link(&self, link: &Arc<Link>) {
        self.links().retain(|other| !Arc::ptr_eq(other, link));
    }

    /// Notes a link, unless the last listener has gone meanwhile.
    fn keep(&self, link: &Arc<Link>) -> bool {
        let mut links = self.links();
        let listening = !self.listeners.is_empty();
        if listening {
            links.push(Arc::clone(link));
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
        let preface = tokio::time::timeout(PREFACE_TIMEOUT, read_preface(&mut recv)).await;
        let Ok(Some(preface)) = preface else {
            tracing::info!(client = %share.connection.remote_address(), "a stream without a preface");
            return abort(send, recv, code::BAD_PREFACE);
        };
        let Some((local, peer)) = self.addresses(&share, preface.source_port) else {
            return refuse(send, recv);
        };
        let accepted = tokio::select! {
            biased;
            accepted = self.listeners.enter(local, peer, &*shared.events) => accepted,
            // Or the dead would pile up before a program that does not accept.
            _ = share.connection.closed() => return,
        };
        match accepted {
            Ok((id, end)) => shared.bridge(id, end, share, (send, recv)).await,
            Err(_) => refuse(send, recv),
        }
    }

    /// Both addresses of a connection, as TCP would have them.
    fn addresses(&self, link: &Link, source_port: u16) -> Option<(SocketAddr, SocketAddr)> {
        let bound = self.endpoint.local_addr().ok()?;
        let ip = link.connection.local_ip().unwrap_or(bound.ip());
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
