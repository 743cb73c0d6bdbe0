//! The system calls that the code in the program makes.
#![forbid(unsafe_code)]

use iced_x86::{
    IcedError,
    code_asm::{registers::*, *},
};

/// Numbers of system calls, as %eax takes them.
pub(super) mod number {
    pub(in crate::zpoline) const CLOSE: i32 = libc::SYS_close as i32;
    pub(in crate::zpoline) const MADVISE: i32 = libc::SYS_madvise as i32;
    pub(in crate::zpoline) const MMAP: i32 = libc::SYS_mmap as i32;
    pub(in crate::zpoline) const MUNMAP: i32 = libc::SYS_munmap as i32;
    pub(in crate::zpoline) const GETSOCKOPT: i32 = libc::SYS_getsockopt as i32;
    pub(in crate::zpoline) const SETSOCKOPT: i32 = libc::SYS_setsockopt as i32;
    pub(in crate::zpoline) const SOCKET: i32 = libc::SYS_socket as i32;
    pub(in crate::zpoline) const CONNECT: i32 = libc::SYS_connect as i32;
    pub(in crate::zpoline) const ACCEPT4: i32 = libc::SYS_accept4 as i32;
    pub(in crate::zpoline) const RECVFROM: i32 = libc::SYS_recvfrom as i32;
    pub(in crate::zpoline) const POLL: i32 = libc::SYS_poll as i32;
    pub(in crate::zpoline) const GETTID: i32 = libc::SYS_gettid as i32;
}

/// The call as it would have been at the site, but with the return address on the stack.
pub(super) fn call_kernel(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.syscall()?;
    a.mov(rcx, qword_ptr(rsp))?;
    a.ret()
}

/// getsockopt(2) of an option of SOL_SOCKET; %rdi, %r10 and %r8 are the caller's. Whether it has failed
/// is in the flags: not zero.
pub(super) fn get_socket_option(a: &mut CodeAssembler, option: i32) -> Result<(), IcedError> {
    a.mov(esi, libc::SOL_SOCKET)?;
    a.mov(edx, option)?;
    a.mov(eax, number::GETSOCKOPT)?;
    a.syscall()?;
    a.test(eax, eax)
}

/// Marks the socket in %rdi with the 8 bytes at %rsp. Whether that has failed is in the flags: not zero.
pub(super) fn set_mark(a: &mut CodeAssembler) -> Result<(), IcedError> {
    set_socket_option(a, libc::SO_MAX_PACING_RATE, size_of::<u64>())
}

/// setsockopt(2) of an option of SOL_SOCKET of the socket in %rdi; its value, so many bytes, is at %rsp. Whether that has
/// failed is in the flags: not zero.
pub(super) fn set_socket_option(
    a: &mut CodeAssembler,
    option: i32,
    bytes: usize,
) -> Result<(), IcedError> {
    a.mov(esi, libc::SOL_SOCKET)?;
    a.mov(edx, option)?;
    a.mov(r10, rsp)?;
    a.mov(r8d, bytes as i32)?;
    a.mov(eax, number::SETSOCKOPT)?;
    a.syscall()?;
    a.test(eax, eax)
}
