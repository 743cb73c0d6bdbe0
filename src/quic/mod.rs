//! QUIC: endpoints, connections and streams, and how TCP connections lie on them.
#![forbid(unsafe_code)]

mod admission;
pub mod bench;
pub(crate) mod bridge;
mod budget;
pub(crate) mod code;
pub(crate) mod config;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
pub(crate) mod link;
pub(crate) mod pool;
pub(crate) mod preface;
pub(crate) mod raw;
pub(crate) mod server;
mod steering;
mod udp;

use quinn::EndpointConfig;

/// Settings that all endpoints share.
fn endpoint_config(mut config: EndpointConfig) -> EndpointConfig {
    /// The largest that is allowed: peers on a loopback or jumbo link send more than 1,472 bytes.
    const MAX_UDP_PAYLOAD: u16 = 65_527;
    if let Err(error) = config.max_udp_payload_size(MAX_UDP_PAYLOAD) {
        tracing::error!(%error, "QUIC datagrams stay small");
    }
    config
}
