//! The connections as they are, for `quicwrap stats`.
#![forbid(unsafe_code)]

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
};

use quinn::Side;
use tokio::{net::TcpStream, runtime::Handle};

use super::{
    Network,
    flow::{Carrier, Flow},
};
use crate::{
    emul::address::canonical,
    quic::link::Link,
    stats::report::{QuicConnection, Role, TcpConnection},
};

/// The connections of one moment. What they are like is asked when they are visited; those that have
/// ended by then are left out, and none is kept open for this.
#[derive(Debug)]
pub(crate) struct Snapshot {
    links: Vec<Weak<Link>>,
    flows: Vec<Weak<Flow>>,
}

impl Network {
    /// The network's runtime.
    pub(crate) fn handle(&self) -> &Handle {
        &self.shared.workers.first().handle
    }

    /// The connections that are open.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut links = self.shared.pool.links();
        let servers = self.bindings().servers();
        for server in servers {
            links.extend(server.links());
        }
        let mut flows = Vec::new();
        for flow in self.shared.flows().values() {
            match &flow.carrier {
                // Raw ones, and those that take no new streams, are nowhere else.
                Carrier::Quic { link, .. } => links.push(link.link()),
                Carrier::Tcp(_) => flows.push(Arc::downgrade(flow)),
            }
        }
        let mut seen = HashSet::new();
        links.retain(|link| seen.insert(Arc::as_ptr(link)));
        let links = links.iter().map(Arc::downgrade).collect();
        Snapshot { links, flows }
    }
}

impl Snapshot {
    /// Those over QUIC.
    pub(crate) fn quic(&self) -> impl Iterator<Item = QuicConnection> {
        let links = self.links.iter().filter_map(Weak::upgrade);
        links
            .filter(|link| link.connection.close_reason().is_none())
            .map(|link| of_link(&link))
    }

    /// Those over TCP.
    pub(crate) fn tcp(&self) -> impl Iterator<Item = TcpConnection> {
        let flows = self.flows.iter().filter_map(Weak::upgrade);
        flows.filter_map(|flow| match &flow.carrier {
            Carrier::Tcp(stream) => of_stream(&flow, stream),
            Carrier::Quic { .. } => None,
        })
    }
}

fn of_link(link: &Link) -> QuicConnection {
    let stats = link.connection.stats();
    QuicConnection {
        peer: canonical(link.connection.remote_address()),
        role: match link.connection.side() {
            Side::Client => Role::Client,
            Side::Server => Role::Server,
        },
        streams: link.streams(),
        rtt_us: micros(stats.path.rtt),
        packets_sent: stats.path.sent_packets,
        packets_lost: stats.path.lost_packets,
        bytes_sent: stats.udp_tx.bytes,
        bytes_received: stats.udp_rx.bytes,
        congestion_window_bytes: stats.path.cwnd,
        mtu_bytes: stats.path.current_mtu.into(),
    }
}

/// None if the connection is over: getpeername(2) says ENOTCONN.
fn of_stream(flow: &Flow, stream: &TcpStream) -> Option<TcpConnection> {
    let path = flow.path()?;
    Some(TcpConnection {
        peer: canonical(stream.peer_addr().ok()?),
        local: canonical(stream.local_addr().ok()?),
        rtt_us: micros(path.rtt),
        segments_retransmitted: path.lost_packets,
        bytes_sent: path.bytes_sent,
        bytes_received: path.bytes_received,
        congestion_window_bytes: path.cwnd,
        mtu_bytes: path.mtu,
    })
}

fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
