//! How a UDP port changes hands from one quicwrap to another while connections live on that a listener had accepted which
//! is closed now: as with TCP, where a daemon that is started again binds its port with SO_REUSEADDR beside the sessions
//! of its predecessor.
//!
//! Who has such connections listens on a Unix socket that is named after the port. Who wants the port connects there: while
//! that lasts sockets with SO_REUSEADDR can be bound beside the ones that the connections use. Not all the time, for whoever
//! is bound there may hear what is meant for others.
#![forbid(unsafe_code)]

use std::{
    collections::HashSet,
    fs,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::{
        fd::{AsFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream},
    },
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use nix::{
    sys::{
        socket::{getsockopt, sockopt::PeerCredentials},
        stat::fstat,
    },
    unistd::geteuid,
};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The names of the Unix sockets begin so; behind it is the UDP address, and what makes the name unique. They are abstract
/// ones (unix(7)), which belong to a network namespace as ports do.
const NAME: &str = "quicwrap-port/";
/// How long answers are waited for, all together. A test is not to depend on how busy the machine is.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 30_000 } else { 500 });
/// How long the port can be bound at most: longer, for others may be slow to answer.
const ADMISSION: Duration = PATIENCE.saturating_mul(4);
/// How often the kernel is asked who has the port: it loses its place in the list where sockets before it are closed.
const LOOKS: usize = 3;
/// The answer: the port can be bound.
const ADMITTED: u8 = b'+';

/// What is offered.
pub(super) trait Door: Send + Sync {
    /// Lets others be bound to the port, whom new clients find there, or none any more. Returns whether that is so.
    fn open(&self, open: bool) -> impl Future<Output = bool> + Send;
}

/// The offers of one network.
#[derive(Debug)]
pub(super) struct Offers {
    /// By which it knows its own; nobody can guess the names.
    secret: u64,
    number: AtomicU64,
}

impl Offers {
    /// None yet. Where there are no random numbers there will be none.
    pub(super) fn new() -> Option<Self> {
        let mut secret = [0; 8];
        aws_lc_rs::rand::fill(&mut secret).ok()?;
        Some(Self {
            secret: u64::from_ne_bytes(secret),
            number: AtomicU64::new(0),
        })
    }

    /// Offers a port for as long as this is polled, to programs of the same user and of root.
    pub(super) async fn offer(&self, udp: SocketAddr, door: impl Door) {
        let offered = match self.listen(udp) {
            Ok(offered) => offered,
            Err(error) => {
                tracing::debug!(%error, %udp, "a port cannot be offered");
                return std::future::pending().await;
            }
        };
        loop {
            match offered.accept().await {
                Ok((wanted, _)) if wanted.peer_cred().is_ok_and(|by| may(by.uid())) => {
                    let _ = tokio::time::timeout(ADMISSION, admit(wanted, &door)).await;
                    door.open(false).await;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "who wants a port is not heard");
                    tokio::time::sleep(PATIENCE).await;
                }
            }
        }
    }

    fn listen(&self, udp: SocketAddr) -> io::Result<tokio::net::UnixListener> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let name = format!("{NAME}{udp}/{:x}/{number}", self.secret);
        let listener = UnixListener::bind_addr(&UnixAddr::from_abstract_name(name)?)?;
        listener.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(listener)
    }

    /// Asks all others who offer the port, or it at another address. As long as what is returned lives it can be bound, as
    /// far as it depends on those who have answered.
    pub(super) fn ask(&self, udp: SocketAddr) -> Vec<UnixStream> {
        // Anybody can give a socket a name that is no text.
        let names = fs::read("/proc/net/unix").unwrap_or_default();
        let names = String::from_utf8_lossy(&names);
        let offered = names.lines().filter_map(|line| line.split_once('@'));
        let wanted = offered.filter(|(_, name)| self.is_others(name, udp));
        let mut wanted: Vec<_> = wanted.map(|(_, name)| name).collect();
        let deadline = Instant::now() + PATIENCE;
        let mut admitted = Vec::new();
        // Who leaves the port binds sockets beside those of all others: it may have to come after them.
        loop {
            let (before, asked) = (admitted.len(), std::mem::take(&mut wanted));
            for name in asked {
                match ask_at(name, deadline) {
                    Ok(stream) => admitted.push(stream),
                    Err(error) => {
                        tracing::debug!(%error, name, "a port is not left");
                        wanted.push(name);
                    }
                }
            }
            if wanted.is_empty() || admitted.len() == before {
                return admitted;
            }
        }
    }

    /// Whether the name is that of an offer of somebody else's, of a port that is in the way of this one.
    fn is_others(&self, name: &str, udp: SocketAddr) -> bool {
        let mut parts = name.strip_prefix(NAME).unwrap_or_default().split('/');
        let address = parts.next().and_then(|address| address.parse().ok());
        let own = format!("{:x}", self.secret);
        address.is_some_and(|offered| overlap(offered, udp)) && parts.next() != Some(&own)
    }
}

/// Opens the door until whoever has come leaves.
async fn admit(mut wanted: tokio::net::UnixStream, door: &impl Door) {
    if door.open(true).await && wanted.write_u8(ADMITTED).await.is_ok() {
        let _ = wanted.read_u8().await;
    }
}

fn ask_at(name: &str, deadline: Instant) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Anybody can take such a name, and not accept.
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(format!("\0{name}"))?)?;
    socket.set_nonblocking(false)?;
    let mut stream = UnixStream::from(OwnedFd::from(socket));
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    if !may(getsockopt(&stream, PeerCredentials)?.uid()) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.set_read_timeout(Some(left))?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    Ok(stream)
}

fn may(uid: u32) -> bool {
    uid == geteuid().as_raw() || uid == 0
}

/// Whether all others that the kernel lets be bound beside this socket are ours, or hear one peer each and are of a user who
/// could have the port as well.
///
/// # Errors
/// Of open(2) and read(2) in /proc.
pub(super) fn is_alone(socket: &UdpSocket) -> io::Result<bool> {
    let mut known = own_sockets()?;
    known.insert(fstat(socket.as_fd())?.st_ino);
    let udp = socket.local_addr()?;
    let files = [["/proc/net/udp", "/proc/net/udp6"]; LOOKS];
    for file in files.as_flattened() {
        let sockets = match fs::read_to_string(file) {
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            sockets => sockets?,
        };
        let all_well = sockets.lines().skip(1).all(|line| {
            Entry::read(line).is_some_and(|entry| {
                !overlap(entry.local, udp)
                    || known.contains(&entry.inode)
                    || entry.peer.port() != 0 && may(entry.uid)
            })
        });
        if !all_well {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The inodes of this process's sockets.
fn own_sockets() -> io::Result<HashSet<u64>> {
    let links = fs::read_dir("/proc/self/fd")?.flatten();
    let names = links.filter_map(|link| fs::read_link(link.path()).ok());
    let inodes = names.filter_map(|name| {
        let name = name.to_str()?.strip_prefix("socket:[")?;
        name.strip_suffix(']')?.parse().ok()
    });
    Ok(inodes.collect())
}

/// A line of /proc/net/udp.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    local: SocketAddr,
    peer: SocketAddr,
    uid: u32,
    inode: u64,
}

impl Entry {
    fn read(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace().skip(1);
        Some(Self {
            local: address(fields.next()?)?,
            peer: address(fields.next()?)?,
            // Behind st, tx_queue:rx_queue, tr:tm->when and retrnsmt.
            uid: fields.nth(4)?.parse().ok()?,
            // Behind timeout.
            inode: fields.nth(1)?.parse().ok()?,
        })
    }
}

/// Whether a socket at one of the addresses is in the way of one at the other.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
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
    fn lines_are_read_as_the_kernel_writes_them() {
        let line = "  345: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 98765 2 0000000000000000 0";
        let entry = Entry {
            local: "127.0.0.1:8080".parse().unwrap(),
            peer: "127.0.0.1:50000".parse().unwrap(),
            uid: 1000,
            inode: 98765,
        };
        assert_eq!(Entry::read(line), Some(entry));
        assert_eq!(Entry::read("  345: 0100007F:1F90"), None);
    }

    #[test]
    fn names_tell_whose_offers_of_which_ports_they_are() {
        let [own, other] = [(); 2].map(|()| Offers::new().unwrap());
        let name = format!("{NAME}127.0.0.1:80/{:x}/0", other.secret);
        for (wanted, expected) in [
            ("127.0.0.1:80", true),
            ("0.0.0.0:80", true),
            ("[::]:80", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("127.0.0.2:80", false),
            ("127.0.0.1:81", false),
        ] {
            let wanted = wanted.parse().unwrap();
            assert_eq!(own.is_others(&name, wanted), expected, "{wanted}");
            assert!(!other.is_others(&name, wanted));
        }
        for strange in ["", NAME, "quicwrap-port", "other/127.0.0.1:80/1/0"] {
            assert!(!own.is_others(strange, "0.0.0.0:80".parse().unwrap()));
        }
    }

    /// Notes what it is told.
    #[derive(Default)]
    struct Noting(std::sync::Mutex<Vec<bool>>, bool);

    impl Door for std::sync::Arc<Noting> {
        async fn open(&self, open: bool) -> bool {
            self.0.lock().unwrap().push(open);
            self.1
        }
    }

    #[tokio::test]
    async fn a_port_is_open_for_as_long_as_who_has_asked_stays() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap();
        let [own, other] = [(); 2].map(|()| std::sync::Arc::new(Offers::new().unwrap()));
        let refusing = std::sync::Arc::<Noting>::default();
        let willing = std::sync::Arc::new(Noting(std::sync::Mutex::default(), true));
        for door in [&refusing, &willing] {
            let (other, door) = (std::sync::Arc::clone(&other), std::sync::Arc::clone(door));
            tokio::spawn(async move { other.offer(port, door).await });
        }
        tokio::task::yield_now().await;
        for _ in 0..2 {
            let own = std::sync::Arc::clone(&own);
            let asking = tokio::task::spawn_blocking(move || own.ask(port));
            let admitted = asking.await.unwrap();
            assert_eq!(admitted.len(), 1);
            assert_eq!(willing.0.lock().unwrap().last(), Some(&true));
            drop(admitted);
            while *willing.0.lock().unwrap().last().unwrap() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert!(refusing.0.lock().unwrap().contains(&true));
        assert!(other.ask(port).is_empty());
    }

    #[test]
    fn who_hears_everybody_is_not_to_be_beside_a_socket() {
        let new = |address: &SocketAddr| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.bind(&(*address).into()).unwrap();
            UdpSocket::from(socket)
        };
        let any = "127.0.0.1:0".parse().unwrap();
        let socket = new(&any);
        let port = socket.local_addr().unwrap();
        assert!(is_alone(&socket).unwrap());
        // Another process's, which this one is not to know.
        let script = "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('0.0.0.0', int(sys.argv[1]))); \
            print(); sys.stdin.readline(); s.connect(('127.0.0.1', 9)); print(); sys.stdin.readline()";
        let mut other = std::process::Command::new("python3")
            .args(["-uc", script, &port.port().to_string()])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let (mut input, mut output) = (other.stdin.take().unwrap(), other.stdout.take().unwrap());
        output.read_exact(&mut [0]).unwrap();
        assert!(!is_alone(&socket).unwrap());
        io::Write::write_all(&mut input, b"\n").unwrap();
        output.read_exact(&mut [0]).unwrap();
        assert!(is_alone(&socket).unwrap());
        drop(input);
        other.wait().unwrap();
    }
}
