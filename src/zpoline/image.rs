//! The fast path: what runs in the program in place of a patched system call. No relocation, no data
//! of its own, no memory but the stack, a word for each connection that it has accepted (view.rs), and guesses that may be
//! wrong (foreign.rs).
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
    kernel::call_kernel,
    layout::{
        CODE, CODE_BYTES, GATE, HEADER, MULTIPLIER, SITE_COUNT, SITE_SHIFT, SITES, TAKEN,
        TRAMPOLINES, UNKNOWN, action, header, slot,
    },
    look::look_at_socket,
    make,
    set_up::set_up,
};

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

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory, Mnemonic, OpAccess, Register};

    use super::{
        super::{answers, foreign, look::frame},
        *,
    };

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
        const { assert!(foreign::ROOM <= answers::MEMORY_INFORMATION) };
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
