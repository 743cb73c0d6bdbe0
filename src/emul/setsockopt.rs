//! setsockopt(2).
#![forbid(unsafe_code)]

use nix::errno::Errno;

use super::{
    options::{Limits, Linger, Name, Spec, name},
    outcome::{Answer, Outcome},
    socket::{Family, Socket, State},
    transport::Transport,
};

/// Smallest SO_SNDBUF that is reported (SOCK_MIN_SNDBUF: twice 2,048 and a packet's bookkeeping).
const MIN_SEND_BUFFER: i32 = 4608;
/// Smallest SO_RCVBUF that is reported (SOCK_MIN_RCVBUF).
const MIN_RECEIVE_BUFFER: i32 = 2304;
/// TCP_MIN_MSS and MAX_TCP_WINDOW bound TCP_MAXSEG (do_tcp_setsockopt).
const MAXSEG: std::ops::RangeInclusive<i32> = 88..=32_767;

/// The names of SOL_SOCKET that are answered here, both to set and to get; the kernel answers the
/// others for the pair as it would for TCP.
pub(crate) const SOCKET_LEVEL: &[i32] = &[
    libc::SO_REUSEADDR,
    libc::SO_REUSEPORT,
    libc::SO_LINGER,
    libc::SO_SNDBUF,
    libc::SO_RCVBUF,
    libc::SO_SNDBUFFORCE,
    libc::SO_RCVBUFFORCE,
    libc::SO_ERROR,
    libc::SO_DOMAIN,
    libc::SO_PROTOCOL,
    libc::SO_ACCEPTCONN,
    libc::SO_BINDTODEVICE,
    libc::SO_MARK,
    libc::SO_PEERNAME,
    libc::SO_BUF_LOCK,
    libc::SO_TXREHASH,
    libc::SO_INCOMING_CPU,
    libc::SO_MAX_PACING_RATE,
];

/// Options of SOL_SOCKET that the kernel keeps for the pair and accept(2) inherits, but programs hardly
/// ever set: setting one traps, so that only then accept(2) need ask the listener for them. Those that
/// programs do set (SO_KEEPALIVE, SO_RCVTIMEO, SO_SNDTIMEO) are asked for each time, which costs less
/// than trapping them.
pub(crate) const RARELY_SET: &[i32] = &[
    libc::SO_BROADCAST,
    libc::SO_OOBINLINE,
    libc::SO_DONTROUTE,
    libc::SO_RCVLOWAT,
    libc::SO_TIMESTAMP,
    libc::SO_NO_CHECK,
    libc::SO_SELECT_ERR_QUEUE,
    libc::SO_BUSY_POLL,
];

/// Whether NULL stands for a value of zero: do_ipv6_setsockopt takes it so.
pub(crate) fn takes_null(option: Name) -> bool {
    option.0 == libc::IPPROTO_IPV6
}

/// The value that the program passes to setsockopt(2): its length, and its bytes or why they cannot be
/// read. Which of the two is looked at first differs by level.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    /// As the program gave it.
    pub(crate) length: usize,
    /// The first bytes of it, as many as an option has.
    pub(crate) bytes: Result<Vec<u8>, Errno>,
}

impl Value {
    /// The bytes.
    fn bytes(&self) -> Result<&[u8], Errno> {
        self.bytes.as_deref().map_err(|error| *error)
    }

    /// As an int.
    fn integer(&self) -> Result<i32, Errno> {
        if self.length < size_of::<i32>() {
            return Err(Errno::EINVAL);
        }
        integer(self.bytes()?)
    }
}

/// Sets an option.
///
/// # Errors
/// ENOPROTOOPT: no such option, or one that QUIC cannot honour. EINVAL: bad length or value. EFAULT:
/// the value cannot be read.
pub(crate) fn setsockopt(
    socket: &mut Socket,
    option: Name,
    value: &Value,
    limits: &Limits,
    transport: &dyn Transport,
) -> Answer {
    match option {
        name::SO_LINGER => {
            // sock_setsockopt reads an int whatever the option is.
            value.integer()?;
            set_linger(socket, value.bytes()?)?;
        }
        name::SO_MAX_PACING_RATE => set_pacing_rate(socket, value)?,
        name::SO_SNDBUF => {
            let bytes = doubled(value.integer()?, limits.wmem_max, MIN_SEND_BUFFER);
            socket.options.set(option, bytes);
        }
        name::SO_RCVBUF => {
            let bytes = doubled(value.integer()?, limits.rmem_max, MIN_RECEIVE_BUFFER);
            socket.options.set(option, bytes);
        }
        name::TCP_MAXSEG => set_maxseg(socket, value.integer()?)?,
        (libc::IPPROTO_TCP, libc::TCP_CONGESTION) => set_congestion(value.bytes()?, transport)?,
        // An empty name takes the device away, of which there is none.
        (libc::SOL_SOCKET, libc::SO_BINDTODEVICE) => match value.bytes()? {
            [] | [0, ..] => {}
            _ => return Err(Errno::ENOPROTOOPT),
        },
        // tcp(7): without the client half of fast open in net.ipv4.tcp_fastopen.
        (libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT) => return Err(Errno::EOPNOTSUPP),
        // Buffers beyond the limit, and marks, are the administrator's.
        (libc::SOL_SOCKET, libc::SO_SNDBUFFORCE | libc::SO_RCVBUFFORCE | libc::SO_MARK) => {
            value.integer()?;
            return Err(Errno::EPERM);
        }
        _ => set_integer(socket, option, value)?,
    }
    Ok(Outcome::Value(0))
}

fn set_integer(socket: &mut Socket, option: Name, value: &Value) -> Result<(), Errno> {
    let spec = Spec::of(option, socket.family).ok_or(Errno::ENOPROTOOPT);
    let value = match option.0 {
        // do_ip_setsockopt reads what it knows, and takes one byte or none for an int.
        libc::IPPROTO_IP => {
            spec?;
            match value.bytes()? {
                [] if option.1 == libc::IP_FREEBIND => return Err(Errno::EINVAL),
                [] => 0,
                bytes => integer(bytes).unwrap_or(bytes[0].into()),
            }
        }
        libc::IPPROTO_TCP | libc::SOL_SOCKET => value.integer()?,
        // do_ipv6_setsockopt reads first, and looks at the length of what it knows.
        libc::IPPROTO_IPV6 if socket.family == Family::V6 => {
            if value.length >= size_of::<i32>() {
                value.bytes()?;
            }
            spec?;
            value.integer()?
        }
        _ => return Err(Errno::ENOPROTOOPT),
    };
    if option == name::IPV6_V6ONLY && socket.has_port {
        // ipv6(7): only before bind.
        return Err(Errno::EINVAL);
    }
    let unconnected = matches!(
        socket.state,
        State::Idle | State::Failed | State::Closed | State::Listening { .. }
    );
    if option == name::TCP_FASTOPEN && !unconnected {
        return Err(Errno::EINVAL);
    }
    let kept = spec?.accept(value).ok_or(Errno::EINVAL)?;
    socket.options.set(option, kept);
    Ok(())
}

fn set_linger(socket: &mut Socket, value: &[u8]) -> Result<(), Errno> {
    let on = integer(value)? != 0;
    let seconds = integer(value.get(4..).ok_or(Errno::EINVAL)?)?;
    socket.options.linger = Some(Linger { on, seconds });
    Ok(())
}

/// An unsigned long, or an unsigned int; all ones are no limit (sk_setsockopt).
fn set_pacing_rate(socket: &mut Socket, value: &Value) -> Result<(), Errno> {
    let short = value.integer()?.cast_unsigned();
    let rate = match value.bytes()?.first_chunk() {
        Some(long) => u64::from_ne_bytes(*long),
        None if short == u32::MAX => u64::MAX,
        None => short.into(),
    };
    socket.options.pacing_rate = Some(rate);
    Ok(())
}

fn set_maxseg(socket: &mut Socket, value: i32) -> Result<(), Errno> {
    if value != 0 && !MAXSEG.contains(&value) {
        return Err(Errno::EINVAL);
    }
    socket.options.set(name::TCP_MAXSEG, value);
    Ok(())
}

/// The controller belongs to the QUIC connection that a program's sockets share, so a program may
/// ask for the one in force and no other.
fn set_congestion(value: &[u8], transport: &dyn Transport) -> Result<(), Errno> {
    if value.is_empty() {
        return Err(Errno::EINVAL);
    }
    match value.split(|&byte| byte == 0).next().unwrap_or_default() {
        name if name == transport.congestion().as_bytes() => Ok(()),
        _ => Err(Errno::ENOENT),
    }
}

/// socket(7): the kernel doubles what is asked, within its limits.
fn doubled(asked: i32, max: i32, min: i32) -> i32 {
    let asked = if asked < 0 { max } else { asked.min(max) };
    asked.saturating_mul(2).max(min)
}

fn integer(value: &[u8]) -> Result<i32, Errno> {
    value
        .first_chunk()
        .map(|bytes| i32::from_ne_bytes(*bytes))
        .ok_or(Errno::EINVAL)
}

/// Whether a connection may be closed by a reset: SO_LINGER with a zero time, socket(7).
pub(crate) fn aborts_on_close(socket: &Socket) -> bool {
    socket.options.linger
        == Some(Linger {
            on: true,
            seconds: 0,
        })
        && matches!(socket.state, State::Connected { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emul::testing::{FakeTransport, PEER, tcp};

    fn set(socket: &mut Socket, option: Name, value: &[u8]) -> Result<(), Errno> {
        let transport = FakeTransport::default();
        let value = Value {
            length: value.len(),
            bytes: Ok(value.to_vec()),
        };
        setsockopt(socket, option, &value, &Limits::default(), &transport).map(drop)
    }

    #[test]
    fn buffer_sizes_are_doubled_within_the_limits() {
        let mut socket = tcp();
        let cases = [
            (100_000, 200_000),
            (1_000_000, 425_984),
            (0, 4608),
            (-1, 425_984),
        ];
        for (asked, kept) in cases {
            set(&mut socket, name::SO_SNDBUF, &i32::to_ne_bytes(asked)).unwrap();
            assert_eq!(socket.options.get(name::SO_SNDBUF), Some(kept));
        }
    }

    #[test]
    fn lengths_and_values_are_checked() {
        let mut socket = tcp();
        assert_eq!(
            set(&mut socket, name::SO_REUSEADDR, &[1]),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            set(&mut socket, name::SO_LINGER, &[1; 7]),
            Err(Errno::EINVAL)
        );
        assert_eq!(set(&mut socket, name::IP_TOS, &[0x10]), Ok(()));
        assert_eq!(
            set(&mut socket, name::TCP_MAXSEG, &i32::to_ne_bytes(20)),
            Err(Errno::EINVAL)
        );
        let unknown = (libc::IPPROTO_TCP, 9999);
        assert_eq!(set(&mut socket, unknown, &[0; 4]), Err(Errno::ENOPROTOOPT));
    }

    #[test]
    fn v6only_is_fixed_by_bind() {
        let mut socket = Socket::new(libc::AF_INET6, libc::SOCK_STREAM, 0).unwrap();
        assert_eq!(
            set(&mut socket, name::IPV6_V6ONLY, &1i32.to_ne_bytes()),
            Ok(())
        );
        socket.has_port = true;
        assert_eq!(
            set(&mut socket, name::IPV6_V6ONLY, &[0; 4]),
            Err(Errno::EINVAL)
        );
    }

    #[test]
    fn a_pacing_rate_is_long_or_short() {
        let mut socket = tcp();
        for (value, rate) in [
            (1_000_000u32.to_ne_bytes().to_vec(), 1_000_000),
            (u32::MAX.to_ne_bytes().to_vec(), u64::MAX),
            ((1u64 << 40).to_ne_bytes().to_vec(), 1 << 40),
        ] {
            set(&mut socket, name::SO_MAX_PACING_RATE, &value).unwrap();
            assert_eq!(socket.options.pacing_rate, Some(rate));
        }
        let short = set(&mut socket, name::SO_MAX_PACING_RATE, &[0; 3]);
        assert_eq!(short, Err(Errno::EINVAL));
    }

    #[test]
    fn only_the_congestion_controller_in_force_can_be_chosen() {
        let option = (libc::IPPROTO_TCP, libc::TCP_CONGESTION);
        assert_eq!(set(&mut tcp(), option, b"cubic\0"), Ok(()));
        assert_eq!(set(&mut tcp(), option, b"vegas"), Err(Errno::ENOENT));
    }

    #[test]
    fn a_zero_linger_aborts_a_connection_only() {
        let mut socket = tcp();
        set(&mut socket, name::SO_LINGER, &[1, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert!(!aborts_on_close(&socket));
        socket.state = State::Connected {
            peer: PEER,
            announced: true,
        };
        assert!(aborts_on_close(&socket));
    }
}
