//! Attempts to connect: over QUIC, over TCP, or over whichever answers.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use nix::errno::Errno;
use quinn::{RecvStream, SendStream, WriteError};
use tokio::{net::TcpStream, task::AbortHandle};

use super::{
    fallback,
    flow::{Carrier, Flow},
    route,
    shared::Shared,
    tcp,
};
use crate::emul::{
    socket::SocketId,
    transport::{BridgedEnd, ConnectRequest},
};
use crate::quic::{
    bridge,
    code::Refusal,
    config::LEAST_MTU,
    link::{Link, Share},
    pool::{InLine, Key, Opening},
    preface::Preface,
    raw::Wire,
    send_window::Writer,
};

/// A stream for a connection.
pub(super) type Stream = (Share, SendStream, RecvStream);

/// What runs once a connection is established.
pub(crate) type Bridge = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An attempt to connect, and the bridge that is to run then; none if it came to nothing.
pub(super) type Attempt = Pin<Box<dyn Future<Output = Option<Bridge>> + Send>>;

/// What runs of connect(2), or is to.
#[derive(Default)]
pub(super) struct Attempts {
    /// What is to start.
    pub(super) prepared: Vec<Prepared>,
    /// Attempts that run; without a handle while they are being started.
    pub(super) running: HashMap<SocketId, Option<AbortHandle>>,
}

/// What [`Transport::proceed`](crate::emul::transport::Transport::proceed) is to start.
pub(super) struct Prepared {
    pub(super) id: SocketId,
    /// The thread.
    pub(super) worker: usize,
    pub(super) work: Work,
}

/// Boxed, so that it takes no room as long as the connection.
pub(super) enum Work {
    Attempt(Attempt),
    /// A connection that is established, and our end of its pair once that is there.
    Bridge(Box<Stream>, SocketAddr, Option<BridgedEnd>),
}

/// What an attempt has come to.
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
            let path = tcp::path(&stream).unwrap_or_default();
            let end = shared.events.connected(id, local, path)?;
            Some(Box::pin(
                async move { shared.bridge_tcp(id, end, stream).await },
            ))
        }
        failed => {
            let errno = failed.map_or(Errno::ETIMEDOUT, |result| {
                result.err().unwrap_or(Errno::ECONNABORTED)
            });
            shared.events.failed(id, errno);
            None
        }
    }
}

/// Connects over QUIC, or over TCP where nobody answers and that is allowed. `place` is the place in the line for
/// the QUIC connection, if it was taken already.
pub(crate) async fn by_quic(
    id: SocketId,
    key: Key,
    place: Option<InLine>,
    local: SocketAddr,
    timeout: Duration,
    shared: Arc<Shared>,
) -> Option<Bridge> {
    let attempt = async {
        let dialled = dial(&shared, key, place, local);
        let dialled = if shared.settings.fall_back {
            // Boxed, as what else is rare and large: every attempt would be moved about at that size.
            Box::pin(fallback::race(dialled, key.peer, local, &shared)).await?
        } else {
            dialled.await?
        };
        open(dialled, &shared).await
    };
    let refusal = match tokio::time::timeout(timeout, attempt).await {
        Ok(Ok(Established::Quic((share, send, recv), local))) => {
            let end = shared.events.connected(id, local, share.path(None))?;
            return Some(Box::pin(async move {
                shared.bridge(id, end, share, (send, recv)).await
            }));
        }
        Ok(Ok(Established::Tcp(stream, local))) => {
            let path = tcp::path(&stream).unwrap_or_default();
            let end = shared.events.connected(id, local, path)?;
            return Some(Box::pin(
                async move { shared.bridge_tcp(id, end, stream).await },
            ));
        }
        Ok(Err(refusal)) => refusal,
        Err(_) => unanswered(key, timeout, &shared),
    };
    if let Some(advice) = &refusal.advice {
        tracing::error!("cannot connect to {}: {advice}", key.peer);
    }
    shared.events.failed(id, refusal.errno);
    None
}

/// What is said when nobody has answered.
fn unanswered(key: Key, timeout: Duration, shared: &Shared) -> Refusal {
    let udp = shared.settings.port_offset.to_udp(key.peer);
    let udp = udp.unwrap_or(key.peer);
    let mtu = route::find(udp, Some(key.source)).map_or(0, |route| route.mtu());
    // IPv4's header is 20 bytes shorter.
    let least = LEAST_MTU - if udp.is_ipv4() { 20 } else { 0 };
    let advice = if (1..least).contains(&mtu) {
        format!(
            "the way there takes packets of {mtu} bytes, and QUIC needs {least}; raise the MTU of the link, or leave these connections on TCP (--tcp {})",
            key.peer.ip()
        )
    } else {
        format!(
            "nothing that speaks QUIC answered within {timeout:?}; is its program running under quicwrap, and does a firewall let UDP port {} through?",
            udp.port()
        )
    };
    Refusal {
        errno: Errno::ETIMEDOUT,
        advice: Some(advice),
    }
}

/// A stream to a peer that is connected and takes another: nothing need be waited for.
pub(super) fn at_once(key: Key, shared: &Shared) -> Option<Stream> {
    if shared.settings.wire == Wire::Raw || shared.settings.fall_back {
        return None;
    }
    let (share, _opening) = shared.pool.share_at_once(key)?;
    let opened = {
        let opening = pin!(share.connection.open_bi());
        opening.poll(&mut Context::from_waker(Waker::noop()))
    };
    match opened {
        Poll::Ready(Ok((send, recv))) => Some((share, send, recv)),
        // The peer's listener has taken none of many, say: connect(2) waits.
        Poll::Ready(Err(_)) | Poll::Pending => None,
    }
}

/// Says whose stream it is, and bridges the connection to its end.
pub(super) async fn carry(
    flow: Arc<Flow>,
    (mut send, recv): (SendStream, RecvStream),
    source_port: u16,
    shared: Arc<Shared>,
) {
    flow.activity.give_way();
    if let Carrier::Quic { link, .. } = &flow.carrier {
        // A connection that is lost is noticed by the bridge.
        let _ = introduce(link, &mut send, source_port).await;
    }
    shared
        .carry(flow, |flow| async {
            bridge::run(flow, send, recv, &*shared.events).await;
        })
        .await;
}

async fn introduce(link: &Link, send: &mut SendStream, source_port: u16) -> Result<(), WriteError> {
    let preface = Preface { source_port }.encode();
    let mut writer = Writer::default();
    link.write(&mut writer, send, preface.into()).await
}

/// What carries a connection that is being made.
pub(super) enum Dialled {
    /// A QUIC connection, the right to open the next stream of one that others share, and the local address.
    Quic(Share, Option<Opening>, SocketAddr),
    /// A TCP connection, and the same.
    Tcp(TcpStream, SocketAddr),
}

/// Finds or makes a QUIC connection to the peer.
async fn dial(
    shared: &Arc<Shared>,
    key: Key,
    place: Option<InLine>,
    local: SocketAddr,
) -> Result<Dialled, Refusal> {
    let (share, opening, local) = match shared.settings.wire {
        Wire::Quicwrap => {
            let place = place.unwrap_or_else(|| shared.pool.enter(key));
            let (share, opening) = shared.pool.share(key, place).await?;
            (share, Some(opening), local)
        }
        Wire::Raw => {
            let (link, local) = Box::pin(shared.pool.dial_alone(key, local)).await?;
            (link.share().ok_or(Errno::ECONNREFUSED)?, None, local)
        }
    };
    Ok(Dialled::Quic(share, opening, local))
}

/// Opens a stream where QUIC carries the connection.
async fn open(dialled: Dialled, shared: &Shared) -> Result<Established, Refusal> {
    let (share, opening, local) = match dialled {
        Dialled::Quic(share, opening, local) => (share, opening, local),
        Dialled::Tcp(stream, local) => return Ok(Established::Tcp(stream, local)),
    };
    // A server that asks for a client certificate allows no stream before it has accepted one, so
    // that this fails if it does not.
    let opened = share.connection.open_bi().await;
    // The preface may wait for room.
    drop(opening);
    let (mut send, recv) = opened.map_err(|error| shared.pool.refusal(&error))?;
    if shared.settings.wire == Wire::Quicwrap {
        let written = introduce(&share, &mut send, local.port()).await;
        written.map_err(|_| Refusal::from(Errno::ECONNREFUSED))?;
    }
    Ok(Established::Quic((share, send, recv), local))
}
