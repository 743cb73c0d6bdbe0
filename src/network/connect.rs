//! Attempts to connect: over QUIC, over TCP, or over whichever answers.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::errno::Errno;
use quinn::{RecvStream, SendStream};
use tokio::{net::TcpStream, time::Instant};

use super::{shared::Shared, tcp};
use crate::emul::{socket::SocketId, transport::ConnectRequest};
use crate::quic::{
    code::Refusal,
    link::Share,
    pool::Key,
    preface::Preface,
    raw::{self, Wire},
};

/// How far ahead of TCP a QUIC handshake starts: the "Connection Attempt Delay" that RFC 8305 section 5
/// recommends.
const HEAD_START: Duration = Duration::from_millis(250);
/// How long a peer counts as one without QUIC: RFC 8305 section 4 has ten minutes for the outcome of
/// an address.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Peers that did not answer over QUIC, and did over TCP.
#[derive(Debug, Default)]
pub(crate) struct WithoutQuic(Mutex<HashMap<SocketAddr, Instant>>);

impl WithoutQuic {
    /// Whether TCP is to be taken at once.
    pub(crate) fn contains(&self, peer: SocketAddr) -> bool {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|_, since| since.elapsed() < REMEMBERED);
        peers.contains_key(&peer)
    }

    fn add(&self, peer: SocketAddr) {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        peers.insert(peer, Instant::now());
    }

    fn remove(&self, peer: SocketAddr) {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        peers.remove(&peer);
    }
}

/// A stream for a connection.
type Stream = (Share, SendStream, RecvStream);

/// What runs once a connection is established.
pub(crate) type Bridge = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What an attempt came to.
enum Established {
    Quic(Stream, SocketAddr),
    Tcp(TcpStream, SocketAddr),
}

/// Connects over TCP. Returns the bridge that is to run then; none if it came to nothing.
pub(crate) async fn by_tcp(
    id: SocketId,
    request: ConnectRequest,
    attempt: tcp::Attempt,
    shared: Arc<Shared>,
) -> Option<Bridge> {
    let local = attempt.local;
    match tokio::time::timeout(request.timeout, attempt.established()).await {
        Ok(Ok(stream)) => {
            let end = shared.events.connected(id, local)?;
            Some(Box::pin(
                async move { shared.bridge_tcp(id, end, stream).await },
            ))
        }
        failed => {
            let errno = failed.map_or(Errno::ETIMEDOUT, |result| {
                result.err().unwrap_or(Errno::ECONNABORTED)
            });
            // It may have learned QUIC.
            shared.without_quic.remove(request.peer);
            shared.events.failed(id, errno);
            None
        }
    }
}

/// Connects over QUIC, or over TCP where nobody answers and that is allowed.
pub(crate) async fn by_quic(
    id: SocketId,
    key: Key,
    local: SocketAddr,
    timeout: Duration,
    shared: Arc<Shared>,
) -> Option<Bridge> {
    let attempt = async {
        let opened = open(&shared, key, local);
        if shared.settings.fall_back {
            race(opened, key, local, &shared).await
        } else {
            opened.await
        }
    };
    let refusal = match tokio::time::timeout(timeout, attempt).await {
        Ok(Ok(Established::Quic((share, send, recv), local))) => {
            let end = shared.events.connected(id, local)?;
            return Some(Box::pin(async move {
                shared.bridge(id, end, share, (send, recv)).await
            }));
        }
        Ok(Ok(Established::Tcp(stream, local))) => {
            let end = shared.events.connected(id, local)?;
            return Some(Box::pin(
                async move { shared.bridge_tcp(id, end, stream).await },
            ));
        }
        Ok(Err(refusal)) => refusal,
        Err(_) => unanswered(key.peer, timeout, &shared),
    };
    if let Some(advice) = &refusal.advice {
        tracing::error!("cannot connect to {}: {advice}", key.peer);
    }
    shared.events.failed(id, refusal.errno);
    None
}

/// What is said when nobody has answered.
fn unanswered(peer: SocketAddr, timeout: Duration, shared: &Shared) -> Refusal {
    let udp = shared.settings.port_offset.to_udp(peer);
    Refusal {
        errno: Errno::ETIMEDOUT,
        advice: Some(format!(
            "nothing that speaks QUIC answered within {timeout:?}; is its program running under quicwrap, and does a firewall let UDP port {} through?",
            udp.unwrap_or(peer).port()
        )),
    }
}

/// Opens a stream to the peer.
async fn open(shared: &Arc<Shared>, key: Key, local: SocketAddr) -> Result<Established, Refusal> {
    if shared.settings.wire == Wire::Raw {
        let (stream, local) = raw::open(shared, key, local).await?;
        return Ok(Established::Quic(stream, local));
    }
    let preface = Preface {
        source_port: local.port(),
    };
    let share = shared.pool.share(key).await?;
    // A server that asks for a client certificate allows no stream before it has accepted one, so
    // that this fails if it does not.
    let opened = share.connection.open_bi().await;
    let (mut send, recv) = opened.map_err(|error| shared.pool.refusal(&error))?;
    let written = send.write_all(&preface.encode()).await;
    written.map_err(|_| Refusal::from(Errno::ECONNREFUSED))?;
    Ok(Established::Quic((share, send, recv), local))
}

/// Tries QUIC, and TCP when QUIC has failed or not answered for a while. The first that succeeds is
/// taken. A peer whose certificate is not accepted is never tried over TCP.
async fn race(
    quic: impl Future<Output = Result<Established, Refusal>>,
    key: Key,
    local: SocketAddr,
    shared: &Shared,
) -> Result<Established, Refusal> {
    tokio::pin!(quic);
    let failed = match tokio::time::timeout(HEAD_START, &mut quic).await {
        Ok(Ok(established)) => return Ok(established),
        Ok(Err(refusal)) if refusal.errno == Errno::EACCES => return Err(refusal),
        Ok(Err(refusal)) => Some(refusal),
        Err(_) => None,
    };
    let tcp = connect_tcp(key.peer, local);
    tokio::pin!(tcp);
    let (stream, local) = match failed {
        Some(refusal) => tcp.await.map_err(|_| refusal)?,
        None => tokio::select! {
            opened = &mut quic => match opened {
                Ok(established) => return Ok(established),
                Err(refusal) if refusal.errno == Errno::EACCES => return Err(refusal),
                Err(refusal) => tcp.await.map_err(|_| refusal)?,
            },
            connected = &mut tcp => match connected {
                Ok(connected) => connected,
                // QUIC may still be answered.
                Err(_) => return quic.await,
            },
        },
    };
    tracing::info!(peer = %key.peer, "nobody answered over QUIC: connected over TCP, in the clear");
    shared.without_quic.add(key.peer);
    Ok(Established::Tcp(stream, local))
}

/// Connects over TCP from the address that the program was told, if that is possible.
async fn connect_tcp(
    peer: SocketAddr,
    local: SocketAddr,
) -> Result<(TcpStream, SocketAddr), Errno> {
    let attempt = tcp::Attempt::start(peer, Some(local), None).or_else(|_| {
        let mut any_port = local;
        any_port.set_port(0);
        tcp::Attempt::start(peer, Some(any_port), None)
    })?;
    let local = attempt.local;
    Ok((attempt.established().await?, local))
}
