//! Ports, listeners and the kernel's own counters.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

use super::native;

/// Ports are taken from below the kernel's ephemeral range (32768 and up), so that no client socket of another
/// test can sit on one.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// A port that no socket holds, TCP or UDP, IPv4 or IPv6. Never the same twice in one test process.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run one after another start at different places.
    let start = (std::process::id() as u16).wrapping_mul(97);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(step) % COUNT;
        if is_free(port) {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        && TcpListener::bind((Ipv6Addr::LOCALHOST, port)).is_ok()
        && UdpSocket::bind((Ipv6Addr::LOCALHOST, port)).is_ok()
}

/// Is TCP port `port` served? A wrapped listener is a UDP socket of the same number.
pub(crate) fn is_served(port: u16) -> bool {
    if native() {
        tcp_listens(port)
    } else {
        udp_bound(port)
    }
}

pub(crate) fn tcp_listens(port: u16) -> bool {
    // st 0A is TCP_LISTEN, see proc_pid_net(5).
    local_ports("tcp").any(|(p, state)| p == port && state == "0A")
}

pub(crate) fn udp_bound(port: u16) -> bool {
    local_ports("udp").any(|(p, _)| p == port)
}

/// (local port, state) of each socket in /proc/self/net/{table,table6}. The kernel writes them in pieces and can pass
/// over a socket when others come and go between two, so that each table is read three times.
fn local_ports(table: &str) -> impl Iterator<Item = (u16, String)> {
    let read = |name: String| {
        std::fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default()
    };
    let text: String = (0..3)
        .map(|_| read(table.to_owned()) + &read(format!("{table}6")))
        .collect();
    let rows: Vec<_> = text.lines().filter_map(parse_row).collect();
    rows.into_iter()
}

fn parse_row(line: &str) -> Option<(u16, String)> {
    let mut words = line.split_whitespace().skip(1);
    let port = u16::from_str_radix(words.next()?.rsplit(':').next()?, 16).ok()?;
    let state = words.nth(1)?;
    Some((port, state.to_owned()))
}

/// Counters of this network namespace, from /proc/self/net/snmp.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters {
    /// TCP segments sent.
    pub(crate) tcp_out: u64,
    /// UDP datagrams sent (a GSO batch counts as one).
    pub(crate) udp_out: u64,
}

impl Counters {
    pub(crate) fn now() -> Self {
        Counters {
            tcp_out: counter("Tcp:", "OutSegs"),
            udp_out: counter("Udp:", "OutDatagrams"),
        }
    }
}

fn counter(protocol: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/net/snmp").expect("/proc/self/net/snmp");
    let mut rows = text.lines().filter(|l| l.starts_with(protocol));
    let (names, values) = (rows.next().expect("names"), rows.next().expect("values"));
    let at = names
        .split_whitespace()
        .position(|n| n == name)
        .expect("a known counter");
    values
        .split_whitespace()
        .nth(at)
        .expect("a value")
        .parse()
        .expect("a number")
}
