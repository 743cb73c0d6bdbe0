//! socket(2) of a stream socket that is emulated: the program's end is made in the program, and marked so that the
//! supervisor takes it up when the first call on it traps.
#![forbid(unsafe_code)]

use iced_x86::{
    IcedError,
    code_asm::{registers::*, *},
};

use super::{
    kernel::{number, set_mark},
    layout::{HEADER, header},
    mark,
};

/// Offsets from %rsp while the socket is made; the flags are behind.
mod frame {
    /// The mark.
    pub(super) const MARK: i32 = 0;
    pub(super) const R8: i32 = 8;
    pub(super) const R10: i32 = 16;
    pub(super) const RDX: i32 = 24;
    pub(super) const RSI: i32 = 32;
    pub(super) const RDI: i32 = 40;
    pub(super) const BYTES: i32 = 48;
}

/// Bytes of the stack that this takes, with the flags and the return address.
#[cfg(test)]
pub(super) const STACK: usize = frame::BYTES as usize + 16;

/// Makes the socket, or goes on to `ask`. On the stack are the flags and the return address.
pub(super) fn socket(a: &mut CodeAssembler, ask: CodeLabel) -> Result<(), IcedError> {
    let (mut v4, mut known) = (a.create_label(), a.create_label());
    let (mut refused, mut failed) = (a.create_label(), a.create_label());
    a.mov(r11d, esi)?;
    a.and(r11d, !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC))?;
    a.cmp(r11d, libc::SOCK_STREAM)?;
    a.jne(ask)?;
    a.cmp(edx, 32)?;
    a.jae(ask)?;
    a.cmp(edi, libc::AF_INET)?;
    a.je(v4)?;
    a.cmp(edi, libc::AF_INET6)?;
    a.jne(ask)?;
    a.mov(ecx, dword_ptr(HEADER + header::PROTOCOLS_V6))?;
    a.jmp(known)?;
    a.set_label(&mut v4)?;
    a.mov(ecx, dword_ptr(HEADER + header::PROTOCOLS_V4))?;
    a.set_label(&mut known)?;
    a.bt(ecx, edx)?;
    a.jnc(ask)?;

    a.lea(rsp, qword_ptr(rsp - frame::BYTES))?;
    for (at, register) in SAVED {
        a.mov(qword_ptr(rsp + at), register)?;
    }
    a.mov(edi, libc::AF_UNIX)?;
    a.xor(edx, edx)?;
    a.mov(eax, number::SOCKET)?;
    a.syscall()?;
    a.test(eax, eax)?;
    a.js(failed)?;
    a.mov(edi, eax)?;
    a.mov(rcx, mark::NEW << mark::KIND_SHIFT)?;
    a.mov(edx, dword_ptr(rsp + frame::RDI))?;
    a.or(rcx, rdx)?;
    a.mov(qword_ptr(rsp + frame::MARK), rcx)?;
    set_mark(a)?;
    a.jnz(refused)?;
    a.mov(eax, edi)?;
    restore(a)?;
    a.mov(r11, qword_ptr(rsp))?;
    a.popfq()?;
    a.mov(rcx, qword_ptr(rsp))?;
    a.ret()?;

    a.set_label(&mut refused)?;
    a.mov(eax, number::CLOSE)?;
    a.syscall()?;
    a.set_label(&mut failed)?;
    restore(a)?;
    a.mov(eax, number::SOCKET)?;
    a.jmp(ask)
}

const SAVED: [(i32, AsmRegister64); 5] = [
    (frame::R8, r8),
    (frame::R10, r10),
    (frame::RDX, rdx),
    (frame::RSI, rsi),
    (frame::RDI, rdi),
];

fn restore(a: &mut CodeAssembler) -> Result<(), IcedError> {
    for (at, register) in SAVED {
        a.mov(register, qword_ptr(rsp + at))?;
    }
    a.lea(rsp, qword_ptr(rsp + frame::BYTES))
}
