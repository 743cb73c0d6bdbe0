//! The seccomp filter: which calls trap. Generated from the table of handled calls, so the two cannot
//! drift apart.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use super::calls::{CALLS, INTERFACE_REQUESTS};
use crate::{
    emul::setsockopt::{RARELY_SET, SOCKET_LEVEL},
    policy::{Sockets, Triple},
    zpoline::{self, layout},
};

/// Opcodes of linux/bpf_common.h.
mod op {
    /// Load a word of seccomp_data.
    pub(super) const LOAD: u16 = 0x20;
    /// Jump if equal.
    pub(super) const JUMP_EQUAL: u16 = 0x15;
    /// Jump if greater or equal.
    pub(super) const JUMP_GREATER_EQUAL: u16 = 0x35;
    /// Jump.
    pub(super) const JUMP: u16 = 0x05;
    /// And with a constant.
    pub(super) const AND: u16 = 0x54;
    /// Return a constant.
    pub(super) const RETURN: u16 = 0x06;
}

/// Offset of `nr` in seccomp_data.
const NUMBER_OFFSET: u32 = 0;
/// Offset of `arch` in seccomp_data.
const ARCH_OFFSET: u32 = 4;
/// Offsets of the halves of `instruction_pointer` in seccomp_data.
const INSTRUCTION_POINTER_OFFSET: u32 = 8;
const INSTRUCTION_POINTER_UPPER_OFFSET: u32 = 12;
/// AUDIT_ARCH_X86_64, linux/audit.h.
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// Marks an x32 call, which shares the architecture number (asm/unistd.h).
const X32_SYSCALL_BIT: u32 = 0x4000_0000;
/// Calls that i386 programs could reach a socket with: socketcall, socket … shutdown, io_uring_setup.
const I386_CALLS: &[u32] = &[102, 359, 361, 362, 363, 364, 365, 366, 367, 368, 373, 425];
/// The same for x32, whose getsockopt and setsockopt have numbers of their own.
const X32_CALLS: &[u32] = &[41, 42, 43, 48, 49, 50, 51, 52, 288, 425, 541, 542];
/// seccompiler has no user-notification action: this one stands for it until the program is built.
const STAND_IN: SeccompAction = SeccompAction::Trace(0x5157);

/// Which arguments make a call trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Whatever the arguments.
    Always,
    /// socket(2): the triples that are emulated.
    EmulatedSocket,
    /// getsockopt(2): the options that are emulated.
    EmulatedOption,
    /// setsockopt(2): those, and the ones that a listener's connections inherit.
    SetOption,
    /// ioctl(2): the requests about interfaces that only an internet socket answers.
    InterfaceRequest,
    /// This value of argument 0, where programs have the fast path.
    FastPath(&'static [i32]),
    /// This flag of send(2) or recv(2) is set. The flags are the argument of this number.
    Flag(u8, i32),
}

/// The whole program, to be installed with a notification listener.
///
/// # Errors
/// A filter too large for the kernel, which the unit tests exclude.
pub(crate) fn program(
    sockets: &Sockets,
    fast_path: bool,
) -> Result<BpfProgram, seccompiler::Error> {
    let mut rules = BTreeMap::new();
    let wanted = |when| fast_path || !matches!(when, When::FastPath(_));
    for call in CALLS.iter().filter(|call| wanted(call.when)) {
        rules.insert(call.number, arguments(call.when, sockets)?);
    }
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, STAND_IN, TargetArch::x86_64)
        .map_err(seccompiler::Error::Backend)?;
    let native = BpfProgram::try_from(filter).map_err(seccompiler::Error::Backend)?;
    let verdict = if fast_path {
        notify_unless_fast_path()
    } else {
        vec![statement(op::RETURN, libc::SECCOMP_RET_USER_NOTIF)]
    };
    Ok(prologue(fast_path)
        .into_iter()
        .chain(with_verdict(native, &verdict))
        .collect())
}

/// Puts `verdict` in place of the stand-in, at the end: only calls that may trap come to it.
fn with_verdict(native: BpfProgram, verdict: &[sock_filter]) -> BpfProgram {
    let stand_in = u32::from(STAND_IN);
    let end = native.len();
    let replace = |(at, instruction): (usize, sock_filter)| match instruction {
        sock_filter {
            code: op::RETURN,
            k,
            ..
        } if k == stand_in => statement(op::JUMP, (end - at - 1) as u32),
        other => other,
    };
    let mut program: BpfProgram = native.into_iter().enumerate().map(replace).collect();
    program.extend_from_slice(verdict);
    program
}

/// What comes before: other ABIs and io_uring, which would reach sockets past the filter, are told
/// ENOSYS. Runtimes then fall back to epoll; a kill would end programs that merely try.
fn prologue(fast_path: bool) -> Vec<sock_filter> {
    let i386 = refuse(&[statement(op::LOAD, NUMBER_OFFSET)], I386_CALLS);
    let x32 = refuse(&[statement(op::AND, !X32_SYSCALL_BIT)], X32_CALLS);
    let mut program = vec![
        statement(op::LOAD, ARCH_OFFSET),
        jump(op::JUMP_EQUAL, AUDIT_ARCH_X86_64, i386.len() as u8, 0),
    ];
    program.extend(i386);
    program.push(statement(op::LOAD, NUMBER_OFFSET));
    program.push(jump(
        op::JUMP_GREATER_EQUAL,
        X32_SYSCALL_BIT,
        0,
        x32.len() as u8,
    ));
    program.extend(x32);
    program.push(jump(op::JUMP_EQUAL, libc::SYS_io_uring_setup as u32, 0, 1));
    program.push(statement(op::RETURN, no_system_call()));
    if fast_path {
        // The one that it makes for each call: it need not pass all the rules about options.
        let permit = permit_by_place();
        let skip = permit.len() as u8;
        program.push(jump(op::JUMP_EQUAL, libc::SYS_getsockopt as u32, 0, skip));
        program.extend(permit);
    }
    program
}

/// The verdict on a call that traps: the fast path's own pass, by where they are made from. Its place is
/// looked at last: the kernel knows of each number whether the filter always permits it, without running that, and a
/// look at anything but the number would end that for all calls of the program.
fn notify_unless_fast_path() -> Vec<sock_filter> {
    let notify = statement(op::RETURN, libc::SECCOMP_RET_USER_NOTIF);
    let numbers: Vec<u32> = zpoline::made_by_the_fast_path().collect();
    let mut verdict = vec![statement(op::LOAD, NUMBER_OFFSET)];
    for (left, number) in (1..=numbers.len()).rev().zip(numbers) {
        // Past the numbers that are left, and what is said of all others.
        verdict.push(jump(op::JUMP_EQUAL, number, left as u8, 0));
    }
    verdict.push(notify.clone());
    verdict.extend(permit_by_place());
    verdict.push(notify);
    verdict
}

/// Permits what is made from the pages of the fast path; goes on behind otherwise.
fn permit_by_place() -> [sock_filter; 6] {
    [
        statement(op::LOAD, INSTRUCTION_POINTER_UPPER_OFFSET),
        jump(op::JUMP_EQUAL, (layout::CODE >> 32) as u32, 0, 4),
        statement(op::LOAD, INSTRUCTION_POINTER_OFFSET),
        jump(op::JUMP_GREATER_EQUAL, layout::CODE as u32, 0, 2),
        jump(op::JUMP_GREATER_EQUAL, layout::GATE as u32, 1, 0),
        statement(op::RETURN, libc::SECCOMP_RET_ALLOW),
    ]
}

/// `first`, then ENOSYS for each of `numbers` and permission for all others.
fn refuse(first: &[sock_filter], numbers: &[u32]) -> Vec<sock_filter> {
    let mut section = first.to_vec();
    for &number in numbers {
        section.push(jump(op::JUMP_EQUAL, number, 0, 1));
        section.push(statement(op::RETURN, no_system_call()));
    }
    section.push(statement(op::RETURN, libc::SECCOMP_RET_ALLOW));
    section
}

fn no_system_call() -> u32 {
    libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32
}

fn statement(code: u16, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn arguments(when: When, sockets: &Sockets) -> Result<Vec<SeccompRule>, seccompiler::Error> {
    match when {
        When::Always => Ok(Vec::new()),
        When::EmulatedSocket => emulated_socket(sockets),
        When::EmulatedOption => options(SOCKET_LEVEL.iter()),
        When::SetOption => options(SOCKET_LEVEL.iter().chain(RARELY_SET)),
        When::InterfaceRequest => {
            let one = |&request: &u32| rule(&[(1, SeccompCmpOp::Eq, request.into())]);
            INTERFACE_REQUESTS.iter().map(one).collect()
        }
        When::FastPath(values) => {
            let one = |&value: &i32| rule(&[(0, SeccompCmpOp::Eq, value as u64)]);
            values.iter().map(one).collect()
        }
        When::Flag(argument, flag) => {
            let flag = u64::from(flag.cast_unsigned());
            let set = SeccompCmpOp::MaskedEq(flag);
            Ok(vec![rule(&[(argument, set, flag)])?])
        }
    }
}

fn emulated_socket(sockets: &Sockets) -> Result<Vec<SeccompRule>, seccompiler::Error> {
    let flags = (libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) as u32;
    let stream = SeccompCmpOp::MaskedEq(u64::from(!flags));
    let one = |triple: &Triple| {
        rule(&[
            (0, SeccompCmpOp::Eq, triple.domain as u64),
            (1, stream.clone(), libc::SOCK_STREAM as u64),
            (2, SeccompCmpOp::Eq, triple.protocol as u64),
        ])
    };
    sockets.triples().iter().map(one).collect()
}

/// These options at level SOL_SOCKET, and all of other levels.
fn options<'a>(
    names: impl Iterator<Item = &'a i32>,
) -> Result<Vec<SeccompRule>, seccompiler::Error> {
    let socket_level = libc::SOL_SOCKET as u64;
    let mut rules = vec![rule(&[(1, SeccompCmpOp::Ne, socket_level)])?];
    for &name in names {
        rules.push(rule(&[
            (1, SeccompCmpOp::Eq, socket_level),
            (2, SeccompCmpOp::Eq, name as u64),
        ])?);
    }
    Ok(rules)
}

/// All conditions at once. Arguments are ints: their upper halves hold whatever the register did.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, seccompiler::Error> {
    let conditions = conditions
        .iter()
        .map(|(argument, operator, value)| {
            SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), *value)
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(seccompiler::Error::Backend)?;
    SeccompRule::new(conditions).map_err(seccompiler::Error::Backend)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter on one call, as the kernel would.
    fn decide(arch: u32, number: u32, args: [u64; 6]) -> u32 {
        decide_with(&Sockets::default(), arch, number, args)
    }

    /// The same with the fast path, for a call made at `instruction_pointer`.
    fn decide_at(instruction_pointer: u64, number: i64, args: [u64; 6]) -> u32 {
        let program = program(&Sockets::default(), true).unwrap();
        run(
            &program,
            AUDIT_ARCH_X86_64,
            number as u32,
            instruction_pointer,
            args,
        )
    }

    fn decide_with(sockets: &Sockets, arch: u32, number: u32, args: [u64; 6]) -> u32 {
        run(
            &program(sockets, false).unwrap(),
            arch,
            number,
            layout::CODE + 2,
            args,
        )
    }

    /// What the filter says, and what that has taken.
    struct Run {
        verdict: u32,
        instructions: usize,
        /// At more than the number and the architecture.
        looked: bool,
    }

    fn run(program: &[sock_filter], arch: u32, number: u32, at: u64, args: [u64; 6]) -> u32 {
        follow(program, arch, number, at, args).verdict
    }

    fn follow(program: &[sock_filter], arch: u32, number: u32, at: u64, args: [u64; 6]) -> Run {
        let (mut looked, mut instructions) = (false, 0);
        let mut data = [0u8; 64];
        data[0..4].copy_from_slice(&number.to_le_bytes());
        data[4..8].copy_from_slice(&arch.to_le_bytes());
        data[8..16].copy_from_slice(&at.to_le_bytes());
        for (index, arg) in args.iter().enumerate() {
            data[16 + 8 * index..][..8].copy_from_slice(&arg.to_le_bytes());
        }
        let (mut at, mut accumulator) = (0, 0u32);
        loop {
            let instruction = &program[at];
            at += 1;
            instructions += 1;
            let branch = |taken: bool| {
                if taken {
                    instruction.jt
                } else {
                    instruction.jf
                }
            };
            match instruction.code {
                op::LOAD => {
                    looked |= instruction.k > ARCH_OFFSET;
                    let word = &data[instruction.k as usize..][..4];
                    accumulator = u32::from_le_bytes(word.try_into().unwrap());
                }
                op::AND => accumulator &= instruction.k,
                op::RETURN => {
                    return Run {
                        verdict: instruction.k,
                        instructions,
                        looked,
                    };
                }
                op::JUMP_EQUAL => at += usize::from(branch(accumulator == instruction.k)),
                op::JUMP_GREATER_EQUAL => at += usize::from(branch(accumulator >= instruction.k)),
                0x25 => at += usize::from(branch(accumulator > instruction.k)),
                op::JUMP => at += instruction.k as usize,
                other => panic!("instruction {other:#x} is unknown to this test"),
            }
        }
    }

    fn native(number: i64, args: [u64; 6]) -> u32 {
        decide(AUDIT_ARCH_X86_64, number as u32, args)
    }

    const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

    #[test]
    fn only_internet_stream_sockets_trap() {
        let socket =
            |domain, kind, protocol| native(libc::SYS_socket, [domain, kind, protocol, 0, 0, 0]);
        assert_eq!(socket(2, 1, 0), NOTIFY);
        assert_eq!(socket(10, 1 | 0o4000 | 0o2000000, 262), NOTIFY);
        // Upper halves of int arguments do not count.
        assert_eq!(socket(2 | 7 << 32, 1 | 9 << 32, 6), NOTIFY);
        assert_eq!(socket(1, 1, 0), ALLOW);
        assert_eq!(socket(2, 2, 0), ALLOW);
        assert_eq!(socket(2, 1, 132), ALLOW);
    }

    #[test]
    fn chosen_sockets_take_the_place_of_tcp() {
        let chosen = ["inet,stream,123456", "inet6,stream,7"].map(|text| text.parse().unwrap());
        let sockets = Sockets::new(&chosen).unwrap();
        let socket = |domain, kind, protocol| {
            let args = [domain, kind, protocol, 0, 0, 0];
            decide_with(&sockets, AUDIT_ARCH_X86_64, libc::SYS_socket as u32, args)
        };
        assert_eq!(socket(2, 1 | 0o4000, 123_456), NOTIFY);
        assert_eq!(socket(10, 1, 7), NOTIFY);
        for (domain, kind, protocol) in [(10, 1, 123_456), (2, 1, 0), (2, 1, 6), (2, 2, 123_456)] {
            assert_eq!(socket(domain, kind, protocol), ALLOW);
        }
    }

    #[test]
    fn as_many_sockets_as_may_be_chosen_fit() {
        let chosen: Vec<_> = (1000..1064)
            .map(|protocol| format!("inet6,stream,{protocol}").parse().unwrap())
            .collect();
        let sockets = Sockets::new(&chosen).unwrap();
        // BPF_MAXINSNS, linux/bpf_common.h.
        assert!(program(&sockets, true).unwrap().len() <= 4096);
        let last = [10, 1, 1063, 0, 0, 0];
        assert_eq!(
            decide_with(&sockets, AUDIT_ARCH_X86_64, libc::SYS_socket as u32, last),
            NOTIFY
        );
        let other = [10, 1, 1064, 0, 0, 0];
        assert_eq!(
            decide_with(&sockets, AUDIT_ARCH_X86_64, libc::SYS_socket as u32, other),
            ALLOW
        );
        let later = [3, 0, 0, 0, 0, 0];
        assert_eq!(
            decide_with(&sockets, AUDIT_ARCH_X86_64, libc::SYS_listen as u32, later),
            NOTIFY
        );
    }

    #[test]
    fn only_emulated_options_trap() {
        let get = |level, name| native(libc::SYS_getsockopt, [3, level, name, 0, 0, 0]);
        assert_eq!(get(libc::SOL_SOCKET as u64, libc::SO_ERROR as u64), NOTIFY);
        assert_eq!(get(libc::SOL_SOCKET as u64, libc::SO_TYPE as u64), ALLOW);
        let lowat = [
            3,
            libc::SOL_SOCKET as u64,
            libc::SO_RCVLOWAT as u64,
            0,
            0,
            0,
        ];
        assert_eq!(native(libc::SYS_setsockopt, lowat), NOTIFY);
        assert_eq!(native(libc::SYS_getsockopt, lowat), ALLOW);
        assert_eq!(get(libc::IPPROTO_TCP as u64, libc::TCP_INFO as u64), NOTIFY);
    }

    #[test]
    fn the_fast_path_is_permitted_where_it_lies() {
        let call = libc::SYS_getsockname;
        let inside = [layout::CODE, layout::CODE + 2, layout::GATE - 1];
        let outside = [
            0,
            0x40_1000,
            layout::CODE - 1,
            layout::GATE,
            layout::GATE + 2,
        ];
        let above = [layout::CODE + (1 << 32), 0x7fff_0001_0002];
        for at in inside {
            assert_eq!(decide_at(at, call, [3, 0, 0, 0, 0, 0]), ALLOW, "{at:#x}");
        }
        for at in outside.into_iter().chain(above) {
            assert_eq!(decide_at(at, call, [3, 0, 0, 0, 0, 0]), NOTIFY, "{at:#x}");
        }
        assert_eq!(native(call, [3, 0, 0, 0, 0, 0]), NOTIFY);
        // It makes no sockets, and nothing else that traps.
        let tcp = [2, 1, 0, 0, 0, 0];
        assert_eq!(decide_at(layout::CODE + 2, libc::SYS_socket, tcp), NOTIFY);
        let fast_open = [3, 0, 0, libc::MSG_FASTOPEN as u64, 0, 0];
        let sent = decide_at(layout::CODE + 2, libc::SYS_sendto, fast_open);
        assert_eq!(sent, NOTIFY);
    }

    /// What the kernel's short cut for calls that always pass asks for (`seccomp_is_const_allow`).
    #[test]
    fn calls_that_never_trap_are_known_by_their_number() {
        let programs = [false, true].map(|fast| program(&Sockets::default(), fast).unwrap());
        let traps = |number: u32| CALLS.iter().any(|call| call.number == i64::from(number));
        for number in (0..600).filter(|number| !traps(*number)) {
            for program in &programs {
                let at = layout::CODE + 2;
                let run = follow(program, AUDIT_ARCH_X86_64, number, at, [0; 6]);
                assert!(!run.looked, "{number}");
                assert_ne!(run.verdict, NOTIFY, "{number}");
            }
        }
    }

    #[test]
    fn what_does_not_trap_is_as_cheap_with_the_fast_path() {
        let instructions = [false, true].map(|fast| {
            let program = program(&Sockets::default(), fast).unwrap();
            let number = libc::SYS_sendto as u32;
            let plain = [3, 0, 0, 0x4000, 0, 0];
            let run = follow(&program, AUDIT_ARCH_X86_64, number, 0x40_1000, plain);
            assert_eq!(run.verdict, ALLOW);
            run.instructions
        });
        // A look for getsockopt.
        assert_eq!(instructions[0] + 1, instructions[1]);
    }

    #[test]
    fn own_filters_of_programs_matter_to_the_fast_path_alone() {
        let filter = [libc::PR_SET_SECCOMP as u64, 2, 0, 0, 0, 0];
        let name = [libc::PR_SET_NAME as u64, 0, 0, 0, 0, 0];
        assert_eq!(decide_at(0, libc::SYS_prctl, filter), NOTIFY);
        assert_eq!(decide_at(0, libc::SYS_prctl, name), ALLOW);
        assert_eq!(native(libc::SYS_prctl, filter), ALLOW);
        let mode = [u64::from(libc::SECCOMP_SET_MODE_FILTER), 0, 0, 0, 0, 0];
        assert_eq!(decide_at(0, libc::SYS_seccomp, mode), NOTIFY);
    }

    #[test]
    fn data_traps_only_when_it_would_connect() {
        let fast_open = libc::MSG_FASTOPEN as u64;
        assert_eq!(native(libc::SYS_sendto, [3, 0, 0, fast_open, 0, 0]), NOTIFY);
        assert_eq!(native(libc::SYS_sendto, [3, 0, 0, 0x4000, 0, 0]), ALLOW);
        assert_eq!(native(libc::SYS_read, [3, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(native(libc::SYS_close, [3, 0, 0, 0, 0, 0]), ALLOW);
    }

    #[test]
    fn other_abis_and_io_uring_cannot_pass_by() {
        const I386: u32 = 0x4000_0003;
        assert_eq!(decide(I386, 102, [0; 6]), no_system_call());
        assert_eq!(decide(I386, 4, [0; 6]), ALLOW);
        assert_eq!(native(0x4000_0029, [0; 6]), no_system_call());
        assert_eq!(native(0x4000_0001, [0; 6]), ALLOW);
        assert_eq!(native(libc::SYS_io_uring_setup, [0; 6]), no_system_call());
    }
}
