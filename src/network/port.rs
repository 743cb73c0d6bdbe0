//! `--port-offset`: how far above TCP port N its UDP port lies.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use nix::errno::Errno;

/// The distance, the same at both ends. Programs see TCP's numbers alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PortOffset(u16);

impl PortOffset {
    /// A distance in ports.
    pub(crate) fn new(ports: u16) -> Self {
        Self(ports)
    }

    /// The UDP address that stands for a TCP address. Port 0, which asks for any, stays.
    ///
    /// # Errors
    /// EADDRNOTAVAIL: there is no such port; said in the log.
    pub(crate) fn to_udp(self, mut tcp: SocketAddr) -> Result<SocketAddr, Errno> {
        if tcp.port() != 0 {
            let port = tcp.port().checked_add(self.0).ok_or_else(|| {
                tracing::error!(
                    "no UDP port for {tcp}: {} + {} is beyond 65535; choose a smaller --port-offset, at both ends",
                    tcp.port(),
                    self.0
                );
                Errno::EADDRNOTAVAIL
            })?;
            tcp.set_port(port);
        }
        Ok(tcp)
    }

    /// The TCP address that a UDP address stands for.
    ///
    /// # Errors
    /// EADDRINUSE: there is none; another ephemeral port may do.
    pub(crate) fn to_tcp(self, mut udp: SocketAddr) -> Result<SocketAddr, Errno> {
        let port = udp.port().checked_sub(self.0).filter(|&port| port != 0);
        udp.set_port(port.ok_or(Errno::EADDRINUSE)?);
        Ok(udp)
    }
}

/// Says, once, what to do where QUIC and somebody else want one UDP port: TCP and UDP have port numbers of their own.
#[derive(Debug, Default)]
pub(crate) struct PortAdvice(bool);

impl PortAdvice {
    /// bind(2) of a TCP port fails, which TCP by itself may have had.
    pub(crate) fn taken(&mut self, tcp: SocketAddr, offset: PortOffset) {
        if let Some(udp) = self.first(tcp, offset) {
            tracing::warn!(
                "TCP port {} cannot be bound: UDP port {udp}, which is to carry it, is in use: by another server under quicwrap, as it would be over TCP, or for UDP; end that server, or free the UDP port, or choose another --port-offset, such as 10000, at both ends",
                tcp.port(),
            );
        }
    }

    /// The program binds a UDP port that carries one of its TCP ports.
    pub(crate) fn wanted(&mut self, tcp: SocketAddr, offset: PortOffset) {
        if let Some(udp) = self.first(tcp, offset) {
            tracing::warn!(
                "the program wants UDP port {udp} for itself, which carries its TCP port {}: it gets EADDRINUSE; choose another --port-offset, such as 10000, at both ends",
                tcp.port(),
            );
        }
    }

    fn first(&mut self, tcp: SocketAddr, offset: PortOffset) -> Option<u16> {
        let given = std::mem::replace(&mut self.0, true);
        let udp = offset.to_udp(tcp).ok()?;
        (!given).then(|| udp.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let offset = PortOffset::new(10_000);
        let tcp: SocketAddr = "127.0.0.1:443".parse().unwrap();
        let udp = offset.to_udp(tcp).unwrap();
        assert_eq!(udp.port(), 10_443);
        assert_eq!(offset.to_tcp(udp), Ok(tcp));
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        assert_eq!(offset.to_udp(any), Ok(any));
    }

    #[test]
    fn ports_without_a_counterpart() {
        let offset = PortOffset::new(10_000);
        let high = "127.0.0.1:60000".parse().unwrap();
        assert_eq!(offset.to_udp(high), Err(Errno::EADDRNOTAVAIL));
        for low in ["127.0.0.1:10000", "127.0.0.1:80"] {
            assert_eq!(offset.to_tcp(low.parse().unwrap()), Err(Errno::EADDRINUSE));
        }
    }
}
