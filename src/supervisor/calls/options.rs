//! getsockopt(2) and setsockopt(2).
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

use super::on_socket;
use crate::emul::{
    self,
    options::name,
    outcome::{Answer, Outcome},
    setsockopt::{RARELY_SET, Value, takes_null},
};
use crate::supervisor::{Supervisor, call::Call, pair, sockets::Entry};
use crate::zpoline::{self, mark};

pub(super) fn getsockopt(supervisor: &Supervisor, call: &Call<'_>) -> Answer {
    match answer_option(supervisor, call) {
        // The kernel's answer is there already. Asked again it would be that there is no error.
        Ok(Outcome::Native(_)) if zpoline::has_taken_error(&call.trapped) => Ok(Outcome::Value(0)),
        answer => answer,
    }
}

fn answer_option(supervisor: &Supervisor, call: &Call<'_>) -> Answer {
    on_socket(supervisor, call, |table, id, end| {
        let entry = table.get(id).ok_or(Errno::EBADF)?;
        let option = (call.int(1), call.int(2));
        let length = call.read_int(call.pointer(4))?;
        let room = emul::getsockopt::room(entry.socket.family, option, length)?;
        if mark::is_noted(option) {
            take_over(supervisor, entry, end.as_fd());
        }
        let (limits, transport) = (&supervisor.limits, supervisor.transport());
        let bytes = if option == (libc::SOL_SOCKET, libc::SO_ERROR) {
            let pairs = match zpoline::has_taken_error(&call.trapped) {
                true => taken_error(call, room)?,
                false => pair::take_error(end.as_fd()),
            };
            emul::getsockopt::take_error(&mut entry.socket, pairs)
                .to_ne_bytes()
                .to_vec()
        } else {
            emul::getsockopt::getsockopt(&entry.socket, id, option, room, limits, transport)?
        };
        if option == (libc::SOL_SOCKET, libc::SO_PEERNAME) && room > bytes.len() {
            return Err(Errno::EINVAL);
        }
        let cut = &bytes[..room.min(bytes.len())];
        call.write_value(call.pointer(3), cut, call.pointer(4), cut.len() as i32)?;
        Ok(Outcome::Value(0))
    })
}

pub(super) fn setsockopt(supervisor: &Supervisor, call: &Call<'_>) -> Answer {
    on_socket(supervisor, call, |table, id, end| {
        let entry = table.get(id).ok_or(Errno::EBADF)?;
        let option = (call.int(1), call.int(2));
        if option.0 == libc::SOL_SOCKET && RARELY_SET.contains(&option.1) {
            entry.rarely_set = true;
            return Ok(Outcome::Native("the pair keeps the option"));
        }
        let length = usize::try_from(call.int(4)).map_err(|_| Errno::EINVAL)?;
        let read = length.min(option_bytes(option));
        let pointer = call.pointer(3);
        let bytes = if pointer.is_null() && takes_null(option) {
            Ok(vec![0; read])
        } else {
            call.read(pointer, read)
        };
        if bytes == Err(Errno::ESRCH) {
            return Err(Errno::ESRCH);
        }
        let value = Value { length, bytes };
        if mark::is_noted(option) {
            take_over(supervisor, entry, end.as_fd());
        }
        let (limits, transport) = (&supervisor.limits, supervisor.transport());
        emul::setsockopt::setsockopt(&mut entry.socket, option, &value, limits, transport)
    })
}

/// The pair's error, which the fast path has taken and left where the program wants it.
fn taken_error(call: &Call<'_>, room: usize) -> Result<i32, Errno> {
    let mut error = [0; 4];
    let bytes = call.read(call.pointer(3), room.min(error.len()))?;
    error[..bytes.len()].copy_from_slice(&bytes);
    Ok(i32::from_ne_bytes(error))
}

/// Takes over what the fast path has set.
pub(super) fn take_over(supervisor: &Supervisor, entry: &mut Entry, end: BorrowedFd<'_>) {
    if supervisor.fast_path.is_none() {
        return;
    }
    for (name, value) in mark::take_noted(end) {
        entry.socket.options.set(name, value);
    }
}

/// Bytes that the kernel reads of an option's value.
fn option_bytes(option: emul::options::Name) -> usize {
    match option {
        name::SO_LINGER | name::SO_MAX_PACING_RATE => 8,
        (libc::IPPROTO_TCP, libc::TCP_CONGESTION) => 16,
        _ => 4,
    }
}
