//! The fast path (`--mode zpoline`): system call instructions that have trapped are rewritten into calls
//! of code in the program itself, which answers what it can without a trap. The seccomp filter stays as
//! the net below: what is not rewritten is slower, never wrong.
//!
//! [`FastPath::improve`] is shown each call that traps. The first one of a process image stops its thread
//! for a moment, in which the image is mapped; each one from a site that is not patched yet patches it.
#![forbid(unsafe_code)]

mod answers;
mod image;
pub(crate) mod layout;
mod process;
mod site;
mod sled;
mod sockets;
mod tracee;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::IoSliceMut,
    os::{fd::AsFd, unix::fs::FileExt},
    sync::{Arc, Mutex, PoisonError},
};

use nix::{
    errno::Errno,
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

use self::{
    image::{Image, number},
    layout::{
        CODE, EXECUTED_BYTES, HEADER, PAGE, SITE_COUNT, SITES, TRAMPOLINE_BYTES, TRAMPOLINES,
        action, header, is_gate, site_hash, slot,
    },
    process::{Mapping, Status, private_code},
    site::{AFTER, BEFORE, PATCHED, Refusal, SYSCALL, Surroundings},
    tracee::Tracee,
};
use crate::{
    emul::setsockopt::{RARELY_SET, SOCKET_LEVEL},
    sys::{
        probe,
        seccomp::{Listener, Trapped},
        shared_memory::SharedMemory,
    },
};

pub(crate) use self::{image::ImageError, sockets::Sockets};

/// What the fast path does with the calls that it may be asked for; with all others it asks.
#[rustfmt::skip] // a table reads best with a row on a line
const ACTIONS: &[(i64, u8)] = &[
    (libc::SYS_connect, action::FOREIGN),
    (libc::SYS_accept, action::FOREIGN),
    (libc::SYS_accept4, action::FOREIGN),
    (libc::SYS_shutdown, action::FOREIGN),
    (libc::SYS_bind, action::FOREIGN),
    (libc::SYS_listen, action::FOREIGN),
    (libc::SYS_getsockname, action::LOCAL),
    (libc::SYS_getpeername, action::PEER),
    (libc::SYS_getsockopt, action::GET),
    (libc::SYS_setsockopt, action::SET),
    // A site for any number makes these as well: clone(2) returns on another stack, vfork(2) twice on
    // the same, rt_sigreturn(2) finds its frame by the stack pointer.
    (libc::SYS_rt_sigreturn, action::TRAMPOLINE),
    (libc::SYS_clone, action::TRAMPOLINE),
    (libc::SYS_fork, action::TRAMPOLINE),
    (libc::SYS_vfork, action::TRAMPOLINE),
    (libc::SYS_clone3, action::TRAMPOLINE),
];

/// Sites of a process, at most: a search must come to an end soon.
const MOST_SITES: usize = SITE_COUNT as usize / 2;
/// Threads and verdicts that are remembered, at most.
const REMEMBERED: usize = 4096;

/// Why a process has no fast path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Unfit {
    #[error("it is traced by {0}")]
    Traced(i32),
    #[error("it has installed a seccomp filter of its own")]
    OwnFilter,
    #[error("it ignores SIGTRAP")]
    IgnoresTrap,
    #[error("/proc/PID/status cannot be read")]
    Unknown,
    #[error("the code cannot be mapped: {0}")]
    Mapping(Errno),
    #[error("its thread cannot be stopped: {0}")]
    Trace(Errno),
    #[error("it cannot take a descriptor: {0}")]
    Descriptor(Errno),
    #[error("its memory cannot be written: {0}")]
    Memory(Errno),
}

/// Why no program can have the fast path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    /// vm.mmap_min_addr.
    #[error(
        "--mode zpoline needs memory at address 0 ({0}): give quicwrap CAP_SYS_RAWIO or set vm.mmap_min_addr=0 (sysctl -w vm.mmap_min_addr=0); --mode seccomp needs neither"
    )]
    PageZero(Errno),
    /// Another tracer.
    #[error(
        "--mode zpoline stops the program with ptrace(2) for a moment, and process {0} traces it already: run the tracer under quicwrap, or take --mode seccomp, which does not"
    )]
    Traced(i32),
    /// No protection keys.
    #[error(
        "this processor has no protection keys (pku in /proc/cpuinfo): with --mode zpoline reads through null pointers would not fail"
    )]
    NullReads,
}

/// Whether programs can have the fast path here. To be asked while the process has one thread.
///
/// # Errors
/// Why not.
pub(crate) fn available() -> Result<(), Unavailable> {
    let own = Status::of(std::process::id().cast_signed());
    match own.map(|status| status.tracer) {
        Some(tracer) if tracer != 0 => Err(Unavailable::Traced(tracer)),
        _ => probe::page_zero().map_err(Unavailable::PageZero),
    }
}

/// Whether code at address 0 can be made unreadable, so that reads through null pointers fail as ever.
///
/// # Errors
/// [`Unavailable::NullReads`].
pub(crate) fn nulls_fail() -> Result<(), Unavailable> {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = info.lines().find(|line| line.starts_with("flags"));
    flags
        .filter(|flags| flags.split_whitespace().any(|flag| flag == "ospke"))
        .map(drop)
        .ok_or(Unavailable::NullReads)
}

/// What the supervisor needs to give programs the fast path.
pub(crate) struct FastPath {
    image: Image,
    sled: Vec<u8>,
    header: Vec<u8>,
    /// Filters that a wrapped program has without doing anything.
    filters: u32,
    /// The sockets, as every program reads them.
    table: Arc<SharedMemory>,
    memory: Memory,
}

/// What was found out.
#[derive(Default)]
struct Memory(Mutex<Found>);

#[derive(Default)]
struct Found {
    unfit: HashSet<i32>,
    verdicts: HashMap<Surroundings, Result<(), Refusal>>,
}

/// What is known of the process that a call comes from.
struct Caller {
    code: Surroundings,
    has_image: bool,
}

impl FastPath {
    /// Makes what programs are given.
    ///
    /// # Errors
    /// Mistakes in the image.
    pub(crate) fn new(table: Arc<SharedMemory>) -> Result<Self, ImageError> {
        let own = Status::of(std::process::id().cast_signed()).and_then(|status| status.filters);
        Ok(Self {
            image: image::build()?,
            sled: sled::sled(),
            header: header_page(),
            filters: own.unwrap_or(0) + 1,
            table,
            memory: Memory::default(),
        })
    }

    /// Looks at a call that has trapped, which still waits. Returns whether it does not any more: it is
    /// made again.
    pub(crate) fn improve(&self, listener: &Listener, trapped: &Trapped) -> bool {
        let (at, tid) = (trapped.instruction_pointer, trapped.tid);
        let ours = ACTIONS.iter().any(|(number, _)| *number == trapped.number);
        if !ours || is_gate(at) || self.memory.is_unfit(tid) {
            return false;
        }
        let Some(caller) = look(tid, at - SYSCALL.len() as u64) else {
            return false;
        };
        if !listener.is_valid(trapped.id)
            || self.memory.verdict(&caller.code, trapped.number).is_err()
        {
            return false;
        }
        let improved = if caller.has_image {
            self.patch(listener, trapped, &caller.code)
        } else {
            self.set_up(listener, trapped, &caller.code)
        };
        improved.unwrap_or_else(|why| {
            tracing::info!(tid, "no fast path for a process: {why}");
            self.memory.set_unfit(tid);
            false
        })
    }

    /// The program is about to install a filter of its own, which may not know the calls that the fast
    /// path makes: it asks for everything from now on.
    pub(crate) fn turn_off(&self, tid: i32) {
        let Ok(memory) = tracee::memory(tid) else {
            return;
        };
        let mut magic = [0; 8];
        let has_image = memory.read_exact_at(&mut magic, HEADER).is_ok()
            && magic == header::MAGIC.to_le_bytes();
        if has_image && let Err(error) = tracee::write(&memory, HEADER + header::OFF, &[1]) {
            tracing::debug!(tid, %error, "the fast path stays on beside the program's own filter");
        }
    }

    /// The first call of a process image.
    fn set_up(
        &self,
        listener: &Listener,
        trapped: &Trapped,
        code: &Surroundings,
    ) -> Result<bool, Unfit> {
        let tid = trapped.tid;
        let status = self.fit(tid)?;
        let Some(mapping) = private_code(tid, code.address) else {
            return Ok(false);
        };
        let fd = listener
            .lend(trapped.id, self.table.as_fd())
            .map_err(Unfit::Descriptor)?;
        let stopped = tracee::stop(listener, trapped).map_err(Unfit::Trace)?;
        let Some(mut tracee) = stopped else {
            return Ok(true);
        };
        let done = self.map(&mut tracee, fd as u64).and_then(|()| {
            let alone = status.is_alone(tid);
            self.write_site(&mut tracee, code.address, mapping, alone)
        });
        drop(tracee);
        if let Err(why) = done {
            // The call has been sent back.
            tracing::info!(tid, "no fast path for a process: {why}");
            self.memory.set_unfit(tid);
        } else {
            tracing::debug!(
                tid,
                site = format_args!("{:#x}", code.address),
                "the fast path is set up"
            );
        }
        Ok(true)
    }

    /// Whether the process may have the fast path.
    fn fit(&self, tid: i32) -> Result<Status, Unfit> {
        let status = Status::of(tid).ok_or(Unfit::Unknown)?;
        match &status {
            Status { tracer, .. } if *tracer != 0 => Err(Unfit::Traced(*tracer)),
            Status {
                filters: Some(filters),
                ..
            } if *filters > self.filters => Err(Unfit::OwnFilter),
            status if status.ignores_trap() => Err(Unfit::IgnoresTrap),
            _ => Ok(status),
        }
    }

    /// Maps everything, and writes what does not change.
    fn map(&self, tracee: &mut Tracee, fd: u64) -> Result<(), Unfit> {
        let protection = libc::PROT_EXEC as u64;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let arguments = [CODE, EXECUTED_BYTES, protection, flags as u64, u64::MAX, 0];
        let mapped = tracee.system_call(number::MMAP.into(), arguments);
        if let Err(error) = mapped {
            let closed = tracee.system_call(number::CLOSE.into(), [fd, 0, 0, 0, 0, 0]);
            tracing::trace!(?closed, "the table is not mapped");
            return Err(Unfit::Mapping(error));
        }
        let address = self.map_rest(tracee, fd);
        if address.is_err() {
            let arguments = [CODE, EXECUTED_BYTES, 0, 0, 0, 0];
            let unmapped = tracee.system_call(number::MUNMAP.into(), arguments);
            tracing::trace!(?unmapped, "the code is not used");
        }
        let mut header = self.header.clone();
        header[header::TABLE as usize..][..8].copy_from_slice(&address?.to_le_bytes());
        let memory = tracee.memory();
        tracee::write(memory, 0, &self.sled).map_err(Unfit::Memory)?;
        tracee::write(memory, HEADER, &header).map_err(Unfit::Memory)
    }

    /// Runs the image's own part. Returns where the table is.
    fn map_rest(&self, tracee: &mut Tracee, fd: u64) -> Result<u64, Unfit> {
        tracee::write(tracee.memory(), CODE, &self.image.bytes).map_err(Unfit::Memory)?;
        let registers = tracee
            .run(self.image.set_up, [fd, self.table.bytes() as u64, 0])
            .map_err(Unfit::Trace)?;
        match registers.rax.cast_signed() {
            0 => Ok(registers.rbx),
            error => Err(Unfit::Mapping(Errno::from_raw(-error as i32))),
        }
    }

    /// A call from another site of a process that has the image.
    fn patch(
        &self,
        listener: &Listener,
        trapped: &Trapped,
        code: &Surroundings,
    ) -> Result<bool, Unfit> {
        let tid = trapped.tid;
        let Some(mapping) = private_code(tid, code.address) else {
            return Ok(false);
        };
        let status = Status::of(tid).ok_or(Unfit::Unknown)?;
        if status.is_alone(tid) {
            let memory = tracee::memory(tid).map_err(Unfit::Memory)?;
            // Its only thread waits, and comes back behind the instruction.
            if remember_site(&memory, code.address)? {
                tracee::write(&memory, code.address, &PATCHED).map_err(Unfit::Memory)?;
            }
            return Ok(false);
        }
        let status = self.fit(tid)?;
        let stopped = tracee::stop(listener, trapped).map_err(Unfit::Trace)?;
        if let Some(mut tracee) = stopped
            && let Err(why) =
                self.write_site(&mut tracee, code.address, mapping, status.is_alone(tid))
        {
            tracing::info!(tid, "no fast path for a call: {why}");
        }
        Ok(true)
    }

    /// Writes a site of a stopped thread: in one store where others run.
    fn write_site(
        &self,
        tracee: &mut Tracee,
        address: u64,
        mapping: Mapping,
        alone: bool,
    ) -> Result<(), Unfit> {
        if !remember_site(tracee.memory(), address)? {
            return Ok(());
        }
        if alone {
            return tracee::write(tracee.memory(), address, &PATCHED).map_err(Unfit::Memory);
        }
        let flag = |on: bool, flag: i32| if on { flag } else { 0 };
        let protection = flag(mapping.readable, libc::PROT_READ)
            | flag(mapping.writable, libc::PROT_WRITE)
            | libc::PROT_EXEC;
        let arguments = [address & !(PAGE - 1), address, protection as u64];
        let registers = tracee
            .run(self.image.patch, arguments)
            .map_err(Unfit::Trace)?;
        match registers.rax.cast_signed() {
            0 => Ok(()),
            error => Err(Unfit::Mapping(Errno::from_raw(-error as i32))),
        }
    }
}

impl Memory {
    fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_unfit(&self, tid: i32) -> bool {
        self.found().unfit.contains(&tid)
    }

    fn set_unfit(&self, tid: i32) {
        let mut found = self.found();
        if found.unfit.len() >= REMEMBERED {
            found.unfit.clear();
        }
        found.unfit.insert(tid);
    }

    fn verdict(&self, code: &Surroundings, number: i64) -> Result<(), Refusal> {
        let mut found = self.found();
        if let Some(verdict) = found.verdicts.get(code) {
            return *verdict;
        }
        let verdict = code.check(number);
        if let Err(why) = verdict {
            tracing::debug!(
                number,
                address = format_args!("{:#x}", code.address),
                "a call stays slow: {why}"
            );
        }
        if found.verdicts.len() >= REMEMBERED {
            found.verdicts.clear();
        }
        found.verdicts.insert(code.clone(), verdict);
        verdict
    }
}

/// What lies around a site, and whether its process has the image.
fn look(tid: i32, address: u64) -> Option<Caller> {
    let page = address & !(PAGE - 1);
    let wide = (address.checked_sub(BEFORE as u64)?, address + AFTER as u64);
    // At the edge of a mapping, what is in the site's own page.
    let narrow = (wide.0.max(page), wide.1.min(page + PAGE));
    [wide, narrow].into_iter().find_map(|(start, end)| {
        let mut bytes = vec![0; (end - start) as usize];
        let mut magic = [0; 8];
        let remote = [(start, bytes.len()), (HEADER, magic.len())].map(|(base, len)| RemoteIoVec {
            base: base as usize,
            len,
        });
        let mut local = [IoSliceMut::new(&mut bytes), IoSliceMut::new(&mut magic)];
        let read = process_vm_readv(Pid::from_raw(tid), &mut local, &remote).ok()?;
        if read < bytes.len() {
            return None;
        }
        let after = bytes.split_off((address - start) as usize);
        let code = Surroundings {
            address,
            before: bytes,
            after,
        };
        Some(Caller {
            code,
            has_image: magic == header::MAGIC.to_le_bytes(),
        })
    })
}

/// Notes a site in the program's list, before it is patched. Returns false if there is no room.
fn remember_site(memory: &File, address: u64) -> Result<bool, Unfit> {
    let back = address + SYSCALL.len() as u64;
    let mut bytes = vec![0; SITE_COUNT as usize * 8];
    memory
        .read_exact_at(&mut bytes, SITES)
        .map_err(|_| Unfit::Memory(Errno::EIO))?;
    let sites: Vec<u64> = bytes
        .chunks_exact(8)
        .filter_map(|chunk| chunk.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)))
        .collect();
    if sites.iter().filter(|site| **site != 0).count() >= MOST_SITES {
        return Ok(false);
    }
    let mut place = site_hash(back);
    while sites[place as usize] != 0 && sites[place as usize] != back {
        place = (place + 1) % SITE_COUNT;
    }
    let trampoline = image::trampoline(back).map_err(|_| Unfit::Unknown)?;
    tracee::write(memory, TRAMPOLINES + place * TRAMPOLINE_BYTES, &trampoline)
        .and_then(|()| tracee::write(memory, SITES + place * 8, &back.to_le_bytes()))
        .map_err(Unfit::Memory)?;
    Ok(true)
}

/// The page of [`HEADER`], but for the address of the table.
fn header_page() -> Vec<u8> {
    let mut page = vec![0; PAGE as usize];
    let mut put = |at: u64, bytes: &[u8]| page[at as usize..][..bytes.len()].copy_from_slice(bytes);
    put(header::MAGIC_AT, &header::MAGIC.to_le_bytes());
    for (number, action) in ACTIONS {
        put(header::ACTIONS + number.cast_unsigned(), &[*action]);
    }
    let natively = [slot::NATIVE; header::OPTION_COUNT as usize];
    put(header::GET_SOCKET, &natively);
    put(header::SET_SOCKET, &natively);
    for &name in SOCKET_LEVEL {
        put(header::GET_SOCKET + name as u64, &[slot::ASK]);
    }
    for &name in SOCKET_LEVEL.iter().chain(RARELY_SET) {
        put(header::SET_SOCKET + name as u64, &[slot::ASK]);
    }
    for (slot, (level, name)) in (1..).zip(sockets::SLOTS) {
        let names = match *level {
            libc::SOL_SOCKET => header::GET_SOCKET,
            _ => header::GET_TCP,
        };
        put(names + *name as u64, &[slot]);
    }
    put(header::GET_SOCKET + libc::SO_ERROR as u64, &[slot::ERROR]);
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_knows_every_call_and_option() {
        let page = header_page();
        let action = |number: i64| page[header::ACTIONS as usize + number as usize];
        assert_eq!(action(libc::SYS_getsockopt), action::GET);
        assert_eq!(action(libc::SYS_socket), action::ASK);
        let get = |name: i32| page[header::GET_SOCKET as usize + name as usize];
        assert_eq!(get(libc::SO_ERROR), slot::ERROR);
        assert_eq!(get(libc::SO_TYPE), slot::NATIVE);
        assert_eq!(get(libc::SO_LINGER), slot::ASK);
        let set = |name: i32| page[header::SET_SOCKET as usize + name as usize];
        assert_eq!(set(libc::SO_RCVLOWAT), slot::ASK);
        assert_eq!(set(libc::SO_KEEPALIVE), slot::NATIVE);
        assert!(sockets::SLOTS.len() < layout::entry::SLOT_COUNT);
    }
}
