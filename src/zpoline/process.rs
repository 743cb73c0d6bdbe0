//! What /proc tells of a process that may get the fast path.
#![forbid(unsafe_code)]

use std::{
    fs::{self, File},
    io::{IoSliceMut, Read},
    os::unix::fs::FileExt,
};

use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

use super::layout::PAGE;

/// From /proc/PID/status: proc_pid_status(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) threads: u32,
    /// The thread that traces it, or 0.
    pub(super) tracer: i32,
    ignored: u64,
    pub(super) filters: Option<u32>,
    /// Return addresses are compared with copies of them that calls have left (CET).
    pub(super) has_shadow_stack: bool,
    /// mlock(2).
    pub(super) has_locked_memory: bool,
}

impl Status {
    /// Of a thread.
    pub(super) fn of(tid: i32) -> Option<Self> {
        Self::parse(&read(tid, "status", 4 << 10)?)
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
        };
        Some(Self {
            threads: field("Threads")?.parse().ok()?,
            tracer: field("TracerPid")?.parse().ok()?,
            ignored: u64::from_str_radix(field("SigIgn")?, 16).ok()?,
            filters: field("Seccomp_filters").and_then(|count| count.parse().ok()),
            has_shadow_stack: field("x86_Thread_features").is_some_and(|on| on.contains("shstk")),
            has_locked_memory: field("VmLck").is_some_and(|locked| locked != "0 kB"),
        })
    }

    /// Whether the process ignores SIGTRAP: the kernel would end that to stop it.
    pub(super) fn ignores_trap(&self) -> bool {
        self.ignored & 1 << (libc::SIGTRAP - 1) != 0
    }
}

/// What a process has executed, as opposed to what had its number before: by the random bytes that
/// execve(2) leaves in its memory, AT_RANDOM of getauxval(3). Who shares its memory has the same, and so
/// have its children by fork(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Execution {
    /// Where the bytes lie.
    at: u64,
    random: [u8; 16],
}

impl Execution {
    /// Of a thread's process.
    pub(super) fn of(tid: i32) -> Option<Self> {
        let mut vector = Vec::with_capacity(1 << 10);
        let mut file = File::open(format!("/proc/{tid}/auxv")).ok()?;
        file.read_to_end(&mut vector).ok()?;
        let words = vector
            .as_chunks()
            .0
            .iter()
            .map(|word| u64::from_ne_bytes(*word));
        let words: Vec<u64> = words.collect();
        let pairs = words.as_chunks().0.iter();
        let at = pairs.into_iter().find(|[key, _]| *key == libc::AT_RANDOM)?[1];
        let random = Self::read(tid, at)?;
        Some(Self { at, random })
    }

    /// Whether the process of the thread that has this number now still executes the same.
    pub(super) fn is_of(&self, tid: i32) -> bool {
        Self::read(tid, self.at) == Some(self.random)
    }

    fn read(tid: i32, at: u64) -> Option<[u8; 16]> {
        let mut random = [0; 16];
        let remote = [RemoteIoVec {
            base: at as usize,
            len: random.len(),
        }];
        let mut local = [IoSliceMut::new(&mut random)];
        let read = process_vm_readv(Pid::from_raw(tid), &mut local, &remote).ok()?;
        (read == random.len()).then_some(random)
    }
}

#[cfg(test)]
impl Execution {
    /// One that this is not.
    pub(super) fn another(self) -> Self {
        Self {
            random: self.random.map(|byte| !byte),
            ..self
        }
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

/// Where the mapping starts that the code at `address` lies in: one of a file, private, and not writable.
/// Code that was made in memory may be written at any time, and moved to where a call in it leads astray.
pub(super) fn file_code(tid: i32, address: u64) -> Option<u64> {
    code_in(&read(tid, "maps", 32 << 10)?, address)
}

/// All of a text in /proc, of about `size` bytes: it is made anew for each read(2).
fn read(tid: i32, name: &str, size: usize) -> Option<String> {
    let mut text = String::with_capacity(size);
    let mut file = File::open(format!("/proc/{tid}/{name}")).ok()?;
    file.read_to_string(&mut text).ok()?;
    Some(text)
}

fn code_in(maps: &str, address: u64) -> Option<u64> {
    maps.lines().find_map(|line| {
        // proc_pid_maps(5).
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let start = number(start)?;
        if !(start..number(end)?).contains(&address) {
            return None;
        }
        let access = fields.next()?;
        let inode = fields.nth(2)?;
        let is_code = access.ends_with("-xp") && inode != "0";
        is_code.then_some(start)
    })
}

/// Whether the page at `address` differs, or may differ, from its file: proc_pid_pagemap(5).
pub(super) fn has_changed(tid: i32, address: u64) -> bool {
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    const OF_FILE: u64 = 1 << 61;
    let mut entry = [0; 8];
    let read = File::open(format!("/proc/{tid}/pagemap"))
        .and_then(|map| map.read_exact_at(&mut entry, address / PAGE * 8));
    let entry = u64::from_ne_bytes(entry);
    read.is_err() || entry & (PRESENT | SWAPPED) != 0 && entry & OF_FILE == 0
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
    fn only_private_code_of_a_file_counts() {
        let maps = "\
400000-401000 r--p 00000000 08:01 5 /bin/x
401000-402000 r-xp 00001000 08:01 5 /bin/x
402000-403000 rwxp 00001000 08:01 5 /bin/x
403000-404000 r-xs 00001000 08:01 5 /bin/x
404000-405000 r-xp 00000000 00:00 0 
";
        assert_eq!(code_in(maps, 0x40_1fff), Some(0x40_1000));
        for address in [0x40_0000, 0x40_2000, 0x40_3000, 0x40_4000, 0x40_5000] {
            assert_eq!(code_in(maps, address), None, "{address:#x}");
        }
    }

    #[test]
    fn an_execution_is_known_again() {
        let tid = nix::unistd::gettid().as_raw();
        let own = Execution::of(tid).unwrap();
        assert!(own.is_of(tid));
        assert_eq!(Execution::of(tid), Some(own));
        assert!(!own.another().is_of(tid));
    }

    #[test]
    fn code_is_as_in_its_file_and_the_stack_is_not() {
        let tid = nix::unistd::gettid().as_raw();
        let here = has_changed as *const () as u64;
        assert!(file_code(tid, here).is_some());
        assert!(!has_changed(tid, here));
        let local = std::hint::black_box(7);
        let stack = &raw const local as u64;
        assert!(has_changed(tid, stack));
        assert_eq!(file_code(tid, stack), None);
    }
}
