//! What `benches/raw_quinn` shares with the program, so that both move bytes with the same settings.
#![forbid(unsafe_code)]

use std::{io, net::SocketAddr, net::UdpSocket as StdUdpSocket, sync::Arc, time::Duration};

use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig};

use super::{config, udp::UdpSocket};
use crate::{network::route, trust};

/// How long a connection may be silent; longer than any measurement.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// An endpoint on the program's own kind of UDP socket. To be called within a runtime.
///
/// # Errors
/// A socket that lacks an option.
pub fn endpoint(socket: StdUdpSocket, server: Option<ServerConfig>) -> io::Result<Endpoint> {
    Endpoint::new_with_abstract_socket(
        super::endpoint_config(EndpointConfig::default()),
        server,
        UdpSocket::new(socket)?,
        Arc::new(TokioRuntime),
    )
}

/// The transport parameters for the route to `peer`, as for streams that a listener has taken.
pub fn transport(peer: SocketAddr) -> Arc<TransportConfig> {
    let mtu = route::find(peer, None).map_or(0, |route| route.mtu());
    Arc::new(config::Tuning::default().transport(mtu, IDLE_TIMEOUT, config::MAX_STREAMS))
}

/// The cipher suites, in the program's order.
pub fn provider() -> rustls::crypto::CryptoProvider {
    trust::provider()
}
