//! Local addresses: which sockets have bound which, and what holds the port behind each: a UDP socket, a
//! TCP socket where connections stay on TCP, or both.
#![forbid(unsafe_code)]

mod beside;
mod reserve;

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    ops::RangeInclusive,
    sync::Arc,
};

use nix::errno::Errno;

use self::reserve::{Reserved, errno, once_free, reserve};
use super::{
    listeners::Listeners,
    port::{PortAdvice, PortOffset},
    takeover::Offers,
    tcp::{self, Acceptor},
    udp,
};
use crate::emul::{socket::SocketId, transport::BindRequest};
use crate::quic::server::Server;

/// Ports of sockets that did not bind one: Linux's own range (ip(7), ip_local_port_range).
const EPHEMERAL_PORTS: RangeInclusive<u16> = 32_768..=60_999;

/// What carries the connections of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carriers {
    /// QUIC, on a UDP port.
    pub(crate) quic: bool,
    /// TCP itself.
    pub(crate) tcp: bool,
}

/// All addresses in use.
#[derive(Debug, Default)]
pub(crate) struct Bindings {
    offset: PortOffset,
    bound: HashMap<SocketAddr, Binding>,
    by_socket: HashMap<SocketId, SocketAddr>,
    /// Addresses of connections: the peer's and, by itself, the own. No two are alike.
    connections: HashMap<SocketId, (SocketAddr, SocketAddr)>,
    in_use: HashSet<(SocketAddr, SocketAddr)>,
    next_port: u16,
    /// Retired servers, whose ports are free a moment later.
    closing: Vec<Arc<Server>>,
    /// Servers that have left their ports to others, with connections that live on; and where that was.
    departed: Vec<(SocketAddr, Arc<Server>)>,
    advice: PortAdvice,
    offers: Option<Arc<Offers>>,
}

/// One bound address.
#[derive(Debug)]
pub(crate) struct Binding {
    /// The sockets that share it.
    owners: HashMap<SocketId, BindRequest>,
    /// Those that listen.
    pub(crate) listeners: Arc<Listeners>,
    /// Holds the port until somebody listens.
    pub(crate) reserved: Reserved,
    /// Serves QUIC from then on.
    pub(crate) server: Option<Arc<Server>>,
    /// Serves TCP while somebody listens.
    pub(crate) acceptor: Option<Acceptor>,
}

impl Binding {
    /// Whether another socket may bind the same address, socket(7): both with SO_REUSEPORT, or both
    /// with SO_REUSEADDR while none listens. Connections that outlive their listener stand in the
    /// way only without SO_REUSEADDR.
    fn admits(&self, request: &BindRequest, is_busy: impl Fn(&Server) -> bool) -> bool {
        if self.owners.is_empty() {
            let busy = self.server.as_deref().is_some_and(is_busy);
            return !busy || request.reuse_address || request.reuse_port;
        }
        let all_reuse_port = self.owners.values().all(|owner| owner.reuse_port);
        let all_reuse_address = self.owners.values().all(|owner| owner.reuse_address);
        request.reuse_port && all_reuse_port
            || request.reuse_address && all_reuse_address && self.listeners.is_empty()
    }

    /// Whether its server, if there is one, has left the port to others.
    fn leave_port(&self) -> bool {
        let Some(server) = &self.server else {
            return false;
        };
        let left = server.leave_port();
        if let Err(error) = &left {
            tracing::info!(%error, "the port of a closed listener stays in use while its connections are open");
        }
        left.is_ok()
    }

    /// What the socket `id` asked for when it was bound, with the port it got.
    pub(crate) fn request(&self, id: SocketId) -> Option<BindRequest> {
        self.owners.get(&id).copied()
    }

    /// Whether `id` may listen beside those that do already.
    pub(crate) fn may_listen(&self, id: SocketId) -> bool {
        let reuses_port = |id| self.owners.get(&id).is_some_and(|owner| owner.reuse_port);
        self.listeners.is_empty() || reuses_port(id) && self.listeners.all(reuses_port)
    }
}

impl Bindings {
    /// No address is in use yet; UDP ports lie `offset` above TCP's.
    pub(crate) fn new(offset: PortOffset) -> Self {
        Self {
            offset,
            offers: Offers::new().map(Arc::new),
            ..Self::default()
        }
    }

    /// Reserves an address. `is_busy` says whether connections that a server has accepted are open.
    ///
    /// # Errors
    /// As bind(2): EADDRINUSE, EADDRNOTAVAIL, EACCES.
    pub(crate) fn bind(
        &mut self,
        id: SocketId,
        request: BindRequest,
        carriers: Carriers,
        is_busy: impl Fn(&Server) -> bool,
    ) -> Result<SocketAddr, Errno> {
        if let Some(binding) = self.bound.get_mut(&request.address) {
            if !binding.admits(&request, is_busy) {
                return Err(Errno::EADDRINUSE);
            }
            binding.owners.insert(id, request);
            self.by_socket.insert(id, request.address);
            return Ok(request.address);
        }
        if self.is_source(&request) {
            return Err(Errno::EADDRINUSE);
        }
        let mut reserved = self.reserve(&request, carriers);
        if reserved.as_ref().err() == Some(&Errno::EADDRINUSE)
            && carriers.quic
            && request.address.port() != 0
            && (request.reuse_address || request.reuse_port)
        {
            reserved = self.take_over(&request, carriers);
        }
        if reserved.as_ref().err() == Some(&Errno::EADDRINUSE)
            && carriers.quic
            && !self.is_bound(request.address.port())
            && tcp::reserve(&request).is_ok()
        {
            self.advice.taken(request.address, self.offset);
        }
        let (reserved, address) = reserved?;
        let request = BindRequest { address, ..request };
        let binding = Binding {
            owners: HashMap::from([(id, request)]),
            listeners: Arc::default(),
            reserved,
            server: None,
            acceptor: None,
        };
        self.bound.insert(address, binding);
        self.by_socket.insert(id, address);
        Ok(address)
    }

    /// Makes way for a UDP socket that the program is about to bind, where a port of ours is free to the program, and says
    /// what to do where it is not.
    pub(crate) fn expect_udp(&mut self, wanted: SocketAddr) {
        let offset = self.offset;
        let Ok(tcp) = offset.to_tcp(wanted) else {
            return;
        };
        if self.free(tcp.port()) {
            let request = BindRequest {
                address: wanted,
                v6_only: false,
                reuse_address: false,
                reuse_port: false,
            };
            let _ = once_free(|| udp::reserve(&request).map_err(errno));
        }
        let collides = |(bound, binding): &(&SocketAddr, &Binding)| {
            let has_udp = binding.reserved.udp.is_some() || binding.server.is_some();
            let any = bound.ip().is_unspecified() || tcp.ip().is_unspecified();
            has_udp && bound.port() == tcp.port() && (any || bound.ip() == tcp.ip())
        };
        if self.bound.iter().any(|bound| collides(&bound)) {
            self.advice.wanted(tcp, offset);
        }
    }

    /// Takes the port, perhaps from a server that is about to give it up.
    fn reserve(
        &mut self,
        request: &BindRequest,
        carriers: Carriers,
    ) -> Result<(Reserved, SocketAddr), Errno> {
        let offset = self.offset;
        let first = reserve(request, carriers, offset, udp::reserve);
        if first.as_ref().err() != Some(&Errno::EADDRINUSE) || !self.free(request.address.port()) {
            return first;
        }
        once_free(|| reserve(request, carriers, offset, udp::reserve))
    }

    /// Whether a connection goes out from this address. Connections do not hold a UDP port of their own.
    fn is_source(&self, request: &BindRequest) -> bool {
        let BindRequest { address, .. } = *request;
        let is_this = |local: &SocketAddr| {
            local.port() == address.port()
                && (address.ip().is_unspecified() || local.ip() == address.ip())
        };
        address.port() != 0
            && !request.reuse_address
            && self.connections.values().any(|(_, local)| is_this(local))
    }

    /// Whether any address with this port is.
    fn is_bound(&self, port: u16) -> bool {
        self.bound.keys().any(|bound| bound.port() == port)
    }

    /// Gives a port up at once that servers of ours are about to give up: to the program it is free since
    /// its close(2). Their farewell may be lost then; clients are told by whoever answers on the port.
    /// Returns whether there were any.
    fn free(&mut self, port: u16) -> bool {
        let unused = |address: &SocketAddr, binding: &mut Binding| {
            let server = binding.server.as_ref();
            address.port() == port
                && binding.owners.is_empty()
                && server.is_some_and(|server| !server.has_connections())
        };
        let ownerless = self.bound.extract_if(unused);
        let ownerless: Vec<_> = ownerless
            .filter_map(|(_, binding)| binding.server)
            .collect();
        let is_over = |(bound, server): &mut (SocketAddr, Arc<Server>)| {
            bound.port() == port && !server.has_connections()
        };
        let departed = self.departed.extract_if(.., is_over);
        let ownerless: Vec<_> = ownerless
            .into_iter()
            .chain(departed.map(|(_, server)| server))
            .collect();
        let closing = std::mem::take(&mut self.closing);
        // One that is retired by now may have held its port when that was last tried.
        let any = !ownerless.is_empty() || !closing.is_empty();
        for server in ownerless.iter().chain(&closing) {
            if !server.is_retired() {
                server.close();
                server.free_port();
            }
        }
        any
    }

    /// The binding of a socket.
    pub(crate) fn of(&mut self, id: SocketId) -> Option<&mut Binding> {
        self.bound.get_mut(self.by_socket.get(&id)?)
    }

    /// Notes that a socket no longer listens. If it was the last one, returns its address and server.
    pub(crate) fn unlisten(&mut self, id: SocketId) -> Option<(SocketAddr, Arc<Server>)> {
        let address = *self.by_socket.get(&id)?;
        let binding = self.bound.get_mut(&address)?;
        binding.listeners.remove(id);
        if !binding.listeners.is_empty() {
            return None;
        }
        binding.acceptor = None;
        Some((address, binding.server.clone()?))
    }

    /// Notes a connection from `local` to `peer`, and chooses its source port if that is 0.
    ///
    /// # Errors
    /// EADDRNOTAVAIL: there is such a connection, or all ports are in use.
    pub(crate) fn connect(
        &mut self,
        id: SocketId,
        mut local: SocketAddr,
        peer: SocketAddr,
    ) -> Result<u16, Errno> {
        if local.port() != 0 {
            return self.note(id, local, peer);
        }
        if self.next_port == 0 {
            // Different supervisors begin at different places, so that their connections to one
            // server hardly ever look alike.
            let span = EPHEMERAL_PORTS.len() as u32;
            let start = std::process::id().wrapping_mul(2_654_435_761) % span;
            self.next_port = EPHEMERAL_PORTS.start() + start as u16;
        }
        for _ in EPHEMERAL_PORTS {
            let port = self.next_port;
            self.next_port = if port == *EPHEMERAL_PORTS.end() {
                *EPHEMERAL_PORTS.start()
            } else {
                port + 1
            };
            if self.is_bound(port) {
                continue;
            }
            local.set_port(port);
            if self.note(id, local, peer).is_ok() {
                return Ok(port);
            }
        }
        Err(Errno::EADDRNOTAVAIL)
    }

    fn note(&mut self, id: SocketId, local: SocketAddr, peer: SocketAddr) -> Result<u16, Errno> {
        if !self.in_use.insert((peer, local)) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        self.connections.insert(id, (peer, local));
        Ok(local.port())
    }

    /// Forgets the connection of a socket.
    pub(crate) fn disconnect(&mut self, id: SocketId) {
        if let Some(addresses) = self.connections.remove(&id) {
            self.in_use.remove(&addresses);
        }
    }

    /// Gives up what a socket holds. Returns its address if a server remains there that nobody
    /// owns: it is to be ended by [`Self::retire`] when its connections are over.
    pub(crate) fn release(&mut self, id: SocketId) -> Option<(SocketAddr, Arc<Server>)> {
        self.disconnect(id);
        let address = self.by_socket.remove(&id)?;
        let binding = self.bound.get_mut(&address)?;
        binding.owners.remove(&id);
        binding.listeners.remove(id);
        if !binding.owners.is_empty() {
            return None;
        }
        match &binding.server {
            Some(server) => Some((address, Arc::clone(server))),
            None => {
                self.bound.remove(&address);
                None
            }
        }
    }

    /// Where ports are offered to others. None where they cannot be.
    pub(crate) fn offers(&self) -> Option<Arc<Offers>> {
        self.offers.clone()
    }

    /// Whether nobody owns the address of a server any more.
    pub(crate) fn is_ownerless(&self, address: SocketAddr, server: &Arc<Server>) -> bool {
        let is_this = |own: &Arc<Server>| Arc::ptr_eq(own, server);
        let bound = self.bound.get(&address);
        bound.is_some_and(|own| own.owners.is_empty() && own.server.as_ref().is_some_and(is_this))
    }

    /// Forgets a server that has no connections left, unless its address was bound again. Returns it: it is to be retired.
    pub(crate) fn retire(
        &mut self,
        address: SocketAddr,
        server: &Arc<Server>,
    ) -> Option<Arc<Server>> {
        let is_this = |own: &Arc<Server>| Arc::ptr_eq(own, server);
        if let Some(at) = self.departed.iter().position(|(_, own)| is_this(own)) {
            self.closing.push(self.departed.swap_remove(at).1);
            return Some(Arc::clone(server));
        }
        if server.has_connections() || !self.is_ownerless(address, server) {
            return None;
        }
        let server = self.bound.remove(&address)?.server?;
        self.closing.push(Arc::clone(&server));
        Some(server)
    }

    /// Lets go of the servers whose ports are free.
    pub(crate) fn forget_retired(&mut self) {
        self.closing.retain(|server| !server.is_retired());
    }

    /// All servers, those that are being retired included.
    pub(crate) fn servers(&self) -> Vec<Arc<Server>> {
        let bound = self.bound.values();
        let serving = bound.filter_map(|binding| binding.server.clone());
        let departed = self.departed.iter().map(|(_, server)| server);
        let others = self.closing.iter().chain(departed).cloned();
        serving.chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn request(address: SocketAddr, reuse_address: bool) -> BindRequest {
        BindRequest {
            address,
            v6_only: false,
            reuse_address,
            reuse_port: false,
        }
    }

    const QUIC: Carriers = Carriers {
        quic: true,
        tcp: false,
    };
    const BOTH: Carriers = Carriers {
        quic: true,
        tcp: true,
    };

    fn idle(_: &Server) -> bool {
        false
    }

    fn loopback() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn a_port_is_one_sockets_until_released() {
        let mut bindings = Bindings::default();
        let address = bindings
            .bind(SocketId(1), request(loopback(), false), QUIC, idle)
            .unwrap();
        let again = bindings.bind(SocketId(2), request(address, true), QUIC, idle);
        assert_eq!(again, Err(Errno::EADDRINUSE));
        assert!(bindings.release(SocketId(1)).is_none());
        assert_eq!(
            bindings.bind(SocketId(2), request(address, false), QUIC, idle),
            Ok(address)
        );
    }

    #[test]
    fn reuseaddr_shares_a_port_that_nobody_listens_on() {
        let mut bindings = Bindings::default();
        let address = bindings
            .bind(SocketId(1), request(loopback(), true), QUIC, idle)
            .unwrap();
        assert_eq!(
            bindings.bind(SocketId(2), request(address, true), QUIC, idle),
            Ok(address)
        );
        bindings.of(SocketId(1)).unwrap().listeners.add(SocketId(1));
        assert!(!bindings.of(SocketId(2)).unwrap().may_listen(SocketId(2)));
        assert_eq!(
            bindings.bind(SocketId(3), request(address, true), QUIC, idle),
            Err(Errno::EADDRINUSE)
        );
    }

    #[test]
    fn foreign_addresses_and_other_programs_ports_are_refused() {
        let mut bindings = Bindings::default();
        let foreign = request("192.0.2.1:0".parse().unwrap(), false);
        assert_eq!(
            bindings.bind(SocketId(1), foreign, QUIC, idle),
            Err(Errno::EADDRNOTAVAIL)
        );
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        let taken = request(other.local_addr().unwrap(), false);
        assert_eq!(
            bindings.bind(SocketId(1), taken, QUIC, idle),
            Err(Errno::EADDRINUSE)
        );
    }

    #[test]
    fn the_source_of_a_connection_can_be_bound_with_reuseaddr_only() {
        let mut bindings = Bindings::default();
        let (any, peer) = (loopback(), "127.0.0.1:80".parse().unwrap());
        let port = bindings.connect(SocketId(1), any, peer).unwrap();
        let source = SocketAddr::new(any.ip(), port);
        let refused = bindings.bind(SocketId(2), request(source, false), QUIC, idle);
        assert_eq!(refused, Err(Errno::EADDRINUSE));
        assert!(
            bindings
                .bind(SocketId(2), request(source, true), QUIC, idle)
                .is_ok()
        );
        let other = bindings.connect(SocketId(3), any, peer).unwrap();
        assert_ne!(other, port);
    }

    #[test]
    fn two_connections_differ_in_an_address() {
        let mut bindings = Bindings::default();
        let (local, peer) = (
            "127.0.0.1:1000".parse().unwrap(),
            "127.0.0.1:80".parse().unwrap(),
        );
        assert!(bindings.connect(SocketId(1), local, peer).is_ok());
        let again = bindings.connect(SocketId(2), local, peer);
        assert_eq!(again, Err(Errno::EADDRNOTAVAIL));
        let other = "127.0.0.1:81".parse().unwrap();
        assert!(bindings.connect(SocketId(2), local, other).is_ok());
    }

    #[test]
    fn chosen_ports_are_distinct_for_each_peer() {
        let mut bindings = Bindings::default();
        let peer = "192.0.2.1:80".parse().unwrap();
        let any = "192.0.2.2:0".parse().unwrap();
        let ports: HashSet<_> = (0..EPHEMERAL_PORTS.len() as u64)
            .map(|id| bindings.connect(SocketId(id), any, peer).unwrap())
            .collect();
        assert_eq!(ports.len(), EPHEMERAL_PORTS.len());
        assert_eq!(
            bindings.connect(SocketId(1 << 40), any, peer),
            Err(Errno::EADDRNOTAVAIL)
        );
        bindings.release(SocketId(0));
        assert!(bindings.connect(SocketId(1 << 40), any, peer).is_ok());
    }

    #[test]
    fn a_port_for_both_is_one_number() {
        let mut bindings = Bindings::new(PortOffset::new(1_000));
        let address = bindings
            .bind(SocketId(1), request(loopback(), false), BOTH, idle)
            .unwrap();
        let mut udp = address;
        udp.set_port(address.port() + 1_000);
        assert!(UdpSocket::bind(udp).is_err());
        assert!(std::net::TcpListener::bind(address).is_err());
        bindings.release(SocketId(1));
        assert!(UdpSocket::bind(udp).is_ok());
        let _foreign = std::net::TcpListener::bind(address).unwrap();
        let taken = bindings.bind(SocketId(1), request(address, false), BOTH, idle);
        assert_eq!(taken, Err(Errno::EADDRINUSE));
        assert!(UdpSocket::bind(udp).is_ok(), "nothing is kept of it");
    }
}
