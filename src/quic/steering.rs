//! A port that is served by several threads: each has a UDP socket of its own on it, and the kernel is told which of them
//! a datagram is for. By the address of the sender it would choose anew when a client roams, and its QUIC connection would
//! be lost; so connection IDs tell (RFC 9000 section 5.1), in the way of QUIC-LB.
#![forbid(unsafe_code)]

use std::{io, net::UdpSocket, os::fd::AsFd};

use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};
use quinn::ConnectionId;
use quinn_proto::{ConnectionIdGenerator, HashedConnectionIdGenerator, InvalidCid};

/// Connection IDs that lead to one socket: their first byte, divided by the number of sockets, leaves its number.
pub(super) struct SteeredIds {
    ids: HashedConnectionIdGenerator,
    socket: usize,
    sockets: usize,
}

impl SteeredIds {
    /// Of the socket with this number. `key` makes known which IDs are ours.
    pub(super) fn new(key: u64, socket: usize, sockets: usize) -> Self {
        Self {
            ids: HashedConnectionIdGenerator::from_key(key),
            socket,
            sockets,
        }
    }

    fn leads_here(&self, id: &ConnectionId) -> bool {
        id.first()
            .is_some_and(|&first| usize::from(first) % self.sockets == self.socket)
    }
}

impl ConnectionIdGenerator for SteeredIds {
    fn generate_cid(&mut self) -> ConnectionId {
        // The first byte is random: as many turns as there are sockets, on the average.
        loop {
            let id = self.ids.generate_cid();
            if self.leads_here(&id) {
                return id;
            }
        }
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        self.ids.validate(id)
    }

    fn cid_len(&self) -> usize {
        self.ids.cid_len()
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        self.ids.cid_lifetime()
    }
}

/// Has the kernel choose among the sockets of a port, which were bound to it in this order, `sockets` in all.
///
/// # Errors
/// Of setsockopt(2), SO_ATTACH_REUSEPORT_CBPF in socket(7).
pub(super) fn steer(socket: &UdpSocket, sockets: usize) -> io::Result<()> {
    // Where the destination's ID begins: RFC 8999 section 5, behind type, version and length, or behind the type alone.
    const LONG_HEADER: u32 = 0x80;
    const BEHIND_LENGTH: u32 = 6;
    const BEHIND_TYPE: u32 = 1;
    let statement = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let load_byte = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    // A datagram too short for this ends the program with 0: the first socket drops it.
    let mut program = [
        statement(load_byte, 0, 0, 0),
        statement(
            libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K,
            0,
            2,
            LONG_HEADER,
        ),
        statement(load_byte, 0, 0, BEHIND_LENGTH),
        statement(libc::BPF_JMP | libc::BPF_JA, 0, 0, 1),
        statement(load_byte, 0, 0, BEHIND_TYPE),
        statement(
            libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K,
            0,
            0,
            sockets as u32,
        ),
        statement(libc::BPF_RET | libc::BPF_A, 0, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    Ok(setsockopt(&socket.as_fd(), AttachReusePortCbpf, &program)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SOCKETS: usize = 3;

    #[test]
    fn ids_lead_to_their_socket_and_are_known_everywhere() {
        for socket in 0..SOCKETS {
            let mut ids = SteeredIds::new(7, socket, SOCKETS);
            for _ in 0..100 {
                let id = ids.generate_cid();
                assert_eq!(usize::from(id[0]) % SOCKETS, socket);
                assert!(SteeredIds::new(7, 0, SOCKETS).validate(&id).is_ok());
                assert!(SteeredIds::new(8, 0, SOCKETS).validate(&id).is_err());
            }
        }
    }

    #[test]
    fn the_kernel_follows_the_connection_id() {
        let first =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        first.bind(&any.into()).unwrap();
        first.set_reuse_port(true).unwrap();
        let mut sockets = vec![UdpSocket::from(first)];
        let address = sockets[0].local_addr().unwrap();
        for _ in 1..SOCKETS {
            let next =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
            next.set_reuse_port(true).unwrap();
            next.bind(&address.into()).unwrap();
            sockets.push(next.into());
        }
        steer(&sockets[0], SOCKETS).unwrap();
        for id in [0_u8, 1, 2, 100, 255] {
            let long = [0xc0, 0, 0, 0, 1, 8, id, 0, 0];
            let short = [0x40, id, 0, 0];
            for datagram in [&long[..], &short[..]] {
                let sender = UdpSocket::bind(any).unwrap();
                sender.send_to(datagram, address).unwrap();
                let socket = &sockets[usize::from(id) % SOCKETS];
                socket
                    .set_read_timeout(Some(Duration::from_secs(5)))
                    .unwrap();
                let mut room = [0; 16];
                assert_eq!(socket.recv(&mut room).unwrap(), datagram.len(), "{id}");
            }
        }
    }
}
