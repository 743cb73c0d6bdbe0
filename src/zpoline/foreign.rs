//! getsockname(2) and getpeername(2) of sockets that are not emulated, by one call instead of two: where the descriptor was
//! such a socket last time, the kernel is asked for the name before it is asked whose socket it is. An emulated one has an
//! AF_UNIX name, so that an Internet address says both. A guess that was wrong costs the call.
#![forbid(unsafe_code)]

use iced_x86::{
    IcedError,
    code_asm::{registers::*, *},
};

use super::{
    answers::{INT_BYTES, V4_BYTES, V6_BYTES, unless_on_stack},
    layout::{HEADER, PAGE, action, header},
    look::{Labels, frame},
    tickets::MOST,
};

/// Where the guesses lie, behind the list of who has accepted what: for each descriptor, but for multiples of how many
/// there are, itself if it was a foreign socket, and its complement if that gained nothing.
const GUESSES: u64 = (MOST * size_of::<u64>()) as u64;
const GUESS_COUNT: i32 = PAGE as i32 / INT_BYTES;

/// Bytes of the list and the guesses.
pub(super) const NOTES_BYTES: usize = GUESSES as usize + PAGE as usize;

/// Stack for an address and its length.
pub(super) const ROOM: i32 = V6_BYTES + INT_BYTES;
const LENGTH: i32 = V6_BYTES;

/// Answers if the call is about a name and the guess is right, else goes on to `otherwise`. What is to be done is in %ecx.
pub(super) fn name_at_once(
    a: &mut CodeAssembler,
    labels: &Labels,
    otherwise: CodeLabel,
) -> Result<(), IcedError> {
    let (mut wrong, mut long) = (a.create_label(), a.create_label());
    unless_name(a, otherwise)?;
    find_guess(a)?;
    a.cmp(dword_ptr(rcx), edi)?;
    a.jne(otherwise)?;
    a.mov(r10, rsi)?;
    a.mov(r8, qword_ptr(rsp + frame::RDX))?;
    unless_on_stack(a, r10, V6_BYTES, otherwise)?;
    unless_on_stack(a, r8, INT_BYTES, otherwise)?;
    a.mov(rax, qword_ptr(rsp + frame::RAX))?;
    a.lea(rsp, qword_ptr(rsp - ROOM))?;
    a.mov(rsi, rsp)?;
    a.lea(rdx, qword_ptr(rsp + LENGTH))?;
    a.mov(dword_ptr(rdx), V6_BYTES)?;
    a.syscall()?;
    a.test(eax, eax)?;
    a.jnz(wrong)?;
    a.mov(edx, dword_ptr(rdx))?;
    // Where there is less room it is cut, which is left to the kernel.
    a.cmp(dword_ptr(r8), edx)?;
    a.jl(wrong)?;
    a.movzx(eax, word_ptr(rsp))?;
    a.cmp(edx, V6_BYTES)?;
    a.je(long)?;
    a.cmp(edx, V4_BYTES)?;
    a.jne(wrong)?;
    a.cmp(eax, libc::AF_INET)?;
    a.jne(wrong)?;
    store(a, &[(0, rcx), (8, rsi)])?;
    a.mov(dword_ptr(r8), edx)?;
    a.lea(rsp, qword_ptr(rsp + ROOM))?;
    a.jmp(labels.succeeded)?;

    a.set_label(&mut long)?;
    a.cmp(eax, libc::AF_INET6)?;
    a.jne(wrong)?;
    store(a, &[(0, rcx), (8, rsi), (16, rax)])?;
    a.mov(ecx, dword_ptr(rsp + 24))?;
    a.mov(dword_ptr(r10 + 24), ecx)?;
    a.mov(dword_ptr(r8), edx)?;
    a.lea(rsp, qword_ptr(rsp + ROOM))?;
    a.jmp(labels.succeeded)?;

    a.set_label(&mut wrong)?;
    a.lea(rsp, qword_ptr(rsp + ROOM))?;
    find_guess(a)?;
    a.mov(edx, edi)?;
    a.not(edx)?;
    a.mov(dword_ptr(rcx), edx)
}

/// Notes that the descriptor is a foreign socket's, if the call is about a name.
pub(super) fn note(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut known = a.create_label();
    a.mov(ecx, dword_ptr(rsp + frame::WHAT))?;
    unless_name(a, known)?;
    find_guess(a)?;
    a.mov(edx, edi)?;
    a.not(edx)?;
    a.cmp(dword_ptr(rcx), edx)?;
    a.je(known)?;
    a.mov(dword_ptr(rcx), edi)?;
    a.set_label(&mut known)
}

/// Goes on if what is to be done, %ecx, is about a name. Changes %edx.
fn unless_name(a: &mut CodeAssembler, otherwise: CodeLabel) -> Result<(), IcedError> {
    const { assert!(action::LOCAL.is_multiple_of(2) && action::PEER == action::LOCAL + 1) };
    a.mov(edx, ecx)?;
    a.shr(edx, 9)?;
    a.cmp(edx, i32::from(action::LOCAL) >> 1)?;
    a.jne(otherwise)
}

/// Puts the address of the guess about the descriptor %edi into %rcx. Changes %edx.
fn find_guess(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(edx, edi)?;
    a.and(edx, GUESS_COUNT - 1)?;
    a.mov(rcx, qword_ptr(HEADER + header::HOLDERS))?;
    a.lea(rcx, qword_ptr(rcx + rdx * INT_BYTES + GUESSES as i32))
}

/// Copies the words at these offsets from the stack to %r10, each by way of its register.
fn store(a: &mut CodeAssembler, words: &[(i32, AsmRegister64)]) -> Result<(), IcedError> {
    for (offset, register) in words {
        a.mov(*register, qword_ptr(rsp + *offset))?;
        a.mov(qword_ptr(r10 + *offset), *register)?;
    }
    Ok(())
}
