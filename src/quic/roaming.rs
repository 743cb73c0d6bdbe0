//! Clients that roam. When an interface or a route of this host has changed, the packets of a QUIC connection may leave from
//! another address. The server learns it from the next packet and goes on from there (RFC 9000 section 9), but a program that
//! only reads sends none before the next keep-alive: so one is sent at once.
#![forbid(unsafe_code)]

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};
use quinn::Endpoint;
use tokio::io::{Interest, unix::AsyncFd};

use super::{link::Link, udp::UdpSocket};
use crate::{network::route, sys::fd::watch};

/// What comes together, such as an address and the routes to it, is looked at once.
const SETTLING: Duration = Duration::from_millis(100);
/// What is said of changes does not matter, only that there are some.
const MESSAGE: usize = 4 << 10;

/// An endpoint, and the socket under it.
#[derive(Debug, Clone)]
pub(super) struct Port {
    pub(super) endpoint: Endpoint,
    pub(super) socket: Weak<UdpSocket>,
}

impl Port {
    /// Lets all connections of the endpoint send something, as if they had another socket now. To the peer they show another
    /// connection ID, so that nobody on the way can tell who has moved (RFC 9000 section 9.5).
    fn rebind(&self) -> io::Result<()> {
        match self.socket.upgrade() {
            Some(socket) => self.endpoint.rebind_abstract(socket),
            None => Ok(()),
        }
    }
}

/// Where the packets of a client's QUIC connection leave, if the host chooses.
#[derive(Debug)]
pub(crate) struct Departure {
    port: Port,
    /// The address that they carry.
    source: Mutex<IpAddr>,
}

impl Departure {
    /// From this port, with this address.
    pub(super) fn new(port: Port, source: IpAddr) -> Self {
        let source = Mutex::new(source);
        Self { port, source }
    }

    /// Notes the address that packets carry now. Returns whether it is another than before.
    fn moves_to(&self, source: IpAddr) -> bool {
        let mut own = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *own, source) != source
    }
}

/// The links that may roam.
#[derive(Debug, Default)]
pub(super) struct Roaming {
    links: Mutex<Vec<Weak<Link>>>,
    /// Somebody listens to what changes.
    heard: AtomicBool,
}

impl Roaming {
    /// Follows a link from now on. To be called within the runtime.
    pub(super) fn follow(self: &Arc<Self>, link: &Arc<Link>) {
        let mut links = self.links();
        if links.len() == links.capacity() {
            // Before more room is taken.
            links.retain(|link| link.strong_count() > 0);
        }
        links.push(Arc::downgrade(link));
        drop(links);
        if !self.heard.swap(true, Ordering::Relaxed) {
            tokio::spawn(Arc::clone(self).listen());
        }
    }

    async fn listen(self: Arc<Self>) {
        let heard = async {
            let changes = changes()?;
            loop {
                // Something may have changed since the first handshake began.
                self.move_on();
                wait(&changes).await?;
            }
        };
        let ended: io::Result<()> = heard.await;
        tracing::debug!(?ended, "changes of addresses are not heard of");
        // Until the next link: it may have been for want of descriptors.
        self.heard.store(false, Ordering::Relaxed);
    }

    /// Looks which links have another source address now.
    fn move_on(&self) {
        let links: Vec<_> = self.links().iter().filter_map(Weak::upgrade).collect();
        let mut moved: Vec<&Port> = Vec::new();
        for link in &links {
            let Some(departure) = &link.departure else {
                continue;
            };
            let peer = link.connection.remote_address();
            // Out of reach, in general: whatever changes that is heard of as well.
            let Ok(route) = route::find(peer, None) else {
                continue;
            };
            let source = route.local.ip();
            let port = &departure.port;
            if departure.moves_to(source) {
                tracing::info!(%peer, %source, "a QUIC connection moves to another address");
                if !moved.iter().any(|other| other.socket.ptr_eq(&port.socket)) {
                    moved.push(port);
                }
            }
        }
        for port in moved {
            if let Err(error) = port.rebind() {
                tracing::debug!(%error, "a moved connection waits for its keep-alive");
            }
        }
    }

    fn links(&self) -> MutexGuard<'_, Vec<Weak<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the kernel tells of interfaces, addresses, routes and rules for them that change, rtnetlink(7).
///
/// # Errors
/// EAFNOSUPPORT, EPERM: a policy. EMFILE, ENFILE.
fn changes() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let protocol = SockProtocol::NetlinkRoute;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    let groups = [
        libc::RTNLGRP_LINK,
        libc::RTNLGRP_IPV4_IFADDR,
        libc::RTNLGRP_IPV4_ROUTE,
        libc::RTNLGRP_IPV4_RULE,
        libc::RTNLGRP_IPV6_IFADDR,
        libc::RTNLGRP_IPV6_ROUTE,
        libc::RTNLGRP_IPV6_RULE,
    ];
    let groups = groups.iter().map(|group| 1 << (group - 1)).sum();
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    watch(fd, Interest::READABLE)
}

/// Waits until something has changed, and what belongs to it has.
async fn wait(changes: &AsyncFd<OwnedFd>) -> io::Result<()> {
    changes.readable().await?.clear_ready();
    tokio::time::sleep(SETTLING).await;
    let mut message = [0; MESSAGE];
    loop {
        match recv(changes.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN) => return Ok(()),
            // ENOBUFS: more than there is room for.
            Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
