//! getsockname(2) and getpeername(2).
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use nix::errno::Errno;

use super::socket::{Socket, State};

/// The socket's own address; the wildcard with port 0 when it has none yet.
pub(crate) fn getsockname(socket: &Socket) -> SocketAddr {
    socket.local.unwrap_or(socket.family.unspecified())
}

/// The peer's address.
///
/// # Errors
/// ENOTCONN: not connected, or no longer (inet_getname: in TCP_CLOSE and TCP_SYN_SENT).
pub(crate) fn getpeername(socket: &Socket) -> Result<SocketAddr, Errno> {
    match socket.state {
        State::Connected { peer, .. } if !socket.is_over() => Ok(peer),
        _ => Err(Errno::ENOTCONN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emul::testing::{PEER, tcp};

    #[test]
    fn a_peer_exists_only_while_connected() {
        let mut socket = tcp();
        assert_eq!(getpeername(&socket), Err(Errno::ENOTCONN));
        socket.state = State::Connected {
            peer: PEER,
            announced: false,
        };
        assert_eq!(getpeername(&socket), Ok(PEER));
        socket.reset(Errno::ECONNRESET);
        assert_eq!(getpeername(&socket), Err(Errno::ENOTCONN));
    }

    #[test]
    fn an_unbound_socket_has_the_wildcard_address() {
        assert_eq!(getsockname(&tcp()), "0.0.0.0:0".parse().unwrap());
    }
}
