//! The code that runs after a site, along all its ways, as far as it can be seen: whether it finds what its function keeps
//! below the stack pointer, which a `call` in place of `syscall` would overwrite.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};

use super::site::{Refusal, reaches_below};

/// Code that can be seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Code<'a> {
    /// Where it begins.
    pub(super) first: u64,
    pub(super) bytes: &'a [u8],
}

/// What has been seen of the ways.
#[derive(Debug, Default)]
struct Ways {
    /// Where the first one begins.
    start: u64,
    /// Where instructions begin that were looked at.
    seen: HashSet<u64>,
    /// Where others begin.
    open: Vec<u64>,
    /// The site's function calls another, and so keeps nothing there. What is jumped to may be another function.
    calls: bool,
    /// There is code that cannot be seen.
    ends_unseen: bool,
}

/// Follows the code from `start` on. `room` is what [`reaches_below`] asks for.
///
/// # Errors
/// `RedZone`; `Undecodable`: a way leads where nothing can be seen, in a function that may keep something there.
pub(super) fn check(code: Code<'_>, start: u64, room: i64) -> Result<(), Refusal> {
    let mut ways = Ways {
        start,
        open: vec![start],
        ..Ways::default()
    };
    while let Some(from) = ways.open.pop() {
        code.follow(from, room, &mut ways)?;
    }
    match ways.ends_unseen && !ways.calls {
        true => Err(Refusal::Undecodable),
        false => Ok(()),
    }
}

impl<'a> Code<'a> {
    /// From `address` on; none if that cannot be seen.
    fn decoder(&self, address: u64) -> Option<Decoder<'a>> {
        let offset = usize::try_from(address.checked_sub(self.first)?).ok()?;
        let bytes = self.bytes.get(offset..).filter(|rest| !rest.is_empty())?;
        let options = DecoderOptions::NONE;
        Some(Decoder::with_ip(64, bytes, address, options))
    }

    /// Follows one way to its end, or to where it was followed already.
    fn follow(&self, from: u64, room: i64, ways: &mut Ways) -> Result<(), Refusal> {
        let Some(mut decoder) = self.decoder(from) else {
            ways.ends_unseen = true;
            return Ok(());
        };
        while decoder.can_decode() {
            if !ways.seen.insert(decoder.ip()) {
                return Ok(());
            }
            let instruction = decoder.decode();
            if instruction.is_invalid() {
                // It may merely be cut, at the end of what can be seen.
                ways.ends_unseen = true;
                return Ok(());
            }
            if reaches_below(&instruction, room) {
                return Err(Refusal::RedZone);
            }
            match instruction.flow_control() {
                FlowControl::Return | FlowControl::Exception => return Ok(()),
                FlowControl::UnconditionalBranch => {
                    ways.open.push(instruction.near_branch_target());
                    return Ok(());
                }
                FlowControl::IndirectBranch => {
                    ways.ends_unseen = true;
                    return Ok(());
                }
                FlowControl::ConditionalBranch => {
                    let target = instruction.near_branch_target();
                    if !self.is_error_exit(&instruction, target) {
                        ways.open.push(target);
                    }
                }
                FlowControl::Call | FlowControl::IndirectCall
                    if instruction.mnemonic() != Mnemonic::Syscall =>
                {
                    ways.calls |= from == ways.start;
                    return Ok(());
                }
                _ => {}
            }
        }
        ways.ends_unseen = true;
        Ok(())
    }

    /// Whether this is what wrappers in static C libraries end with: a jump far away, where errno is set, and `ret`.
    fn is_error_exit(&self, jump: &Instruction, target: u64) -> bool {
        let next = self.decoder(jump.next_ip());
        let returns = next.is_some_and(|mut next| next.decode().mnemonic() == Mnemonic::Ret);
        returns && self.decoder(target).is_none()
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{
        IcedError,
        code_asm::{registers::*, *},
    };

    use super::*;

    const FIRST: u64 = 0x40_1000;
    const FAR: u64 = FIRST + 0x10_0000;

    /// What is said of code of which the site ends where `part` sets its label.
    fn check_code(
        part: fn(&mut CodeAssembler, &mut CodeLabel) -> Result<(), IcedError>,
    ) -> Result<(), Refusal> {
        let mut a = CodeAssembler::new(64).unwrap();
        let mut site = a.create_label();
        part(&mut a, &mut site).unwrap();
        let options = iced_x86::BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
        let assembled = a.assemble_options(FIRST, options).unwrap();
        let code = Code {
            first: FIRST,
            bytes: &assembled.inner.code_buffer,
        };
        check(code, assembled.label_ip(&site).unwrap(), 0)
    }

    #[test]
    fn a_way_back_to_what_lies_below_is_found() {
        let refusal = check_code(|a, site| {
            let mut back = a.create_label();
            a.set_label(&mut back)?;
            a.mov(rax, qword_ptr(rsp - 0x28))?;
            a.ret()?;
            a.nop_1::<AsmMemoryOperand>(dword_ptr(rax))?;
            a.syscall()?;
            a.set_label(site)?;
            a.jmp(back)
        });
        assert_eq!(refusal, Err(Refusal::RedZone));
    }

    #[test]
    fn both_ways_of_a_branch_are_followed() {
        let refusal = check_code(|a, site| {
            let mut other = a.create_label();
            a.set_label(site)?;
            a.test(rax, rax)?;
            a.js(other)?;
            a.add(rsp, 8)?;
            a.ret()?;
            a.set_label(&mut other)?;
            a.mov(qword_ptr(rsp - 8), rax)?;
            a.ret()
        });
        assert_eq!(refusal, Err(Refusal::RedZone));
    }

    #[test]
    fn a_loop_is_followed_once() {
        let refusal = check_code(|a, site| {
            let mut again = a.create_label();
            a.set_label(&mut again)?;
            a.mov(eax, 51)?;
            a.syscall()?;
            a.set_label(site)?;
            a.cmp(rax, -4)?;
            a.je(again)?;
            a.ret()
        });
        assert_eq!(refusal, Ok(()));
    }

    #[test]
    fn what_cannot_be_seen_may_find_something_there() {
        let unseen = Err(Refusal::Undecodable);
        let jumps = check_code(|a, site| {
            a.set_label(site)?;
            a.jmp(FAR)
        });
        assert_eq!(jumps, unseen);
        let may_jump = check_code(|a, site| {
            a.set_label(site)?;
            a.js(FAR)?;
            a.mov(rdi, rax)?;
            a.ret()
        });
        assert_eq!(may_jump, unseen);
        let goes_on = check_code(|a, site| {
            a.set_label(site)?;
            a.mov(rdi, rax)
        });
        assert_eq!(goes_on, unseen);
        let by_table = check_code(|a, site| {
            a.set_label(site)?;
            a.jmp(qword_ptr(rax * 8 + 0x40_0000))
        });
        assert_eq!(by_table, unseen);
    }

    #[test]
    fn who_calls_others_keeps_nothing_there() {
        let refusal = check_code(|a, site| {
            a.set_label(site)?;
            a.js(FAR)?;
            a.mov(rdi, rax)?;
            a.call(FAR)
        });
        assert_eq!(refusal, Ok(()));
    }

    #[test]
    fn what_is_jumped_to_may_be_another_function() {
        let refusal = check_code(|a, site| {
            let mut other = a.create_label();
            a.set_label(site)?;
            a.js(FAR)?;
            a.mov(rdi, rax)?;
            a.jmp(other)?;
            a.nop()?;
            a.set_label(&mut other)?;
            a.call(FAR)
        });
        assert_eq!(refusal, Err(Refusal::Undecodable));
    }

    #[test]
    fn a_static_librarys_wrapper_may_be_patched() {
        let refusal = check_code(|a, site| {
            a.set_label(site)?;
            a.cmp(rax, -4095)?;
            a.jae(FAR)?;
            a.ret()
        });
        assert_eq!(refusal, Ok(()));
    }
}
