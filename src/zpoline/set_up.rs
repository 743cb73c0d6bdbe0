//! What maps the rest of the fast path, once in each process.
#![forbid(unsafe_code)]

use iced_x86::{
    IcedError,
    code_asm::{registers::*, *},
};

use super::{
    foreign::NOTES_BYTES,
    kernel::number,
    layout::{DATA_BYTES, HEADER},
};

/// Run by the supervisor: maps the data, the table of sockets, whose descriptor is in %r12 and
/// whose bytes are in %r13, and the holders of accepted ones, whose descriptor is in %r14; closes the descriptors. Ends
/// in a trap, with 0 or a negative errno in %rax, the table's address in %rbx and the holders' in %r13.
pub(super) fn set_up(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let fixed = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let (mut no_data, mut no_table) = (a.create_label(), a.create_label());
    let mut no_holders = a.create_label();
    let mut finish = a.create_label();
    a.mov(edi, HEADER as i32)?;
    a.mov(esi, DATA_BYTES as i32)?;
    a.mov(edx, libc::PROT_READ)?;
    a.mov(r10d, fixed)?;
    a.mov(r8, -1i64)?;
    a.xor(r9d, r9d)?;
    a.mov(eax, number::MMAP)?;
    a.syscall()?;
    a.cmp(rax, HEADER as i32)?;
    a.jne(no_data)?;
    a.mov(r8, r12)?;
    a.mov(rsi, r13)?;
    map_shared(a, libc::PROT_READ)?;
    a.js(no_table)?;
    a.mov(rbx, rax)?;
    a.mov(r8, r14)?;
    a.mov(esi, NOTES_BYTES as i32)?;
    map_shared(a, libc::PROT_READ | libc::PROT_WRITE)?;
    a.js(no_holders)?;
    // A core dump is to have what matters; if that fails, it has these as well.
    a.mov(rdi, rbx)?;
    a.mov(rsi, r13)?;
    a.mov(r13, rax)?;
    a.mov(edx, libc::MADV_DONTDUMP)?;
    a.mov(eax, number::MADVISE)?;
    a.syscall()?;
    a.mov(rdi, r13)?;
    a.mov(esi, NOTES_BYTES as i32)?;
    a.mov(eax, number::MADVISE)?;
    a.syscall()?;
    a.xor(r15d, r15d)?;
    a.jmp(finish)?;
    a.set_label(&mut no_holders)?;
    a.mov(rdi, rbx)?;
    a.mov(rsi, r13)?;
    a.mov(rbx, rax)?;
    a.mov(eax, number::MUNMAP)?;
    a.syscall()?;
    a.mov(rax, rbx)?;
    a.set_label(&mut no_table)?;
    a.mov(r15, rax)?;
    a.mov(edi, HEADER as i32)?;
    a.mov(esi, DATA_BYTES as i32)?;
    a.mov(eax, number::MUNMAP)?;
    a.syscall()?;
    a.mov(rax, r15)?;
    a.set_label(&mut no_data)?;
    a.mov(r15, rax)?;
    a.set_label(&mut finish)?;
    for descriptor in [r12, r14] {
        a.mov(rdi, descriptor)?;
        a.mov(eax, number::CLOSE)?;
        a.syscall()?;
    }
    a.mov(rax, r15)?;
    a.int3()
}

/// mmap(2) of the file in %r8, %rsi bytes. Whether it has failed is in the flags: sign.
fn map_shared(a: &mut CodeAssembler, access: i32) -> Result<(), IcedError> {
    a.xor(edi, edi)?;
    a.mov(edx, access)?;
    a.mov(r10d, libc::MAP_SHARED)?;
    a.xor(r9d, r9d)?;
    a.mov(eax, number::MMAP)?;
    a.syscall()?;
    a.test(rax, rax)
}
