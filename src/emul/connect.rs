//! connect(2).
#![forbid(unsafe_code)]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use nix::errno::Errno;

use super::{
    address,
    options::{Limits, name},
    outcome::{Answer, Outcome, Wait},
    socket::{Socket, SocketId, State},
    transport::{ConnectRequest, Progress, Transport},
};

/// First retransmission of a SYN, doubled each time (tcp(7), tcp_syn_retries; RFC 6298).
const SYN_TIMEOUT: Duration = Duration::from_secs(1);

/// Begins to connect, or says how an earlier attempt stands. One that has failed at once leaves the socket in
/// [`State::Failed`], also where that is returned.
///
/// # Errors
/// EINPROGRESS (with `nonblocking`), EALREADY, EISCONN, ECONNREFUSED and others of an attempt that has
/// failed meanwhile, EINVAL and EAFNOSUPPORT for a bad address.
pub(crate) fn connect(
    socket: &mut Socket,
    id: SocketId,
    bytes: &[u8],
    nonblocking: bool,
    limits: &Limits,
    transport: &dyn Transport,
) -> Answer {
    let family = address::family_of(bytes).ok_or(Errno::EINVAL)?;
    match socket.state {
        // A connection that is over still counts, as in the kernel (SS_CONNECTED).
        State::Connected {
            announced: true, ..
        }
        | State::Closed
        | State::Listening { .. } => Err(Errno::EISCONN),
        State::Connected {
            peer,
            announced: false,
        } => {
            socket.state = State::Connected {
                peer,
                announced: true,
            };
            Ok(Outcome::Value(0))
        }
        State::Connecting { .. } if nonblocking => Err(Errno::EALREADY),
        State::Connecting { .. } => Ok(Outcome::Park(Wait::Connect)),
        State::Failed => {
            // __inet_stream_connect: the attempt's error is returned once; where SO_ERROR or read(2)
            // has taken it, ECONNABORTED.
            socket.disconnected();
            Err(socket.error.take().unwrap_or(Errno::ECONNABORTED))
        }
        State::Idle => {
            if family == libc::AF_UNSPEC {
                // Dissolving an association that does not exist succeeds.
                return Ok(Outcome::Value(0));
            }
            begin(socket, id, bytes, limits, transport)?;
            match &mut socket.state {
                State::Failed if !nonblocking => Err(socket.error.unwrap_or(Errno::ECONNABORTED)),
                // Also over loopback, where TCP has shaken hands by then.
                _ if nonblocking => Err(Errno::EINPROGRESS),
                State::Connected { announced, .. } => {
                    *announced = true;
                    Ok(Outcome::Value(0))
                }
                _ => Ok(Outcome::Park(Wait::Connect)),
            }
        }
    }
}

fn begin(
    socket: &mut Socket,
    id: SocketId,
    bytes: &[u8],
    limits: &Limits,
    transport: &dyn Transport,
) -> Result<(), Errno> {
    let peer = reachable(socket, address::parse(bytes, socket.family)?)?;
    let request = ConnectRequest {
        peer: address::canonical(peer),
        source: source_for(socket, peer),
        timeout: attempt_timeout(socket, limits),
    };
    let begun = transport.connect(id, request)?;
    socket.local = Some(address::in_family(begun.local, socket.family));
    socket.has_port = true;
    socket.state = State::Connecting { peer };
    socket.error = None;
    match begun.progress {
        Progress::Pending => {}
        Progress::Established => {
            socket.established(begun.local);
        }
        Progress::Failed(errno) => socket.failed(errno),
    }
    Ok(())
}

/// The bound address in the peer's family: an IPv6 socket bound to the wildcard may connect to IPv4.
fn source_for(socket: &Socket, peer: SocketAddr) -> Option<SocketAddr> {
    let mut local = socket.local?;
    if !socket.has_port {
        if local.ip().is_unspecified() {
            return None;
        }
        local.set_port(0);
    }
    let peer_is_v4 = address::canonical(peer).is_ipv4();
    Some(match address::canonical(local) {
        v6 @ SocketAddr::V6(_) if peer_is_v4 && v6.ip().is_unspecified() => {
            (Ipv4Addr::UNSPECIFIED, v6.port()).into()
        }
        other => other,
    })
}

/// Where connecting to `asked` leads: the wildcard reaches this host (ip(7)), in the family of the
/// socket's own address.
///
/// # Errors
/// As tcp_v6_connect: ENETUNREACH for a multicast address, and for an IPv4 one if the socket is for IPv6
/// alone; EAFNOSUPPORT for an IPv6 address if it is bound to an IPv4 one.
fn reachable(socket: &Socket, asked: SocketAddr) -> Result<SocketAddr, Errno> {
    let SocketAddr::V6(mut asked) = asked else {
        let ip = Some(asked.ip()).filter(|ip| !ip.is_unspecified());
        return Ok((ip.unwrap_or(Ipv4Addr::LOCALHOST.into()), asked.port()).into());
    };
    let mapped_loopback = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    let bound = match socket.local.map(|local| local.ip()) {
        Some(IpAddr::V6(ip)) if !ip.is_unspecified() => Some(ip),
        _ => None,
    };
    let bound_mapped = bound.is_some_and(address::is_mapped);
    if asked.ip().is_unspecified() {
        asked.set_ip(if bound_mapped {
            mapped_loopback
        } else {
            Ipv6Addr::LOCALHOST
        });
    }
    if asked.ip().is_multicast() {
        return Err(Errno::ENETUNREACH);
    }
    if address::is_mapped(*asked.ip()) {
        let v6_alone = bound.is_some() && !bound_mapped;
        if v6_alone || socket.options.flag(name::IPV6_V6ONLY) {
            return Err(Errno::ENETUNREACH);
        }
        if asked.ip().to_ipv4_mapped() == Some(Ipv4Addr::UNSPECIFIED) {
            asked.set_ip(mapped_loopback);
        }
    } else if bound_mapped {
        return Err(Errno::EAFNOSUPPORT);
    }
    Ok(asked.into())
}

/// How long TCP would send SYNs: 1 + 2 + 4 + … seconds for the first and each retry, or
/// TCP_USER_TIMEOUT (RFC 5482) if that is shorter.
fn attempt_timeout(socket: &Socket, limits: &Limits) -> Duration {
    let retries = match socket.options.value(name::TCP_SYNCNT) {
        0 => limits.syn_retries,
        set => set.unsigned_abs(),
    };
    let by_retries = SYN_TIMEOUT * (2u32.saturating_pow(retries.min(16) + 1) - 1);
    match socket.options.value(name::TCP_USER_TIMEOUT) {
        0 => by_retries,
        millis => by_retries.min(Duration::from_millis(u64::from(millis.unsigned_abs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emul::testing::{FakeTransport, ID, LOCAL, PEER, tcp};

    fn call(socket: &mut Socket, nonblocking: bool) -> Answer {
        call_on(socket, nonblocking, &FakeTransport::default())
    }

    fn call_on(socket: &mut Socket, nonblocking: bool, transport: &FakeTransport) -> Answer {
        let peer = address::encode(&PEER);
        connect(
            socket,
            ID,
            &peer,
            nonblocking,
            &Limits::default(),
            transport,
        )
    }

    #[test]
    fn non_blocking_goes_through_einprogress_ealready_zero_eisconn() {
        let mut socket = tcp();
        assert_eq!(call(&mut socket, true).unwrap_err(), Errno::EINPROGRESS);
        assert_eq!(call(&mut socket, true).unwrap_err(), Errno::EALREADY);
        assert!(socket.established(LOCAL));
        assert!(matches!(call(&mut socket, true), Ok(Outcome::Value(0))));
        assert_eq!(call(&mut socket, true).unwrap_err(), Errno::EISCONN);
    }

    #[test]
    fn blocking_waits_even_for_an_attempt_begun_before() {
        let mut socket = tcp();
        assert!(matches!(
            call(&mut socket, false),
            Ok(Outcome::Park(Wait::Connect))
        ));
        assert!(matches!(
            call(&mut socket, false),
            Ok(Outcome::Park(Wait::Connect))
        ));
    }

    #[test]
    fn what_is_established_at_once_needs_no_waiting() {
        let transport = FakeTransport {
            at_once: true,
            ..Default::default()
        };
        let mut socket = tcp();
        assert!(matches!(
            call_on(&mut socket, false, &transport),
            Ok(Outcome::Value(0))
        ));
        assert_eq!(call(&mut socket, false).unwrap_err(), Errno::EISCONN);
        let mut socket = tcp();
        let first = call_on(&mut socket, true, &transport);
        assert_eq!(first.unwrap_err(), Errno::EINPROGRESS);
        assert!(matches!(call(&mut socket, true), Ok(Outcome::Value(0))));
        assert_eq!(call(&mut socket, true).unwrap_err(), Errno::EISCONN);
    }

    #[test]
    fn a_failure_is_returned_once_and_then_another_attempt_begins() {
        let mut socket = tcp();
        assert_eq!(call(&mut socket, true).unwrap_err(), Errno::EINPROGRESS);
        socket.failed(Errno::ECONNREFUSED);
        assert_eq!(call(&mut socket, true).unwrap_err(), Errno::ECONNREFUSED);
        assert_eq!(call(&mut socket, true).unwrap_err(), Errno::EINPROGRESS);
    }

    #[test]
    fn what_has_failed_at_once_is_told_as_tcp_tells_it() {
        let transport = FakeTransport {
            fails: Some(Errno::ECONNREFUSED),
            ..Default::default()
        };
        let mut socket = tcp();
        let told = call_on(&mut socket, false, &transport);
        assert_eq!(told.unwrap_err(), Errno::ECONNREFUSED);
        let mut socket = tcp();
        let told = call_on(&mut socket, true, &transport);
        assert_eq!(told.unwrap_err(), Errno::EINPROGRESS);
        assert_eq!(socket.state, State::Failed);
        assert_eq!(call(&mut socket, true).unwrap_err(), Errno::ECONNREFUSED);
    }

    #[test]
    fn what_the_transport_knows_at_once_is_returned_at_once() {
        let transport = FakeTransport {
            refuse: Some(Errno::ENETUNREACH),
            ..Default::default()
        };
        let mut socket = tcp();
        assert_eq!(
            call_on(&mut socket, true, &transport).unwrap_err(),
            Errno::ENETUNREACH
        );
        assert_eq!(socket.state, State::Idle);
    }

    #[test]
    fn the_wildcard_reaches_this_host() {
        let transport = FakeTransport::default();
        let any = address::encode(&"0.0.0.0:80".parse().unwrap());
        let _ = connect(&mut tcp(), ID, &any, true, &Limits::default(), &transport);
        assert_eq!(transport.connected.lock().unwrap()[0].peer, PEER);
    }

    #[test]
    fn an_attempt_lasts_as_long_as_tcp_would_send_syns() {
        let mut socket = tcp();
        let limits = Limits {
            syn_retries: 6,
            ..Limits::default()
        };
        assert_eq!(attempt_timeout(&socket, &limits), Duration::from_secs(127));
        socket.options.set(name::TCP_SYNCNT, 1);
        assert_eq!(attempt_timeout(&socket, &limits), Duration::from_secs(3));
        socket.options.set(name::TCP_USER_TIMEOUT, 500);
        assert_eq!(
            attempt_timeout(&socket, &limits),
            Duration::from_millis(500)
        );
    }
}
