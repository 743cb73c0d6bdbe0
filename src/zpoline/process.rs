//! What /proc tells of a process that may get the fast path.
#![forbid(unsafe_code)]

use std::fs;

use nix::unistd::Pid;

use crate::sys::ptrace::same_memory;

/// From /proc/PID/status: proc_pid_status(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) threads: u32,
    parent: i32,
    pub(super) tracer: i32,
    ignored: u64,
    pub(super) filters: Option<u32>,
    /// Return addresses are compared with copies of them that calls have left (CET).
    pub(super) has_shadow_stack: bool,
}

impl Status {
    /// Of a thread.
    pub(super) fn of(tid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{tid}/status")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
        };
        Some(Self {
            threads: field("Threads")?.parse().ok()?,
            parent: field("PPid")?.parse().ok()?,
            tracer: field("TracerPid")?.parse().ok()?,
            ignored: u64::from_str_radix(field("SigIgn")?, 16).ok()?,
            filters: field("Seccomp_filters").and_then(|count| count.parse().ok()),
            has_shadow_stack: field("x86_Thread_features").is_some_and(|on| on.contains("shstk")),
        })
    }

    /// Whether the process ignores SIGTRAP: the kernel would end that to stop it.
    pub(super) fn ignores_trap(&self) -> bool {
        self.ignored & 1 << (libc::SIGTRAP - 1) != 0
    }

    /// Whether no other thread can run the same code now: there is none, and none of a process that
    /// shares its memory, as between vfork(2) and execve(2).
    pub(super) fn is_alone(&self, tid: i32) -> bool {
        self.threads == 1
            && same_memory(Pid::from_raw(tid), Pid::from_raw(self.parent)) == Ok(false)
    }
}

/// Most seccomp filters that a thread of this one's process has.
pub(super) fn most_filters(tid: i32) -> u32 {
    let threads = fs::read_dir(format!("/proc/{tid}/task"));
    let numbers = threads.into_iter().flatten().filter_map(|thread| {
        let number = thread.ok()?.file_name().to_str()?.parse().ok()?;
        Status::of(number)?.filters
    });
    numbers.max().unwrap_or(0)
}

/// A part of the address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) start: u64,
    writable: bool,
    readable: bool,
}

impl Mapping {
    /// What mprotect(2) knows it by.
    pub(super) fn protection(self) -> i32 {
        let flag = |on: bool, flag: i32| if on { flag } else { 0 };
        flag(self.readable, libc::PROT_READ)
            | flag(self.writable, libc::PROT_WRITE)
            | libc::PROT_EXEC
    }
}

/// The private, executable mapping that `address` lies in.
pub(super) fn private_code(tid: i32, address: u64) -> Option<Mapping> {
    let maps = fs::read_to_string(format!("/proc/{tid}/maps")).ok()?;
    code_in(&maps, address)
}

fn code_in(maps: &str, address: u64) -> Option<Mapping> {
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let start = number(start)?;
        if !(start..number(end)?).contains(&address) {
            return None;
        }
        let access = rest.as_bytes().first_chunk::<4>()?;
        (access[2..] == *b"xp").then_some(Mapping {
            start,
            readable: access[0] == b'r',
            writable: access[1] == b'w',
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_status() {
        let tid = nix::unistd::gettid().as_raw();
        let status = Status::of(tid).unwrap();
        assert_eq!(status.tracer, 0);
        assert!(status.threads >= 1);
        assert!(!status.ignores_trap());
    }

    #[test]
    fn only_private_code_counts() {
        let maps = "\
400000-401000 r--p 00000000 08:01 5 /bin/x
401000-402000 r-xp 00001000 08:01 5 /bin/x
402000-403000 rwxp 00000000 00:00 0 
403000-404000 r-xs 00001000 08:01 5 /bin/x
";
        let code = code_in(maps, 0x40_1fff).unwrap();
        assert_eq!(code.start, 0x40_1000);
        assert_eq!(code.protection(), libc::PROT_READ | libc::PROT_EXEC);
        let writable = code_in(maps, 0x40_2000).unwrap();
        assert_eq!(
            writable.protection(),
            libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC
        );
        for address in [0x40_0000, 0x40_3000, 0x40_4000] {
            assert_eq!(code_in(maps, address), None);
        }
    }
}
