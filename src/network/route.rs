//! What the host's routing says of a peer: the source address and the MTU towards it, and later
//! whether ICMP says that nobody is there.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv, setsockopt, sockopt},
};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

use crate::sys::socket::get_option;

/// First pause before the probe is sent again, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between probes.
const LAST_PAUSE: Duration = Duration::from_secs(16);

/// How long a source address is remembered: connections that follow each other at once need not ask the kernel each
/// time. A route that changes is noticed this much later.
const REMEMBERED: Duration = Duration::from_millis(100);
/// As many are.
const MOST_REMEMBERED: usize = 256;

/// Source addresses that were found of late.
#[derive(Debug, Default)]
pub(crate) struct Sources(HashMap<(SocketAddr, Option<SocketAddr>), (Instant, Source)>);

/// Where packets to a peer come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source {
    /// The address that they carry; its port means nothing.
    pub(crate) local: SocketAddr,
    /// What the socket was bound to, unless the host chooses for it.
    pub(crate) bound: Option<SocketAddr>,
}

impl Sources {
    /// Where packets to the peer come from, from a socket that is bound to `bound`.
    ///
    /// # Errors
    /// As [`find`].
    pub(crate) fn find(
        &mut self,
        peer: SocketAddr,
        bound: Option<SocketAddr>,
    ) -> Result<Source, Errno> {
        let now = Instant::now();
        if let Some((found, source)) = self.0.get(&(peer, bound))
            && now.duration_since(*found) < REMEMBERED
        {
            return Ok(*source);
        }
        let own = bound.filter(|bound| !is_of_many(*bound));
        let source = Source {
            local: find(peer, own)?.local,
            bound: own,
        };
        if self.0.len() >= MOST_REMEMBERED {
            self.0.clear();
        }
        self.0.insert((peer, bound), (now, source));
        Ok(source)
    }
}

/// Whether nothing comes from an address although a socket may be bound to it: the host chooses the source then
/// (__inet_bind).
fn is_of_many(address: SocketAddr) -> bool {
    let probe = || {
        let probe = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
        is_broadcast(&probe, address)
    };
    let ip = address.ip();
    ip.is_multicast() || ip.is_ipv4() && !ip.is_unspecified() && matches!(probe(), Ok(true))
}

/// Connects the probe, unless that is a broadcast address.
///
/// # Errors
/// As connect(2).
fn is_broadcast(probe: &Socket, address: SocketAddr) -> std::io::Result<bool> {
    let Err(error) = probe.connect(&address.into()) else {
        return Ok(false);
    };
    // EACCES is a route that prohibits it, or this.
    probe.set_broadcast(true)?;
    match probe.connect(&address.into()) {
        Ok(()) => Ok(true),
        Err(_) => Err(error),
    }
}

/// The way to a peer.
#[derive(Debug)]
pub(crate) struct Route {
    /// The address that packets to the peer carry as their source; its port means nothing.
    pub(crate) local: SocketAddr,
    /// A UDP socket connected to the peer.
    probe: Socket,
}

/// Finds the way from `source`, or from wherever the host chooses, to `peer`. Sends nothing.
///
/// # Errors
/// As connect(2) for TCP: ENETUNREACH, EADDRNOTAVAIL, EHOSTUNREACH, EACCES, EINVAL.
pub(crate) fn find(peer: SocketAddr, source: Option<SocketAddr>) -> Result<Route, Errno> {
    let found = (|| {
        let probe = Socket::new(Domain::for_address(peer), Type::DGRAM, None)?;
        if let Some(mut source) = source.filter(|source| !source.ip().is_unspecified()) {
            source.set_port(0);
            probe.bind(&source.into())?;
        }
        hear_of_all(&probe, peer)?;
        if is_broadcast(&probe, peer)? {
            // As tcp_v4_connect.
            return Err(Errno::ENETUNREACH.into());
        }
        let local = probe.local_addr()?.as_socket();
        Ok((probe, local))
    })();
    let (probe, local) = found.map_err(|error: std::io::Error| {
        let number = error.raw_os_error();
        number.map_or(Errno::ENETUNREACH, Errno::from_raw)
    })?;
    if peer.ip().is_multicast() {
        return Err(Errno::ENETUNREACH);
    }
    let local = local.unwrap_or(peer);
    Ok(Route { local, probe })
}

/// Lets the socket hear of hosts and networks that are out of reach as well, as TCP does: by itself UDP ignores what may
/// pass (ip(7), IP_RECVERR).
fn hear_of_all(probe: &Socket, peer: SocketAddr) -> nix::Result<()> {
    match peer {
        SocketAddr::V4(_) => setsockopt(probe, sockopt::Ipv4RecvErr, &true),
        SocketAddr::V6(_) => setsockopt(probe, sockopt::Ipv6RecvErr, &true),
    }
}

impl Route {
    /// Largest IP packet towards the peer, in bytes, as far as this host knows; 0 if it does not.
    pub(crate) fn mtu(&self) -> u32 {
        let (level, name) = match self.local {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
        };
        let mtu = get_option(self.probe.as_fd(), level, name);
        mtu.unwrap_or(0).unsigned_abs()
    }

    /// Asks the peer's host whether the port is closed, with an empty datagram, which a QUIC endpoint
    /// ignores. A port of this host has answered when send(2) returns, so that no handshake need begin
    /// that would be abandoned. Other answers are for [`Self::refusal`].
    pub(crate) fn probe(&self) -> Option<Errno> {
        let sent = self.probe.send_with_flags(&[], libc::MSG_DONTWAIT);
        let error = sent.err().or_else(|| self.probe.take_error().ok()?)?;
        icmp_errno(error.raw_os_error())
    }

    /// Waits until the peer's host, or one on the way, says that the port is closed or out of reach
    /// (ICMP, RFC 1122 section 4.1.3.3). The first probe has been sent.
    pub(crate) async fn refusal(self) -> Errno {
        match self.wait_for_refusal().await {
            Ok(errno) => errno,
            Err(error) => {
                tracing::debug!(%error, "cannot probe for a closed port");
                std::future::pending().await
            }
        }
    }

    async fn wait_for_refusal(self) -> std::io::Result<Errno> {
        self.probe.set_nonblocking(true)?;
        let probe = UdpSocket::from_std(self.probe.into())?;
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::select! {
                ready = probe.ready(Interest::ERROR) => {
                    ready?;
                    let error = probe.take_error()?.and_then(|error| error.raw_os_error());
                    if let Some(errno) = icmp_errno(error) {
                        return Ok(errno);
                    }
                    // The socket is ready for as long as errors are queued.
                    let next = || Ok(recv(probe.as_raw_fd(), &mut [], MsgFlags::MSG_ERRQUEUE)?);
                    while probe.try_io(Interest::ERROR, next).is_ok() {}
                }
                () = tokio::time::sleep(pause) => {}
            }
            // Through the socket itself: the runtime does not know that it is writable. A failure to
            // send is that of an earlier probe, or of a full queue, where the next one counts.
            let sent = SockRef::from(&probe).send(&[]);
            if let Some(errno) = icmp_errno(sent.err().and_then(|error| error.raw_os_error())) {
                return Ok(errno);
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

/// The errors that an ICMP message leaves on a connected UDP socket.
fn icmp_errno(number: Option<i32>) -> Option<Errno> {
    let errno = Errno::from_raw(number?);
    matches!(
        errno,
        Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EHOSTDOWN
    )
    .then_some(errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_remembered_for_a_while_and_an_error_is_not() {
        let mut sources = Sources::default();
        let peer = "127.0.0.1:1".parse().unwrap();
        let found = sources.find(peer, None).unwrap();
        assert_eq!((found.local.ip(), found.bound), (peer.ip(), None));
        let entry = sources.0.get_mut(&(peer, None)).unwrap();
        entry.1.local.set_port(42);
        assert_eq!(sources.find(peer, None).unwrap().local.port(), 42);
        let entry = sources.0.get_mut(&(peer, None)).unwrap();
        entry.0 -= REMEMBERED;
        assert_ne!(sources.find(peer, None).unwrap().local.port(), 42);
        let multicast = "224.0.0.1:1".parse().unwrap();
        assert_eq!(sources.find(multicast, None), Err(Errno::ENETUNREACH));
        assert_eq!(sources.0.len(), 1);
    }

    #[test]
    fn loopback_is_reached_from_loopback() {
        let route = find("127.0.0.1:9".parse().unwrap(), None).unwrap();
        assert_eq!(
            route.local.ip(),
            "127.0.0.1".parse::<std::net::IpAddr>().unwrap()
        );
        assert!(route.mtu() >= 1500);
    }

    #[test]
    fn multicast_and_broadcast_are_out_of_reach() {
        for peer in ["224.0.0.1:9", "255.255.255.255:9"] {
            assert_eq!(
                find(peer.parse().unwrap(), None).unwrap_err(),
                Errno::ENETUNREACH
            );
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_refused() {
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = closed.local_addr().unwrap();
        drop(closed);
        let route = find(peer, None).unwrap();
        assert_eq!(route.probe(), Some(Errno::ECONNREFUSED));
        // It is told once: the next probe, a second later, finds out again.
        assert_eq!(route.refusal().await, Errno::ECONNREFUSED);
    }
}
