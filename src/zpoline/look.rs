//! Whose socket it is that a call is about: by its mark and the table of sockets. And the ways out.
#![forbid(unsafe_code)]

use iced_x86::{
    IcedError,
    code_asm::{registers::*, *},
};

use super::{
    answers, foreign,
    kernel::{call_kernel, get_socket_option},
    layout::{GATE, HEADER, MULTIPLIER, TAKEN, UNKNOWN, action, header, slot, table},
    mark,
    tickets::MOST,
};

/// Offsets from %rsp while the call is looked at.
pub(super) mod frame {
    /// What the table knows the socket by: its mark, without what was noted in the program and without a secret.
    pub(in crate::zpoline) const MARK: i32 = 0;
    /// The length of that; later the address of the entry.
    pub(in crate::zpoline) const ENTRY: i32 = 8;
    /// Four bytes: the lower half of the mark as it was found, or a length where that is not needed any more.
    pub(in crate::zpoline) const LOW: i32 = 16;
    /// What is to be done: the slot of an option in the lowest byte, the action above.
    pub(in crate::zpoline) const WHAT: i32 = 24;
    /// Four bytes: the upper half of the mark as it was found; free where that is not asked for, or not needed any more.
    pub(in crate::zpoline) const SPARE: i32 = 28;
    /// Saved registers.
    pub(in crate::zpoline) const R8: i32 = 32;
    pub(in crate::zpoline) const R10: i32 = 40;
    pub(in crate::zpoline) const RDX: i32 = 48;
    pub(in crate::zpoline) const RSI: i32 = 56;
    pub(in crate::zpoline) const RAX: i32 = 64;
    pub(in crate::zpoline) const FLAGS: i32 = 72;
    /// What is the caller's: behind the return address.
    pub(in crate::zpoline) const CALLER: i32 = 88;
    /// Bytes below the saved registers.
    pub(in crate::zpoline) const LOCALS: i32 = 32;
}

/// Where the parts of the fast path go on.
pub(super) struct Labels {
    /// To the supervisor: everything is as it was at the site.
    pub(super) ask: CodeLabel,
    /// To the kernel.
    pub(super) native: CodeLabel,
    /// Back to the program, with 0 as the result.
    pub(super) succeeded: CodeLabel,
    /// Back to the program, with the saved %rax as the result.
    pub(super) answered: CodeLabel,
}

/// Asks the kernel for the socket's mark, and looks that up.
pub(super) fn look_at_socket(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut labels = Labels {
        ask: a.create_label(),
        native: a.create_label(),
        succeeded: a.create_label(),
        answered: a.create_label(),
    };
    let (mut error, mut mark_of_socket) = (a.create_label(), a.create_label());
    let (mut unknown, mut ours) = (a.create_label(), a.create_label());
    for register in [rax, rsi, rdx, r10, r8, rcx] {
        a.push(register)?;
    }
    a.lea(rsp, qword_ptr(rsp - (frame::LOCALS - 8)))?;
    a.cmp(ecx, i32::from(action::GET) << 8 | i32::from(slot::ERROR))?;
    a.je(error)?;
    foreign::name_at_once(a, &labels, mark_of_socket)?;
    a.set_label(&mut mark_of_socket)?;
    a.mov(dword_ptr(rsp + frame::ENTRY), 8)?;
    a.mov(r10, rsp)?;
    a.lea(r8, qword_ptr(rsp + frame::ENTRY))?;
    get_socket_option(a, libc::SO_MAX_PACING_RATE)?;
    a.jnz(labels.native)?;
    read_mark(a, &labels, unknown)?;
    find(a, &labels, (unknown, ours))?;
    a.set_label(&mut error)?;
    answers::take_error(a, &labels, mark_of_socket)?;
    leave(a, &mut labels, &mut unknown)?;
    a.set_label(&mut ours)?;
    a.mov(qword_ptr(rsp + frame::ENTRY), r11)?;
    answers::answer(a, &labels)
}

/// Puts into %rcx what the table knows the socket by.
fn read_mark(a: &mut CodeAssembler, labels: &Labels, unknown: CodeLabel) -> Result<(), IcedError> {
    let (mut emulated, mut accepted) = (a.create_label(), a.create_label());
    let mut marked = a.create_label();
    a.mov(rcx, qword_ptr(rsp + frame::MARK))?;
    a.mov(dword_ptr(rsp + frame::LOW), ecx)?;
    a.mov(rdx, rcx)?;
    a.shr(rdx, 32)?;
    a.mov(dword_ptr(rsp + frame::SPARE), edx)?;
    a.shr(edx, mark::KIND_SHIFT - 32)?;
    a.cmp(edx, mark::EMULATED as i32)?;
    a.je(emulated)?;
    a.cmp(edx, mark::ACCEPTED as i32)?;
    a.je(accepted)?;
    a.cmp(edx, mark::NEW as i32)?;
    a.jne(labels.native)?;
    a.jmp(unknown)?;
    a.set_label(&mut accepted)?;
    a.and(ecx, MOST as i32 - 1)?;
    a.mov(rdx, mark::ACCEPTED << mark::KIND_SHIFT)?;
    a.or(rcx, rdx)?;
    a.jmp(marked)?;
    a.set_label(&mut emulated)?;
    a.mov(rdx, 0xff << mark::KIND_SHIFT | mark::LEFT)?;
    a.and(rcx, rdx)?;
    a.set_label(&mut marked)?;
    a.mov(qword_ptr(rsp + frame::MARK), rcx)?;
    Ok(())
}

/// Searches the table for %rcx, and goes on to `ours` with the entry's address in %r11.
fn find(
    a: &mut CodeAssembler,
    labels: &Labels,
    (unknown, ours): (CodeLabel, CodeLabel),
) -> Result<(), IcedError> {
    let mut probe = a.create_label();
    a.mov(rsi, qword_ptr(HEADER + header::TABLE))?;
    a.mov(r10d, dword_ptr(rsi + table::GENERATION))?;
    a.test(r10d, 1)?;
    a.jnz(labels.ask)?;
    a.mov(r8d, dword_ptr(rsi + table::MASK))?;
    a.imul_3(edx, ecx, MULTIPLIER.cast_signed())?;
    a.mov(r11d, edx)?;
    a.shr(r11d, 16)?;
    a.xor(edx, r11d)?;
    a.set_label(&mut probe)?;
    a.and(edx, r8d)?;
    a.mov(r11d, edx)?;
    a.shl(r11, table::ENTRY_SHIFT)?;
    a.lea(r11, qword_ptr(rsi + r11 + table::ENTRIES))?;
    a.cmp(qword_ptr(r11), rcx)?;
    a.je(ours)?;
    // New to this program, of another supervisor's, or just gone.
    a.cmp(qword_ptr(r11), 0)?;
    a.je(unknown)?;
    // A table that grows has no end of a search in its old size.
    a.cmp(dword_ptr(rsi + table::GENERATION), r10d)?;
    a.jne(labels.ask)?;
    a.inc(edx)?;
    a.jmp(probe)
}

/// The ways out.
fn leave(
    a: &mut CodeAssembler,
    labels: &mut Labels,
    unknown: &mut CodeLabel,
) -> Result<(), IcedError> {
    let (mut kernel, mut taken) = (a.create_label(), a.create_label());
    a.set_label(&mut labels.native)?;
    a.cmp(byte_ptr(rsp + frame::WHAT), i32::from(slot::TAKEN))?;
    a.je(labels.succeeded)?;
    foreign::note(a)?;
    a.cmp(byte_ptr(rsp + frame::WHAT + 1), i32::from(action::BIND))?;
    a.jne(kernel)?;
    // The port that a UDP socket is to have may be ours.
    a.mov(dword_ptr(rsp + frame::ENTRY), size_of::<i32>() as i32)?;
    a.lea(r10, qword_ptr(rsp + frame::SPARE))?;
    a.lea(r8, qword_ptr(rsp + frame::ENTRY))?;
    get_socket_option(a, libc::SO_PROTOCOL)?;
    a.jnz(kernel)?;
    a.cmp(dword_ptr(rsp + frame::SPARE), libc::IPPROTO_UDP)?;
    a.je(labels.ask)?;
    a.set_label(&mut kernel)?;
    restore(a)?;
    call_kernel(a)?;
    a.set_label(&mut labels.ask)?;
    a.cmp(byte_ptr(rsp + frame::WHAT), i32::from(slot::TAKEN))?;
    a.je(taken)?;
    restore(a)?;
    a.jmp(GATE)?;
    a.set_label(unknown)?;
    a.cmp(byte_ptr(rsp + frame::WHAT), i32::from(slot::TAKEN))?;
    a.je(taken)?;
    restore(a)?;
    a.jmp(UNKNOWN)?;
    a.set_label(&mut taken)?;
    restore(a)?;
    a.jmp(TAKEN)?;
    a.set_label(&mut labels.succeeded)?;
    a.mov(qword_ptr(rsp + frame::RAX), 0)?;
    a.set_label(&mut labels.answered)?;
    a.mov(r11, qword_ptr(rsp + frame::FLAGS))?;
    restore(a)?;
    a.mov(rcx, qword_ptr(rsp))?;
    a.ret()
}

/// Undoes what [`look_at_socket`] has done; %rcx and %r11 are free.
fn restore(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.lea(rsp, qword_ptr(rsp + frame::LOCALS))?;
    for register in [r8, r10, rdx, rsi, rax] {
        a.pop(register)?;
    }
    a.popfq()
}
