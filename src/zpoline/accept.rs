//! accept(2) and accept4(2): the kernel takes a connection from the listener's queue, for as long as that takes and with
//! all that interrupts it, and what the supervisor has sent ahead of the data says which one it is (tickets.rs).
#![forbid(unsafe_code)]

use iced_x86::{
    IcedError,
    code_asm::{registers::*, *},
};

use super::{
    answers::{MEMORY_INFORMATION, SO_MEMINFO, begin, end},
    kernel::{get_socket_option, number, set_mark, set_socket_option},
    layout::{HEADER, action, entry, header},
    look::{Labels, frame},
    tickets::MOST,
};
use crate::sys::socket::BULK_BUFFER;

/// What is sent ahead of a connection's data.
pub(crate) mod preamble {
    use std::{
        net::SocketAddr,
        os::fd::{AsRawFd, BorrowedFd},
        time::Duration,
    };

    use nix::{
        poll::{PollFd, PollFlags, PollTimeout, poll},
        sys::socket::{MsgFlags, recv},
    };

    use crate::{emul::address, zpoline::tickets::Ticket};

    /// Bytes of the mark.
    pub(super) const MARK: usize = 8;
    /// Bytes of that and of a length: of the peer's address, which follows.
    pub(super) const FIXED: usize = MARK + 4;
    /// It is sent as soon as the connection lies in the queue. No scheduler keeps the sender waiting for so long.
    const PATIENCE: Duration = Duration::from_secs(2);

    /// Of a connection with this ticket and peer.
    pub(crate) fn write(ticket: Ticket, peer: &SocketAddr) -> Vec<u8> {
        let address = address::encode(peer);
        let length = address.len() as u32;
        let fixed = ticket.mark().to_ne_bytes().into_iter();
        fixed.chain(length.to_ne_bytes()).chain(address).collect()
    }

    /// Takes it from the data of a connection that was just accepted.
    pub(crate) fn take(connection: BorrowedFd<'_>) -> Option<Ticket> {
        let mut fds = [PollFd::new(connection, PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(PATIENCE).ok()?;
        poll(&mut fds, patience).ok().filter(|count| *count > 0)?;
        let mut fixed = [0; FIXED];
        let at_once = MsgFlags::MSG_DONTWAIT;
        let bytes = recv(connection.as_raw_fd(), &mut fixed, at_once);
        bytes.ok().filter(|bytes| *bytes == FIXED)?;
        let (mark, length) = fixed.split_first_chunk()?;
        let length = u32::from_ne_bytes(*length.first_chunk()?) as usize;
        let mut address = vec![0; length.min(address::MAX_BYTES)];
        recv(connection.as_raw_fd(), &mut address, at_once).ok()?;
        Some(Ticket::of_mark(u64::from_ne_bytes(*mark)))
    }
}

/// Stack for what the kernel is asked for.
const ROOM: i32 = MEMORY_INFORMATION;
/// Offsets from %rsp, above that room, in place of what is known: the caller's %rdi, the flags for accept4(2), who
/// answers for the listener, the bytes of the address, and the number of the ticket.
const RDI: i32 = ROOM + frame::MARK;
const ACCEPT_FLAGS: i32 = ROOM + frame::WHAT;
const LISTENS: i32 = ROOM + frame::ENTRY;
const ADDRESS_BYTES: i32 = ROOM + frame::SPARE;
const NUMBER: i32 = ROOM + frame::LOW;

/// Accepts a connection, or goes on to where that is done. The action is in %edx, the listener's entry in %r11.
pub(super) fn accept(a: &mut CodeAssembler, labels: &Labels) -> Result<(), IcedError> {
    let (mut known, mut unusual, mut strange) =
        (a.create_label(), a.create_label(), a.create_label());
    let (mut refused, mut failed, mut finish) =
        (a.create_label(), a.create_label(), a.create_label());
    let mut named = a.create_label();
    a.xor(ecx, ecx)?;
    a.cmp(edx, i32::from(action::ACCEPT))?;
    a.je(known)?;
    a.mov(ecx, dword_ptr(rsp + frame::R10))?;
    a.test(ecx, !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC))?;
    a.jnz(labels.ask)?;
    a.set_label(&mut known)?;
    a.mov(dword_ptr(rsp + frame::WHAT), ecx)?;
    begin(a, labels.ask)?;
    a.cmp(dword_ptr(r11 + entry::ACCEPTS), 0)?;
    a.je(labels.ask)?;
    end(a, labels.ask)?;

    a.lea(rsp, qword_ptr(rsp - ROOM))?;
    a.mov(qword_ptr(rsp + RDI), rdi)?;
    look_at_listener(a, unusual)?;
    a.xor(esi, esi)?;
    a.xor(edx, edx)?;
    a.mov(r10d, dword_ptr(rsp + ACCEPT_FLAGS))?;
    a.mov(eax, number::ACCEPT4)?;
    a.syscall()?;
    a.test(eax, eax)?;
    a.js(refused)?;
    a.mov(edi, eax)?;
    identify(a, strange)?;
    a.mov(rsi, qword_ptr(rsp + ROOM + frame::RSI))?;
    a.xor(edx, edx)?;
    a.test(rsi, rsi)?;
    a.jz(named)?;
    name(a, failed, named)?;
    a.set_label(&mut named)?;
    drop_rest(a)?;
    a.mov(rax, rdi)?;
    a.set_label(&mut finish)?;
    a.mov(qword_ptr(rsp + ROOM + frame::RAX), rax)?;
    leave(a)?;
    a.jmp(labels.answered)?;

    // The address cannot be written: the connection is closed, as by accept(2) natively.
    a.set_label(&mut failed)?;
    a.movsxd(rax, eax)?;
    a.mov(qword_ptr(rsp + ROOM + frame::RAX), rax)?;
    a.xor(edx, edx)?;
    drop_rest(a)?;
    close(a)?;
    leave(a)?;
    a.jmp(labels.answered)?;
    a.set_label(&mut refused)?;
    a.movsxd(rax, eax)?;
    // It no longer listens, which the supervisor knows more of.
    a.cmp(eax, -libc::EINVAL)?;
    a.jne(finish)?;
    a.jmp(unusual)?;
    a.set_label(&mut strange)?;
    close(a)?;
    a.set_label(&mut unusual)?;
    leave(a)?;
    a.jmp(labels.ask)
}

/// Whether connections inherit from this listener what the kernel does not hand on for a pair; and by whom it was made
/// one.
fn look_at_listener(a: &mut CodeAssembler, unusual: CodeLabel) -> Result<(), IcedError> {
    a.mov(r10, rsp)?;
    a.lea(r8, qword_ptr(rsp + 16))?;
    a.mov(qword_ptr(rsp), 0)?;
    a.mov(qword_ptr(rsp + 8), 0)?;
    for option in [libc::SO_KEEPALIVE, libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
        a.mov(dword_ptr(r8), size_of::<libc::timeval>() as i32)?;
        get_socket_option(a, option)?;
        a.jnz(unusual)?;
        a.mov(rcx, qword_ptr(rsp))?;
        a.or(rcx, qword_ptr(rsp + 8))?;
        a.jnz(unusual)?;
    }
    peer_process(a)?;
    a.jnz(unusual)?;
    a.mov(rcx, qword_ptr(rsp))?;
    a.mov(qword_ptr(rsp + LISTENS), rcx)?;
    // 0: the supervisor is in a PID namespace that is not seen from here, and so may others be.
    a.test(ecx, ecx)?;
    a.jz(unusual)
}

/// SO_PEERCRED, which begins with a process and a user: who has called listen(2) or connect(2). Whether it has failed is
/// in the flags: not zero.
fn peer_process(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(r10, rsp)?;
    a.lea(r8, qword_ptr(rsp + 16))?;
    a.mov(dword_ptr(r8), size_of::<libc::ucred>() as i32)?;
    get_socket_option(a, libc::SO_PEERCRED)
}

/// Gives the connection in %edi, unless it is a stranger's, the mark and the buffer that the supervisor would give it,
/// and notes who has it.
fn identify(a: &mut CodeAssembler, strange: CodeLabel) -> Result<(), IcedError> {
    let (mut again, mut there) = (a.create_label(), a.create_label());
    peer_process(a)?;
    a.jnz(strange)?;
    a.mov(rcx, qword_ptr(rsp))?;
    a.cmp(rcx, qword_ptr(rsp + LISTENS))?;
    a.jne(strange)?;
    a.set_label(&mut again)?;
    a.mov(edx, preamble::FIXED as i32)?;
    a.mov(rsi, rsp)?;
    receive(a)?;
    a.cmp(eax, preamble::FIXED as i32)?;
    a.je(there)?;
    a.cmp(eax, -libc::EINTR)?;
    a.je(again)?;
    a.cmp(eax, -libc::EAGAIN)?;
    a.jne(strange)?;
    // The supervisor sends it as soon as the connection lies in the queue.
    wait_for_data(a)?;
    a.jmp(again)?;
    a.set_label(&mut there)?;
    a.mov(ecx, dword_ptr(rsp + preamble::MARK as i32))?;
    // Should the supervisor be dead, somebody else may have its number.
    a.cmp(ecx, ROOM)?;
    a.ja(strange)?;
    a.mov(dword_ptr(rsp + ADDRESS_BYTES), ecx)?;
    a.mov(ecx, dword_ptr(rsp))?;
    a.and(ecx, MOST as i32 - 1)?;
    a.mov(dword_ptr(rsp + NUMBER), ecx)?;
    set_mark(a)?;
    a.jnz(strange)?;
    a.mov(dword_ptr(rsp), BULK_BUFFER)?;
    set_socket_option(a, libc::SO_SNDBUF, size_of::<i32>())?;
    a.mov(eax, number::GETTID)?;
    a.syscall()?;
    a.mov(rcx, rdi)?;
    a.shl(rcx, 32)?;
    a.or(rcx, rax)?;
    a.mov(esi, dword_ptr(rsp + NUMBER))?;
    a.mov(rdx, qword_ptr(HEADER + header::HOLDERS))?;
    a.mov(qword_ptr(rdx + rsi * 8), rcx)
}

/// poll(2) of the descriptor in %edi.
fn wait_for_data(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(dword_ptr(rsp), edi)?;
    a.mov(dword_ptr(rsp + 4), i32::from(libc::POLLIN))?;
    a.mov(rdi, rsp)?;
    a.mov(esi, 1)?;
    a.mov(edx, -1)?;
    a.mov(eax, number::POLL)?;
    a.syscall()?;
    a.mov(edi, dword_ptr(rsp))
}

/// Writes the length of the peer's address, whose own pointer the kernel checks for SO_MEMINFO, and lets the kernel write
/// the address to %rsi, as much as there is room for: its bytes are in %edx then.
fn name(a: &mut CodeAssembler, failed: CodeLabel, named: CodeLabel) -> Result<(), IcedError> {
    let mut fits = a.create_label();
    a.mov(r10, rsp)?;
    a.mov(r8, qword_ptr(rsp + ROOM + frame::RDX))?;
    get_socket_option(a, SO_MEMINFO)?;
    a.jnz(failed)?;
    a.mov(edx, dword_ptr(r8))?;
    a.cmp(edx, dword_ptr(rsp + ADDRESS_BYTES))?;
    a.jbe(fits)?;
    a.mov(edx, dword_ptr(rsp + ADDRESS_BYTES))?;
    a.set_label(&mut fits)?;
    // That has cut a longer one.
    a.mov(ecx, dword_ptr(rsp + ADDRESS_BYTES))?;
    a.mov(dword_ptr(r8), ecx)?;
    // Where nothing goes does not matter.
    a.test(edx, edx)?;
    a.jz(named)?;
    a.mov(rsi, qword_ptr(rsp + ROOM + frame::RSI))?;
    receive(a)?;
    a.test(eax, eax)?;
    a.js(failed)
}

/// Takes what is left of the address behind the %edx bytes that were taken.
fn drop_rest(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut none = a.create_label();
    a.neg(edx)?;
    a.add(edx, dword_ptr(rsp + ADDRESS_BYTES))?;
    a.jz(none)?;
    a.mov(rsi, rsp)?;
    receive(a)?;
    a.set_label(&mut none)
}

/// recvfrom(2) of %edx bytes to %rsi. The result is in %eax.
fn receive(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.xor(r10d, r10d)?;
    a.xor(r8d, r8d)?;
    a.mov(eax, number::RECVFROM)?;
    a.syscall()
}

fn close(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(eax, number::CLOSE)?;
    a.syscall()
}

/// Undoes what [`accept`] has done.
fn leave(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(rdi, qword_ptr(rsp + RDI))?;
    a.lea(rsp, qword_ptr(rsp + ROOM))
}
