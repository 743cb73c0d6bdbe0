//! QUIC transport parameters and endpoint settings, each with its reason.
#![forbid(unsafe_code)]

use std::{sync::Arc, time::Duration};

use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt, congestion::CubicConfig};

/// Datagrams on loopback: two make one GSO send of 65,400 bytes. 16,336 × 4 costs 10 % more processor time per byte,
/// 65,000 × 1 no less, and on two cores it was slower.
const LOOPBACK_PAYLOAD: u16 = 32_700;
/// Datagrams on a link with jumbo frames: 9,000 less IPv6 and UDP headers.
const JUMBO_PAYLOAD: u16 = 8_952;
/// Datagrams on Ethernet: 1,500 less IPv6 and UDP headers. Found by probing (RFC 8899), since the
/// path may be narrower than the first link.
const ETHERNET_PAYLOAD: u16 = 1_452;
/// What every QUIC path carries, RFC 9000 section 14.
const MINIMUM_PAYLOAD: u16 = 1_200;
/// MTU of the loopback interface from which on datagrams are large at once.
const LOOPBACK_MTU: u32 = 65_535;
/// MTU of a link with jumbo frames.
const JUMBO_MTU: u32 = 9_000;

/// Bytes that one stream may have in flight or unread: what a stalled or hostile peer can make us
/// keep for each connection. TCP's own limit is of that size (net.ipv4.tcp_rmem, 6 MiB of which it offers about half).
const STREAM_WINDOW: u32 = 4 << 20;
/// Bytes that a client may have in flight on streams that no listener has taken yet, all together: what
/// a stranger can make us keep for each QUIC connection. Each stream that is taken adds its own window,
/// so that a stalled reader never stalls another stream. A sender's congestion window takes round trips
/// to grow beyond this, and the first stream is usually taken within one.
const FIRST_WINDOW: u32 = 1 << 20;
/// Unacknowledged bytes of a whole QUIC connection that are kept for retransmission.
const SEND_WINDOW: u64 = 64 << 20;
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

/// Bytes of a datagram that are not the program's: short header, connection id, packet number, STREAM
/// frame header and authentication tag.
pub(crate) const OVERHEAD: u16 = 1 + 8 + 4 + 12 + 16;

/// Name of the congestion controller, as TCP_CONGESTION gives it. quinn's BBR is experimental and
/// weak; Cubic (RFC 9438) is what Linux uses for TCP.
pub(crate) const CONGESTION: &str = "cubic";

/// Whether the link with this MTU is the loopback interface.
pub(crate) fn is_loopback(link_mtu: u32) -> bool {
    link_mtu >= LOOPBACK_MTU
}

/// The connection-level window of a server with so many streams taken, in bytes. In powers of two, so
/// that few MAX_DATA frames tell of it.
pub(crate) fn receive_window(taken: usize) -> VarInt {
    let taken = taken.checked_next_power_of_two().unwrap_or(taken) as u64;
    let bytes = u64::from(FIRST_WINDOW).saturating_add(taken.saturating_mul(STREAM_WINDOW.into()));
    VarInt::from_u64(bytes).unwrap_or(VarInt::MAX)
}

/// The parameters of a server for a client, see [`transport`]: what it may send before a listener has
/// taken a stream is limited.
pub(crate) fn server_transport(
    link_mtu: u32,
    idle_timeout: Duration,
    streams: u32,
) -> Arc<TransportConfig> {
    let mut config = base(link_mtu, idle_timeout, streams);
    config.receive_window(VarInt::from_u32(FIRST_WINDOW));
    Arc::new(config)
}

/// The parameters for a path whose first link has this MTU (bytes of an IP packet), and where the peer
/// may open so many streams at first.
pub(crate) fn transport(
    link_mtu: u32,
    idle_timeout: Duration,
    streams: u32,
) -> Arc<TransportConfig> {
    Arc::new(base(link_mtu, idle_timeout, streams))
}

fn base(link_mtu: u32, idle_timeout: Duration, streams: u32) -> TransportConfig {
    let send_window = if is_loopback(link_mtu) {
        LOOPBACK_SEND_WINDOW
    } else {
        SEND_WINDOW
    };
    let (initial, upper) = match link_mtu {
        LOOPBACK_MTU.. => (LOOPBACK_PAYLOAD, LOOPBACK_PAYLOAD),
        JUMBO_MTU.. => (MINIMUM_PAYLOAD, JUMBO_PAYLOAD),
        _ => (MINIMUM_PAYLOAD, ETHERNET_PAYLOAD),
    };
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(upper);
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW_DATAGRAMS * u64::from(upper));
    let mut config = TransportConfig::default();
    config
        .initial_mtu(initial)
        .mtu_discovery_config(Some(discovery))
        .initial_rtt(INITIAL_RTT)
        .congestion_controller_factory(Arc::new(congestion))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        // Unlimited: one stalled reader must never stall another stream.
        .receive_window(VarInt::MAX)
        .send_window(send_window)
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_CONTROL_STREAMS))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(IdleTimeout::try_from(idle_timeout).ok())
        .keep_alive_interval(Some(KEEP_ALIVE.min(idle_timeout / 3)));
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_taken_stream_has_its_own_window() {
        for taken in [1, 3, 4, 1000] {
            let all = taken as u64 * u64::from(STREAM_WINDOW) + u64::from(FIRST_WINDOW);
            assert!(receive_window(taken).into_inner() >= all, "{taken}");
        }
        receive_window(usize::MAX);
    }

    #[test]
    fn every_idle_timeout_that_the_command_line_takes_fits() {
        for seconds in [1, 300, 1 << 31] {
            assert!(IdleTimeout::try_from(Duration::from_secs(seconds)).is_ok());
        }
        transport(1500, Duration::from_secs(1), NO_STREAMS);
    }
}
