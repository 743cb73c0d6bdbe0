//! Doubles for unit tests.
#![forbid(unsafe_code)]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Mutex,
};

use nix::errno::Errno;

use super::{
    socket::{Socket, SocketId},
    transport::{Begun, BindRequest, BridgedEnd, ConnectRequest, PathInfo, Progress, Transport},
};

/// A peer for tests.
pub(crate) const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 80);
/// An own address for tests.
pub(crate) const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 50_000);
/// The id of the one socket in a test.
pub(crate) const ID: SocketId = SocketId(7);

/// A new IPv4 socket.
pub(crate) fn tcp() -> Socket {
    Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap()
}

/// A transport that notes what it is asked and answers as told.
#[derive(Debug, Default)]
pub(crate) struct FakeTransport {
    pub(crate) bound: Mutex<Vec<BindRequest>>,
    pub(crate) connected: Mutex<Vec<ConnectRequest>>,
    pub(crate) listening: Mutex<Vec<SocketId>>,
    pub(crate) released: Mutex<Vec<SocketId>>,
    pub(crate) refuse: Option<Errno>,
    pub(crate) at_once: bool,
    pub(crate) fails: Option<Errno>,
    pub(crate) knows_no_path: bool,
}

impl Transport for FakeTransport {
    fn bind(&self, _: SocketId, request: BindRequest) -> Result<SocketAddr, Errno> {
        self.bound.lock().unwrap().push(request);
        let mut address = request.address;
        if address.port() == 0 {
            address.set_port(40_000);
        }
        self.refuse.map_or(Ok(address), Err)
    }

    fn expect_udp(&self, _: SocketAddr) {}

    fn listen(&self, id: SocketId) -> Result<(), Errno> {
        self.listening.lock().unwrap().push(id);
        self.refuse.map_or(Ok(()), Err)
    }

    fn unlisten(&self, id: SocketId) {
        self.listening.lock().unwrap().retain(|&other| other != id);
    }

    fn connect(&self, _: SocketId, request: ConnectRequest) -> Result<Begun, Errno> {
        self.connected.lock().unwrap().push(request);
        let local = request
            .source
            .unwrap_or((Ipv4Addr::LOCALHOST, 50_000).into());
        let begun = Begun {
            local,
            progress: match (self.at_once, self.fails) {
                (true, _) => Progress::Established,
                (false, Some(errno)) => Progress::Failed(errno),
                (false, None) => Progress::Pending,
            },
        };
        self.refuse.map_or(Ok(begun), Err)
    }

    fn carry(&self, _: SocketId, _: BridgedEnd) {}

    fn proceed(&self) {}

    fn abandon(&self, _: SocketId) {}

    fn release(&self, id: SocketId) {
        self.released.lock().unwrap().push(id);
    }

    fn path(&self, _: SocketId) -> Option<PathInfo> {
        (!self.knows_no_path).then(|| PathInfo {
            mss: 1400,
            cwnd: 14_000,
            ..PathInfo::default()
        })
    }

    fn congestion(&self) -> &'static str {
        "cubic"
    }
}
