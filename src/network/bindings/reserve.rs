//! Holding a port, of UDP, TCP or both, that takes no connection yet.
#![forbid(unsafe_code)]

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use nix::errno::Errno;
use socket2::Socket;

use super::Carriers;
use crate::{
    emul::transport::BindRequest,
    network::{port::PortOffset, tcp},
};

/// How often, and after which pause, a port is tried again that the network's thread is just giving up,
/// in a system call.
const CLOSING_LOOKS: usize = 20;
const CLOSING_PAUSE: Duration = Duration::from_micros(100);
/// How many ephemeral ports are tried where one must be free for UDP and TCP.
const EPHEMERAL_ATTEMPTS: usize = 16;

/// What holds a bound port.
#[derive(Debug, Default)]
pub(crate) struct Reserved {
    /// Where QUIC is to be spoken.
    pub(crate) udp: Option<UdpSocket>,
    /// Where TCP is.
    pub(crate) tcp: Option<Socket>,
    /// There are others on the UDP port, that hear one peer each.
    pub(crate) beside: bool,
}

/// Takes a port that servers of ours are giving up.
pub(super) fn once_free<T>(take: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 0..CLOSING_LOOKS {
        match take() {
            Err(Errno::EADDRINUSE) => thread::sleep(CLOSING_PAUSE),
            result => return result,
        }
    }
    Err(Errno::EADDRINUSE)
}

/// How a UDP port is reserved.
pub(super) type ReserveUdp = fn(&BindRequest) -> io::Result<(UdpSocket, SocketAddr)>;

/// Reserves a port that takes no connection yet.
pub(super) fn reserve(
    request: &BindRequest,
    carriers: Carriers,
    offset: PortOffset,
    reserve_udp: ReserveUdp,
) -> Result<(Reserved, SocketAddr), Errno> {
    let mut attempts = EPHEMERAL_ATTEMPTS;
    loop {
        attempts -= 1;
        match reserve_both(request, carriers, offset, reserve_udp) {
            Err(Errno::EADDRINUSE) if request.address.port() == 0 && attempts > 0 => {}
            result => return result,
        }
    }
}

fn reserve_both(
    request: &BindRequest,
    carriers: Carriers,
    offset: PortOffset,
    reserve_udp: ReserveUdp,
) -> Result<(Reserved, SocketAddr), Errno> {
    let mut reserved = Reserved::default();
    let mut request = *request;
    if carriers.quic {
        let address = offset.to_udp(request.address)?;
        let (socket, bound) = reserve_udp(&BindRequest { address, ..request }).map_err(errno)?;
        request.address = offset.to_tcp(bound)?;
        reserved.udp = Some(socket);
    }
    if carriers.tcp {
        let (socket, bound) = tcp::reserve(&request).map_err(errno)?;
        request.address = bound;
        reserved.tcp = Some(socket);
    }
    Ok((reserved, request.address))
}

pub(super) fn errno(error: io::Error) -> Errno {
    error
        .raw_os_error()
        .map_or(Errno::EADDRNOTAVAIL, Errno::from_raw)
}
