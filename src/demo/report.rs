//! What the demonstration says: rates, the line of each part, the verdict.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::{
    counters,
    transfer::{Carrier, Load, Outcome},
};

/// A part that has been run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) load: Load,
    pub(super) carrier: Carrier,
    pub(super) outcome: Outcome,
}

/// `bytes` in `time`.
pub(super) fn bit_rate(bytes: u64, time: Duration) -> String {
    format!("{:.1} Gbit/s", bytes as f64 * 8e-9 / seconds(time))
}

/// `connections` in `time`.
pub(super) fn connection_rate(connections: u64, time: Duration) -> String {
    format!("{:.0} a second", connections as f64 / seconds(time))
}

/// What the columns of [`Part::line`] are. The last two are the kernel's counters: segments and
/// datagrams sent.
pub(super) fn heading() -> String {
    line("", "time", "rate", "checksums", "TCP sent", "UDP sent")
}

fn line(title: &str, time: &str, rate: &str, checksums: &str, tcp: &str, udp: &str) -> String {
    format!("  {title:<33} {time:>8} {rate:>14}  {checksums:<9} {tcp:>8} {udp:>8}")
}

/// Never nothing, to divide by.
fn seconds(time: Duration) -> f64 {
    time.as_secs_f64().max(1e-6)
}

impl Load {
    /// For the report.
    pub(super) fn title(self, carrier: Carrier) -> String {
        let what = if self.connections > 1 {
            format!("{} connections", self.connections)
        } else {
            format!("{} MiB", self.bytes >> 20)
        };
        format!("{what} over {}", carrier.name())
    }

    fn rate(self, time: Duration) -> String {
        if self.connections > 1 {
            connection_rate(self.connections, time)
        } else {
            bit_rate(self.bytes, time)
        }
    }
}

impl Part {
    /// Its line in the report.
    pub(super) fn line(&self) -> String {
        let Outcome { took, counted, .. } = &self.outcome;
        let agree = self.checksums_agree();
        line(
            &self.load.title(self.carrier),
            &format!("{:.2} s", seconds(*took)),
            &self.load.rate(*took),
            if agree { "agree" } else { "DIFFER" },
            &counted.tcp.to_string(),
            &counted.udp.to_string(),
        )
    }

    fn checksums_agree(&self) -> bool {
        let Outcome { sent, received, .. } = &self.outcome;
        sent.len() as u64 == self.load.connections && sent == received
    }

    /// What is wrong with it.
    pub(super) fn faults(&self) -> Vec<String> {
        let title = self.load.title(self.carrier);
        let least = counters::least(self.load.connections, self.load.bytes);
        let counted = self.outcome.counted;
        let mut faults = Vec::new();
        if !self.checksums_agree() {
            faults.push(format!(
                "{title}: what the server got is not what the client sent"
            ));
        }
        match self.carrier {
            // Half: other programs may use TCP at the same time.
            Carrier::Quic if counted.tcp * 2 >= least.tcp => faults.push(format!(
                "{title}: the kernel counted {} TCP segments, and {} could have carried all of it; if other programs are using TCP, run this again when they do not, or alone: unshare -rn sh -c 'ip link set lo up; quicwrap demo'",
                counted.tcp, least.tcp
            )),
            Carrier::Quic if counted.udp < least.udp => faults.push(format!(
                "{title}: the kernel counted {} UDP datagrams, fewer than the {} that it takes",
                counted.udp, least.udp
            )),
            // A counter that does not count proves nothing.
            Carrier::Tcp if counted.tcp < least.tcp => faults.push(format!(
                "{title}: the kernel counted {} TCP segments, fewer than the {} that it takes: its counters cannot be relied on here",
                counted.tcp, least.tcp
            )),
            Carrier::Quic | Carrier::Tcp => {}
        }
        faults
    }
}

/// The last words: what is wrong, or what was shown.
pub(super) fn verdict(parts: &[Part]) -> Result<String, String> {
    let faults: Vec<_> = parts.iter().flat_map(Part::faults).collect();
    if !faults.is_empty() {
        return Err(format!(
            "it does NOT work as it should:\n  {}",
            faults.join("\n  ")
        ));
    }
    let mut verdict = "it works: every checksum agrees, and by the kernel's own counters the wrapped programs' bytes went by UDP, not by TCP.".to_owned();
    for pair in parts.chunks_exact(2) {
        let ratio = seconds(pair[1].outcome.took) / seconds(pair[0].outcome.took);
        verdict += &format!(
            "\n{}: {ratio:.2} times the rate of native TCP.",
            pair[0].load.title(pair[0].carrier)
        );
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::counters::Counters;

    fn part(carrier: Carrier, tcp: u64, udp: u64) -> Part {
        let moved = vec!["67108864 abc".to_owned()];
        Part {
            load: Load {
                connections: 1,
                bytes: 64 << 20,
            },
            carrier,
            outcome: Outcome {
                sent: moved.clone(),
                received: moved,
                took: Duration::from_millis(100),
                counted: Counters { tcp, udp },
            },
        }
    }

    #[test]
    fn bytes_that_went_by_udp_are_the_proof() {
        let parts = [part(Carrier::Quic, 12, 1100), part(Carrier::Tcp, 1040, 0)];
        let verdict = verdict(&parts).unwrap();
        assert!(verdict.contains("1.00 times"), "{verdict}");
        assert!(
            parts[0].line().contains("5.4 Gbit/s"),
            "{}",
            parts[0].line()
        );
    }

    #[test]
    fn bytes_that_went_by_tcp_are_told() {
        assert_eq!(part(Carrier::Quic, 1100, 1100).faults().len(), 1);
        assert_eq!(part(Carrier::Quic, 0, 900).faults().len(), 1);
        assert_eq!(part(Carrier::Tcp, 3, 0).faults().len(), 1);
    }

    #[test]
    fn a_checksum_that_differs_is_told() {
        let mut part = part(Carrier::Quic, 0, 1100);
        part.outcome.received[0] = "67108864 abd".to_owned();
        assert!(part.faults()[0].contains("not what the client sent"));
        assert!(verdict(&[part]).is_err());
    }

    #[test]
    fn a_connection_that_is_missing_is_told() {
        let mut part = part(Carrier::Quic, 0, 1100);
        (part.outcome.sent, part.outcome.received) = (Vec::new(), Vec::new());
        assert!(!part.faults().is_empty());
    }
}
