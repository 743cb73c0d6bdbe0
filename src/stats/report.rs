//! What a wrapped program or a gateway says of itself, as JSON: the supervisor writes it, the command
//! reads it. The names of the fields are documented in the manual page, with their units.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What carries connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A program and its supervisor.
    Program,
    /// `quicwrap gateway`.
    Gateway,
}

/// Who has made a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// This side.
    Client,
    /// The peer.
    Server,
}

/// A QUIC connection that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QuicConnection {
    /// The peer's UDP address.
    pub(crate) peer: SocketAddr,
    /// This side's part.
    pub(crate) role: Role,
    /// TCP connections on it.
    pub(crate) streams: usize,
    /// Smoothed round-trip time, in microseconds (RFC 9002 section 5.3).
    pub(crate) rtt_us: u64,
    /// QUIC packets sent.
    pub(crate) packets_sent: u64,
    /// Those of them that were declared lost (RFC 9002 section 6.1).
    pub(crate) packets_lost: u64,
    /// UDP payload sent, in bytes: what QUIC adds and sends again included.
    pub(crate) bytes_sent: u64,
    /// UDP payload received, in bytes.
    pub(crate) bytes_received: u64,
    /// In bytes.
    pub(crate) congestion_window_bytes: u64,
    /// Largest UDP payload that is sent, in bytes.
    pub(crate) mtu_bytes: u32,
}

/// A connection that is carried by TCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TcpConnection {
    /// The peer's address.
    pub(crate) peer: SocketAddr,
    /// This side's address.
    pub(crate) local: SocketAddr,
    /// Smoothed round-trip time, in microseconds: tcp(7), tcpi_rtt.
    pub(crate) rtt_us: u64,
    /// Segments sent again: tcp(7), tcpi_total_retrans.
    pub(crate) segments_retransmitted: u64,
    /// What the program has sent, in bytes.
    pub(crate) bytes_sent: u64,
    /// What it has received, in bytes.
    pub(crate) bytes_received: u64,
    /// In bytes.
    pub(crate) congestion_window_bytes: u64,
    /// Of the path, in bytes: tcp(7), tcpi_pmtu.
    pub(crate) mtu_bytes: u32,
}

/// Sums over the connections that are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// How many.
    pub(crate) quic_connections: u64,
    /// How many.
    pub(crate) tcp_connections: u64,
    /// TCP connections on the QUIC connections.
    pub(crate) streams: u64,
    /// Over QUIC.
    pub(crate) packets_sent: u64,
    /// Over QUIC.
    pub(crate) packets_lost: u64,
    /// Over both, in bytes.
    pub(crate) bytes_sent: u64,
    /// Over both, in bytes.
    pub(crate) bytes_received: u64,
}

impl Totals {
    /// Counts a QUIC connection.
    pub(crate) fn add_quic(&mut self, connection: &QuicConnection) {
        self.quic_connections += 1;
        self.streams += connection.streams as u64;
        self.packets_sent += connection.packets_sent;
        self.packets_lost += connection.packets_lost;
        self.bytes_sent += connection.bytes_sent;
        self.bytes_received += connection.bytes_received;
    }

    /// Counts a TCP connection.
    pub(crate) fn add_tcp(&mut self, connection: &TcpConnection) {
        self.tcp_connections += 1;
        self.bytes_sent += connection.bytes_sent;
        self.bytes_received += connection.bytes_received;
    }

    /// Counts what others have counted. They are other processes, so that sums may be anything.
    pub(crate) fn add(&mut self, other: &Self) {
        let sum = |a: &mut u64, b: u64| *a = a.saturating_add(b);
        sum(&mut self.quic_connections, other.quic_connections);
        sum(&mut self.tcp_connections, other.tcp_connections);
        sum(&mut self.streams, other.streams);
        sum(&mut self.packets_sent, other.packets_sent);
        sum(&mut self.packets_lost, other.packets_lost);
        sum(&mut self.bytes_sent, other.bytes_sent);
        sum(&mut self.bytes_received, other.bytes_received);
    }
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// What it is.
    pub(crate) kind: Kind,
    /// The program, or the gateway.
    pub(crate) pid: i32,
    /// What the caller has started: the first process of a wrapped program, or the gateway.
    pub(crate) front_pid: i32,
    /// Who carries the connections: the supervisor, or the gateway.
    pub(crate) supervisor_pid: i32,
    /// The program and its arguments, or the gateway's. What is not UTF-8 is shown as U+FFFD.
    pub(crate) command: Vec<String>,
}

impl Identity {
    /// Whether one of its processes is this one.
    pub(crate) fn is(&self, pid: i32) -> bool {
        [self.pid, self.front_pid, self.supervisor_pid].contains(&pid)
    }
}

/// One wrapped program or gateway. Its writer makes text of the connections one by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Instance<Q = QuicConnection, T = TcpConnection> {
    /// Who.
    #[serde(flatten)]
    pub(crate) identity: Identity,
    /// For how long it has run, in seconds.
    pub(crate) uptime_seconds: u64,
    /// Its QUIC connections.
    pub(crate) quic_connections: Vec<Q>,
    /// Its connections that are carried by TCP.
    pub(crate) tcp_connections: Vec<T>,
    /// Their sums.
    pub(crate) totals: Totals,
}

/// All that run: the document of `--json`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// By the program's pid.
    pub(crate) instances: Vec<Instance>,
    /// Their sums.
    pub(crate) totals: Totals,
}

impl Report {
    /// A report of these.
    pub(crate) fn new(mut instances: Vec<Instance>) -> Self {
        instances.sort_by_key(|instance| instance.identity.pid);
        let mut totals = Totals::default();
        for instance in &instances {
            totals.add(&instance.totals);
        }
        Self { instances, totals }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn instance(pid: i32) -> Instance {
        let quic = QuicConnection {
            peer: "192.0.2.1:5201".parse().unwrap(),
            role: Role::Client,
            streams: 2,
            rtt_us: 12_345,
            packets_sent: 1_000,
            packets_lost: 15,
            bytes_sent: 1_200_000,
            bytes_received: 30,
            congestion_window_bytes: 120_000,
            mtu_bytes: 1_452,
        };
        let tcp = TcpConnection {
            peer: "[2001:db8::1]:80".parse().unwrap(),
            local: "[2001:db8::2]:40000".parse().unwrap(),
            rtt_us: 90,
            segments_retransmitted: 3,
            bytes_sent: 7,
            bytes_received: 8,
            congestion_window_bytes: 14_480,
            mtu_bytes: 1_500,
        };
        let mut totals = Totals::default();
        totals.add_quic(&quic);
        totals.add_tcp(&tcp);
        Instance {
            identity: Identity {
                kind: Kind::Program,
                pid,
                front_pid: pid - 2,
                supervisor_pid: pid - 1,
                command: vec!["iperf3".to_owned(), "-c".to_owned(), "a b".to_owned()],
            },
            uptime_seconds: 3_723,
            quic_connections: vec![quic],
            tcp_connections: vec![tcp],
            totals,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let report = Report::new(vec![instance(7), instance(5)]);
        assert_eq!(report.instances[0].identity.pid, 5);
        assert_eq!(report.totals.bytes_sent, 2 * 1_200_007);
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.contains(r#""peer":"[2001:db8::1]:80""#), "{text}");
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }

    #[test]
    fn sums_of_others_do_not_overflow() {
        let mut all = Totals::default();
        let huge = Totals {
            bytes_sent: u64::MAX,
            ..Totals::default()
        };
        all.add(&huge);
        all.add(&huge);
        assert_eq!(all.bytes_sent, u64::MAX);
    }

    #[test]
    fn any_of_the_three_pids_names_it() {
        let identity = instance(9).identity;
        assert!([7, 8, 9].into_iter().all(|pid| identity.is(pid)));
        assert!(!identity.is(6));
    }
}
