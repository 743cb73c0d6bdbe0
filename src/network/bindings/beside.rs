//! Ports on which a listener is bound beside connections that another has accepted, which was closed: see
//! [`takeover`].
#![forbid(unsafe_code)]

use std::{net::SocketAddr, sync::Arc};

use nix::errno::Errno;

use super::{Binding, Bindings, Carriers, Reserved, reserve};
use crate::{
    emul::transport::BindRequest,
    network::{takeover, udp},
    quic::server::Server,
};

impl Bindings {
    /// Takes a port that connections alone use, of ours or of another quicwrap's, whose listener has been closed.
    pub(super) fn take_over(
        &mut self,
        request: &BindRequest,
        carriers: Carriers,
    ) -> Result<(Reserved, SocketAddr), Errno> {
        let address = request.address;
        let udp = self.offset.to_udp(address)?;
        self.admit_beside(address, true);
        let others = self.offers.as_ref().map(|offers| offers.ask(udp));
        let others = others.unwrap_or_default();
        self.depart(|bound, _| takeover::overlap(*bound, address));
        let taken = if others.is_empty() && self.beside(address).next().is_none() {
            Err(Errno::EADDRINUSE)
        } else {
            reserve(request, carriers, self.offset, udp::reserve_beside)
        };
        self.admit_beside(address, false);
        drop(others);
        let (reserved, address) = taken?;
        let beside = Reserved {
            beside: true,
            ..reserved
        };
        Ok((beside, address))
    }

    /// Those of our servers that have left a port that is in the way of this address.
    fn beside(&self, address: SocketAddr) -> impl Iterator<Item = &Arc<Server>> {
        let departed = self.departed.iter();
        let beside = departed.filter(move |(bound, _)| takeover::overlap(*bound, address));
        beside.map(|(_, server)| server)
    }

    fn admit_beside(&self, address: SocketAddr, others: bool) {
        for server in self.beside(address) {
            server.admit_others(others);
        }
    }

    /// Whether others can be bound to a port beside the connections of this server, whose listener has been closed: it
    /// leaves the port the first time.
    pub(crate) fn admit_others(
        &mut self,
        address: SocketAddr,
        server: &Arc<Server>,
        others: bool,
    ) -> bool {
        let is_this = |own: &Arc<Server>| Arc::ptr_eq(own, server);
        if self.departed.iter().any(|(_, own)| is_this(own)) {
            return server.admit_others(others);
        }
        let is_here = |bound: &SocketAddr, binding: &Binding| {
            *bound == address && binding.server.as_ref().is_some_and(is_this)
        };
        others && self.depart(is_here)
    }

    /// Lets those of these servers leave their ports that nobody owns. Returns whether one has.
    fn depart(&mut self, may: impl Fn(&SocketAddr, &Binding) -> bool) -> bool {
        let leaves = |bound: &SocketAddr, binding: &mut Binding| {
            binding.owners.is_empty() && may(bound, binding) && binding.leave_port()
        };
        let before = self.departed.len();
        let left = self.bound.extract_if(leaves);
        self.departed
            .extend(left.filter_map(|(bound, binding)| Some((bound, binding.server?))));
        self.departed.len() > before
    }
}
