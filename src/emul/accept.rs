//! accept(2) and accept4(2): who may call it, and what waits in a listener's queue.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use nix::errno::Errno;

use super::{
    address,
    socket::{Family, Socket, SocketId, State},
};

/// Bytes of a [`Record`] on the listening pair.
pub(crate) const RECORD_BYTES: usize = 64;

/// One pending connection, as it lies in the listening pair together with its descriptor: the
/// listener is readable exactly while accept(2) would succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// The connection.
    pub(crate) connection: SocketId,
    /// Its peer, in the listener's family.
    pub(crate) peer: SocketAddr,
}

impl Record {
    /// The record's bytes: connection (8, native order), sockaddr length (8), sockaddr, zeroes.
    pub(crate) fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let peer = address::encode(&self.peer);
        bytes[..8].copy_from_slice(&self.connection.0.to_ne_bytes());
        bytes[8..16].copy_from_slice(&(peer.len() as u64).to_ne_bytes());
        bytes[16..16 + peer.len()].copy_from_slice(&peer);
        bytes
    }

    /// Reads a record for a listener of `family`. The program holds the other end of the pair and
    /// could have written anything to it, so nothing is taken for granted.
    pub(crate) fn decode(bytes: &[u8; RECORD_BYTES], family: Family) -> Option<Self> {
        let connection = SocketId(u64::from_ne_bytes(*bytes.first_chunk()?));
        let length = u64::from_ne_bytes(*bytes.get(8..)?.first_chunk()?);
        let peer = bytes.get(16..)?.get(..usize::try_from(length).ok()?)?;
        let peer = address::parse(peer, family).ok()?;
        Some(Self { connection, peer })
    }
}

/// Checks that connections can be accepted on the socket.
///
/// # Errors
/// EINVAL: it is not listening.
pub(crate) fn check(socket: &Socket) -> Result<(), Errno> {
    match socket.state {
        State::Listening { .. } => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// Checks accept4(2)'s flags.
///
/// # Errors
/// EINVAL: anything but SOCK_NONBLOCK and SOCK_CLOEXEC.
pub(crate) fn check_flags(flags: i32) -> Result<(), Errno> {
    if flags & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) == 0 {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_the_pair() {
        for (text, family) in [
            ("1.2.3.4:5", Family::V4),
            ("[2001:db8::7%9]:443", Family::V6),
        ] {
            let record = Record {
                connection: SocketId(42),
                peer: text.parse().unwrap(),
            };
            assert_eq!(Record::decode(&record.encode(), family), Some(record));
        }
    }

    #[test]
    fn garbage_is_no_record() {
        assert_eq!(Record::decode(&[0xff; RECORD_BYTES], Family::V4), None);
        assert_eq!(Record::decode(&[0; RECORD_BYTES], Family::V6), None);
    }

    #[test]
    fn only_two_flags_exist() {
        assert!(check_flags(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC).is_ok());
        assert_eq!(check_flags(1), Err(Errno::EINVAL));
    }
}
