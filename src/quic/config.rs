//! QUIC transport parameters and endpoint settings, each with its reason.
#![forbid(unsafe_code)]

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use clap::ValueEnum;
use quinn::{
    AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt,
    congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig},
};

/// Datagrams on loopback: two make one GSO send of 65,400 bytes. 16,336 × 4 costs 10 % more processor time per byte,
/// 65,000 × 1 no less, and on two cores it was slower.
const LOOPBACK_PAYLOAD: u16 = 32_700;
/// IPv6 and UDP headers of a datagram.
const HEADERS: u32 = 40 + 8;
/// What is taken for the MTU of a link that is not known.
const ETHERNET_MTU: u32 = 1_500;
/// What every QUIC path carries, RFC 9000 section 14.
const MINIMUM_PAYLOAD: u16 = 1_200;
/// MTU of the loopback interface from which on datagrams are large at once.
const LOOPBACK_MTU: u32 = 65_535;
/// What `--mtu` may be: QUIC needs this much, and peers take no larger datagrams.
pub(crate) const LEAST_MTU: u32 = MINIMUM_PAYLOAD as u32 + HEADERS;
pub(crate) const MOST_MTU: u32 = LOOPBACK_PAYLOAD as u32 + HEADERS;

/// MiB that one stream may have in flight or unread, unless `--window` says otherwise: what a stalled or hostile peer can
/// make us keep for each connection. TCP's own limit is of that size (net.ipv4.tcp_rmem, 6 MiB of which it offers about
/// half).
pub(crate) const STREAM_WINDOW: u32 = 4;
/// Bytes that a client may have in flight on streams that no listener has taken yet, all together: what
/// a stranger can make us keep for each QUIC connection. Each stream that is taken adds its own window,
/// so that a stalled reader never stalls another stream. A sender's congestion window takes round trips
/// to grow beyond this, and the first stream is usually taken within one.
const FIRST_WINDOW: u32 = 1 << 20;
/// Unacknowledged bytes of a whole QUIC connection that are kept for retransmission: at least so many, and at most so many, or
/// a stream's window if that is more. The congestion window decides in between (`send_window.rs`).
const LEAST_SEND_WINDOW: u64 = 256 << 10;
const MOST_SEND_WINDOW: u64 = 64 << 20;
/// The same on loopback, where nothing but the peer's socket buffer holds them: what is beyond that (8 MiB if the host
/// allows, its own bookkeeping included) is lost. Eight streams move half as much
/// again with this, 64 three quarters; 1 and 4 MiB are slower.
const LOOPBACK_SEND_WINDOW: u64 = 2 << 20;
/// TCP connections that may be open at once on one QUIC connection. quinn makes a place for each that
/// is allowed, 70 bytes, so few are at first, and more when listeners have taken half of them.
pub(crate) const MAX_STREAMS: u32 = 1 << 14;
/// See above. Enough that few clients ever wait a round trip for more.
pub(crate) const FIRST_STREAMS: u32 = 1 << 8;
/// `--wire raw` has one for each QUIC connection.
pub(crate) const ONE_STREAM: u32 = 1;
/// Streams of one QUIC connection whose preface is waited for. It comes in the stream's first packet, so
/// there are this many only if a packet was lost that many a preface was in, or if somebody holds them
/// back; later streams then wait until these have theirs, or are given up.
pub(crate) const PREFACES: usize = 64;
/// Handshakes that a port has in progress at once with clients that need not be where they say. Each
/// costs some tens of KiB until it is given up; an ordinary burst of clients is smaller, and is spared
/// the round trip that proves an address.
pub(crate) const UNPROVEN_HANDSHAKES: usize = 64;
/// The same, with clients whose address has been proved: beyond this, first packets are dropped.
pub(crate) const HANDSHAKES: usize = 1024;
/// How long a handshake may take: retransmissions after 0.3, 1, 2, 4 and 9 seconds (RFC 9002 section
/// 6.2.1) make up for four losses in a row.
pub(crate) const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// A server opens no streams but for control.
pub(crate) const NO_STREAMS: u32 = 0;
/// Control streams a peer may open; one is used at a time.
const MAX_CONTROL_STREAMS: u32 = 4;
/// Least interval between keep-alives: NATs forget UDP flows after 30 s (RFC 4787 section 4.3 asks for
/// 120 s and more; many do less).
const KEEP_ALIVE: Duration = Duration::from_secs(25);
/// Congestion window at the start, in datagrams of the path: TCP's own, RFC 6928.
const INITIAL_WINDOW_DATAGRAMS: u64 = 10;
/// Round-trip time assumed at the start. Only a lost first packet feels it: sent again after three
/// times this (RFC 9002 section 6.2.2).
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// How late the peer may acknowledge, if it lets itself be told (draft-ietf-quic-ack-frequency): the least that quinn
/// offers. A sender waits that long for an acknowledgement that was lost, and many a one is alone in its round trip. With
/// RFC 9000's 25 ms a short path that loses 1 % spends half of its time on that.
const ACK_DELAY: Duration = Duration::from_millis(1);

/// How many packets may overtake one before it is taken for lost: however many. RFC 9002 (section 6.1.1) says three, and
/// wants more where packets come out of order, which quinn does not find out. As TCP does (RFC 8985), the time alone
/// decides: a path that is 0.3 ms longer for some packets than for others, 20 ms there and back, so moves 17 and more in
/// place of 4.5 Mbit/s.
const ANY_PACKETS: u32 = u32::MAX;
/// How late one may be, in round-trip times: a whole one behind those that were sent with it, as much as TCP allows at last
/// (RFC 8985 section 6.2) where it sees that it was wrong. quinn does not see that, and its acknowledgements are late where
/// both sides send, since they wait for the congestion window with what else is to be sent. Where packets are lost it is no
/// slower than a quarter.
const LATE: f32 = 2.0;

/// Bytes of a datagram that are not the program's: short header, connection id, packet number, STREAM
/// frame header and authentication tag.
pub(crate) const OVERHEAD: u16 = 1 + 8 + 4 + 12 + 16;

/// `--congestion`: the congestion controller of QUIC connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Congestion {
    /// RFC 9438, what Linux uses for TCP
    #[default]
    Cubic,
    /// RFC 9002 section 7
    Reno,
    /// The first version of BBR, experimental in quinn: less slowed down by loss
    Bbr,
}

impl Congestion {
    /// Its name, as TCP_CONGESTION gives it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Reno => "reno",
            Self::Bbr => "bbr",
        }
    }

    /// With this congestion window at the start, in bytes.
    fn factory(self, initial_window: u64) -> Arc<dyn ControllerFactory + Send + Sync> {
        match self {
            Self::Cubic => {
                let mut config = CubicConfig::default();
                config.initial_window(initial_window);
                Arc::new(config)
            }
            Self::Reno => {
                let mut config = NewRenoConfig::default();
                config.initial_window(initial_window);
                Arc::new(config)
            }
            Self::Bbr => {
                let mut config = BbrConfig::default();
                config.initial_window(initial_window);
                Arc::new(config)
            }
        }
    }
}

/// What the command line says of QUIC connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tuning {
    /// How fast they send.
    pub(crate) congestion: Congestion,
    /// MTU of all paths, bytes of an IP packet, in place of that of their first links.
    pub(crate) mtu: Option<u32>,
    /// MiB that one stream may have in flight or unread.
    pub(crate) window: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            congestion: Congestion::default(),
            mtu: None,
            window: STREAM_WINDOW,
        }
    }
}

/// Whether the link with this MTU is the loopback interface.
pub(crate) fn is_loopback(link_mtu: u32) -> bool {
    link_mtu >= LOOPBACK_MTU
}

impl Tuning {
    /// The connection-level window of a server with so many streams taken, in bytes. In powers of two, so
    /// that few MAX_DATA frames tell of it. Of the whole window an eighth may not be announced yet (quinn's
    /// `add_read_credits`): the rest is what all these streams may hold unread, and those that are not taken yet.
    pub(crate) fn receive_window(self, taken: usize) -> VarInt {
        let taken = taken.checked_next_power_of_two().unwrap_or(taken) as u64;
        let streams = taken.saturating_mul(self.stream_window());
        let held = streams.saturating_add(FIRST_WINDOW.into());
        VarInt::from_u64(held.saturating_add(held.div_ceil(7))).unwrap_or(VarInt::MAX)
    }

    /// The parameters of a server for a client, see [`Self::transport`]: what it may send before a listener
    /// has taken a stream is limited.
    pub(crate) fn server_transport(
        self,
        link_mtu: u32,
        idle_timeout: Duration,
        streams: u32,
    ) -> TransportConfig {
        let mut config = self.transport(link_mtu, idle_timeout, streams);
        config.receive_window(VarInt::from_u32(FIRST_WINDOW));
        config
    }

    /// The parameters for a path whose first link has this MTU (bytes of an IP packet; 0: not known), and where
    /// the peer may open so many streams at first.
    pub(crate) fn transport(
        self,
        link_mtu: u32,
        idle_timeout: Duration,
        streams: u32,
    ) -> TransportConfig {
        let mtu = self.mtu.unwrap_or(link_mtu);
        let (initial, upper) = payloads(mtu);
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(upper);
        let congestion = self
            .congestion
            .factory(INITIAL_WINDOW_DATAGRAMS * u64::from(upper));
        let mut config = TransportConfig::default();
        config
            .initial_mtu(initial)
            .mtu_discovery_config(Some(discovery))
            .ack_frequency_config(Some(acknowledgements()))
            .packet_threshold(ANY_PACKETS)
            .time_threshold(LATE)
            .initial_rtt(INITIAL_RTT)
            .congestion_controller_factory(congestion)
            .stream_receive_window(VarInt::try_from(self.stream_window()).unwrap_or(VarInt::MAX))
            // Unlimited: one stalled reader must never stall another stream.
            .receive_window(VarInt::MAX)
            .send_window(*self.send_window(link_mtu).end())
            .max_concurrent_bidi_streams(VarInt::from_u32(streams))
            .max_concurrent_uni_streams(VarInt::from_u32(MAX_CONTROL_STREAMS))
            .datagram_receive_buffer_size(None)
            .max_idle_timeout(IdleTimeout::try_from(idle_timeout).ok())
            .keep_alive_interval(Some(KEEP_ALIVE.min(idle_timeout / 3)));
        config
    }

    /// Bytes that all streams of a connection together may have in flight or yet to be sent, at least and at most.
    pub(crate) fn send_window(self, link_mtu: u32) -> RangeInclusive<u64> {
        if is_loopback(link_mtu) {
            LOOPBACK_SEND_WINDOW..=LOOPBACK_SEND_WINDOW
        } else {
            LEAST_SEND_WINDOW..=MOST_SEND_WINDOW.max(self.stream_window())
        }
    }

    fn stream_window(self) -> u64 {
        u64::from(self.window) << 20
    }
}

/// What is asked of the peer: RFC 9000's rules (section 13.2), but sooner.
fn acknowledgements() -> AckFrequencyConfig {
    let mut config = AckFrequencyConfig::default();
    config
        .max_ack_delay(Some(ACK_DELAY))
        // Whatever comes out of order is acknowledged at once.
        .reordering_threshold(VarInt::from_u32(1));
    config
}

/// The size of datagrams at the start, and the largest that is tried: it is found by probing (RFC 8899), since the path
/// may be narrower than its first link.
fn payloads(mtu: u32) -> (u16, u16) {
    let upper = match mtu {
        LOOPBACK_MTU.. => return (LOOPBACK_PAYLOAD, LOOPBACK_PAYLOAD),
        0 => ETHERNET_MTU - HEADERS,
        mtu => mtu.saturating_sub(HEADERS),
    };
    let upper = u16::try_from(upper).unwrap_or(u16::MAX);
    (
        MINIMUM_PAYLOAD,
        upper.clamp(MINIMUM_PAYLOAD, LOOPBACK_PAYLOAD),
    )
}

#[cfg(test)]
mod tests {
    use quinn::congestion;

    use super::*;

    #[test]
    fn every_taken_stream_has_its_own_window() {
        for window in [1, STREAM_WINDOW, 1 << 10] {
            let tuning = Tuning {
                window,
                ..Tuning::default()
            };
            for taken in [1, 3, 4, 1000] {
                let all = taken as u64 * (u64::from(window) << 20) + u64::from(FIRST_WINDOW);
                let receive_window = tuning.receive_window(taken).into_inner();
                let announced = receive_window - receive_window / 8;
                assert!(announced >= all, "{window}, {taken}");
            }
            tuning.receive_window(usize::MAX);
        }
    }

    #[test]
    fn a_controller_is_what_its_name_says() {
        let build = |congestion: Congestion| {
            let factory = congestion.factory(12_000);
            let controller = factory.build(std::time::Instant::now(), MINIMUM_PAYLOAD);
            assert_eq!(controller.initial_window(), 12_000);
            controller.into_any()
        };
        assert!(build(Congestion::Cubic).is::<congestion::Cubic>());
        assert!(build(Congestion::Reno).is::<congestion::NewReno>());
        assert!(build(Congestion::Bbr).is::<congestion::Bbr>());
    }

    #[test]
    fn datagrams_fit_the_link() {
        for (mtu, expected) in [
            (0, (1_200, 1_452)),
            (68, (1_200, 1_200)),
            (LEAST_MTU, (1_200, 1_200)),
            (1_420, (1_200, 1_372)),
            (MOST_MTU, (1_200, 32_700)),
            (1_500, (1_200, 1_452)),
            (9_000, (1_200, 8_952)),
            (65_520, (1_200, 32_700)),
            (65_536, (32_700, 32_700)),
        ] {
            assert_eq!(payloads(mtu), expected, "{mtu}");
        }
    }

    #[test]
    fn every_idle_timeout_that_the_command_line_takes_fits() {
        for seconds in [1, 300, 1 << 31] {
            assert!(IdleTimeout::try_from(Duration::from_secs(seconds)).is_ok());
        }
        Tuning::default().transport(1500, Duration::from_secs(1), NO_STREAMS);
    }
}
