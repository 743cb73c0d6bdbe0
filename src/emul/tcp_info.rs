//! TCP_INFO, tcp(7): struct tcp_info of linux/tcp.h, told by the QUIC path.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::{
    socket::{Socket, State},
    transport::PathInfo,
};

/// Retransmission timeout reported before a round trip was measured (TCP_TIMEOUT_INIT, RFC 6298).
const INITIAL_RTO: Duration = Duration::from_secs(1);
/// Least retransmission timeout (TCP_RTO_MIN).
const MIN_RTO: Duration = Duration::from_millis(200);
/// TCP_INFINITE_SSTHRESH.
const INFINITE_SSTHRESH: u32 = 0x7fff_ffff;

/// TCP states as tcpi_state gives them (net/tcp_states.h).
fn state_number(socket: &Socket) -> u8 {
    match socket.state {
        State::Connected { .. } => match (socket.ends.shut_write, socket.ends.peer_finished) {
            (false, false) => 1, // TCP_ESTABLISHED
            (true, false) => 5,  // TCP_FIN_WAIT2
            (false, true) => 8,  // TCP_CLOSE_WAIT
            (true, true) => 7,   // TCP_CLOSE
        },
        State::Connecting { .. } => 2,
        State::Idle | State::Failed | State::Closed => 7,
        State::Listening { .. } => 10,
    }
}

/// The struct's bytes in the layout of Linux 5.5 (232 bytes); programs take as much as they know.
pub(crate) fn encode(socket: &Socket, path: Option<&PathInfo>) -> Vec<u8> {
    let idle = PathInfo::default();
    let path = path.unwrap_or(&idle);
    let mss = path.mss.max(1);
    let segments = |bytes: u64| u32::try_from(bytes / u64::from(mss)).unwrap_or(u32::MAX);
    let rto = if path.rtt.is_zero() {
        INITIAL_RTO
    } else {
        (path.rtt * 2).max(MIN_RTO)
    };
    let rate = bytes_per_second(path);
    let mut info = Writer::default();
    // state, ca_state, retransmits, probes, backoff, options, window scales, delivery-rate flags
    info.bytes(&[state_number(socket), 0, 0, 0, 0, 0, 0, 0]);
    info.u32s(&[micros(rto), 0, path.mss, path.mss]); // rto, ato, snd_mss, rcv_mss
    info.u32s(&[0, 0, 0, 0, 0]); // unacked, sacked, lost, retrans, fackets
    info.u32s(&[0, 0, 0, 0]); // last data and ack, sent and received
    info.u32s(&[path.mtu, 0, micros(path.rtt), 0]); // pmtu, rcv_ssthresh, rtt, rttvar
    info.u32s(&[INFINITE_SSTHRESH, segments(path.cwnd).max(1), path.mss, 3]); // ssthresh, cwnd, advmss, reordering
    info.u32s(&[micros(path.rtt), 0, low_32(path.lost_packets)]); // rcv_rtt, rcv_space, total_retrans
    info.u64s(&[rate, socket.options.pacing_rate.unwrap_or(u64::MAX)]); // pacing_rate, max_pacing_rate
    info.u64s(&[path.bytes_sent, path.bytes_received]); // bytes_acked, bytes_received
    info.u32s(&[low_32(path.sent_packets), low_32(path.received_packets), 0]); // segs_out, segs_in, notsent
    info.u32s(&[
        micros(path.min_rtt),
        segments(path.bytes_received),
        segments(path.bytes_sent),
    ]); // min_rtt, data_segs in, out
    info.u64s(&[rate, 0, 0, 0]); // delivery_rate, busy, rwnd_limited, sndbuf_limited
    info.u32s(&[segments(path.bytes_sent), 0]); // delivered, delivered_ce
    info.u64s(&[path.bytes_sent, path.lost_bytes]); // bytes_sent, bytes_retrans
    info.u32s(&[0, 0, 0, 0]); // dsack_dups, reord_seen, rcv_ooopack, snd_wnd
    info.0
}

/// A window per round trip: what the controller lets through.
fn bytes_per_second(path: &PathInfo) -> u64 {
    let rtt = path.rtt.as_micros().max(1);
    u64::try_from(u128::from(path.cwnd) * 1_000_000 / rtt).unwrap_or(u64::MAX)
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

/// The kernel's own counters wrap as well.
fn low_32(count: u64) -> u32 {
    count as u32
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn u32s(&mut self, values: &[u32]) {
        values
            .iter()
            .for_each(|value| self.bytes(&value.to_ne_bytes()));
    }

    fn u64s(&mut self, values: &[u64]) {
        values
            .iter()
            .for_each(|value| self.bytes(&value.to_ne_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emul::testing::{PEER, tcp};

    fn u32_at(info: &[u8], at: usize) -> u32 {
        u32::from_ne_bytes(*info[at..].first_chunk().unwrap())
    }

    #[test]
    fn fields_stand_where_the_kernel_puts_them() {
        let mut socket = tcp();
        socket.state = State::Connected {
            peer: PEER,
            announced: true,
        };
        let path = PathInfo {
            rtt: Duration::from_millis(3),
            cwnd: 14_000,
            mss: 1400,
            mtu: 1452,
            lost_packets: 9,
            ..PathInfo::default()
        };
        let info = encode(&socket, Some(&path));
        assert_eq!(info.len(), 232);
        assert_eq!(info[0], 1);
        // Offsets of struct tcp_info: snd_mss 16, pmtu 60, rtt 68, snd_cwnd 80, total_retrans 100.
        let fields = [16, 60, 68, 80, 100].map(|at| u32_at(&info, at));
        assert_eq!(fields, [1400, 1452, 3000, 10, 9]);
    }

    #[test]
    fn a_socket_without_a_path_has_a_state_all_the_same() {
        assert_eq!(encode(&tcp(), None)[0], 7);
    }
}
