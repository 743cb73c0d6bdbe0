//! The kernel's own counters of what was sent, and what they prove.
#![forbid(unsafe_code)]

use std::{fs, io};

/// Largest payload of a UDP datagram over IPv4: RFC 768. The kernel counts a batch of segments, which
/// is no larger, as one.
const LARGEST_DATAGRAM: u64 = 65_507;
/// Largest payload of a TCP segment: the kernel counts each, however they are batched.
const LARGEST_SEGMENT: u64 = 65_535;
/// Segments of the shortest TCP connection: SYN, SYN with ACK, data each way, FIN each way.
const LEAST_SEGMENTS: u64 = 6;

/// How many the kernel has sent in this network namespace since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counters {
    /// TCP segments (Tcp: OutSegs).
    pub(super) tcp: u64,
    /// UDP datagrams (Udp: OutDatagrams).
    pub(super) udp: u64,
}

impl Counters {
    /// Reads them.
    ///
    /// # Errors
    /// Of /proc/self/net/snmp; InvalidData if it lacks them.
    pub(super) fn now() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/self/net/snmp")?;
        Self::parse(&text).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "/proc/self/net/snmp lacks OutSegs or OutDatagrams",
            )
        })
    }

    fn parse(text: &str) -> Option<Self> {
        Some(Self {
            tcp: counter(text, "Tcp:", "OutSegs")?,
            udp: counter(text, "Udp:", "OutDatagrams")?,
        })
    }

    /// What was sent since `earlier`.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            tcp: self.tcp.saturating_sub(earlier.tcp),
            udp: self.udp.saturating_sub(earlier.udp),
        }
    }
}

/// A line of names is followed by a line of values: proc_pid_net(5).
fn counter(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut rows = text.lines().filter(|line| line.starts_with(protocol));
    let (names, values) = (rows.next()?, rows.next()?);
    let at = names.split_whitespace().position(|word| word == name)?;
    values.split_whitespace().nth(at)?.parse().ok()
}

/// The least that moving `connections` times `bytes` takes, by either protocol.
pub(super) fn least(connections: u64, bytes: u64) -> Counters {
    Counters {
        tcp: connections * bytes.div_ceil(LARGEST_SEGMENT).max(LEAST_SEGMENTS),
        // One each way, at the least.
        udp: connections * bytes.div_ceil(LARGEST_DATAGRAM).max(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNMP: &str = "Tcp: RtoAlgorithm InSegs OutSegs\nTcp: 1 20 30\n\
        Udp: InDatagrams OutDatagrams\nUdp: 4 5\nUdpLite: InDatagrams OutDatagrams\nUdpLite: 0 0\n";

    #[test]
    fn counters_are_found_by_name() {
        let counters = Counters::parse(SNMP);
        assert_eq!(counters, Some(Counters { tcp: 30, udp: 5 }));
        assert_eq!(Counters::parse("Tcp: InSegs\nTcp: 1\n"), None);
    }

    #[test]
    fn the_least_is_by_bytes_or_by_connections() {
        assert_eq!(least(1, 65_535 * 100), Counters { tcp: 100, udp: 101 });
        assert_eq!(
            least(1000, 1024),
            Counters {
                tcp: 6000,
                udp: 2000
            }
        );
    }
}
