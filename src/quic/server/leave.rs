//! How a server lets somebody else have its port while connections that it has accepted go on.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    sync::{Arc, Weak},
};

use nix::errno::Errno;

use super::{Kept, Server, farewells};
use crate::quic::{
    link::Link,
    per_client::{Client, PerClient},
    udp::UdpSocket,
};

impl Server {
    /// Leaves the port, on which others can be bound from then on, until [`Self::admit_others`] says that they cannot: new
    /// clients find those. Clients whose connections are in use have [a socket each](PerClient).
    ///
    /// # Errors
    /// EADDRINUSE: several threads serve one client's address; EMFILE; as bind(2) and connect(2).
    pub(crate) fn leave_port(&self) -> io::Result<()> {
        let clients = self.clients()?;
        let sockets = self.entrances.iter().map(|own| own.socket.upgrade());
        let sockets: Vec<_> = sockets.collect::<Option<_>>().ok_or(Errno::EBADF)?;
        // All that may fail is done before anything is changed.
        let unbound = sockets.iter().map(|socket| socket.unbound());
        let unbound = unbound.collect::<io::Result<Vec<_>>>()?;
        let connected = admit(&sockets, true).and_then(|()| self.connect(&sockets, &clients));
        if connected.is_err() {
            // Back to what it was.
            admit(&sockets, false)?;
        }
        let shared = sockets.iter().zip(&unbound);
        for ((entrance, (shared, unbound)), sockets) in
            self.entrances.iter().zip(shared).zip(connected?)
        {
            // It is set once: who has left has no port to leave.
            let _ = entrance.per_client.set(Arc::downgrade(&sockets));
            entrance.endpoint.rebind_abstract(sockets)?;
            shared.free_port_by(unbound)?;
        }
        Ok(())
    }

    /// Whether others can be bound to the port that was left, with SO_REUSEADDR. Returns whether that is so.
    pub(crate) fn admit_others(&self, others: bool) -> bool {
        self.entrances.iter().all(|own| {
            let sockets = own.per_client.get().and_then(Weak::upgrade);
            sockets.is_some_and(|sockets| sockets.admit_others(others).is_ok())
        })
    }

    /// Gives the socket of a client up whose connection has ended, unless it has another: what comes from that address
    /// later is for who has the port.
    pub(super) async fn part_from(&self, link: &Link, entrance: usize) {
        let sockets = self.entrances[entrance].per_client.get();
        let Some(sockets) = sockets.and_then(Weak::upgrade) else {
            return;
        };
        farewells().await;
        let gone = client(link);
        let is_there = |kept: &Kept| kept.entrance == entrance && client(&kept.link) == gone;
        if !self.kept().iter().any(is_there) {
            sockets.part_from(gone);
        }
    }

    /// The clients of each entrance.
    fn clients(&self) -> io::Result<Vec<Vec<Client>>> {
        let mut clients: Vec<Vec<Client>> = self.entrances.iter().map(|_| Vec::new()).collect();
        let mut served_by = HashMap::new();
        for kept in self.kept().iter().filter(|kept| kept.link.is_used()) {
            let client = client(&kept.link);
            match served_by.entry(client) {
                Entry::Vacant(place) => {
                    place.insert(kept.entrance);
                    clients[kept.entrance].push(client);
                }
                Entry::Occupied(by) if *by.get() == kept.entrance => {}
                Entry::Occupied(_) => return Err(Errno::EADDRINUSE.into()),
            }
        }
        Ok(clients)
    }

    fn connect(
        &self,
        sockets: &[Arc<UdpSocket>],
        clients: &[Vec<Client>],
    ) -> io::Result<Vec<Arc<PerClient>>> {
        let entrances = self.entrances.iter().zip(sockets).zip(clients);
        let connected = entrances.map(|((entrance, socket), clients)| {
            let _runtime = entrance.runtime.enter();
            PerClient::beside(socket, clients)
        });
        connected.collect()
    }
}

fn client(link: &Link) -> Client {
    (link.connection.remote_address(), link.connection.local_ip())
}

/// Whether others can be bound to the port beside these, if they say the same.
fn admit(sockets: &[Arc<UdpSocket>], admit: bool) -> io::Result<()> {
    let mut each = sockets.iter();
    each.try_for_each(|socket| socket.reference().set_reuse_address(admit))
}
