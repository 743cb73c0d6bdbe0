//! The fast path (`--mode zpoline`): system call instructions that have trapped are rewritten into calls
//! of code in the program itself, which answers what it can without a trap. The seccomp filter stays as
//! the net below: what is not rewritten is slower, never wrong.
//!
//! [`FastPath::improve`] is shown each call that traps. The first one of a process stops its thread for a
//! moment, in which the image is mapped; each one from a site that is not patched yet stops it to patch
//! that.
#![forbid(unsafe_code)]

mod accept;
mod answers;
mod findings;
mod follow;
mod foreign;
mod give;
mod image;
mod jobs;
mod kernel;
pub(crate) mod layout;
mod look;
mod make;
pub(crate) mod mark;
mod process;
mod set_up;
mod site;
mod sled;
mod sockets;
pub(crate) mod tickets;
mod tracee;
mod view;

use std::{fs::File, io::IoSliceMut, os::unix::fs::FileExt, sync::Arc, time::Instant};

use nix::{
    errno::Errno,
    sys::{
        eventfd::EventFd,
        uio::{RemoteIoVec, process_vm_readv},
    },
    unistd::Pid,
};

use self::{
    findings::Findings,
    give::{is_page_patched, is_patched},
    image::Image,
    jobs::Jobs,
    layout::{HEADER, PAGE, action, header, is_gate, is_unknown, slot},
    process::{Execution, Status, file_code, has_changed},
    site::{AFTER, BEFORE, Kind, SYSCALL, Surroundings},
};
use crate::{
    emul::setsockopt::{RARELY_SET, SOCKET_LEVEL},
    policy,
    supervisor::limits::sysctl,
    sys::{
        probe,
        seccomp::{Listener, Trapped},
    },
};

pub(crate) use self::{accept::preamble, image::ImageError, sockets::Sockets};

/// What the fast path does with the calls that it may be asked for; with all others it asks.
#[rustfmt::skip] // a table reads best with a row on a line
const ACTIONS: &[(i64, u8)] = &[
    (libc::SYS_socket, action::MAKE),
    (libc::SYS_bind, action::BIND),
    (libc::SYS_connect, action::CONNECT),
    (libc::SYS_accept, action::ACCEPT),
    (libc::SYS_accept4, action::ACCEPT4),
    (libc::SYS_shutdown, action::FOREIGN),
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

/// The calls that trap elsewhere, and that the fast path makes itself. The sockets that it makes are AF_UNIX ones.
pub(crate) fn made_by_the_fast_path() -> impl Iterator<Item = u32> {
    let makes = |action: u8| ![action::ASK, action::TRAMPOLINE, action::MAKE].contains(&action);
    let own = ACTIONS.iter().filter(move |(_, action)| makes(*action));
    own.map(|(number, _)| *number as u32)
}

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
    #[error("it has locked memory, which a page of code that is moved is not after")]
    LockedMemory,
    #[error("its thread is not stopped in time")]
    Late,
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
    #[error("there is no table for it: {0}")]
    Table(Errno),
    #[error("it cannot take a descriptor: {0}")]
    Descriptor(Errno),
    #[error("its memory cannot be written: {0}")]
    Memory(Errno),
    #[error("its code cannot be moved: {0}")]
    Page(Errno),
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
    /// A seccomp filter.
    #[error(
        "--mode zpoline stops the program with ptrace(2), which a seccomp profile in force (systemd's SystemCallFilter=, a container's) forbids: allow ptrace, or take --mode seccomp"
    )]
    Profile,
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
        _ if !probe::may_trace() => Err(Unavailable::Profile),
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
    /// As programs see them.
    sockets: Sockets,
    findings: Findings,
    jobs: Arc<Jobs>,
}

/// A call site that is to be patched.
#[derive(Debug, Clone, Copy)]
struct Site {
    /// Of the `syscall` instruction.
    address: u64,
    number: i64,
    kind: Kind,
    /// Where the mapping starts that it lies in.
    mapping: u64,
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
    /// Mistakes in the image; EMFILE, ENFILE, ENOMEM.
    pub(crate) fn new(
        sockets: Sockets,
        low: Low,
        emulated: &policy::Sockets,
    ) -> Result<Self, ImageError> {
        let own = Status::of(std::process::id().cast_signed()).and_then(|status| status.filters);
        Ok(Self {
            image: image::build()?,
            sled: sled::sled(),
            header: header_page(emulated),
            filters: own.unwrap_or(0) + 1,
            low,
            sockets,
            findings: Findings::default(),
            jobs: Jobs::new()?,
        })
    }

    /// Looks at a call that has trapped, which still waits. Returns whether it does so for a job now, by which
    /// it is made again or given back: [`Self::given_back`].
    pub(crate) fn improve(self: &Arc<Self>, listener: &Arc<Listener>, trapped: &Trapped) -> bool {
        let (at, tid, number) = (trapped.instruction_pointer, trapped.tid, trapped.number);
        let ours = ACTIONS.iter().any(|(known, _)| *known == number);
        let address = at.wrapping_sub(SYSCALL.len() as u64);
        if !ours || is_gate(at) || self.findings.is_slow(tid, address) {
            return false;
        }
        let Some(caller) = look(tid, address) else {
            return false;
        };
        let Ok(kind) = self.findings.verdict(&caller.code, number) else {
            return false;
        };
        if kind == Kind::Low && self.low == Low::No {
            return false;
        }
        let Some(execution) = Execution::of(tid) else {
            return false;
        };
        if self.findings.is_unfit(tid, execution) {
            return false;
        }
        let mapping = changeable(tid, kind.first_byte(address), caller.has_image);
        // All that was read is the caller's, if the number was still its own.
        if !listener.is_valid(trapped.id) {
            return false;
        }
        let Some(mapping) = mapping else {
            self.findings.set_slow(tid, address, execution);
            return false;
        };
        let site = Site {
            address,
            number,
            kind,
            mapping,
        };
        if caller.has_image && is_patched(tid, site).unwrap_or(true) {
            return false;
        }
        let (fast_path, listener) = (Arc::clone(self), Arc::clone(listener));
        let call = *trapped;
        self.jobs.begin(execution, call, move |job| {
            let done = fast_path.improve_now(&listener, &call, site, execution, job);
            if let Err(why) = done
                && execution.is_of(tid)
            {
                fast_path.refuse(tid, execution, why);
            }
        })
    }

    /// Readable when calls are given back.
    pub(crate) fn done(&self) -> &EventFd {
        self.jobs.done()
    }

    /// Calls to be answered as without the fast path. Asked at [`Self::due`] and when [`Self::done`] says so.
    pub(crate) fn given_back(&self) -> Vec<Trapped> {
        let mut calls = self.jobs.returned();
        for (execution, trapped) in self.jobs.overdue(Instant::now()) {
            self.refuse(trapped.tid, execution, Unfit::Late);
            calls.push(trapped);
        }
        calls
    }

    /// When a call has waited too long for its job.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.jobs.due()
    }

    /// The calls of a process are looked at no more.
    fn refuse(&self, tid: i32, execution: Execution, why: Unfit) {
        tracing::info!(tid, "no fast path for a process: {why}");
        self.findings.set_unfit(tid, execution);
    }

    /// The program is about to install a filter of its own, which may not know the calls that the fast
    /// path makes: it asks for everything from now on.
    pub(crate) fn turn_off(&self, listener: &Listener, trapped: &Trapped) {
        let tid = trapped.tid;
        let execution = Execution::of(tid);
        if !listener.is_valid(trapped.id) {
            return;
        }
        // First, so that a job that gives it the fast path just now finds this afterwards.
        if let Some(execution) = execution {
            self.findings.set_unfit(tid, execution);
        }
        let Ok(memory) = tracee::memory(tid) else {
            return;
        };
        // The memory is the caller's, if the number was still its own.
        if has_image(&memory)
            && listener.is_valid(trapped.id)
            && let Err(error) = switch_off(&memory)
        {
            tracing::debug!(tid, %error, "the fast path stays on beside the program's own filter");
        }
    }
}

/// Makes the fast path ask for everything.
fn switch_off(memory: &File) -> nix::Result<()> {
    tracee::write(memory, HEADER + header::OFF, &[1])
}

/// Where the mapping of the code at `address` starts, if that may be changed.
fn changeable(tid: i32, address: u64, has_image: bool) -> Option<u64> {
    let start = file_code(tid, address)?;
    let is_ours = || has_image && is_page_patched(tid, address);
    (!has_changed(tid, address) || is_ours()).then_some(start)
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

/// The view of the caller, if it has asked because that does not have its socket. Whose memory this is shows whether the
/// call waits still.
pub(crate) fn view_without(trapped: &Trapped) -> Option<u64> {
    if !is_unknown(trapped.instruction_pointer) {
        return None;
    }
    let mut view = [0; 8];
    let remote = [RemoteIoVec {
        base: (HEADER + header::VIEW) as usize,
        len: view.len(),
    }];
    let mut local = [IoSliceMut::new(&mut view)];
    let read = process_vm_readv(Pid::from_raw(trapped.tid), &mut local, &remote).ok()?;
    (read == view.len()).then_some(u64::from_le_bytes(view))
}

/// Whether the call asks for SO_ERROR after it has taken what the pair has.
pub(crate) fn has_taken_error(trapped: &Trapped) -> bool {
    layout::has_taken_error(trapped.instruction_pointer)
}

/// Whether a process has the image.
fn has_image(memory: &File) -> bool {
    let mut magic = [0; 8];
    memory.read_exact_at(&mut magic, HEADER).is_ok() && magic == header::MAGIC.to_le_bytes()
}

/// The page of [`HEADER`], but for what each program has of its own.
fn header_page(emulated: &policy::Sockets) -> Vec<u8> {
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
    for (slot, (level, name)) in (1..).zip(view::SLOTS) {
        let names = match *level {
            libc::SOL_SOCKET => header::GET_SOCKET,
            _ => header::GET_TCP,
        };
        put(names + *name as u64, &[slot]);
    }
    put(header::GET_SOCKET + libc::SO_ERROR as u64, &[slot::ERROR]);
    let numbers = mark::NUMBERS.map(|number| number.name);
    for ((_, name), slot) in mark::NOTED.into_iter().chain(numbers).zip(slot::NOTED..) {
        put(header::SET_TCP + name as u64, &[slot]);
    }
    for (domain, at) in [
        (libc::AF_INET, header::PROTOCOLS_V4),
        (libc::AF_INET6, header::PROTOCOLS_V6),
    ] {
        put(at, &made_protocols(emulated, domain).to_ne_bytes());
    }
    page
}

/// The protocols, a bit for each, with which the fast path makes the stream sockets of a domain itself: those that come
/// to the same, TCP. Any others it asks for.
fn made_protocols(emulated: &policy::Sockets, domain: i32) -> u32 {
    let of_domain = |triple: &&policy::Triple| triple.domain == domain;
    let protocols = emulated.triples().iter().filter(of_domain);
    let made = protocols
        .map(|triple| triple.protocol)
        .filter(|protocol| [libc::IPPROTO_IP, libc::IPPROTO_TCP].contains(protocol));
    made.fold(0, |bits, protocol| bits | 1 << protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_knows_every_call_and_option() {
        let page = header_page(&policy::Sockets::default());
        let action = |number: i64| page[header::ACTIONS as usize + number as usize];
        assert_eq!(action(libc::SYS_getsockopt), action::GET);
        assert_eq!(action(libc::SYS_sendto), action::ASK);
        let protocols = &page[header::PROTOCOLS_V6 as usize..][..4];
        assert_eq!(protocols, (1u32 | 1 << libc::IPPROTO_TCP).to_ne_bytes());
        let get = |name: i32| page[header::GET_SOCKET as usize + name as usize];
        assert_eq!(get(libc::SO_ERROR), slot::ERROR);
        assert_eq!(get(libc::SO_TYPE), slot::NATIVE);
        assert_eq!(get(libc::SO_LINGER), slot::ASK);
        let set = |name: i32| page[header::SET_SOCKET as usize + name as usize];
        assert_eq!(set(libc::SO_RCVLOWAT), slot::ASK);
        assert_eq!(set(libc::SO_KEEPALIVE), slot::NATIVE);
        let noted = &view::SLOTS[usize::from(slot::NOTED) - 1..];
        let names = mark::NUMBERS.map(|number| number.name);
        let names: Vec<_> = mark::NOTED.into_iter().chain(names).collect();
        assert_eq!(noted[..names.len()], names);
        assert!(names.iter().all(|(level, _)| *level == libc::IPPROTO_TCP));
        assert!(view::SLOTS.len() < layout::entry::SLOT_COUNT);
    }
}
