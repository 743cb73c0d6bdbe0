//! The seal of a queue: what shutdown(2) leaves in our end's ([`Seal`]).
#![forbid(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use bytes::BytesMut;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv},
};

use crate::{
    emul::transport::{EndQueue, Seal},
    sys::{
        fd::send_with_fd,
        socket::{ends_with_descriptors, readable_bytes, receive},
    },
};

/// Places one byte in our end's queue that can be told from the program's own: it carries a
/// descriptor, `passed`. Returns whether there was room.
pub(super) fn place(program: BorrowedFd<'_>, passed: BorrowedFd<'_>) -> bool {
    send_with_fd(program, &[0], passed).is_ok()
}

/// Whether poll(2) shows an end as writable.
pub(super) fn is_writable(end: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(end, PollFlags::POLLOUT)];
    let _ = poll(&mut fds, PollTimeout::ZERO);
    let events = fds[0].revents();
    events.is_some_and(|events| events.contains(PollFlags::POLLOUT))
}

/// Takes all that lies in our end's queue but for a `seal`, which is left there if it is the last byte; if it is not, a copy
/// of the last one is. Nothing is written to it any more.
pub(super) fn take_all(ours: BorrowedFd<'_>, mut seal: Option<Seal>) -> EndQueue {
    let mut bytes = BytesMut::new();
    if let Err(error) = take_into(&mut bytes, ours, &mut seal) {
        // The rest is left to the bridge.
        tracing::warn!(%error, "what a program wrote before shutdown(2)");
    }
    let taken = bytes.freeze();
    EndQueue { taken, seal }
}

fn take_into(
    bytes: &mut BytesMut,
    ours: BorrowedFd<'_>,
    seal: &mut Option<Seal>,
) -> Result<(), Errno> {
    let queued = readable_bytes(ours)?;
    let ends_with_seal = seal.is_some() && ends_with_descriptors(ours, queued)?;
    bytes.reserve(queued);
    let mut left = queued.saturating_sub(1);
    while left > 0 {
        let received = receive(ours, bytes, left)?;
        // Without a seal among them it is the program that has sent descriptors.
        if received.descriptors && !ends_with_seal && seal.take().is_some() {
            bytes.truncate(bytes.len().saturating_sub(1));
        }
        left = match received.count {
            0 => return Err(Errno::EPIPE),
            count => left - count,
        };
    }
    if queued > 0 && !ends_with_seal {
        let mut last = [0];
        let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        recv(ours.as_raw_fd(), &mut last, peek)?;
        bytes.extend_from_slice(&last);
        *seal = Some(Seal::Kept);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use bytes::Bytes;
    use nix::sys::socket::send;

    use super::*;
    use crate::supervisor::{meeting::Meeting, pair};

    fn joined() -> (OwnedFd, OwnedFd) {
        let program = pair::alone(true).unwrap();
        let ours = Meeting::default().join(program.as_fd()).unwrap();
        pair::show_connected(Some(program.as_fd()), ours.as_fd(), 0);
        (program, ours)
    }

    #[test]
    fn a_full_queue_is_taken_but_for_its_last_byte() {
        let passed = pair::alone(false).unwrap();
        let sealed = |behind: &[u8]| {
            let (program, ours) = joined();
            send(program.as_raw_fd(), b"before", MsgFlags::empty()).unwrap();
            send(program.as_raw_fd(), b"!", MsgFlags::MSG_OOB).unwrap();
            assert!(place(program.as_fd(), passed.as_fd()));
            send(program.as_raw_fd(), behind, MsgFlags::empty()).unwrap();
            let EndQueue { taken, seal } = take_all(ours.as_fd(), Some(Seal::Placed));
            (taken, seal, readable_bytes(ours.as_fd()))
        };
        let placed = (Bytes::from("before!"), Some(Seal::Placed), Ok(1));
        assert_eq!(sealed(b""), placed);
        let kept = (Bytes::from("before!behind"), Some(Seal::Kept), Ok(1));
        assert_eq!(sealed(b"behind"), kept);
        let (program, ours) = joined();
        let nothing = take_all(ours.as_fd(), None);
        assert_eq!((nothing.taken, nothing.seal), (Bytes::new(), None));
        send_with_fd(program.as_fd(), b"x", passed.as_fd()).unwrap();
        let one = take_all(ours.as_fd(), None);
        assert_eq!((one.taken, one.seal), (Bytes::from("x"), Some(Seal::Kept)));
        assert_eq!(readable_bytes(ours.as_fd()), Ok(1));
    }

    #[test]
    fn what_carries_descriptors_of_the_program_is_no_seal() {
        let passed = pair::alone(false).unwrap();
        let (program, ours) = joined();
        send_with_fd(program.as_fd(), b"own", passed.as_fd()).unwrap();
        send(program.as_raw_fd(), b"more", MsgFlags::empty()).unwrap();
        assert_eq!(take_all(ours.as_fd(), None).taken, Bytes::from("ownmore"));
        let (program, ours) = joined();
        send_with_fd(program.as_fd(), b"own", passed.as_fd()).unwrap();
        assert!(place(program.as_fd(), passed.as_fd()));
        let sealed = take_all(ours.as_fd(), Some(Seal::Placed));
        assert_eq!(
            (sealed.taken, sealed.seal),
            (Bytes::from("own"), Some(Seal::Placed))
        );
    }
}
