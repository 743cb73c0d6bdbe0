//! How a server lets somebody else have its port while connections that it has accepted go on.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    sync::Arc,
};

use nix::errno::Errno;

use super::Server;
use crate::quic::{
    per_client::{Client, PerClient},
    udp::UdpSocket,
};

impl Server {
    /// Leaves the port to whoever binds it next, whom new clients find there. Those whose connections are in use have
    /// [a socket each](PerClient) from then on.
    ///
    /// # Errors
    /// EADDRINUSE: several threads serve one client's address; EMFILE; as bind(2) and connect(2).
    pub(crate) fn leave_port(&self) -> io::Result<()> {
        let clients = self.clients()?;
        let sockets = self.entrances.iter().map(|own| own.socket.upgrade());
        let sockets: Vec<_> = sockets.collect::<Option<_>>().ok_or(Errno::EBADF)?;
        let connected =
            admit_others(&sockets, true).and_then(|()| self.connect(&sockets, &clients));
        if connected.is_err() {
            // Back to what it was.
            admit_others(&sockets, false)?;
        }
        for ((entrance, shared), sockets) in self.entrances.iter().zip(sockets).zip(connected?) {
            // It is set once: who has left has no port to leave.
            let _ = entrance.per_client.set(Arc::downgrade(&sockets));
            entrance.endpoint.rebind_abstract(sockets)?;
            shared.free_port();
        }
        Ok(())
    }

    /// The clients of each entrance.
    fn clients(&self) -> io::Result<Vec<Vec<Client>>> {
        let mut clients: Vec<Vec<Client>> = self.entrances.iter().map(|_| Vec::new()).collect();
        let mut served_by = HashMap::new();
        for kept in self.kept().iter().filter(|kept| kept.link.is_used()) {
            let connection = &kept.link.connection;
            let address = connection.remote_address();
            match served_by.entry(address) {
                Entry::Vacant(place) => {
                    place.insert(kept.entrance);
                    clients[kept.entrance].push((address, connection.local_ip()));
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

/// Whether others can be bound to the port beside these, if they say the same.
fn admit_others(sockets: &[Arc<UdpSocket>], admit: bool) -> io::Result<()> {
    let mut each = sockets.iter();
    each.try_for_each(|socket| socket.reference().set_reuse_address(admit))
}
