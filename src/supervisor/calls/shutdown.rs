//! shutdown(2).
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

use super::on_socket;
use crate::emul::{
    self,
    outcome::{Answer, Outcome, Wait},
    socket::{SocketId, State},
    transport::Seal,
};
use crate::supervisor::{
    Supervisor,
    call::Call,
    pair, seal,
    sockets::{End, Entry, Table},
};

pub(super) fn shutdown(supervisor: &Supervisor, call: &Call<'_>) -> Answer {
    on_socket(supervisor, call, |table, id, end| {
        call.still_valid()?;
        let entry = table.get(id).ok_or(Errno::EBADF)?;
        let before = entry.socket.state;
        let how = call.int(1);
        let answer = emul::shutdown::shutdown(&mut entry.socket, id, how, supervisor.transport());
        let now = entry.socket.state;
        match before {
            State::Idle
                if matches!(entry.end, End::Alone)
                    && answer.as_ref().err() == Some(&Errno::ENOTCONN) =>
            {
                pair::shut_down(end.as_fd(), how);
                entry.spent = true;
            }
            State::Listening { .. } if now == State::Idle => {
                stop_listening(supervisor, table, id, end.as_fd());
            }
            State::Connecting { .. } => stop_connecting(supervisor, table, id),
            State::Connected { .. } if how != libc::SHUT_RD && answer.is_ok() => {
                return Ok(finish(supervisor, entry, end.as_fd(), how));
            }
            _ => {}
        }
        answer
    })
}

/// Shuts down a connection for writing, and seals what was written ([`Seal`]).
fn finish(supervisor: &Supervisor, entry: &Entry, program: BorrowedFd<'_>, how: i32) -> Outcome {
    let End::Bridged(unread) = &entry.end else {
        return Outcome::Native("the pair ends the direction");
    };
    let ours = unread.end();
    let mut queue = unread.lock();
    if queue.seal.is_none() && seal::place(program, supervisor.drained.as_fd()) {
        queue.seal = Some(Seal::Placed);
    }
    pair::shut_down(program, how);
    if let Some(ours) = ours
        && queue.taken.is_empty()
        && (queue.seal.is_none() || !seal::is_writable(program))
    {
        // The queue is full, and is not to be: a socket that is shut down is writable, and says EPIPE.
        *queue = seal::take_all(ours.as_fd(), queue.seal);
    }
    Outcome::Value(0)
}

/// accept(2) no longer finds a listener; what waited is dropped, and so reset. Who polls it sees a
/// hang-up.
fn stop_listening(
    supervisor: &Supervisor,
    table: &mut Table,
    id: SocketId,
    program: BorrowedFd<'_>,
) {
    // First: nothing comes into the queue behind that.
    pair::shut_down(program, libc::SHUT_RDWR);
    table.drop_queue(id, Some(program));
    table.set_end(id, End::Closed);
    while let Some(parked) = table.unpark(id, Wait::Accept) {
        supervisor.answer_parked(table, parked, Err(Errno::EINVAL));
    }
}

/// Whoever waits for the connection, or polls for it, is told that there will be none.
fn stop_connecting(supervisor: &Supervisor, table: &mut Table, id: SocketId) {
    if table
        .get(id)
        .is_some_and(|entry| matches!(entry.end, End::Ours(_)))
    {
        // With the filler unread, which raises EPOLLERR and EPOLLHUP.
        drop(table.set_end(id, End::Closed));
    }
    while let Some(parked) = table.unpark(id, Wait::Connect) {
        if let Some(entry) = table.get(id) {
            entry.socket.error = None;
        }
        supervisor.answer_parked(table, parked, Err(Errno::ECONNRESET));
    }
}
