//! The fast path (`--mode zpoline`): system call instructions that have trapped are rewritten into calls
//! of code in the program itself, which answers what it can without a trap. The seccomp filter stays as
//! the net below: what is not rewritten is slower, never wrong.
//!
//! [`FastPath::improve`] is shown each call that traps. The first one of a process image stops its thread
//! for a moment, in which the image is mapped; each one from a site that is not patched yet patches it.
#![forbid(unsafe_code)]

mod answers;
mod give;
mod image;
pub(crate) mod layout;
mod process;
mod site;
mod sled;
mod sockets;
mod tracee;

use std::{
    collections::{HashMap, HashSet},
    io::IoSliceMut,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, PoisonError},
};

use nix::{
    errno::Errno,
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

use self::{
    image::Image,
    layout::{HEADER, PAGE, action, header, is_gate, slot},
    process::{Mapping, Status, private_code},
    site::{AFTER, BEFORE, Kind, Refusal, SYSCALL, Surroundings},
};
use crate::{
    emul::setsockopt::{RARELY_SET, SOCKET_LEVEL},
    supervisor::limits::sysctl,
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

/// The calls that trap elsewhere, and that the fast path makes itself.
pub(crate) fn made_by_the_fast_path() -> impl Iterator<Item = u32> {
    let makes = |action: u8| action != action::ASK && action != action::TRAMPOLINE;
    let own = ACTIONS.iter().filter(move |(_, action)| makes(*action));
    own.map(|(number, _)| *number as u32)
}

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
    #[error("it has a shadow stack, which allows no call to come back elsewhere")]
    ShadowStack,
    #[error("/proc/PID/status cannot be read")]
    Unknown,
    #[error("nothing can be mapped at {0:#x}: {1}")]
    Mapping(u64, Errno),
    #[error("its memory cannot be changed: {0}")]
    Routine(Errno),
    #[error("it has more call sites than there is room for")]
    Full,
    #[error("there is no room within 2 GiB of its code")]
    NoRoomNearby,
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
    /// Another tracer.
    #[error(
        "--mode zpoline stops the program with ptrace(2) for a moment, and process {0} traces it already: run the tracer under quicwrap, or take --mode seccomp, which needs no ptrace"
    )]
    Traced(i32),
    /// Yama.
    #[error(
        "--mode zpoline stops the program with ptrace(2), which kernel.yama.ptrace_scope={0} forbids: sysctl -w kernel.yama.ptrace_scope=1, or take --mode seccomp"
    )]
    Yama(u8),
}

/// Whether programs can have the fast path here.
///
/// # Errors
/// Why not.
pub(crate) fn available() -> Result<(), Unavailable> {
    let own = Status::of(std::process::id().cast_signed());
    match own.map(|status| status.tracer) {
        Some(tracer) if tracer != 0 => return Err(Unavailable::Traced(tracer)),
        _ => {}
    }
    // 2 asks for CAP_SYS_PTRACE, which doctor looks at: without it seccomp mode works as little.
    match sysctl("kernel/yama/ptrace_scope", 0) {
        Some(scope @ 3..) => Err(Unavailable::Yama(scope)),
        _ => Ok(()),
    }
}

/// Whether call sites that load their number elsewhere can be patched: that needs code at address 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Low {
    /// They stay slow.
    No,
    /// They can.
    Yes,
}

/// Whether code may be mapped at address 0. To be asked while the process has one thread.
pub(crate) fn low() -> Low {
    match probe::page_zero() {
        Ok(()) => Low::Yes,
        Err(error) => {
            tracing::info!(
                %error,
                "no memory at address 0: calls that load their number elsewhere, as Go's do, stay slow; CAP_SYS_RAWIO or vm.mmap_min_addr=0 would permit it"
            );
            Low::No
        }
    }
}

impl Low {
    /// Only if that code can be executed and not read, so that reads through null pointers fail as ever.
    pub(crate) fn where_nulls_fail(self) -> Self {
        if has_protection_keys() {
            self
        } else {
            Self::No
        }
    }
}

/// Whether the processor and the kernel have protection keys (pkeys(7)).
pub(crate) fn has_protection_keys() -> bool {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = info.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "ospke"))
}

/// What the supervisor needs to give programs the fast path.
pub(crate) struct FastPath {
    image: Image,
    sled: Vec<u8>,
    header: Vec<u8>,
    /// Filters that a wrapped program has without doing anything.
    filters: u32,
    /// Whether code may be mapped at address 0, for sites that need it.
    low: Low,
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
    verdicts: HashMap<Surroundings, Result<Kind, Refusal>>,
}

/// A call site that is to be patched.
#[derive(Debug, Clone, Copy)]
struct Site {
    /// Of the `syscall` instruction.
    address: u64,
    number: i64,
    kind: Kind,
    mapping: Mapping,
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
    pub(crate) fn new(table: Arc<SharedMemory>, low: Low) -> Result<Self, ImageError> {
        let own = Status::of(std::process::id().cast_signed()).and_then(|status| status.filters);
        Ok(Self {
            image: image::build()?,
            sled: sled::sled(),
            header: header_page(),
            filters: own.unwrap_or(0) + 1,
            low,
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
        let Some(caller) = look(tid, at.wrapping_sub(SYSCALL.len() as u64)) else {
            return false;
        };
        let Ok(kind) = self.memory.verdict(&caller.code, trapped.number) else {
            return false;
        };
        if !listener.is_valid(trapped.id) || kind == Kind::Low && self.low == Low::No {
            return false;
        }
        let address = caller.code.address;
        let Some(mapping) = private_code(tid, address) else {
            return false;
        };
        let number = trapped.number;
        let site = Site {
            address,
            number,
            kind,
            mapping,
        };
        let improved = if caller.has_image {
            self.patch(listener, trapped, site)
        } else {
            self.set_up(listener, trapped, site)
        };
        improved.unwrap_or_else(|why| {
            self.refuse(tid, why);
            false
        })
    }

    /// A thread's calls are looked at no more.
    fn refuse(&self, tid: i32, why: Unfit) {
        tracing::info!(tid, "no fast path for a process: {why}");
        self.memory.set_unfit(tid);
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

    fn verdict(&self, code: &Surroundings, number: i64) -> Result<Kind, Refusal> {
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
    let wide = (
        address.checked_sub(BEFORE as u64)?,
        address.checked_add(AFTER as u64)?,
    );
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
