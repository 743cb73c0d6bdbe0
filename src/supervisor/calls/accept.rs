//! accept(2) and accept4(2).
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use socket2::SockRef;

use super::{on_socket, write_address};
use crate::emul::{
    self,
    outcome::{Answer, Injection, Origin, Outcome, Wait},
    socket::SocketId,
};
use crate::supervisor::{
    Supervisor,
    call::Call,
    pair,
    park::Parked,
    queue::Waiting,
    sockets::{Arrival, Table},
};

pub(super) fn accept(supervisor: &Supervisor, call: &Call<'_>) -> Answer {
    on_socket(supervisor, call, |table, id, end| {
        call.still_valid()?;
        let flags = accept_flags(call);
        emul::accept::check_flags(flags)?;
        emul::accept::check(&table.get(id).ok_or(Errno::EBADF)?.socket)?;
        let nonblocking = flags & libc::SOCK_NONBLOCK != 0;
        if let Some((waiting, connection)) = table.dequeue(id, end.as_fd(), nonblocking) {
            return accepted(call, table, (id, end.as_fd()), waiting, connection);
        }
        if pair::is_nonblocking(end.as_fd())? {
            return Err(Errno::EAGAIN);
        }
        let timeout = SockRef::from(&end).read_timeout().unwrap_or(None);
        let parked = Parked::new(call.trapped, id, Wait::Accept, end, timeout, Errno::EAGAIN);
        table.parked.push(parked);
        Ok(Outcome::Park(Wait::Accept))
    })
}

/// accept4(2)'s flags.
pub(in crate::supervisor) fn accept_flags(call: &Call<'_>) -> i32 {
    if call.trapped.number == libc::SYS_accept4 {
        call.int(3)
    } else {
        0
    }
}

/// What accept(2) comes to when a connection is there; the caller may have waited for it.
pub(in crate::supervisor) fn accepted(
    call: &Call<'_>,
    table: &mut Table,
    (listener, listening): (SocketId, BorrowedFd<'_>),
    waiting: Waiting,
    connection: OwnedFd,
) -> Answer {
    let flags = accept_flags(call);
    let rare = table.get(listener).is_some_and(|entry| entry.rarely_set);
    pair::inherit_options(listening, connection.as_fd(), rare);
    if !call.pointer(1).is_null()
        && let Err(error) = write_address(call, &waiting.peer)
    {
        // As __sys_accept4 does: the connection is closed, not reset.
        drop(connection);
        table.dropped(waiting.connection, Arrival::There);
        return Err(error);
    }
    Ok(Outcome::Inject(Injection {
        fd: connection,
        cloexec: flags & libc::SOCK_CLOEXEC != 0,
        origin: Origin::Accepted {
            listener,
            connection: waiting.connection,
            peer: waiting.peer,
        },
    }))
}
