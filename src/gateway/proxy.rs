//! The PROXY protocol (HAProxy, proxy-protocol.txt): who the client is, said before its first byte.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use clap::ValueEnum;
use ppp::{v1, v2};

/// Which form of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProxyVersion {
    /// A line of text.
    #[value(name = "v1", alias = "1")]
    V1,
    /// Binary.
    #[value(name = "v2", alias = "2")]
    V2,
}

/// The header of a connection from `client` to `local`.
pub(super) fn header(version: ProxyVersion, client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    match version {
        ProxyVersion::V1 => v1::Addresses::from((client, local))
            .to_string()
            .into_bytes(),
        ProxyVersion::V2 => v2::Builder::with_addresses(
            v2::Version::Two | v2::Command::Proxy,
            v2::Protocol::Stream,
            (client, local),
        )
        .build()
        .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(client: &str, local: &str) -> (SocketAddr, SocketAddr) {
        (client.parse().unwrap(), local.parse().unwrap())
    }

    #[test]
    fn text() {
        let (client, local) = addresses("10.0.0.7:5000", "10.0.0.1:443");
        assert_eq!(
            header(ProxyVersion::V1, client, local),
            b"PROXY TCP4 10.0.0.7 10.0.0.1 5000 443\r\n"
        );
        let (client, local) = addresses("[2001:db8::7]:5000", "[2001:db8::1]:443");
        assert_eq!(
            header(ProxyVersion::V1, client, local),
            b"PROXY TCP6 2001:db8::7 2001:db8::1 5000 443\r\n"
        );
    }

    #[test]
    fn binary() {
        let (client, local) = addresses("10.0.0.7:5000", "10.0.0.1:443");
        let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        expected.extend([10, 0, 0, 7, 10, 0, 0, 1, 0x13, 0x88, 0x01, 0xbb]);
        assert_eq!(header(ProxyVersion::V2, client, local), expected);
    }
}
