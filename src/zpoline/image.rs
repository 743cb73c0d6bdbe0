//! The fast path: what runs in the program in place of a patched system call. No relocation, no data
//! of its own, no memory but the stack, and a word for each connection that it has accepted (view.rs).
//!
//! It may change what the kernel changes, %rax, %rcx and %r11, and nothing else, neither flags nor
//! vector registers; and it may use 128 bytes of the stack, which Go's unchecked stacks leave free. What it
//! keeps it keeps in the kernel, in sockets' marks: a signal may interrupt it at any instruction, and its handler
//! may never come back. While a call is made the return address is on top of the stack, where debuggers look for
//! it.
//!
//! Pointers of the program are used only after the kernel has checked them, by a call that does no harm, or if they lie in
//! the page of the stack that is being used. Whatever is unusual goes to the supervisor, through the gate, as if the site
//! were not patched.
#![forbid(unsafe_code)]

use iced_x86::{
    BlockEncoderOptions, IcedError,
    code_asm::{registers::*, *},
};

use super::{
    answers,
    layout::{
        CODE, CODE_BYTES, DATA_BYTES, GATE, HEADER, MULTIPLIER, SITE_COUNT, SITE_SHIFT, SITES,
        TAKEN, TRAMPOLINES, UNKNOWN, action, header, slot, table,
    },
    make, mark,
    tickets::MOST,
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

/// The bytes to be executed from [`CODE`] on, and the entrances that the supervisor uses.
#[derive(Debug)]
pub(super) struct Image {
    /// The fast path and the gate, each in pages of its own.
    pub(super) bytes: Vec<u8>,
    /// Maps the rest: see [`set_up`].
    pub(super) set_up: u64,
    /// Where stubs go on: see [`enter_near`].
    near: u64,
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

/// A mistake in this file, which the unit tests exclude.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    /// Of an instruction.
    #[error("internal error: the fast path cannot be assembled: {0}")]
    Assembler(#[from] IcedError),
    /// For what goes with it.
    #[error("the fast path needs a descriptor: {0}; raise the limit of open files (ulimit -n)")]
    Descriptor(#[from] nix::errno::Errno),
    /// Of its pages.
    #[error("internal error: the fast path has {0} bytes, more than its pages have")]
    TooLarge(usize),
}

/// Makes the image.
///
/// # Errors
/// Mistakes in here.
pub(super) fn build() -> Result<Image, ImageError> {
    let mut a = CodeAssembler::new(64)?;
    let mut set_up_label = a.create_label();
    let mut near_label = a.create_label();
    enter(&mut a, &mut near_label)?;
    a.set_label(&mut set_up_label)?;
    set_up(&mut a)?;
    let assembled =
        a.assemble_options(CODE, BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS)?;
    let mut bytes = assembled.inner.code_buffer.clone();
    if bytes.len() > CODE_BYTES as usize {
        return Err(ImageError::TooLarge(bytes.len()));
    }
    bytes.resize(CODE_BYTES as usize, 0xf4);
    bytes.extend(gate()?);
    Ok(Image {
        bytes,
        set_up: assembled.label_ip(&set_up_label)?,
        near: assembled.label_ip(&near_label)?,
    })
}

/// The call as it would have been at the site, but with the return address on the stack.
fn call_kernel(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.syscall()?;
    a.mov(rcx, qword_ptr(rsp))?;
    a.ret()
}

/// The ways out.
fn gate() -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    call_kernel(&mut a)?;
    let mut bytes = Vec::new();
    for gate in [GATE, UNKNOWN, TAKEN] {
        bytes.resize((gate - GATE) as usize, 0xf4);
        bytes.extend(a.assemble(gate)?);
    }
    Ok(bytes)
}

/// A trampoline that goes on at `address`.
pub(super) fn trampoline(address: u64) -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    a.syscall()?;
    a.mov(rcx, address)?;
    a.jmp(rcx)?;
    a.assemble(TRAMPOLINES)
}

impl Image {
    /// What a site near it calls, for the call `number`: it does what the patched instruction has done.
    ///
    /// # Errors
    /// None, in truth.
    pub(super) fn stub(&self, number: i64, at: u64) -> Result<Vec<u8>, IcedError> {
        let mut a = CodeAssembler::new(64)?;
        a.mov(eax, number as i32)?;
        a.mov(ecx, self.near as i32)?;
        a.jmp(rcx)?;
        a.assemble(at)
    }
}

/// From the sled: who comes here from a patched site has its return address on the stack.
fn enter(a: &mut CodeAssembler, near: &mut CodeLabel) -> Result<(), IcedError> {
    let (mut probe, mut known, mut stranger) =
        (a.create_label(), a.create_label(), a.create_label());
    a.pushfq()?;
    a.mov(rcx, qword_ptr(rsp + 8))?;
    a.imul_3(r11d, ecx, MULTIPLIER.cast_signed())?;
    a.shr(r11d, SITE_SHIFT)?;
    a.set_label(&mut probe)?;
    a.cmp(qword_ptr(r11 * 8 + SITES), rcx)?;
    a.je(known)?;
    a.cmp(qword_ptr(r11 * 8 + SITES), 0)?;
    a.je(stranger)?;
    a.inc(r11d)?;
    a.and(r11d, SITE_COUNT as i32 - 1)?;
    a.jmp(probe)?;
    // A jump to NULL, or to a number. %rsp is what a crash at the target would show.
    a.set_label(&mut stranger)?;
    a.popfq()?;
    a.hlt()?;
    enter_near(a, near)?;
    a.set_label(&mut known)?;
    dispatch(a)
}

/// From a stub: the return address is that of the `syscall` instruction, which is passed by.
fn enter_near(a: &mut CodeAssembler, near: &mut CodeLabel) -> Result<(), IcedError> {
    a.set_label(near)?;
    a.mov(rcx, qword_ptr(rsp))?;
    a.lea(rcx, qword_ptr(rcx + super::site::SYSCALL.len() as i32))?;
    a.mov(qword_ptr(rsp), rcx)?;
    a.pushfq()
}

/// By the number of the call. On the stack are the flags and the return address.
fn dispatch(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut ask = a.create_label();
    let (mut native, mut trampoline) = (a.create_label(), a.create_label());
    let (mut get, mut set, mut look) = (a.create_label(), a.create_label(), a.create_label());
    let mut make = a.create_label();
    a.cmp(rax, header::ACTION_COUNT as i32)?;
    a.jae(ask)?;
    a.movzx(ecx, byte_ptr(rax + HEADER + header::ACTIONS))?;
    a.cmp(ecx, i32::from(action::TRAMPOLINE))?;
    a.je(trampoline)?;
    a.cmp(dword_ptr(HEADER + header::OFF), 0)?;
    a.jne(ask)?;
    a.shl(ecx, 8)?;
    a.jz(ask)?;
    a.cmp(ecx, i32::from(action::GET) << 8)?;
    a.je(get)?;
    a.jb(look)?;
    a.cmp(ecx, i32::from(action::MAKE) << 8)?;
    a.je(make)?;
    a.cmp(ecx, i32::from(action::SET) << 8)?;
    a.jne(look)?;
    let levels = (header::SET_SOCKET, header::SET_TCP);
    option(a, &mut set, levels, (native, look))?;
    let levels = (header::GET_SOCKET, header::GET_TCP);
    option(a, &mut get, levels, (native, look))?;

    a.set_label(&mut ask)?;
    a.popfq()?;
    a.jmp(GATE)?;
    a.set_label(&mut native)?;
    a.popfq()?;
    call_kernel(a)?;
    a.set_label(&mut trampoline)?;
    a.shl(r11d, 4)?;
    a.lea(rcx, qword_ptr(r11 + TRAMPOLINES))?;
    a.popfq()?;
    a.lea(rsp, qword_ptr(rsp + 8))?;
    a.jmp(rcx)?;
    a.set_label(&mut make)?;
    make::socket(a, ask)?;
    a.set_label(&mut look)?;
    look_at_socket(a)
}

/// Finds the slot of an option, %esi and %edx, and puts it into %cl. Options of SOL_SOCKET that are not
/// emulated are the kernel's.
fn option(
    a: &mut CodeAssembler,
    here: &mut CodeLabel,
    (socket_level, tcp_level): (u64, u64),
    (native, look): (CodeLabel, CodeLabel),
) -> Result<(), IcedError> {
    let mut other_level = a.create_label();
    a.set_label(here)?;
    a.cmp(esi, libc::SOL_SOCKET)?;
    a.jne(other_level)?;
    a.cmp(edx, header::OPTION_COUNT as i32)?;
    a.jae(native)?;
    a.mov(r11d, edx)?;
    a.mov(cl, byte_ptr(r11 + HEADER + socket_level))?;
    a.cmp(cl, i32::from(slot::NATIVE))?;
    a.je(native)?;
    a.jmp(look)?;
    a.set_label(&mut other_level)?;
    a.cmp(esi, libc::IPPROTO_TCP)?;
    a.jne(look)?;
    a.cmp(edx, header::OPTION_COUNT as i32)?;
    a.jae(look)?;
    a.mov(r11d, edx)?;
    a.mov(cl, byte_ptr(r11 + HEADER + tcp_level))?;
    a.jmp(look)
}

/// Asks the kernel for the socket's mark, and looks that up.
fn look_at_socket(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut labels = Labels {
        ask: a.create_label(),
        native: a.create_label(),
        succeeded: a.create_label(),
        answered: a.create_label(),
    };
    let (mut probe, mut ours) = (a.create_label(), a.create_label());
    let (mut emulated, mut accepted) = (a.create_label(), a.create_label());
    let (mut marked, mut unknown) = (a.create_label(), a.create_label());
    let (mut kernel, mut taken) = (a.create_label(), a.create_label());
    let (mut error, mut mark_of_socket) = (a.create_label(), a.create_label());
    for register in [rax, rsi, rdx, r10, r8, rcx] {
        a.push(register)?;
    }
    a.lea(rsp, qword_ptr(rsp - (frame::LOCALS - 8)))?;
    a.cmp(ecx, i32::from(action::GET) << 8 | i32::from(slot::ERROR))?;
    a.je(error)?;
    a.set_label(&mut mark_of_socket)?;
    a.mov(dword_ptr(rsp + frame::ENTRY), 8)?;
    a.mov(r10, rsp)?;
    a.lea(r8, qword_ptr(rsp + frame::ENTRY))?;
    get_socket_option(a, libc::SO_MAX_PACING_RATE)?;
    a.jnz(labels.native)?;

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
    a.jmp(probe)?;

    a.set_label(&mut error)?;
    answers::take_error(a, &labels, mark_of_socket)?;

    a.set_label(&mut labels.native)?;
    a.cmp(byte_ptr(rsp + frame::WHAT), i32::from(slot::TAKEN))?;
    a.je(labels.succeeded)?;
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
    a.set_label(&mut unknown)?;
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
    a.ret()?;
    a.set_label(&mut ours)?;
    a.mov(qword_ptr(rsp + frame::ENTRY), r11)?;
    answers::answer(a, &labels)
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

/// Undoes what [`look_at_socket`] has done; %rcx and %r11 are free.
fn restore(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.lea(rsp, qword_ptr(rsp + frame::LOCALS))?;
    for register in [r8, r10, rdx, rsi, rax] {
        a.pop(register)?;
    }
    a.popfq()
}

/// Run once in each process, by the supervisor: maps the data, the table of sockets, whose descriptor is in %r12 and
/// whose bytes are in %r13, and the holders of accepted ones, whose descriptor is in %r14; closes the descriptors. Ends
/// in a trap, with 0 or a negative errno in %rax, the table's address in %rbx and the holders' in %r13.
fn set_up(a: &mut CodeAssembler) -> Result<(), IcedError> {
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
    a.mov(esi, HOLDERS_BYTES)?;
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
    a.mov(esi, HOLDERS_BYTES)?;
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

/// Bytes of the holders.
const HOLDERS_BYTES: i32 = (MOST * size_of::<u64>()) as i32;

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

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory, Mnemonic, OpAccess, Register};

    use super::*;

    fn instructions(bytes: &[u8], at: u64) -> Vec<iced_x86::Instruction> {
        Decoder::with_ip(64, bytes, at, DecoderOptions::NONE)
            .into_iter()
            .collect()
    }

    #[test]
    fn the_image_fits_and_has_its_entrances() {
        let image = build().unwrap();
        assert_eq!(
            image.bytes.len(),
            CODE_BYTES as usize + gate().unwrap().len()
        );
        assert!((CODE..GATE).contains(&image.set_up));
    }

    /// Only what is saved is changed before it is restored; the rest the supervisor restores.
    #[test]
    fn no_other_register_is_written() {
        let image = build().unwrap();
        let fast = &image.bytes[..(image.set_up - CODE) as usize];
        let free = [
            Register::RAX,
            Register::RCX,
            Register::RDX,
            Register::RSI,
            Register::R8,
            Register::R10,
            Register::R11,
            Register::RSP,
            // By make.rs and accept.rs alone, as often as is counted here.
            Register::RDI,
        ];
        let mut descriptor_writes = 0;
        let mut factory = InstructionInfoFactory::new();
        for instruction in instructions(fast, CODE) {
            for used in factory.info(&instruction).used_registers() {
                let read = matches!(
                    used.access(),
                    OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
                );
                let register = used.register().full_register();
                descriptor_writes += usize::from(!read && register == Register::RDI);
                assert!(
                    read || free.contains(&register),
                    "{register:?} in {instruction:?}"
                );
            }
        }
        assert_eq!(descriptor_writes, 10);
    }

    #[test]
    fn stack_is_used_by_no_more_than_go_leaves_free() {
        let image = build().unwrap();
        let fast = &image.bytes[..(image.set_up - CODE) as usize];
        let pushes = instructions(fast, CODE)
            .iter()
            .filter(|instruction| {
                matches!(instruction.mnemonic(), Mnemonic::Push | Mnemonic::Pushfq)
            })
            .count()
            - 1;
        // One of the two entrances' own. Each other push is on the way of every call: the return address, the pushes, and the locals.
        let frame_bytes = 8 + pushes * 8 + (frame::LOCALS as usize - 8);
        assert_eq!(frame_bytes, frame::CALLER as usize);
        assert!(frame_bytes + answers::MEMORY_INFORMATION as usize <= 128);
        const { assert!(make::STACK <= 128) };
    }

    #[test]
    fn a_trampoline_fits_its_place() {
        let bytes = trampoline(0x7fff_ffff_f000).unwrap();
        assert!(bytes.len() <= super::super::layout::TRAMPOLINE_BYTES as usize);
        let stub = build()
            .unwrap()
            .stub(libc::SYS_getsockname, 0x7fff_ffff_f000)
            .unwrap();
        assert!(stub.len() <= super::super::layout::STUB_BYTES as usize);
        let gate = gate().unwrap();
        assert!(gate.starts_with(&super::super::site::SYSCALL));
    }
}
