//! UDP sockets on the ports that programs bind: one that refuses until somebody listens, and then one for each thread; or
//! one from the beginning, beside sockets of connections.
#![forbid(unsafe_code)]

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use nix::errno::Errno;
use socket2::{Domain, SockRef, Socket, Type};

use super::takeover;
use crate::emul::transport::BindRequest;

/// Binds beside sockets that hear one peer each. It does not refuse: who comes before somebody listens waits for that.
///
/// It has no part in a group with SO_REUSEPORT: before Linux 6.13 the kernel gives such a one what is for those sockets.
///
/// # Errors
/// As bind(2); EADDRINUSE, too, where another hears everybody.
pub(crate) fn reserve_beside(request: &BindRequest) -> io::Result<(UdpSocket, SocketAddr)> {
    let request = BindRequest {
        reuse_port: false,
        ..*request
    };
    let socket = bound(&request, true)?;
    // Only now: nobody has come since.
    if !takeover::is_alone(&socket)? {
        return Err(Errno::EADDRINUSE.into());
    }
    let address = socket.local_addr()?;
    Ok((socket, address))
}

/// Binds, and connects the socket to itself: whoever else sends there gets ICMP port unreachable, and
/// so ECONNREFUSED, as from a TCP port that nobody listens on.
pub(crate) fn reserve(request: &BindRequest) -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = bound(request, false)?;
    let address = socket.local_addr()?;
    if request.reuse_port {
        // Once a member of a group was connected, the kernel no longer spreads datagrams over it
        // (reuseport_has_conns). Servers that share a port listen right after bind(2).
        return Ok((socket, address));
    }
    let mut itself = address;
    if itself.ip().is_unspecified() {
        itself.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    if let Err(error) = socket.connect(itself) {
        // A host without IPv6 loopback: the port is reserved, and merely silent.
        tracing::debug!(%error, %address, "a bound port cannot refuse connections");
    }
    Ok((socket, address))
}

/// A socket on a reserved UDP port that hears everybody. It takes the place of the connected one, which
/// connect(2) to AF_UNSPEC would not make whole again: for IPv6, the kernel keeps the peer's address
/// and goes on dropping what comes from others. SO_REUSEADDR lets the two meet on the port for as long
/// as this takes.
///
/// # Errors
/// As bind(2).
fn open(reserved: UdpSocket, request: &BindRequest) -> io::Result<UdpSocket> {
    if reserved.peer_addr().is_err() {
        return Ok(reserved);
    }
    SockRef::from(&reserved).set_reuse_address(true)?;
    bound(request, true)
}

/// A bound socket, beside others with SO_REUSEADDR if that is said. It admits none itself from then on.
fn bound(request: &BindRequest, beside: bool) -> io::Result<UdpSocket> {
    let socket = new(request)?;
    socket.set_reuse_address(beside)?;
    socket.bind(&request.address.into())?;
    socket.set_reuse_address(false)?;
    Ok(socket.into())
}

/// As [`open`], with as many sockets on the port as asked for. That others of this user could join them, with
/// SO_REUSEPORT, gains those nothing: the kernel is told which socket to give a datagram to.
///
/// # Errors
/// As bind(2).
pub(crate) fn open_many(
    reserved: UdpSocket,
    request: &BindRequest,
    count: usize,
) -> io::Result<(UdpSocket, Vec<UdpSocket>)> {
    let first = open(reserved, request)?;
    if count == 1 || request.reuse_port {
        // Those who share the port get their part by the client's address, as with TCP.
        return Ok((first, Vec::new()));
    }
    // Only now: while the first was bound, nobody else's could be.
    SockRef::from(&first).set_reuse_port(true)?;
    let others = (1..count).map(|_| {
        let request = BindRequest {
            reuse_port: true,
            ..*request
        };
        bound(&request, false)
    });
    Ok((first, others.collect::<io::Result<_>>()?))
}

fn new(request: &BindRequest) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(request.address), Type::DGRAM, None)?;
    if request.address.is_ipv6() {
        socket.set_only_v6(request.v6_only)?;
    }
    if request.reuse_port {
        socket.set_reuse_port(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opened_port_hears_everybody_and_is_still_ones_own() {
        for text in ["127.0.0.1:0", "[::]:0"] {
            let request = BindRequest {
                address: text.parse().unwrap(),
                v6_only: false,
                reuse_address: false,
                reuse_port: false,
            };
            let (reserved, address) = reserve(&request).unwrap();
            let request = BindRequest { address, ..request };
            let socket = open(reserved, &request).unwrap();
            assert_eq!(socket.local_addr().unwrap(), address);
            assert!(socket.peer_addr().is_err());
            assert!(reserve(&request).is_err());
        }
    }
}
