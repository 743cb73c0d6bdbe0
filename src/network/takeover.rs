//! How a UDP port changes hands from one quicwrap to another while connections live on that a listener had accepted which
//! is closed now: as with TCP, where a daemon that is started again binds its port with SO_REUSEADDR beside the sessions
//! of its predecessor.
//!
//! Who has such a port listens on a Unix socket that is named after it, and leaves the port to whoever connects there: see
//! [`Server::leave_port`](crate::quic::server::Server::leave_port).
#![forbid(unsafe_code)]

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream},
    },
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use nix::{
    sys::socket::{getsockopt, sockopt::PeerCredentials},
    unistd::geteuid,
};
use socket2::{Domain, SockAddr, Socket, Type};

/// The names of the Unix sockets begin so; behind it is the UDP address, and what makes the name unique. They are abstract
/// ones (unix(7)), which belong to a network namespace as ports do.
const NAME: &str = "quicwrap-port/";
/// How long the answer is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Offers a port that is used by connections alone.
///
/// # Errors
/// EMFILE, ENOMEM.
fn offer(udp: SocketAddr) -> io::Result<tokio::net::UnixListener> {
    static OFFERS: AtomicU64 = AtomicU64::new(0);
    let number = OFFERS.fetch_add(1, Ordering::Relaxed);
    let name = format!("{NAME}{udp}/{}/{number}", process::id());
    let listener = UnixListener::bind_addr(&UnixAddr::from_abstract_name(name)?)?;
    listener.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(listener)
}

/// Offers the port, and waits until somebody wants it who may have it: of the same user, or root. The port is expected to be
/// free when what is returned is dropped.
pub(super) async fn wanted(udp: SocketAddr) -> tokio::net::UnixStream {
    let offered = match offer(udp) {
        Ok(offered) => offered,
        Err(error) => {
            tracing::debug!(%error, %udp, "a port cannot be offered");
            return std::future::pending().await;
        }
    };
    loop {
        match offered.accept().await {
            Ok((stream, _)) if stream.peer_cred().is_ok_and(|by| may(by.uid())) => return stream,
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "who wants a port is not heard");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

/// Asks whoever offers the port, or it at another address, to leave it, and waits until that is done.
pub(super) fn ask(udp: SocketAddr) {
    // Without it nobody can be asked.
    let names = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let offered = names
        .lines()
        .filter_map(|line| line.split_once('@'))
        .map(|(_, name)| name);
    for name in offered.filter(|name| is_of(name, udp)) {
        if let Err(error) = ask_at(name) {
            tracing::debug!(%error, name, "a port is not left");
        }
    }
}

/// Whether the name is that of a port that is in the way of this one.
fn is_of(name: &str, udp: SocketAddr) -> bool {
    let address = name
        .strip_prefix(NAME)
        .and_then(|rest| rest.split('/').next());
    let address: Option<SocketAddr> = address.and_then(|address| address.parse().ok());
    address.is_some_and(|offered| overlap(offered, udp))
}

fn ask_at(name: &str) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Anybody can take such a name, and not accept.
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(format!("\0{name}"))?)?;
    socket.set_nonblocking(false)?;
    let mut stream = UnixStream::from(OwnedFd::from(socket));
    let by = getsockopt(&stream, PeerCredentials)?;
    if by.pid() == process::id().cast_signed() {
        // Its own ports this process has left already.
        return Ok(());
    }
    if !may(by.uid()) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    io::Read::read(&mut stream, &mut [0]).map(drop)
}

fn may(uid: u32) -> bool {
    uid == geteuid().as_raw() || uid == 0
}

/// Whether the UDP port is held by sockets alone that each hear one peer, or by none.
pub(super) fn is_held_by_connected_ones(udp: SocketAddr) -> bool {
    ["/proc/net/udp", "/proc/net/udp6"].iter().all(|file| {
        // A kernel without IPv6 has no second file.
        let sockets = fs::read_to_string(file).unwrap_or_default();
        sockets.lines().skip(1).all(|line| {
            let mut fields = line.split_whitespace().skip(1).map(address);
            let (Some(Some(local)), Some(Some(peer))) = (fields.next(), fields.next()) else {
                return false;
            };
            // One that is connected to itself reserves its port: udp.rs.
            !overlap(local, udp) || peer.port() != 0 && peer != local
        })
    })
}

/// Whether a socket at one of the addresses is in the way of one at the other.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && (any || one.ip().to_canonical() == other.ip().to_canonical())
}

/// An address as /proc/net/udp has it: words of the host's byte order in hexadecimal digits, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok();
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?.to_ne_bytes()).into(),
        32 => {
            let mut bytes = [0; 16];
            for (number, bytes) in bytes.chunks_mut(4).enumerate() {
                bytes.copy_from_slice(&word(8 * number)?.to_ne_bytes());
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        for (text, expected) in [
            ("0100007F:1F90", "127.0.0.1:8080"),
            ("00000000:0016", "0.0.0.0:22"),
            ("00000000000000000000000001000000:0016", "[::1]:22"),
            (
                "0000000000000000FFFF00000100007F:FFFF",
                "[::ffff:127.0.0.1]:65535",
            ),
        ] {
            assert_eq!(address(text), Some(expected.parse().unwrap()), "{text}");
        }
        for text in [
            "",
            ":",
            "0100007F",
            "0100007:1",
            "zz00007F:1F90",
            "0100007F:12345",
        ] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    #[test]
    fn a_port_is_held_by_who_hears_everybody_until_it_is_connected() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let peer = UdpSocket::bind(local).unwrap();
            let socket = UdpSocket::bind(local).unwrap();
            let address = socket.local_addr().unwrap();
            assert!(!is_held_by_connected_ones(address));
            socket.connect(address).unwrap();
            assert!(!is_held_by_connected_ones(address), "by itself");
            socket.connect(peer.local_addr().unwrap()).unwrap();
            assert!(is_held_by_connected_ones(address));
        }
    }

    #[test]
    fn a_name_tells_which_ports_it_is_in_the_way_of() {
        let name = format!("{NAME}127.0.0.1:80/7/0");
        for (wanted, expected) in [
            ("127.0.0.1:80", true),
            ("0.0.0.0:80", true),
            ("[::]:80", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("127.0.0.2:80", false),
            ("127.0.0.1:81", false),
        ] {
            assert_eq!(is_of(&name, wanted.parse().unwrap()), expected, "{wanted}");
        }
        assert!(!is_of("quicwrap-port/", "0.0.0.0:80".parse().unwrap()));
    }
}
