//! What the command line says of connections.
#![forbid(unsafe_code)]

use std::{net::SocketAddr, time::Duration};

use quinn::{QlogStream, Side};

use super::{bindings::Carriers, port::PortOffset};
use crate::{
    policy::{self, Rules},
    quic::{config::Tuning, qlog::Qlog, raw::Wire},
};

/// How connections are made and carried.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// How long a silent peer is waited for.
    pub(crate) idle_timeout: Duration,
    /// Which connections to peers QUIC carries.
    pub(crate) rules: Rules,
    /// On which listeners it does.
    pub(crate) listener_rules: Rules,
    /// Listeners take plain TCP clients as well.
    pub(crate) also_tcp: bool,
    /// Where nobody answers over QUIC, connect over TCP.
    pub(crate) fall_back: bool,
    /// How connections lie on the wire.
    pub(crate) wire: Wire,
    /// Where UDP ports lie.
    pub(crate) port_offset: PortOffset,
    /// Threads that carry connections.
    pub(crate) threads: usize,
    /// Whether they may choose the processor they run on.
    pub(crate) choose: bool,
    /// QUIC connections to one peer.
    pub(crate) connections: usize,
    /// How they use the network.
    pub(crate) tuning: Tuning,
    /// Where what happens on them is written.
    pub(crate) qlog: Option<Qlog>,
}

impl Settings {
    /// Where a new QUIC connection is to write what happens on it.
    pub(crate) fn qlog_stream(&self, side: Side, peer: SocketAddr) -> Option<QlogStream> {
        self.qlog.as_ref()?.stream(side, peer)
    }

    /// What carries the connections of a listener that is bound to `address`.
    pub(super) fn carriers(&self, address: SocketAddr) -> Carriers {
        let quic = self.listener_rules.decide(address).carrier == policy::Carrier::Quic;
        Carriers {
            quic,
            tcp: !quic || self.also_tcp,
        }
    }
}
