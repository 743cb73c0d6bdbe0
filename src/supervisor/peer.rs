//! What the kernel says of the program's end of a connection, asked for by ours: sock_diag(7). A copy of it would tell as
//! much, and keep open what the program closes in that moment.
#![forbid(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    unix::{ShowFlags, StateFlags, UnixRequest, UnixResponse},
};
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv,
            send, socket,
        },
        stat::fstat,
    },
};

use super::{pair, sockets::ProgramEnd};
use crate::{emul::socket::SocketId, sys::socket::is_hung_up};

/// Bytes of the longest answer: a header, what it is about, and the peer; or an error and the question.
const ANSWER_BYTES: usize = 256;
/// The cookie that stands for any.
const ANY_COOKIE: [u8; 8] = [0xff; 8];

/// The program's end.
#[derive(Debug, Clone, Copy)]
pub(super) enum Peer {
    /// It lies in its listener's queue.
    Unaccepted,
    /// It was accepted.
    Accepted(ProgramEnd),
    /// It was closed.
    Closed,
}

/// Where the kernel is asked.
#[derive(Debug)]
pub(super) struct Peers(OwnedFd);

impl Peers {
    /// Tries it.
    ///
    /// # Errors
    /// EPROTONOSUPPORT, ENOENT: a kernel without `CONFIG_UNIX_DIAG`. EMFILE, ENFILE. EPERM: a policy.
    pub(super) fn new() -> nix::Result<Self> {
        let protocol = SockProtocol::NetlinkSockDiag;
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        connect(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let peers = Self(fd);
        let trial = pair::alone(false)?;
        peers.ask(fstat(&trial)?.st_ino)?;
        Ok(peers)
    }

    /// The program's end of the connection that `ours` is the other end of.
    ///
    /// # Errors
    /// ENOBUFS, ENOMEM.
    pub(super) fn of(&self, ours: BorrowedFd<'_>) -> nix::Result<Peer> {
        // An inode it has from accept(2) to close(2).
        let inode = self.ask(fstat(ours)?.st_ino)?.peer().unwrap_or(0);
        if inode == 0 {
            let is_closed = is_hung_up(ours);
            return Ok(if is_closed {
                Peer::Closed
            } else {
                Peer::Unaccepted
            });
        }
        match self.ask(inode.into()) {
            Ok(answer) => Ok(Peer::Accepted(ProgramEnd {
                cookie: SocketId(u64::from_ne_bytes(answer.header.cookie)),
                inode: inode.into(),
            })),
            Err(Errno::ENOENT) => Ok(Peer::Closed),
            Err(error) => Err(error),
        }
    }

    fn ask(&self, inode: u64) -> nix::Result<UnixResponse> {
        let request = UnixRequest {
            state_flags: StateFlags::all(),
            inode: inode.try_into().map_err(|_| Errno::EOVERFLOW)?,
            show_flags: ShowFlags::PEER,
            cookie: ANY_COOKIE,
        };
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        let request = SockDiagMessage::UnixRequest(request);
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        send(self.0.as_raw_fd(), &bytes, MsgFlags::empty())?;
        // The answer is there when send(2) returns.
        let mut bytes = [0; ANSWER_BYTES];
        let count = recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT)?;
        let answer = NetlinkMessage::<SockDiagMessage>::deserialize(&bytes[..count]);
        match answer.map_err(|_| Errno::EPROTO)?.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::UnixResponse(response)) => Ok(*response),
            NetlinkPayload::Error(error) => Err(Errno::from_raw(-error.raw_code())),
            _ => Err(Errno::EPROTO),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_other_end_is_known_as_long_as_it_is_open() {
        let peers = Peers::new().unwrap();
        let listener = pair::alone(false).unwrap();
        let name = pair::listen(listener.as_fd(), 1).unwrap();
        let ours = pair::caller().unwrap();
        pair::knock(ours.as_fd(), &name).unwrap();
        assert!(matches!(peers.of(ours.as_fd()), Ok(Peer::Unaccepted)));
        let program = pair::accept(listener.as_fd(), SockFlag::empty()).unwrap();
        let Ok(Peer::Accepted(end)) = peers.of(ours.as_fd()) else {
            panic!("it was accepted");
        };
        let expected = ProgramEnd::of(&program).unwrap();
        assert_eq!((end.cookie, end.inode), (expected.cookie, expected.inode));
        drop(program);
        let peer = peers.of(ours.as_fd());
        assert!(matches!(peer, Ok(Peer::Closed)), "{peer:?}");
    }
}
