//! The trapped calls: one row each, from which the filter is generated, and one handler each, which
//! decodes the arguments, asks the emulation and writes back what it says.
#![forbid(unsafe_code)]

mod accept;
mod connect;
mod options;
mod shutdown;

use std::{
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
};

use nix::errno::Errno;
use socket2::{Protocol, SockRef};

pub(super) use self::accept::{accept_flags, accepted};
use self::{
    accept::accept,
    connect::{connect, usable},
    options::{getsockopt, setsockopt},
    shutdown::shutdown,
};
use super::{
    Supervisor,
    call::{Call, identity},
    filter::When,
    pair,
    sockets::{End, Entry, Table},
    tasks::{self, Holder},
};
use crate::emul::{
    self, address,
    outcome::{Answer, Injection, Origin, Outcome},
    socket::{Family, Socket, SocketId, State},
};
use crate::sys::socket::{INTERFACE_REQUEST_BYTES, ask_interface};
use crate::zpoline;

/// A call that the filter traps.
pub(super) struct TrappedCall {
    /// System call number on x86-64.
    pub(super) number: i64,
    /// Its name.
    pub(super) name: &'static str,
    /// Which of its arguments make it trap.
    pub(super) when: When,
    /// How the log shows its arguments.
    pub(super) arguments: &'static [Argument],
    /// What it does.
    pub(super) handler: fn(&Supervisor, &Call<'_>) -> Answer,
}

/// The form of an argument in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    /// An int.
    Int,
    /// Flags.
    Hex,
    /// An address in memory.
    Pointer,
    /// A sockaddr whose length is the next argument.
    Address,
}

use Argument::{Address, Hex, Int, Pointer};

/// Every trapped call.
#[rustfmt::skip] // a table reads best with a row on a line
pub(super) const CALLS: &[TrappedCall] = &[
    TrappedCall { number: libc::SYS_socket, name: "socket", when: When::EmulatedSocket, arguments: &[Int, Hex, Int], handler: socket },
    TrappedCall { number: libc::SYS_bind, name: "bind", when: When::Always, arguments: &[Int, Address, Int], handler: bind },
    TrappedCall { number: libc::SYS_listen, name: "listen", when: When::Always, arguments: &[Int, Int], handler: listen },
    TrappedCall { number: libc::SYS_connect, name: "connect", when: When::Always, arguments: &[Int, Address, Int], handler: connect },
    TrappedCall { number: libc::SYS_accept, name: "accept", when: When::Always, arguments: &[Int, Pointer, Pointer], handler: accept },
    TrappedCall { number: libc::SYS_accept4, name: "accept4", when: When::Always, arguments: &[Int, Pointer, Pointer, Hex], handler: accept },
    TrappedCall { number: libc::SYS_getsockname, name: "getsockname", when: When::Always, arguments: &[Int, Pointer, Pointer], handler: getsockname },
    TrappedCall { number: libc::SYS_getpeername, name: "getpeername", when: When::Always, arguments: &[Int, Pointer, Pointer], handler: getpeername },
    TrappedCall { number: libc::SYS_shutdown, name: "shutdown", when: When::Always, arguments: &[Int, Int], handler: shutdown },
    TrappedCall { number: libc::SYS_getsockopt, name: "getsockopt", when: When::EmulatedOption, arguments: &[Int, Int, Int, Pointer, Pointer], handler: getsockopt },
    TrappedCall { number: libc::SYS_setsockopt, name: "setsockopt", when: When::SetOption, arguments: &[Int, Int, Int, Pointer, Int], handler: setsockopt },
    TrappedCall { number: libc::SYS_sendto, name: "sendto", when: When::Flag(3, libc::MSG_FASTOPEN), arguments: &[Int, Pointer, Int, Hex, Address, Int], handler: fast_open },
    TrappedCall { number: libc::SYS_sendmsg, name: "sendmsg", when: When::Flag(2, libc::MSG_FASTOPEN), arguments: &[Int, Pointer, Hex], handler: fast_open },
    TrappedCall { number: libc::SYS_sendmmsg, name: "sendmmsg", when: When::Flag(3, libc::MSG_FASTOPEN), arguments: &[Int, Pointer, Int, Hex], handler: fast_open },
    TrappedCall { number: libc::SYS_recvfrom, name: "recvfrom", when: When::Flag(3, libc::MSG_ERRQUEUE), arguments: &[Int, Pointer, Int, Hex, Pointer, Pointer], handler: error_queue },
    TrappedCall { number: libc::SYS_recvmsg, name: "recvmsg", when: When::Flag(2, libc::MSG_ERRQUEUE), arguments: &[Int, Pointer, Hex], handler: error_queue },
    TrappedCall { number: libc::SYS_recvmmsg, name: "recvmmsg", when: When::Flag(3, libc::MSG_ERRQUEUE), arguments: &[Int, Pointer, Int, Hex, Pointer], handler: error_queue },
    TrappedCall { number: libc::SYS_ioctl, name: "ioctl", when: When::InterfaceRequest, arguments: &[Int, Hex, Pointer], handler: ioctl },
    TrappedCall { number: libc::SYS_seccomp, name: "seccomp", when: When::FastPath(&[libc::SECCOMP_SET_MODE_STRICT as i32, libc::SECCOMP_SET_MODE_FILTER as i32]), arguments: &[Int, Hex, Pointer], handler: own_filter },
    TrappedCall { number: libc::SYS_prctl, name: "prctl", when: When::FastPath(&[libc::PR_SET_SECCOMP]), arguments: &[Int, Int, Pointer], handler: own_filter },
];

/// SIOCGIFADDR, SIOCGIFDSTADDR, SIOCGIFBRDADDR, SIOCGIFNETMASK (linux/sockios.h): inet_ioctl answers them,
/// AF_UNIX does not.
pub(super) const INTERFACE_REQUESTS: &[u32] = &[0x8915, 0x8917, 0x8919, 0x891b];

/// Why a call on a descriptor that is not in the table is continued.
const FOREIGN: Outcome = Outcome::Native("not an emulated socket");

/// Runs `handle` on the emulated socket that argument 0 names, with the table locked; other
/// descriptors, and numbers that are none, are the kernel's. Before it changes anything, `handle` reads
/// the caller's memory or asks whether it still waits: [`Call::descriptor`].
fn on_socket(
    supervisor: &Supervisor,
    call: &Call<'_>,
    handle: impl FnOnce(&mut Table, SocketId, OwnedFd) -> Answer,
) -> Answer {
    let fd = call.int(0);
    let end = match call.descriptor(&supervisor.tasks, fd) {
        Ok(end) => end,
        Err(Errno::EBADF) => return Ok(Outcome::Native("not a descriptor")),
        // Not the program's limits, but not the kernel's answer either.
        Err(error @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => {
            tracing::error!(%error, "a call fails for want of descriptors; raise the limit of open files (ulimit -Hn)");
            return Err(Errno::ENFILE);
        }
        Err(error) => {
            tracing::debug!(tid = call.tid(), fd, %error, "the caller's descriptor");
            return Ok(Outcome::Native("the descriptor cannot be inspected"));
        }
    };
    let Some(cookie) = identity(&end) else {
        return Ok(Outcome::Native("not a socket"));
    };
    let mut table = supervisor.table();
    let found = table.find(cookie);
    let Some(id) = found.or_else(|| supervisor.adopt(&mut table, &end, cookie)) else {
        return Ok(FOREIGN);
    };
    if let Some(view) = zpoline::view_without(&call.trapped) {
        call.still_valid()?;
        table.show_to(view, id);
    }
    if let Some(entry) = table.get(id) {
        let tid = call.tid();
        entry.holder = Some(Holder { tid, fd });
    }
    handle(&mut table, id, end)
}

/// As [`on_socket`], for calls that need nothing but the socket.
fn on_entry(
    supervisor: &Supervisor,
    call: &Call<'_>,
    handle: impl FnOnce(&mut Entry, SocketId) -> Answer,
) -> Answer {
    on_socket(supervisor, call, |table, id, _| match table.get(id) {
        Some(entry) => handle(entry, id),
        None => Ok(FOREIGN),
    })
}

fn socket(supervisor: &Supervisor, call: &Call<'_>) -> Answer {
    let (domain, kind, protocol) = (call.int(0), call.int(1), call.int(2));
    let socket = Socket::new(domain, kind, protocol)?;
    let nonblocking = kind & libc::SOCK_NONBLOCK != 0;
    let (id, program) = supervisor.create(&mut supervisor.table(), socket, nonblocking)?;
    Ok(Outcome::Inject(Injection {
        fd: program,
        cloexec: kind & libc::SOCK_CLOEXEC != 0,
        origin: Origin::Created(id),
    }))
}

/// The sockaddr in arguments 1 and 2.
fn sockaddr(call: &Call<'_>) -> Result<Vec<u8>, Errno> {
    let length = usize::try_from(call.int(2)).map_err(|_| Errno::EINVAL)?;
    if length > address::MAX_BYTES {
        return Err(Errno::EINVAL);
    }
    call.read(call.pointer(1), length)
}

fn bind(supervisor: &Supervisor, call: &Call<'_>) -> Answer {
    let answer = on_socket(supervisor, call, |table, id, end| {
        let entry = table.get(id).ok_or(Errno::EBADF)?;
        let privileged = || tasks::may_bind_any_port(call.tid());
        let (limits, transport) = (&supervisor.limits, supervisor.transport());
        let answer = emul::bind::bind(
            &mut entry.socket,
            id,
            &sockaddr(call)?,
            privileged,
            limits,
            transport,
        )?;
        supervisor.watch_close(id, end.as_fd());
        Ok(answer)
    });
    if matches!(answer, Ok(Outcome::Native(_)))
        && let Some(wanted) = udp_port(supervisor, call)
    {
        supervisor.transport().expect_udp(wanted);
    }
    answer
}

/// The address that a UDP socket is about to be bound to, if it names a port.
fn udp_port(supervisor: &Supervisor, call: &Call<'_>) -> Option<SocketAddr> {
    let bytes = sockaddr(call).ok()?;
    let family = match address::family_of(&bytes)? {
        libc::AF_INET => Family::V4,
        libc::AF_INET6 => Family::V6,
        _ => return None,
    };
    let wanted = address::parse(&bytes, family).ok()?;
    let socket = call.descriptor(&supervisor.tasks, call.int(0)).ok()?;
    let protocol = SockRef::from(&socket).protocol().ok()?;
    (wanted.port() != 0 && protocol == Some(Protocol::UDP)).then_some(wanted)
}

fn listen(supervisor: &Supervisor, call: &Call<'_>) -> Answer {
    on_socket(supervisor, call, |table, id, end| {
        call.still_valid()?;
        let (id, end) = usable(supervisor, call, table, id, end)?;
        let entry = table.get(id).ok_or(Errno::EBADF)?;
        let (limits, transport) = (&supervisor.limits, supervisor.transport());
        let answer = emul::listen::listen(&mut entry.socket, id, call.int(1), limits, transport)?;
        if let State::Listening { backlog } = entry.socket.state {
            let name = pair::listen(end.as_fd(), backlog).inspect_err(|_| {
                transport.unlisten(id);
                entry.socket.disconnected();
            })?;
            table.set_end(id, End::Listening(name));
            supervisor.watch_close(id, end.as_fd());
        }
        Ok(answer)
    })
}

/// Writes an address to arguments 1 and 2, a value-result length: what does not fit is cut, and the
/// length says how long it would have been. getsockname(2), NOTES.
fn write_address(call: &Call<'_>, value: &SocketAddr) -> Result<(), Errno> {
    let bytes = address::encode(value);
    let room = usize::try_from(call.read_int(call.pointer(2))?).map_err(|_| Errno::EINVAL)?;
    let cut = &bytes[..room.min(bytes.len())];
    call.write_value(call.pointer(1), cut, call.pointer(2), bytes.len() as i32)
}

fn getsockname(supervisor: &Supervisor, call: &Call<'_>) -> Answer {
    on_entry(supervisor, call, |entry, _| {
        write_address(call, &emul::getsockname::getsockname(&entry.socket))?;
        Ok(Outcome::Value(0))
    })
}

fn getpeername(supervisor: &Supervisor, call: &Call<'_>) -> Answer {
    on_entry(supervisor, call, |entry, _| {
        write_address(call, &emul::getsockname::getpeername(&entry.socket)?)?;
        Ok(Outcome::Value(0))
    })
}

/// A filter of the program's own may not know the calls that the fast path makes in its name.
fn own_filter(supervisor: &Supervisor, call: &Call<'_>) -> Answer {
    if let Some(fast_path) = &supervisor.fast_path {
        fast_path.turn_off(&supervisor.listener, &call.trapped);
    }
    Ok(Outcome::Native("the program's own filter"))
}

/// MSG_FASTOPEN would connect and send at once: as on a host whose net.ipv4.tcp_fastopen leaves the
/// client half out, tcp(7). Programs then connect first.
fn fast_open(supervisor: &Supervisor, call: &Call<'_>) -> Answer {
    on_entry(supervisor, call, |_, _| Err(Errno::EOPNOTSUPP))
}

/// MSG_ERRQUEUE asks for what IP_RECVERR collects, ip(7): nothing, ever. It never waits for it.
fn error_queue(supervisor: &Supervisor, call: &Call<'_>) -> Answer {
    on_entry(supervisor, call, |_, _| Err(Errno::EAGAIN))
}

/// netdevice(7): asked of a socket of this process, which is in the same network namespace.
fn ioctl(supervisor: &Supervisor, call: &Call<'_>) -> Answer {
    on_entry(supervisor, call, |_, _| {
        let at = call.pointer(2);
        let mut request = [0; INTERFACE_REQUEST_BYTES];
        request.copy_from_slice(&call.read(at, INTERFACE_REQUEST_BYTES)?);
        ask_interface(call.int(1).cast_unsigned(), &mut request)?;
        call.write(&[(at, &request)])?;
        Ok(Outcome::Value(0))
    })
}
