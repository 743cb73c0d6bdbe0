//! What the kernel's TCP says of a path, for TCP_INFO.
#![forbid(unsafe_code)]

use std::{os::fd::AsFd, time::Duration};

use tokio::net::TcpStream;

use crate::{emul::transport::PathInfo, sys::socket::tcp_info};

/// The path of a connection, tcp(7), but for what a flow counts.
pub(crate) fn path(stream: &TcpStream) -> Option<PathInfo> {
    let info = tcp_info(stream.as_fd()).ok()?;
    let micros = |micros: u32| Duration::from_micros(micros.into());
    let mss = info.tcpi_snd_mss;
    Some(PathInfo {
        rtt: micros(info.tcpi_rtt),
        // struct tcp_info of the C library ends before tcpi_min_rtt.
        min_rtt: micros(info.tcpi_rtt),
        cwnd: u64::from(info.tcpi_snd_cwnd) * u64::from(mss),
        mss,
        mtu: info.tcpi_pmtu,
        lost_packets: info.tcpi_total_retrans.into(),
        lost_bytes: u64::from(info.tcpi_total_retrans) * u64::from(mss),
        ..PathInfo::default()
    })
}
