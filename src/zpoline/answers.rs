//! The calls that are answered in the program, from the entry of its socket in the program's table.
//!
//! An entry is read between two looks at its sequence, which is odd while the supervisor may be
//! changing the socket: what was read is then of one moment, and what is not goes to the supervisor.
#![forbid(unsafe_code)]

use iced_x86::{
    IcedError,
    code_asm::{registers::*, *},
};

use super::{
    accept,
    kernel::{get_socket_option, number, set_mark, set_socket_option},
    layout::{PAGE, action, entry, slot},
    look::{Labels, frame},
    mark,
};

/// Bytes of an int.
pub(super) const INT_BYTES: i32 = size_of::<i32>() as i32;
/// Bytes of a sockaddr_in, which are also those of a struct timeval.
pub(super) const V4_BYTES: i32 = 16;
/// An option of SOL_SOCKET that there is not.
const NO_OPTION: i32 = i32::MAX;
/// What connect(2) takes for an address, bytes: a family at least, a struct sockaddr_storage at most.
const SHORTEST_ADDRESS: i32 = size_of::<libc::sa_family_t>() as i32;
const LONGEST_ADDRESS: i32 = size_of::<libc::sockaddr_storage>() as i32;
/// SO_MEMINFO (asm-generic/socket.h): nine numbers about the socket's memory.
pub(super) const SO_MEMINFO: i32 = 55;
/// Bytes of a sockaddr_in6.
pub(super) const V6_BYTES: i32 = 28;

/// Answers the call, or goes on to where it is. The entry is in %r11.
pub(super) fn answer(a: &mut CodeAssembler, labels: &Labels) -> Result<(), IcedError> {
    let (mut local, mut peer, mut get) = (a.create_label(), a.create_label(), a.create_label());
    let (mut connect_label, mut set) = (a.create_label(), a.create_label());
    let mut accept_label = a.create_label();
    a.mov(ecx, dword_ptr(rsp + frame::WHAT))?;
    a.mov(edx, ecx)?;
    a.shr(edx, 8)?;
    for (label, code) in [
        (local, action::LOCAL),
        (peer, action::PEER),
        (get, action::GET),
        (connect_label, action::CONNECT),
        (set, action::SET),
        (accept_label, action::ACCEPT),
        (accept_label, action::ACCEPT4),
    ] {
        a.cmp(edx, i32::from(code))?;
        a.je(label)?;
    }
    a.jmp(labels.ask)?;
    a.set_label(&mut local)?;
    name(a, labels, entry::LOCAL_BYTES, entry::LOCAL)?;
    a.set_label(&mut peer)?;
    name(a, labels, entry::PEER_BYTES, entry::PEER)?;
    a.set_label(&mut get)?;
    get_option(a, labels)?;
    a.set_label(&mut connect_label)?;
    connect(a, labels)?;
    a.set_label(&mut set)?;
    set_option(a, labels)?;
    a.set_label(&mut accept_label)?;
    accept::accept(a, labels)
}

/// Puts the sequence into %edx, unless the entry is being changed.
pub(super) fn begin(a: &mut CodeAssembler, otherwise: CodeLabel) -> Result<(), IcedError> {
    a.mov(edx, dword_ptr(r11 + entry::SEQUENCE))?;
    a.test(edx, 1)?;
    a.jnz(otherwise)
}

/// Whether what was read since [`begin`] is of one moment, and of this socket. Changes %rax.
pub(super) fn end(a: &mut CodeAssembler, otherwise: CodeLabel) -> Result<(), IcedError> {
    a.cmp(dword_ptr(r11 + entry::SEQUENCE), edx)?;
    a.jne(otherwise)?;
    a.mov(rax, qword_ptr(rsp + frame::MARK))?;
    a.cmp(qword_ptr(r11 + entry::MARK), rax)?;
    a.jne(otherwise)
}

/// connect(2) of a connection that was established meanwhile: 0, once. That it has said so is noted in the socket's mark.
///
/// The kernel checks the address: it is no AF_UNIX one, so EINVAL says that it could be read; or that it has a length
/// that no address has, which is looked at first. (An AF_UNIX one makes the call wait where it names a queue that is full,
/// and is asked for then.)
fn connect(a: &mut CodeAssembler, labels: &Labels) -> Result<(), IcedError> {
    a.bt(dword_ptr(rsp + frame::SPARE), mark::ANNOUNCED_BIT - 32)?;
    a.jc(labels.ask)?;
    begin(a, labels.ask)?;
    a.cmp(dword_ptr(r11 + entry::UNTOLD), 0)?;
    a.je(labels.ask)?;
    end(a, labels.ask)?;
    a.mov(rsi, qword_ptr(rsp + frame::RSI))?;
    a.mov(rdx, qword_ptr(rsp + frame::RDX))?;
    a.lea(ecx, dword_ptr(rdx - SHORTEST_ADDRESS))?;
    a.cmp(ecx, LONGEST_ADDRESS - SHORTEST_ADDRESS)?;
    a.ja(labels.ask)?;
    a.mov(eax, number::CONNECT)?;
    a.syscall()?;
    a.cmp(eax, -libc::EINVAL)?;
    a.jne(labels.ask)?;
    a.cmp(word_ptr(rsi), libc::AF_UNSPEC)?;
    a.je(labels.ask)?;
    a.mov(ecx, dword_ptr(rsp + frame::SPARE))?;
    a.bts(ecx, mark::ANNOUNCED_BIT - 32)?;
    note(a, labels)
}

/// Puts %ecx in place of the upper half of the socket's mark, and succeeds.
fn note(a: &mut CodeAssembler, labels: &Labels) -> Result<(), IcedError> {
    a.mov(dword_ptr(rsp + frame::MARK + 4), ecx)?;
    a.mov(ecx, dword_ptr(rsp + frame::LOW))?;
    a.mov(dword_ptr(rsp + frame::MARK), ecx)?;
    set_mark(a)?;
    a.jnz(labels.ask)?;
    a.jmp(labels.succeeded)
}

/// getsockname(2) and getpeername(2): %rsi is where the address goes, %rdx where its length is.
fn name(
    a: &mut CodeAssembler,
    labels: &Labels,
    bytes_at: u64,
    address_at: u64,
) -> Result<(), IcedError> {
    let mut v6 = a.create_label();
    a.cmp(dword_ptr(r11 + bytes_at), V6_BYTES)?;
    a.je(v6)?;
    a.cmp(dword_ptr(r11 + bytes_at), V4_BYTES)?;
    a.jne(labels.ask)?;
    name_v4(a, labels, bytes_at, address_at)?;
    a.set_label(&mut v6)?;
    name_v6(a, labels, bytes_at, address_at)
}

/// Goes on if `bytes` at `pointer` lie on the stack, above what is here, in the page that %rsp is in: that has just been
/// written, so the kernel need not be asked whether it can be. Most programs have there what they pass. Changes %rax.
pub(super) fn unless_on_stack(
    a: &mut CodeAssembler,
    pointer: AsmRegister64,
    bytes: i32,
    otherwise: CodeLabel,
) -> Result<(), IcedError> {
    a.lea(rax, qword_ptr(pointer + (bytes - 1)))?;
    a.xor(rax, rsp)?;
    a.cmp(rax, PAGE as i32)?;
    a.jae(otherwise)?;
    a.lea(rax, qword_ptr(rsp + frame::CALLER))?;
    a.cmp(pointer, rax)?;
    a.jb(otherwise)
}

/// SO_RCVTIMEO is as large as the address and nothing depends on its being read: the kernel so checks
/// both pointers, and leaves 16 as the length, unless that was less.
fn name_v4(
    a: &mut CodeAssembler,
    labels: &Labels,
    bytes_at: u64,
    address_at: u64,
) -> Result<(), IcedError> {
    let (mut check, mut checked) = (a.create_label(), a.create_label());
    a.mov(r10, qword_ptr(rsp + frame::RSI))?;
    a.mov(r8, qword_ptr(rsp + frame::RDX))?;
    unless_on_stack(a, r10, V4_BYTES, check)?;
    unless_on_stack(a, r8, INT_BYTES, check)?;
    a.cmp(dword_ptr(r8), V4_BYTES)?;
    a.jl(labels.ask)?;
    a.jmp(checked)?;
    a.set_label(&mut check)?;
    get_socket_option(a, libc::SO_RCVTIMEO)?;
    a.jnz(labels.ask)?;
    a.cmp(dword_ptr(r8), V4_BYTES)?;
    a.jne(labels.ask)?;
    a.set_label(&mut checked)?;
    a.mov(r11, qword_ptr(rsp + frame::ENTRY))?;
    begin(a, labels.ask)?;
    a.cmp(dword_ptr(r11 + bytes_at), V4_BYTES)?;
    a.jne(labels.ask)?;
    a.mov(rcx, qword_ptr(r11 + address_at))?;
    a.mov(rsi, qword_ptr(r11 + address_at + 8))?;
    end(a, labels.ask)?;
    a.mov(qword_ptr(r10), rcx)?;
    a.mov(qword_ptr(r10 + 8), rsi)?;
    a.mov(dword_ptr(r8), V4_BYTES)?;
    a.jmp(labels.succeeded)
}

/// Stack for a value of SO_MEMINFO, 36 bytes.
pub(super) const MEMORY_INFORMATION: i32 = 40;

/// The same for a larger address. SO_MEMINFO is larger than that: asked for on the stack, with the program's length,
/// it leaves what is less than the address as it was, and the kernel sees whether that can be read and written.
/// Asked for in place of the address, and cut to it, it shows whether that can be.
fn name_v6(
    a: &mut CodeAssembler,
    labels: &Labels,
    bytes_at: u64,
    address_at: u64,
) -> Result<(), IcedError> {
    let (mut check, mut checked) = (a.create_label(), a.create_label());
    a.mov(r10, qword_ptr(rsp + frame::RSI))?;
    a.mov(r8, qword_ptr(rsp + frame::RDX))?;
    unless_on_stack(a, r10, V6_BYTES, check)?;
    unless_on_stack(a, r8, INT_BYTES, check)?;
    a.cmp(dword_ptr(r8), V6_BYTES)?;
    a.jl(labels.ask)?;
    a.jmp(checked)?;
    a.set_label(&mut check)?;
    a.lea(rsp, qword_ptr(rsp - MEMORY_INFORMATION))?;
    a.mov(r10, rsp)?;
    a.mov(r8, qword_ptr(rsp + MEMORY_INFORMATION + frame::RDX))?;
    get_socket_option(a, SO_MEMINFO)?;
    a.lea(rsp, qword_ptr(rsp + MEMORY_INFORMATION))?;
    a.jnz(labels.ask)?;
    a.cmp(dword_ptr(r8), V6_BYTES)?;
    a.jl(labels.ask)?;
    a.mov(r10, qword_ptr(rsp + frame::RSI))?;
    a.lea(r8, qword_ptr(rsp + frame::SPARE))?;
    a.mov(dword_ptr(r8), V6_BYTES)?;
    get_socket_option(a, SO_MEMINFO)?;
    a.jnz(labels.ask)?;
    a.set_label(&mut checked)?;
    a.mov(r11, qword_ptr(rsp + frame::ENTRY))?;
    begin(a, labels.ask)?;
    a.cmp(dword_ptr(r11 + bytes_at), V6_BYTES)?;
    a.jne(labels.ask)?;
    for offset in [0, 8, 16] {
        a.mov(rcx, qword_ptr(r11 + address_at + offset))?;
        a.mov(qword_ptr(r10 + offset), rcx)?;
    }
    a.mov(ecx, dword_ptr(r11 + address_at + 24))?;
    a.mov(dword_ptr(r10 + 24), ecx)?;
    end(a, labels.ask)?;
    a.mov(r8, qword_ptr(rsp + frame::RDX))?;
    a.mov(dword_ptr(r8), V6_BYTES)?;
    a.jmp(labels.succeeded)
}

/// getsockopt(2): %r10 is where the value goes, %r8 where its length is. The slot is in %cl.
fn get_option(a: &mut CodeAssembler, labels: &Labels) -> Result<(), IcedError> {
    let (mut error, mut stored) = (a.create_label(), a.create_label());
    let (mut plain, mut flag) = (a.create_label(), a.create_label());
    let (mut check, mut checked) = (a.create_label(), a.create_label());
    a.mov(r10, qword_ptr(rsp + frame::R10))?;
    a.mov(r8, qword_ptr(rsp + frame::R8))?;
    a.cmp(cl, i32::from(slot::ASK))?;
    a.je(labels.ask)?;
    a.cmp(cl, i32::from(slot::TAKEN))?;
    a.je(error)?;
    unless_on_stack(a, r10, INT_BYTES, check)?;
    unless_on_stack(a, r8, INT_BYTES, check)?;
    a.cmp(dword_ptr(r8), INT_BYTES)?;
    a.jl(labels.ask)?;
    a.jmp(checked)?;
    // The kernel checks the pointers and the length, and cuts that to an int's. Of a shorter value the supervisor makes
    // the same, and the length is the program's own still.
    a.set_label(&mut check)?;
    get_socket_option(a, libc::SO_TYPE)?;
    a.jnz(labels.ask)?;
    a.cmp(dword_ptr(r8), INT_BYTES)?;
    a.jne(labels.ask)?;
    a.set_label(&mut checked)?;
    a.movzx(esi, byte_ptr(rsp + frame::WHAT))?;
    unless_number(a, plain)?;
    // Before the entry: once the supervisor has taken over what was there, the entry is odd, or has it.
    get_numbers(a, labels)?;
    a.movzx(esi, byte_ptr(rsp + frame::WHAT))?;
    a.set_label(&mut plain)?;
    a.mov(r11, qword_ptr(rsp + frame::ENTRY))?;
    begin(a, labels.ask)?;
    a.mov(ecx, dword_ptr(r11 + rsi * 4 + entry::SLOTS))?;
    unless_number(a, flag)?;
    number_set(a, stored)?;
    a.mov(ecx, eax)?;
    a.jmp(stored)?;
    a.set_label(&mut flag)?;
    noted_bit(a, stored)?;
    a.mov(eax, dword_ptr(rsp + frame::SPARE))?;
    a.inc(esi)?;
    a.bt(eax, esi)?;
    a.jnc(stored)?;
    a.dec(esi)?;
    a.xor(ecx, ecx)?;
    a.bt(eax, esi)?;
    a.setc(cl)?;
    a.set_label(&mut stored)?;
    end(a, labels.ask)?;
    a.mov(r10, qword_ptr(rsp + frame::R10))?;
    a.mov(r8, qword_ptr(rsp + frame::R8))?;
    a.mov(dword_ptr(r10), ecx)?;
    a.mov(dword_ptr(r8), INT_BYTES)?;
    a.jmp(labels.succeeded)?;
    a.set_label(&mut error)?;
    better_error(a, labels)
}

/// Puts the bit of the mark's upper half that has the value of the option in slot %esi into %esi, if it is noted there.
/// Changes %rax.
fn noted_bit(a: &mut CodeAssembler, otherwise: CodeLabel) -> Result<(), IcedError> {
    const FIRST: i32 = mark::NOTED_BIT as i32 - 32;
    a.lea(eax, dword_ptr(rsi - i32::from(slot::NOTED)))?;
    a.cmp(eax, mark::NOTED.len() as i32)?;
    a.jae(otherwise)?;
    a.lea(esi, dword_ptr(rax * 2 + FIRST))
}

/// Goes on if slot %esi is that of a number ([`mark::NUMBERS`]). Changes %rax.
fn unless_number(a: &mut CodeAssembler, otherwise: CodeLabel) -> Result<(), IcedError> {
    a.lea(eax, dword_ptr(rsi - i32::from(slot::NUMBERS)))?;
    a.cmp(eax, mark::NUMBERS.len() as i32)?;
    a.jae(otherwise)
}

/// Puts the numbers that were set in the program in place of the upper half of the mark, and their length in place of the
/// lower. Changes %r8 and %r10 as well.
fn get_numbers(a: &mut CodeAssembler, labels: &Labels) -> Result<(), IcedError> {
    a.mov(dword_ptr(rsp + frame::LOW), INT_BYTES)?;
    a.lea(r10, qword_ptr(rsp + frame::SPARE))?;
    a.lea(r8, qword_ptr(rsp + frame::LOW))?;
    get_socket_option(a, libc::SO_INCOMING_CPU)?;
    a.jnz(labels.ask)
}

/// Puts the number that was set for slot %esi into %eax, from what [`get_numbers`] has got, if one was.
fn number_set(a: &mut CodeAssembler, otherwise: CodeLabel) -> Result<(), IcedError> {
    let mut found = a.create_label();
    for (slot, number) in (slot::NUMBERS..).zip(mark::NUMBERS) {
        let mut other = a.create_label();
        a.cmp(esi, i32::from(slot))?;
        a.jne(other)?;
        a.mov(eax, dword_ptr(rsp + frame::SPARE))?;
        a.not(eax)?;
        a.shr(eax, number.shift)?;
        a.and(eax, number.largest().cast_signed())?;
        a.jmp(found)?;
        a.set_label(&mut other)?;
    }
    a.jmp(otherwise)?;
    a.set_label(&mut found)?;
    a.jz(otherwise)
}

/// setsockopt(2) of a number, which is known to be readable.
fn set_number(a: &mut CodeAssembler, labels: &Labels) -> Result<(), IcedError> {
    let mut put = a.create_label();
    get_numbers(a, labels)?;
    a.mov(r10, qword_ptr(rsp + frame::R10))?;
    a.mov(ecx, dword_ptr(r10))?;
    a.movzx(esi, byte_ptr(rsp + frame::WHAT))?;
    a.mov(edx, dword_ptr(rsp + frame::SPARE))?;
    for (slot, number) in (slot::NUMBERS..).zip(mark::NUMBERS) {
        let mut other = a.create_label();
        let largest = number.largest();
        a.cmp(esi, i32::from(slot))?;
        a.jne(other)?;
        a.lea(eax, dword_ptr(rcx - 1))?;
        a.cmp(eax, largest.cast_signed())?;
        a.jae(labels.ask)?;
        a.shl(ecx, number.shift)?;
        a.or(edx, (largest << number.shift).cast_signed())?;
        a.jmp(put)?;
        a.set_label(&mut other)?;
    }
    a.jmp(labels.ask)?;
    a.set_label(&mut put)?;
    a.xor(edx, ecx)?;
    a.mov(dword_ptr(rsp + frame::MARK), edx)?;
    set_socket_option(a, libc::SO_INCOMING_CPU, size_of::<i32>())?;
    a.jnz(labels.ask)?;
    a.jmp(labels.succeeded)
}

/// setsockopt(2) of an option of a connection that is noted in the socket's mark, or a number. %r10 is where the value is,
/// %r8 its length; the slot is in %cl.
///
/// The kernel checks both, for an option that does not exist, unless they are known to be good.
fn set_option(a: &mut CodeAssembler, labels: &Labels) -> Result<(), IcedError> {
    let (mut off, mut flag) = (a.create_label(), a.create_label());
    let (mut check, mut checked) = (a.create_label(), a.create_label());
    a.cmp(cl, i32::from(slot::ASK))?;
    a.je(labels.ask)?;
    begin(a, labels.ask)?;
    a.cmp(dword_ptr(r11 + entry::PEER_BYTES), 0)?;
    a.je(labels.ask)?;
    end(a, labels.ask)?;
    a.mov(r10, qword_ptr(rsp + frame::R10))?;
    a.mov(r8, qword_ptr(rsp + frame::R8))?;
    unless_on_stack(a, r10, INT_BYTES, check)?;
    a.cmp(r8d, INT_BYTES)?;
    a.jge(checked)?;
    a.set_label(&mut check)?;
    a.mov(esi, libc::SOL_SOCKET)?;
    a.mov(edx, NO_OPTION)?;
    a.mov(eax, number::SETSOCKOPT)?;
    a.syscall()?;
    a.cmp(eax, -libc::ENOPROTOOPT)?;
    a.jne(labels.ask)?;
    a.set_label(&mut checked)?;
    a.movzx(esi, byte_ptr(rsp + frame::WHAT))?;
    unless_number(a, flag)?;
    set_number(a, labels)?;
    a.set_label(&mut flag)?;
    noted_bit(a, labels.ask)?;
    a.lea(edx, dword_ptr(rsi + 1))?;
    a.mov(ecx, dword_ptr(rsp + frame::SPARE))?;
    a.bts(ecx, edx)?;
    a.btr(ecx, esi)?;
    a.cmp(dword_ptr(r10), 0)?;
    a.je(off)?;
    a.bts(ecx, esi)?;
    a.set_label(&mut off)?;
    note(a, labels)
}

/// SO_ERROR. What the pair says is taken by asking. If that is no error then none is pending, `emul::getsockopt::take_error`,
/// whosever socket it is; if it is one then `otherwise`: of an emulated socket the supervisor may know a better one.
pub(super) fn take_error(
    a: &mut CodeAssembler,
    labels: &Labels,
    otherwise: CodeLabel,
) -> Result<(), IcedError> {
    get_socket_option(a, libc::SO_ERROR)?;
    a.jnz(labels.native)?;
    a.cmp(dword_ptr(r8), 0)?;
    a.je(labels.succeeded)?;
    a.cmp(byte_ptr(r10), 0)?;
    a.je(labels.succeeded)?;
    a.mov(byte_ptr(rsp + frame::WHAT), i32::from(slot::TAKEN))?;
    a.jmp(otherwise)
}

/// Puts the error that the supervisor has written before it let the pair have one in place of the pair's.
fn better_error(a: &mut CodeAssembler, labels: &Labels) -> Result<(), IcedError> {
    let mut store = a.create_label();
    a.mov(edx, dword_ptr(r11 + entry::ERROR))?;
    a.mov(rax, qword_ptr(rsp + frame::MARK))?;
    a.cmp(qword_ptr(r11 + entry::MARK), rax)?;
    a.jne(labels.succeeded)?;
    a.test(edx, edx)?;
    a.jz(labels.succeeded)?;
    a.mov(ecx, dword_ptr(r8))?;
    a.set_label(&mut store)?;
    a.mov(byte_ptr(r10), dl)?;
    a.shr(edx, 8)?;
    a.inc(r10)?;
    a.dec(ecx)?;
    a.jnz(store)?;
    a.jmp(labels.succeeded)
}
