//! connect(2).
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use socket2::SockRef;

use super::{on_socket, options::take_over, sockaddr};
use crate::emul::{
    self, address,
    outcome::{Answer, Outcome},
    socket::{SocketId, State},
};
use crate::supervisor::{
    Supervisor,
    call::Call,
    pair,
    park::Parked,
    sockets::{End, Table},
    tasks,
};
use crate::zpoline::mark::Mark;

/// The mark of a socket whose connection was told of by the fast path.
const TOLD: Mark = Mark::Emulated { announced: true };

pub(super) fn connect(supervisor: &Supervisor, call: &Call<'_>) -> Answer {
    on_socket(supervisor, call, |table, id, end| {
        let peer = sockaddr(call)?;
        let nonblocking = pair::is_nonblocking(end.as_fd())?;
        let (id, end) = usable(supervisor, call, table, id, end)?;
        let entry = table.get(id).ok_or(Errno::EBADF)?;
        let (limits, transport) = (&supervisor.limits, supervisor.transport());
        let socket = &mut entry.socket;
        if socket.is_untold() && supervisor.fast_path.is_some() && Mark::of(end.as_fd()) == TOLD {
            socket.announced();
        }
        let before = socket.state;
        let again = matches!(before, State::Connecting { .. });
        if socket.state == State::Failed {
            // What read(2) or write(2) has told is not told again.
            let pairs = pair::take_error(end.as_fd());
            if pairs == 0 {
                socket.error = None;
            }
        }
        let answer = emul::connect::connect(socket, id, &peer, nonblocking, limits, transport);
        let joined = match (before, socket.state) {
            (State::Idle, State::Connected { .. }) => supervisor.carry(table, id, end.as_fd()),
            _ if answer.as_ref().err() == Some(&Errno::EINPROGRESS) => {
                supervisor.join(table, id, end.as_fd())
            }
            _ => Ok(()),
        };
        if let Err(error) = joined {
            give_up(supervisor, table, id);
            return Err(error);
        }
        if before == State::Idle {
            supervisor.show_failed_at_once(table, id, nonblocking);
        }
        if let Ok(Outcome::Park(wait)) = answer {
            // __inet_stream_connect keeps the errno of the state it found while it waits.
            let timed_out = if again {
                Errno::EALREADY
            } else {
                Errno::EINPROGRESS
            };
            let timeout = SockRef::from(&end).write_timeout().unwrap_or(None);
            table
                .parked
                .push(Parked::new(call.trapped, id, wait, end, timeout, timed_out));
        }
        answer
    })
}

/// Ends an attempt to connect that cannot be shown.
fn give_up(supervisor: &Supervisor, table: &mut Table, id: SocketId) {
    supervisor.transport().abandon(id);
    if let Some(entry) = table.get(id) {
        entry.socket.disconnected();
        if !entry.socket.has_port {
            supervisor.transport().release(id);
        }
    }
}

/// The socket to connect or listen with. After a failed attempt or the end of listening, TCP lets the
/// program begin anew; the pair is spent then, and a new end takes its place under the same number.
pub(super) fn usable(
    supervisor: &Supervisor,
    call: &Call<'_>,
    table: &mut Table,
    id: SocketId,
    end: OwnedFd,
) -> Result<(SocketId, OwnedFd), Errno> {
    let entry = table.get(id).ok_or(Errno::EBADF)?;
    let unused = matches!(entry.end, End::Alone) && !entry.spent;
    if entry.socket.state != State::Idle || unused {
        return Ok((id, end));
    }
    let fd = call.int(0);
    let nonblocking = pair::is_nonblocking(end.as_fd())?;
    take_over(supervisor, entry, end.as_fd());
    let mut socket = entry.socket.clone();
    let held = socket.local.filter(|_| socket.has_port);
    socket.has_port = false;
    let (new_id, program) = supervisor.create(table, socket, nonblocking)?;
    if let Some(local) = held {
        // Its address moves to the new pair; it was permitted before.
        supervisor.transport().release(id);
        let entry = table.get(new_id).ok_or(Errno::EBADF)?;
        let (bytes, privileged) = (address::encode(&local), || true);
        let (limits, transport) = (&supervisor.limits, supervisor.transport());
        emul::bind::bind(
            &mut entry.socket,
            new_id,
            &bytes,
            privileged,
            limits,
            transport,
        )?;
        supervisor.watch_close(new_id, program.as_fd());
    }
    let cloexec = tasks::is_cloexec(call.tid(), fd);
    supervisor
        .listener
        .replace(call.trapped.id, program.as_fd(), fd, cloexec)?;
    table.remove(id);
    Ok((new_id, program))
}
