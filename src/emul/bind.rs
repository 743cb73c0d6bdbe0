//! bind(2).
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;

use super::{
    address,
    options::{Limits, name},
    outcome::{Answer, Outcome},
    socket::{Family, Socket, SocketId, State},
    transport::{BindRequest, Transport},
};

/// Gives the socket a local address. `privileged` says whether the caller has CAP_NET_BIND_SERVICE,
/// which is its own and not that of who binds for it (ip(7)).
///
/// # Errors
/// EINVAL: already bound, or a short address. EAFNOSUPPORT, EADDRINUSE, EADDRNOTAVAIL, EACCES.
pub(crate) fn bind(
    socket: &mut Socket,
    id: SocketId,
    bytes: &[u8],
    privileged: impl FnOnce() -> bool,
    limits: &Limits,
    transport: &dyn Transport,
) -> Answer {
    let wanted = parse(bytes, socket.family)?;
    if (1..limits.unprivileged_ports).contains(&wanted.port()) && !privileged() {
        return Err(Errno::EACCES);
    }
    if socket.is_over() {
        // The network may not have said so yet.
        socket.finished();
    }
    // __inet_bind: in TCP_CLOSE, however it came to that, without a port.
    let closed = matches!(socket.state, State::Idle | State::Failed | State::Closed);
    if !closed || socket.has_port {
        return Err(Errno::EINVAL);
    }
    reserve(socket, id, wanted, transport)?;
    socket.bound.address |= !wanted.ip().is_unspecified();
    socket.bound.port |= wanted.port() != 0;
    if matches!(wanted.ip(), IpAddr::V6(ip) if !ip.is_unspecified() && ip.to_ipv4_mapped().is_none())
    {
        // __inet6_bind: an address of IPv6 takes no IPv4.
        socket.options.set(name::IPV6_V6ONLY, 1);
    }
    if wanted.port() == 0 && socket.options.flag(name::IP_BIND_ADDRESS_NO_PORT) {
        // ip(7): the address was good; the port comes with connect or listen.
        transport.release(id);
        socket.has_port = false;
        socket.local = Some(wanted);
    }
    Ok(Outcome::Value(0))
}

/// Reserves `wanted` for the socket and notes what it became.
pub(super) fn reserve(
    socket: &mut Socket,
    id: SocketId,
    wanted: SocketAddr,
    transport: &dyn Transport,
) -> Result<(), Errno> {
    let request = BindRequest {
        address: wanted,
        v6_only: socket.options.flag(name::IPV6_V6ONLY),
        reuse_address: socket.options.flag(name::SO_REUSEADDR),
        reuse_port: socket.options.flag(name::SO_REUSEPORT),
    };
    socket.local = Some(transport.bind(id, request)?);
    socket.has_port = true;
    Ok(())
}

fn parse(bytes: &[u8], family: Family) -> Result<SocketAddr, Errno> {
    let parsed = address::parse(bytes, family);
    // __inet_bind: AF_UNSPEC is taken for AF_INET if the address is INADDR_ANY, for the sake of
    // programs that leave the family out.
    if parsed == Err(Errno::EAFNOSUPPORT)
        && family == Family::V4
        && address::family_of(bytes) == Some(libc::AF_UNSPEC)
    {
        let mut patched = bytes.to_vec();
        patched[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        return match address::parse(&patched, family)? {
            any if any.ip().is_unspecified() => Ok(any),
            _ => Err(Errno::EAFNOSUPPORT),
        };
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emul::testing::{FakeTransport, ID, tcp};

    fn call(socket: &mut Socket, bytes: &[u8], transport: &FakeTransport) -> Answer {
        bind(socket, ID, bytes, || false, &Limits::default(), transport)
    }

    #[test]
    fn low_ports_are_for_the_privileged() {
        let (transport, limits) = (FakeTransport::default(), Limits::default());
        let low = sockaddr("127.0.0.1:80");
        assert_eq!(
            call(&mut tcp(), &low, &transport).unwrap_err(),
            Errno::EACCES
        );
        assert!(bind(&mut tcp(), ID, &low, || true, &limits, &transport).is_ok());
    }

    fn sockaddr(text: &str) -> Vec<u8> {
        address::encode(&text.parse().unwrap())
    }

    #[test]
    fn port_zero_becomes_the_port_that_was_reserved() {
        let (mut socket, transport) = (tcp(), FakeTransport::default());
        assert!(call(&mut socket, &sockaddr("127.0.0.1:0"), &transport).is_ok());
        assert_eq!(socket.local, Some("127.0.0.1:40000".parse().unwrap()));
    }

    #[test]
    fn a_second_bind_is_einval() {
        let (mut socket, transport) = (tcp(), FakeTransport::default());
        let address = sockaddr("127.0.0.1:0");
        assert!(call(&mut socket, &address, &transport).is_ok());
        assert_eq!(
            call(&mut socket, &address, &transport).unwrap_err(),
            Errno::EINVAL
        );
    }

    #[test]
    fn the_transport_decides_whether_an_address_is_free() {
        let transport = FakeTransport {
            refuse: Some(Errno::EADDRINUSE),
            ..Default::default()
        };
        let mut socket = tcp();
        let answer = call(&mut socket, &sockaddr("127.0.0.1:8080"), &transport);
        assert_eq!(answer.unwrap_err(), Errno::EADDRINUSE);
        assert_eq!(socket.local, None);
    }

    #[test]
    fn unspecified_family_is_taken_for_inet_with_the_wildcard_only() {
        let transport = FakeTransport::default();
        let mut any = sockaddr("0.0.0.0:5000");
        any[..2].copy_from_slice(&[0, 0]);
        assert!(call(&mut tcp(), &any, &transport).is_ok());
        let mut specific = sockaddr("127.0.0.1:5000");
        specific[..2].copy_from_slice(&[0, 0]);
        let answer = call(&mut tcp(), &specific, &transport);
        assert_eq!(answer.unwrap_err(), Errno::EAFNOSUPPORT);
    }
}
