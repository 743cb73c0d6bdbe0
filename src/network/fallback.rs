//! `--fallback tcp`: TCP where no quicwrap answers, in the manner of Happy Eyeballs (RFC 8305).
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use nix::errno::Errno;
use tokio::{net::TcpStream, time::Instant};

use super::{connect::Dialled, shared::Shared, tcp};
use crate::quic::code::Refusal;

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

/// Tries QUIC, and TCP when QUIC has failed or not answered for a while. A peer that answers over QUIC is
/// QUIC's: if it or this side is then not accepted, that is not made up for over TCP, nor is a peer taken
/// in the clear whose key is recorded.
pub(super) async fn race(
    quic: impl Future<Output = Result<Dialled, Refusal>>,
    peer: SocketAddr,
    local: SocketAddr,
    shared: &Shared,
) -> Result<Dialled, Refusal> {
    let pinned = shared.pool.has_met(peer);
    if shared.without_quic.contains(peer) && !pinned {
        if let Ok((stream, local)) = connect_tcp(peer, local, shared.settings.idle_timeout).await {
            return Ok(Dialled::Tcp(stream, local));
        }
        // It may have learned QUIC.
        shared.without_quic.remove(peer);
    }
    tokio::pin!(quic);
    if pinned {
        return quic.await.map_err(|refusal| downgrade(peer, refusal));
    }
    let refusal = match tokio::time::timeout(HEAD_START, &mut quic).await {
        Ok(Err(refusal)) if refusal.errno != Errno::EACCES => Some(refusal),
        Ok(verdict) => return verdict,
        Err(_) => None,
    };
    let tcp = connect_tcp(peer, local, shared.settings.idle_timeout);
    let (stream, local) = match refusal {
        Some(refusal) => tcp.await.map_err(|_| refusal)?,
        None => {
            // Whatever QUIC comes to, unless TCP is there first.
            tokio::pin!(tcp);
            tokio::select! {
                biased;
                verdict = &mut quic => match verdict {
                    Err(refusal) if refusal.errno != Errno::EACCES => {
                        tcp.await.map_err(|_| refusal)?
                    }
                    verdict => return verdict,
                },
                connected = &mut tcp => {
                    // The peer is there: once more as long for its first packets, which may be lost.
                    let verdict = tokio::time::timeout(HEAD_START, &mut quic).await;
                    match (connected, verdict) {
                        (_, Ok(Ok(dialled))) => return Ok(dialled),
                        (_, Ok(Err(refusal))) if refusal.errno == Errno::EACCES => {
                            return Err(refusal);
                        }
                        (Ok(connected), _) => connected,
                        (Err(_), Ok(verdict)) => return verdict,
                        (Err(_), Err(_)) => return quic.await,
                    }
                }
            }
        }
    };
    tracing::warn!(
        "no quicwrap answered at {peer}: connected over TCP, in the clear, and so for {} minutes",
        REMEMBERED.as_secs() / 60
    );
    shared.without_quic.add(peer);
    Ok(Dialled::Tcp(stream, local))
}

/// What is said when a peer that has spoken QUIC before does not.
fn downgrade(peer: SocketAddr, refusal: Refusal) -> Refusal {
    let advice = refusal
        .advice
        .unwrap_or_else(|| refusal.errno.desc().to_owned());
    Refusal {
        errno: refusal.errno,
        advice: Some(format!(
            "{advice}. Not tried over TCP, for its key is recorded: it has spoken QUIC before. If it no longer does, remove the line of {peer} from known_hosts"
        )),
    }
}

/// Connects over TCP from the address that the program was told, if that is possible.
async fn connect_tcp(
    peer: SocketAddr,
    local: SocketAddr,
    idle_timeout: Duration,
) -> Result<(TcpStream, SocketAddr), Errno> {
    let attempt = tcp::Attempt::start(peer, Some(local), None, idle_timeout).or_else(|_| {
        let mut any_port = local;
        any_port.set_port(0);
        tcp::Attempt::start(peer, Some(any_port), None, idle_timeout)
    })?;
    let local = attempt.local;
    Ok((attempt.established().await?, local))
}
