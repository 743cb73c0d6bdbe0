//! What socket2 and nix do not offer of socket(7), unix(7) and ip(7).

use std::{
    io::IoSliceMut,
    mem::{self, MaybeUninit},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use bytes::BytesMut;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, SockFlag, recvmsg},
};

use super::check;

/// Room for the descriptors one message can carry (SCM_MAX_FD, 253, times 4 bytes, and headers).
const CONTROL_BYTES: usize = 1100;

/// Aligned as cmsg(3) demands.
#[repr(C, align(8))]
struct ControlBuffer([MaybeUninit<u8>; CONTROL_BYTES]);

/// What [`receive`] has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes.
    pub(crate) count: usize,
    /// The last of them carried descriptors, at which a read ends.
    pub(crate) descriptors: bool,
    /// There may be more in the queue: no room was left, or there were descriptors.
    pub(crate) more: bool,
}

/// Reads from a socketpair end without waiting, into the spare capacity of `buffer` and at most `limit`
/// bytes. Descriptors that the program attached are closed: TCP ignores SCM_RIGHTS, and left in the
/// queue they would pile up.
///
/// # Errors
/// EAGAIN: nothing there. ECONNRESET: the other end was closed with data unread.
pub(crate) fn receive(
    fd: BorrowedFd<'_>,
    buffer: &mut BytesMut,
    limit: usize,
) -> nix::Result<Received> {
    let room = buffer.spare_capacity_mut();
    let offered = room.len().min(limit);
    let room = &mut room[..offered];
    let mut slice = libc::iovec {
        iov_base: room.as_mut_ptr().cast(),
        iov_len: room.len(),
    };
    let mut control = ControlBuffer([MaybeUninit::uninit(); CONTROL_BYTES]);
    // SAFETY: an all-zero msghdr is valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_BYTES;
    // SAFETY: `message` describes live, writable buffers of the lengths given; the kernel only
    // writes to them, so uninitialised bytes are never read.
    let received = check(unsafe {
        libc::recvmsg(
            fd.as_raw_fd(),
            &raw mut message,
            libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC,
        )
    } as libc::c_long)?;
    let attached = message.msg_controllen > 0;
    if attached {
        close_rights(&message);
    }
    // SAFETY: the kernel has initialised `received` bytes behind the present length, within capacity.
    unsafe { buffer.set_len(buffer.len() + received as usize) };
    Ok(Received {
        count: received as usize,
        descriptors: attached,
        more: received as usize == offered || attached,
    })
}

fn close_rights(message: &libc::msghdr) {
    // SAFETY: `message` was filled by a successful recvmsg, so its control area holds well-formed
    // headers within msg_controllen; each SCM_RIGHTS number was installed for us alone.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                for index in 0..bytes / mem::size_of::<RawFd>() {
                    drop(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
}

/// Takes a connection from a listener's queue; `flags` are the new descriptor's.
///
/// # Errors
/// As accept4(2).
pub(crate) fn accept_fd(listener: BorrowedFd<'_>, flags: SockFlag) -> nix::Result<OwnedFd> {
    let fd = nix::sys::socket::accept4(listener.as_raw_fd(), flags)?;
    // SAFETY: a successful call returns a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// How many bytes can be read (FIONREAD, unix(7)).
///
/// # Errors
/// As ioctl(2).
pub(crate) fn readable_bytes(fd: BorrowedFd<'_>) -> nix::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int to the pointer, which outlives the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    check(libc::c_long::from(result))?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Whether a joined socket's other end was closed, or both directions are shut down (POLLHUP).
pub(crate) fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::empty())];
    let _ = poll(&mut fds, PollTimeout::ZERO);
    let events = fds[0].revents();
    events.is_some_and(|events| events.contains(PollFlags::POLLHUP))
}

/// Whether the last of `queued` bytes carries descriptors (SO_PEEK_OFF, socket(7)).
///
/// # Errors
/// As recvmsg(2).
pub(crate) fn ends_with_descriptors(fd: BorrowedFd<'_>, queued: usize) -> nix::Result<bool> {
    let last = i32::try_from(queued.saturating_sub(1)).map_err(|_| Errno::EOVERFLOW)?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, last)?;
    let mut byte = [0];
    let mut slices = [IoSliceMut::new(&mut byte)];
    let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    // Without room for them they are not installed, but their presence is told.
    let peeked = recvmsg::<()>(fd.as_raw_fd(), &mut slices, None, peek)
        .map(|message| message.flags.contains(MsgFlags::MSG_CTRUNC));
    set_option(fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, -1)?;
    peeked
}

/// SO_SNDBUF of a connected end of a pair, in bytes; the kernel doubles it. AF_UNIX moves 60 to 100
/// Gbit/s with this and 24 with its default. Without privilege net.core.wmem_max caps it, at 212,992 by
/// default, which is enough.
pub(crate) const BULK_BUFFER: libc::c_int = 1 << 20;

/// Gives an end of a pair the buffer that bulk data needs. A failure costs speed alone.
pub(crate) fn widen(end: BorrowedFd<'_>) {
    if let Err(error) = set_option(end, libc::SOL_SOCKET, libc::SO_SNDBUF, BULK_BUFFER) {
        tracing::debug!(%error, "SO_SNDBUF of a socketpair");
    }
}

/// Bytes of a struct ifreq.
pub(crate) const INTERFACE_REQUEST_BYTES: usize = mem::size_of::<libc::ifreq>();

/// Asks for an address of an interface, netdevice(7): `number` is a request that reads and writes one
/// struct ifreq.
///
/// # Errors
/// As ioctl(2): ENODEV, EADDRNOTAVAIL.
pub(crate) fn ask_interface(
    number: u32,
    request: &mut [u8; INTERFACE_REQUEST_BYTES],
) -> nix::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EMFILE)))?;
    // SAFETY: the request works on a struct ifreq, whose size `request` has; ioctl(2) copies bytes, so
    // alignment does not matter.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), number.into(), request.as_mut_ptr()) };
    check(libc::c_long::from(result)).map(drop)
}

/// Sets an integer socket option that no library wraps.
///
/// # Errors
/// As setsockopt(2).
pub(crate) fn set_option(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> nix::Result<()> {
    set(fd, level, name, &value)
}

/// As [`set_option`], for an option that is an unsigned long.
///
/// # Errors
/// As setsockopt(2).
pub(crate) fn set_long_option(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: u64,
) -> nix::Result<()> {
    set(fd, level, name, &value)
}

/// Reads an integer socket option that no library wraps.
///
/// # Errors
/// As getsockopt(2).
pub(crate) fn get_option(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
) -> nix::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    get(fd, level, name, &mut value)?;
    Ok(value)
}

/// As [`get_option`], for an option that is an unsigned long.
///
/// # Errors
/// As getsockopt(2).
pub(crate) fn get_long_option(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
) -> nix::Result<u64> {
    let mut value: u64 = 0;
    get(fd, level, name, &mut value)?;
    Ok(value)
}

/// TCP_INFO of a TCP socket, tcp(7). What this kernel does not know is zero.
///
/// # Errors
/// As getsockopt(2).
pub(crate) fn tcp_info(fd: BorrowedFd<'_>) -> nix::Result<libc::tcp_info> {
    // SAFETY: a struct of integers, for which zeros will do.
    let mut info = unsafe { mem::zeroed() };
    get(fd, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)?;
    Ok(info)
}

/// Option values: any bytes make one.
trait Plain: Copy {}
impl Plain for libc::c_int {}
impl Plain for u64 {}
impl Plain for libc::tcp_info {}

fn set<T: Plain>(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> nix::Result<()> {
    // SAFETY: the kernel reads no more than the length that is given, which is the value's own.
    check(libc::c_long::from(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            ptr::from_ref(value).cast(),
            mem::size_of::<T>() as libc::socklen_t,
        )
    }))
    .map(drop)
}

fn get<T: Plain>(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut T,
) -> nix::Result<()> {
    let mut length = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the value's own length, and any bytes make one.
    check(libc::c_long::from(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            ptr::from_mut(value).cast(),
            &raw mut length,
        )
    }))
    .map(drop)
}
