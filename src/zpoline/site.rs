//! Which system call instructions may be patched, by the code around them.
#![forbid(unsafe_code)]

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};

use super::follow;

/// `syscall`.
pub(super) const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// `call *%rax`.
pub(super) const LOW_CALL: [u8; 2] = [0xff, 0xd0];
/// `mov $number, %eax`, and the bytes of that.
const LOAD_NUMBER: u8 = 0xb8;
pub(super) const LOAD_BYTES: usize = 5;
/// `call` with a distance.
const NEAR_CALL: u8 = 0xe8;

/// How a site is patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The instruction before, which loads the number, becomes a call of a stub nearby; `syscall` itself
    /// stays, and is passed by when that comes back. So all instructions lie where they were.
    Near,
    /// `syscall` becomes `call *%rax`, to the sled at address 0.
    Low,
}

impl Kind {
    /// Where the change begins, for a site at `address`.
    pub(super) fn first_byte(self, address: u64) -> u64 {
        match self {
            Self::Near => address - LOAD_BYTES as u64,
            Self::Low => address,
        }
    }
}

/// The call that takes the place of the instruction at `from`; none if `to` is too far away.
pub(super) fn near_call(from: u64, to: u64) -> Option<[u8; LOAD_BYTES]> {
    let distance = to.wrapping_sub(from + LOAD_BYTES as u64).cast_signed();
    let mut bytes = [NEAR_CALL; LOAD_BYTES];
    bytes[1..].copy_from_slice(&i32::try_from(distance).ok()?.to_le_bytes());
    Some(bytes)
}
/// A processor fetches these bytes at once.
const CACHE_LINE: u64 = 64;
/// Bytes of code that are looked at before a site, and after it.
pub(super) const BEFORE: usize = 256;
pub(super) const AFTER: usize = 256;
/// Starts that are tried to fall into step with the instructions before a site.
const STARTS: usize = 32;
/// Longest way from the instruction that sets the number to the site.
const NUMBER_WITHIN: usize = 24;

/// Why a site stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum Refusal {
    /// i386's `int $0x80`, `sysenter`, or code that has changed.
    #[error("it is no `syscall` instruction")]
    NotSyscall,
    /// A processor could fetch one part before a change and one after it.
    #[error("it lies across a cache line")]
    CacheLine,
    /// `call` would overwrite what lies there.
    #[error("the code around uses memory below the stack pointer")]
    RedZone,
    /// Code that cannot be followed.
    #[error("the code around cannot be followed")]
    Undecodable,
    /// musl, and glibc from 2.41 on, know by the address whether a signal that cancels a thread has
    /// come before the call or after it.
    #[error("it may be a cancellation point, known by its address")]
    CancellationPoint,
    /// Not made for what the fast path answers.
    #[error("it is for another call")]
    OtherCall,
}

/// The code around a site.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Surroundings {
    /// Where the site is.
    pub(super) address: u64,
    /// What comes before, up to the site.
    pub(super) before: Vec<u8>,
    /// The site and what comes after.
    pub(super) after: Vec<u8>,
}

impl Surroundings {
    /// Whether the site may be patched, which has made the call `number`.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self, number: i64) -> Result<Kind, Refusal> {
        if !self.after.starts_with(&SYSCALL) {
            return Err(Refusal::NotSyscall);
        }
        let readings = self.readings_before();
        if readings.is_empty() {
            return Err(Refusal::Undecodable);
        }
        let functions = || readings.iter().map(|reading| function(reading));
        let room = readings.iter().map(|reading| room(reading)).min();
        let room = room.unwrap_or(0);
        self.check_after(room)?;
        let below = |instruction: &Instruction| reaches_below(instruction, room);
        if functions().any(|function| function.iter().any(below)) {
            return Err(Refusal::RedZone);
        }
        let kind = match self.constant_number(&readings) {
            Some(constant) if i64::from(constant) != number => return Err(Refusal::OtherCall),
            Some(constant) if self.loads_just_before(constant) => Kind::Near,
            None if self.returns_at_once() => return Err(Refusal::CancellationPoint),
            _ => Kind::Low,
        };
        let first = kind.first_byte(self.address);
        let bytes = match kind {
            Kind::Near => LOAD_BYTES as u64,
            Kind::Low => LOW_CALL.len() as u64,
        };
        if first % CACHE_LINE + bytes > CACHE_LINE {
            return Err(Refusal::CacheLine);
        }
        Ok(kind)
    }

    /// Whether the instruction before the site loads the number.
    fn loads_just_before(&self, number: u32) -> bool {
        let mut load = vec![LOAD_NUMBER];
        load.extend(number.to_le_bytes());
        self.before.ends_with(&load)
    }

    /// The instructions before the site. Where one begins is not known, so there is a reading from each
    /// of the first bytes; they soon fall into step, and with the site.
    fn readings_before(&self) -> Vec<Vec<Instruction>> {
        let starts = 0..self.before.len().min(STARTS);
        let readings = starts.map(|start| self.decode_to_site(start));
        readings.filter(|reading| !reading.is_empty()).collect()
    }

    /// The number that most readings agree on.
    fn constant_number(&self, readings: &[Vec<Instruction>]) -> Option<u32> {
        let votes: Vec<_> = readings
            .iter()
            .map(|reading| constant_number(reading, self.address))
            .collect();
        let count = |vote| votes.iter().filter(|other| *other == vote).count();
        votes.iter().max_by_key(|vote| count(*vote)).copied()?
    }

    /// Decodes from `start` on. What is not in step begins anew behind it; empty if the site is passed.
    fn decode_to_site(&self, start: usize) -> Vec<Instruction> {
        let first = self.address - self.before.len() as u64;
        let bytes = &self.before[start..];
        let mut decoder = Decoder::with_ip(64, bytes, first + start as u64, DecoderOptions::NONE);
        let mut instructions = Vec::new();
        while decoder.can_decode() {
            let instruction = decoder.decode();
            if instruction.is_invalid() {
                if decoder.position() >= bytes.len() {
                    return Vec::new();
                }
                instructions.clear();
            } else {
                instructions.push(instruction);
            }
        }
        instructions
    }

    /// Looks at the code that runs after the site, which may go on before it.
    fn check_after(&self, room: i64) -> Result<(), Refusal> {
        let code = follow::Code {
            first: self.address - self.before.len() as u64,
            bytes: &[self.before.as_slice(), &self.after].concat(),
        };
        follow::check(code, self.address + SYSCALL.len() as u64, room)
    }

    fn returns_at_once(&self) -> bool {
        let rest = self.after.get(SYSCALL.len()..).unwrap_or_default();
        Decoder::new(64, rest, DecoderOptions::NONE)
            .decode()
            .mnemonic()
            == Mnemonic::Ret
    }
}

/// Those of `instructions` that can belong to the site's function.
fn function(instructions: &[Instruction]) -> &[Instruction] {
    let start = instructions.windows(2).rposition(|pair| {
        let ends = matches!(
            pair[0].flow_control(),
            FlowControl::Return | FlowControl::UnconditionalBranch
        );
        pair[1].code() == Code::Endbr64
            || ends && matches!(pair[1].mnemonic(), Mnemonic::Nop | Mnemonic::Int3)
    });
    &instructions[start.map_or(0, |start| start + 1)..]
}

/// Whether an operand lies below the stack pointer, where the ABI lets a function that calls no other
/// keep 128 bytes (System V ABI, x86-64, section 3.2.2). So does what lies more than `room` bytes below the frame pointer.
pub(super) fn reaches_below(instruction: &Instruction, room: i64) -> bool {
    let memory = (0..instruction.op_count()).any(|op| instruction.op_kind(op) == OpKind::Memory);
    let below = match instruction.memory_base() {
        Register::RSP => 0,
        Register::RBP => -room,
        _ => return false,
    };
    memory
        && instruction.mnemonic() != Mnemonic::Nop
        && instruction.memory_displacement64().cast_signed() < below
}

/// Bytes between the frame pointer and the stack pointer at the end of `instructions`, as far as they are sure to be of one
/// function that is run from its beginning.
fn room(instructions: &[Instruction]) -> i64 {
    let begins = |instruction: &Instruction| {
        instruction.code() == Code::Push_r64 && instruction.op_register(0) == Register::RBP
    };
    let ends = |instruction: &Instruction| {
        matches!(
            instruction.flow_control(),
            FlowControl::Return | FlowControl::UnconditionalBranch | FlowControl::IndirectBranch
        )
    };
    let border = |instruction: &Instruction| begins(instruction) || ends(instruction);
    match instructions.iter().rposition(border) {
        Some(start) if begins(&instructions[start]) => {
            instructions[start + 1..].iter().map(room_made).sum()
        }
        _ => 0,
    }
}

/// By how many bytes an instruction lowers the stack pointer: those that a compiler makes a frame with.
fn room_made(instruction: &Instruction) -> i64 {
    let of_stack_pointer = instruction.op_count() == 2
        && instruction.op_kind(0) == OpKind::Register
        && instruction.op_register(0) == Register::RSP;
    match instruction.mnemonic() {
        Mnemonic::Push | Mnemonic::Pop => -i64::from(instruction.stack_pointer_increment()),
        Mnemonic::Sub if of_stack_pointer => immediate(instruction),
        Mnemonic::Add if of_stack_pointer => -immediate(instruction),
        _ => 0,
    }
}

/// The constant operand; 0 if it is none.
fn immediate(instruction: &Instruction) -> i64 {
    let value = instruction.try_immediate(1).unwrap_or(0);
    value.cast_signed()
}

/// The number that the instructions before the site load, if they always do.
fn constant_number(before: &[Instruction], site: u64) -> Option<u32> {
    for instruction in before.iter().rev() {
        if site - instruction.ip() > NUMBER_WITHIN as u64 {
            return None;
        }
        if instruction.flow_control() != FlowControl::Next {
            return None;
        }
        let into_rax = instruction.op_count() > 0
            && instruction.op_kind(0) == OpKind::Register
            && instruction.op_register(0).full_register() == Register::RAX;
        match instruction.code() {
            Code::Mov_r32_imm32 | Code::Mov_rm64_imm32 | Code::Mov_rm32_imm32 if into_rax => {
                return Some(instruction.immediate(1) as u32);
            }
            _ if into_rax => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use iced_x86::{
        IcedError,
        code_asm::{registers::*, *},
    };

    use super::*;

    const SITE: u64 = 0x40_1000;
    const NUMBER: i64 = libc::SYS_getsockname;

    type Part = fn(&mut CodeAssembler) -> Result<(), IcedError>;

    /// `part` after other code, so that there is room to fall into step.
    fn before(part: Part) -> Vec<u8> {
        let mut bytes = vec![0x90; 2 * STARTS];
        bytes.extend(assemble(part));
        bytes
    }

    fn assemble(part: Part) -> Vec<u8> {
        let mut a = CodeAssembler::new(64).unwrap();
        part(&mut a).unwrap();
        a.assemble(SITE).unwrap()
    }

    fn check_at(address: u64, part: Part, after: Part) -> Result<Kind, Refusal> {
        let mut bytes = SYSCALL.to_vec();
        bytes.extend(assemble(after));
        Surroundings {
            address,
            before: before(part),
            after: bytes,
        }
        .check(NUMBER)
    }

    fn check(part: Part, after: Part) -> Result<Kind, Refusal> {
        check_at(SITE, part, after)
    }

    fn wrapper(a: &mut CodeAssembler) -> Result<(), IcedError> {
        a.ret()?;
        a.nop_1::<AsmMemoryOperand>(dword_ptr(rax))?;
        a.mov(eax, NUMBER as i32)
    }

    fn checks_errno(a: &mut CodeAssembler) -> Result<(), IcedError> {
        a.cmp(rax, -4095)?;
        a.ret()
    }

    #[test]
    fn a_wrapper_of_the_c_library_may_be_patched() {
        assert_eq!(check(wrapper, checks_errno), Ok(Kind::Near));
        assert_eq!(check(wrapper, |a| a.ret()), Ok(Kind::Near));
        let early: Part = |a| {
            a.mov(eax, NUMBER as i32)?;
            a.xor(edx, edx)
        };
        assert_eq!(check(early, checks_errno), Ok(Kind::Low));
    }

    #[test]
    fn a_site_for_any_number_may_be_patched_unless_it_returns_at_once() {
        let any: Part = |a| {
            a.mov(rax, rdi)?;
            a.mov(rdi, rsi)
        };
        assert_eq!(check(any, checks_errno), Ok(Kind::Low));
        assert_eq!(check(any, |a| a.ret()), Err(Refusal::CancellationPoint));
    }

    #[test]
    fn memory_below_the_stack_pointer_is_left_alone() {
        let kept: Part = |a| {
            a.mov(qword_ptr(rsp - 8), rdi)?;
            a.mov(eax, NUMBER as i32)
        };
        assert_eq!(check(kept, checks_errno), Err(Refusal::RedZone));
        let pointed: Part = |a| {
            a.lea(rdx, qword_ptr(rsp - 0x18))?;
            a.mov(eax, NUMBER as i32)
        };
        assert_eq!(check(pointed, checks_errno), Err(Refusal::RedZone));
        let read: Part = |a| {
            a.mov(rdx, qword_ptr(rsp - 16))?;
            a.ret()
        };
        assert_eq!(check(wrapper, read), Err(Refusal::RedZone));
        let framed: Part = |a| {
            a.push(rbp)?;
            a.mov(rbp, rsp)?;
            a.lea(rdx, qword_ptr(rbp - 20))?;
            a.mov(eax, NUMBER as i32)
        };
        assert_eq!(check(framed, checks_errno), Err(Refusal::RedZone));
        let with_room: Part = |a| {
            a.push(rbp)?;
            a.mov(rbp, rsp)?;
            a.sub(rsp, 32)?;
            a.lea(rdx, qword_ptr(rbp - 20))?;
            a.mov(eax, NUMBER as i32)
        };
        assert_eq!(check(with_room, checks_errno), Ok(Kind::Near));
        let with_less_room: Part = |a| {
            a.push(rbp)?;
            a.mov(rbp, rsp)?;
            a.push(rbx)?;
            a.sub(rsp, 0x58)?;
            a.lea(rdx, qword_ptr(rbp - 0x61))?;
            a.mov(eax, NUMBER as i32)
        };
        assert_eq!(check(with_less_room, checks_errno), Err(Refusal::RedZone));
        let with_room_before: Part = |a| {
            a.sub(rsp, 0x58)?;
            a.add(rsp, 0x58)?;
            a.ret()?;
            a.push(rbp)?;
            a.mov(rbp, rsp)?;
            a.mov(dword_ptr(rbp - 20), edi)?;
            a.mov(eax, NUMBER as i32)
        };
        assert_eq!(check(with_room_before, checks_errno), Err(Refusal::RedZone));
        // Of the function before, and above.
        let other: Part = |a| {
            a.mov(qword_ptr(rsp - 8), rdi)?;
            wrapper(a)?;
            a.mov(rdx, qword_ptr(rsp + 8))
        };
        assert_eq!(check(other, checks_errno), Ok(Kind::Low));
    }

    #[test]
    fn a_site_across_two_cache_lines_is_left_alone() {
        let near = |offset| check_at(SITE + offset, wrapper, checks_errno);
        assert_eq!(near(0), Ok(Kind::Near));
        assert_eq!(near(1), Err(Refusal::CacheLine));
        assert_eq!(near(4), Err(Refusal::CacheLine));
        assert_eq!(near(5), Ok(Kind::Near));
        let low = |offset| check_at(SITE + offset, |a| a.mov(rax, rdi), checks_errno);
        assert_eq!(low(62), Ok(Kind::Low));
        assert_eq!(low(63), Err(Refusal::CacheLine));
    }

    #[test]
    fn other_instructions_and_calls_are_left_alone() {
        let other = Surroundings {
            address: SITE,
            before: before(wrapper),
            after: vec![0xcd, 0x80, 0xc3],
        };
        assert_eq!(other.check(NUMBER), Err(Refusal::NotSyscall));
        let connect: Part = |a| a.mov(eax, libc::SYS_connect as i32);
        assert_eq!(check(connect, checks_errno), Err(Refusal::OtherCall));
    }

    #[test]
    fn data_before_the_site_is_passed() {
        let mut before = vec![0x06; 2 * STARTS];
        before.extend(assemble(wrapper));
        let mut after = SYSCALL.to_vec();
        after.extend(assemble(checks_errno));
        let code = Surroundings {
            address: SITE,
            before,
            after,
        };
        assert_eq!(code.check(NUMBER), Ok(Kind::Near));
    }

    #[test]
    fn a_near_call_reaches_two_gibibytes() {
        let call = near_call(0x1000, 0x2000).unwrap();
        let bytes = Decoder::with_ip(64, &call, 0x1000, DecoderOptions::NONE).decode();
        assert_eq!(bytes.near_branch_target(), 0x2000);
        assert!(near_call(0x7f00_0000_0000, 0x7eff_8000_1000).is_some());
        assert_eq!(near_call(0x7f00_0000_0000, 0x5500_0000_0000), None);
    }
}
