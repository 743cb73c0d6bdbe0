//! QUIC: endpoints, connections and streams, and how TCP connections lie on them.
#![forbid(unsafe_code)]

mod admission;
pub mod bench;
pub(crate) mod bridge;
pub(crate) mod code;
pub(crate) mod config;
mod early;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod handshakes;
mod joined;
pub(crate) mod link;
mod per_client;
pub(crate) mod pool;
pub(crate) mod preface;
pub(crate) mod qlog;
pub(crate) mod raw;
mod roaming;
pub(crate) mod send_window;
pub(crate) mod server;
mod steering;
mod udp;

use quinn::EndpointConfig;

/// Settings that all endpoints share.
fn endpoint_config(mut config: EndpointConfig) -> EndpointConfig {
    if let Err(error) = config.max_udp_payload_size(udp::MAX_UDP_PAYLOAD) {
        tracing::error!(%error, "QUIC datagrams stay small");
    }
    config
}
