//! getsockopt(2).
#![forbid(unsafe_code)]

use nix::{errno::Errno, sched::sched_getcpu};

use super::{
    address,
    getsockname::getpeername,
    options::{Limits, Name, Spec, name},
    socket::{Family, Socket, SocketId, State},
    tcp_info,
    transport::{PathInfo, Transport},
};

/// TCP_MSS_DEFAULT: what an unconnected socket reports, RFC 9293 section 3.7.1.
const DEFAULT_MSS: i32 = 536;
/// Length of a congestion controller's name (TCP_CA_NAME_MAX).
const CONGESTION_NAME_BYTES: usize = 16;

/// How many bytes the program gives room for, from the length it passes, which is negative in error.
///
/// # Errors
/// EINVAL: a negative length. EOPNOTSUPP: a level that an IPv4 socket does not have, which is looked at
/// first.
pub(crate) fn room(family: Family, option: Name, length: i32) -> Result<usize, Errno> {
    match option.0 {
        libc::SOL_SOCKET | libc::IPPROTO_TCP | libc::IPPROTO_IP => {}
        // do_ipv6_getsockopt takes it for unsigned.
        libc::IPPROTO_IPV6 if family == Family::V6 => return Ok(length.cast_unsigned() as usize),
        level => return Err(no_such_option(level, family)),
    }
    usize::try_from(length).map_err(|_| Errno::EINVAL)
}

/// Reads an option other than SO_ERROR: the bytes of its value, to be cut to the `room` that the program
/// gave.
///
/// # Errors
/// ENOPROTOOPT, EOPNOTSUPP: no such option.
pub(crate) fn getsockopt(
    socket: &Socket,
    id: SocketId,
    option: Name,
    room: usize,
    limits: &Limits,
    transport: &dyn Transport,
) -> Result<Vec<u8>, Errno> {
    let number = match option {
        (libc::SOL_SOCKET, libc::SO_BINDTODEVICE) => return Ok(Vec::new()),
        name::SO_LINGER => return Ok(linger(socket)),
        name::SO_MAX_PACING_RATE => return Ok(pacing_rate(socket, room)),
        (libc::SOL_SOCKET, libc::SO_PEERNAME) => return Ok(address::encode(&getpeername(socket)?)),
        name::SO_INCOMING_CPU => incoming_cpu(socket),
        name::TCP_MAXSEG => maxseg(socket, id, transport),
        (libc::IPPROTO_TCP, libc::TCP_INFO) => {
            let path = path(socket, id, transport);
            return Ok(tcp_info::encode(socket, path.as_ref()));
        }
        (libc::IPPROTO_TCP, libc::TCP_CONGESTION) => return Ok(congestion(transport)),
        // ip(7): no IP options were received.
        (libc::IPPROTO_IP, libc::IP_OPTIONS) => return Ok(Vec::new()),
        (libc::IPPROTO_IP, libc::IP_MTU) | (libc::IPPROTO_IPV6, libc::IPV6_MTU) => {
            let path = path(socket, id, transport).ok_or(Errno::ENOTCONN)?;
            path.mtu.cast_signed()
        }
        _ => stored(socket, option, limits)?,
    };
    Ok(match u8::try_from(number) {
        // do_ip_getsockopt: for less than an int, as for a byte.
        Ok(byte) if option.0 == libc::IPPROTO_IP && (1..size_of::<i32>()).contains(&room) => {
            vec![byte]
        }
        _ => number.to_ne_bytes().to_vec(),
    })
}

/// An integer option for which only the socket need be asked.
///
/// # Errors
/// As [`getsockopt`].
pub(crate) fn stored(socket: &Socket, option: Name, limits: &Limits) -> Result<i32, Errno> {
    let number = match option {
        (libc::SOL_SOCKET, libc::SO_DOMAIN) => socket.family.number(),
        (libc::SOL_SOCKET, libc::SO_PROTOCOL) => socket.protocol,
        (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) => {
            i32::from(matches!(socket.state, State::Listening { .. }))
        }
        (libc::SOL_SOCKET, libc::SO_MARK) => 0,
        name::SO_BUF_LOCK => socket.options.get(option).unwrap_or_else(|| {
            let set = |name| i32::from(socket.options.get(name).is_some());
            set(name::SO_SNDBUF) | set(name::SO_RCVBUF) << 1
        }),
        name::SO_SNDBUF => socket.options.get(option).unwrap_or(limits.wmem_default),
        name::SO_RCVBUF => socket.options.get(option).unwrap_or(limits.rmem_default),
        name::TCP_SYNCNT => match socket.options.value(option) {
            0 => limits.syn_retries.cast_signed(),
            set => set,
        },
        _ => {
            Spec::of(option, socket.family)
                .ok_or_else(|| no_such_option(option.0, socket.family))?;
            socket.options.value(option)
        }
    };
    Ok(number)
}

/// do_ip_getsockopt answers EOPNOTSUPP for levels it does not know, everything else ENOPROTOOPT.
fn no_such_option(level: i32, family: Family) -> Errno {
    let known = matches!(
        level,
        libc::SOL_SOCKET | libc::IPPROTO_IP | libc::IPPROTO_TCP
    );
    if family == Family::V4 && !known {
        Errno::EOPNOTSUPP
    } else {
        Errno::ENOPROTOOPT
    }
}

/// SO_ERROR: the pending error, once; 0 if there is none. The kernel keeps an error on the pair for
/// each that is kept here, `pairs`, and hands it out to read(2) and write(2): what they have taken is
/// no longer pending.
pub(crate) fn take_error(socket: &mut Socket, pairs: i32) -> i32 {
    match (socket.error.take(), pairs) {
        (Some(error), pending) if pending != 0 => error as i32,
        (_, pending) => pending,
    }
}

fn linger(socket: &Socket) -> Vec<u8> {
    let linger = socket.options.linger.unwrap_or_default();
    let mut bytes = i32::from(linger.on).to_ne_bytes().to_vec();
    bytes.extend(linger.seconds.to_ne_bytes());
    bytes
}

/// The processor that a connection's packets come to, socket(7), which is this one; or what was set, before there is a
/// connection or (until its next packet, where this is TCP) during it.
fn incoming_cpu(socket: &Socket) -> i32 {
    let has_packets = matches!(socket.state, State::Connected { .. } | State::Closed);
    let own = || i32::try_from(sched_getcpu().ok().filter(|_| has_packets)?).ok();
    let set = socket.options.get(name::SO_INCOMING_CPU).or_else(own);
    set.unwrap_or_else(|| socket.options.value(name::SO_INCOMING_CPU))
}

/// A long where there is room for one (sk_getsockopt).
fn pacing_rate(socket: &Socket, room: usize) -> Vec<u8> {
    let rate = socket.options.pacing_rate.unwrap_or(u64::MAX);
    if room < size_of::<u64>() {
        let short = u32::try_from(rate).unwrap_or(u32::MAX);
        return short.to_ne_bytes().to_vec();
    }
    rate.to_ne_bytes().to_vec()
}

/// do_tcp_getsockopt: what the program has set counts while there is no connection.
fn maxseg(socket: &Socket, id: SocketId, transport: &dyn Transport) -> i32 {
    let path = || path(socket, id, transport).map(|path| path.mss.cast_signed());
    let found = match (socket.state, socket.options.value(name::TCP_MAXSEG)) {
        (State::Connected { .. }, _) | (State::Closed | State::Failed, 0) => path(),
        (_, 0) => None,
        (_, set) => Some(set),
    };
    found.unwrap_or(DEFAULT_MSS)
}

/// The path of a connection, also of one that is over.
fn path(socket: &Socket, id: SocketId, transport: &dyn Transport) -> Option<PathInfo> {
    transport.path(id).or(socket.path.as_deref().copied())
}

fn congestion(transport: &dyn Transport) -> Vec<u8> {
    let mut name = transport.congestion().as_bytes().to_vec();
    name.resize(CONGESTION_NAME_BYTES, 0);
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emul::testing::{FakeTransport, ID, PEER, tcp};

    fn get(socket: &mut Socket, option: Name) -> Result<Vec<u8>, Errno> {
        getsockopt(
            socket,
            ID,
            option,
            usize::MAX,
            &Limits::default(),
            &FakeTransport::default(),
        )
    }

    fn number(value: i32) -> Result<Vec<u8>, Errno> {
        Ok(value.to_ne_bytes().to_vec())
    }

    #[test]
    fn a_socket_says_it_is_tcp() {
        let mut socket = tcp();
        assert_eq!(
            get(&mut socket, (libc::SOL_SOCKET, libc::SO_DOMAIN)),
            number(libc::AF_INET)
        );
        assert_eq!(
            get(&mut socket, (libc::SOL_SOCKET, libc::SO_PROTOCOL)),
            number(6)
        );
        assert_eq!(get(&mut socket, name::SO_SNDBUF), number(16_384));
    }

    #[test]
    fn so_error_is_told_once() {
        let mut socket = tcp();
        socket.state = State::Connecting { peer: PEER };
        socket.failed(Errno::ECONNREFUSED);
        assert_eq!(
            take_error(&mut socket, libc::ECONNRESET),
            libc::ECONNREFUSED
        );
        assert_eq!(take_error(&mut socket, 0), 0);
        // connect(2) has not been told yet: ECONNABORTED, once.
        assert_eq!(socket.state, State::Failed);
    }

    #[test]
    fn an_error_that_read_has_told_is_not_told_again() {
        let mut socket = tcp();
        socket.reset(Errno::ETIMEDOUT);
        assert_eq!(take_error(&mut socket, 0), 0);
        assert_eq!(take_error(&mut socket, libc::ECONNRESET), libc::ECONNRESET);
    }

    #[test]
    fn the_path_is_known_when_the_connection_is_over() {
        let known = PathInfo {
            mss: 1_411,
            ..PathInfo::default()
        };
        let mut socket = tcp();
        socket.state = State::Closed;
        socket.path = Some(Box::new(known));
        let gone = FakeTransport {
            knows_no_path: true,
            ..FakeTransport::default()
        };
        assert_eq!(path(&socket, ID, &gone), Some(known));
        assert_eq!(maxseg(&socket, ID, &gone), 1_411);
        socket.disconnected();
        assert_eq!(path(&socket, ID, &gone), None);
        assert_eq!(maxseg(&socket, ID, &gone), DEFAULT_MSS);
    }

    #[test]
    fn the_segment_size_is_the_paths_once_connected() {
        let mut socket = tcp();
        assert_eq!(get(&mut socket, name::TCP_MAXSEG), number(536));
        socket.state = State::Connected {
            peer: PEER,
            announced: true,
        };
        assert_eq!(get(&mut socket, name::TCP_MAXSEG), number(1400));
    }

    #[test]
    fn a_pacing_rate_is_as_long_as_there_is_room() {
        let mut socket = tcp();
        assert_eq!(pacing_rate(&socket, 4), [0xff; 4]);
        socket.options.pacing_rate = Some(1 << 40);
        assert_eq!(pacing_rate(&socket, 8), (1u64 << 40).to_ne_bytes());
        assert_eq!(pacing_rate(&socket, 7), [0xff; 4]);
    }

    #[test]
    fn unknown_options_are_enoprotoopt() {
        let mut socket = tcp();
        assert_eq!(
            get(&mut socket, (libc::IPPROTO_TCP, 9999)),
            Err(Errno::ENOPROTOOPT)
        );
        assert_eq!(get(&mut socket, name::IPV6_V6ONLY), Err(Errno::EOPNOTSUPP));
        assert_eq!(get(&mut socket, (libc::SOL_UDP, 1)), Err(Errno::EOPNOTSUPP));
    }
}
