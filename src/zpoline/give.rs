//! Giving a process the fast path: mapping it, and patching a site.
#![forbid(unsafe_code)]

use std::{
    fs::File,
    os::{fd::AsFd, unix::fs::FileExt},
};

use nix::errno::Errno;

use super::{
    FastPath, Site, Unfit,
    image::{number, trampoline},
    layout::{
        CODE, EXECUTED_BYTES, HEADER, PAGE, SITE_COUNT, SITES, SLED_BYTES, STUB_BYTES,
        TRAMPOLINE_BYTES, TRAMPOLINES, header, site_hash,
    },
    process::{Status, most_filters},
    site::{Kind, LOAD_BYTES, LOW_CALL, SYSCALL, near_call},
    tracee::{self, Tracee},
};
use crate::sys::seccomp::{Listener, Trapped};

/// Sites of a process, at most: a search must come to an end soon.
const MOST_SITES: usize = SITE_COUNT as usize / 2;
/// Stubs in a page.
const STUBS_IN_PAGE: u64 = PAGE / STUB_BYTES;
/// Where the kernel places libraries by itself; lower code is a program's own.
const LIBRARIES: u64 = 0x7000_0000_0000;
/// How far below a program's code room for stubs is looked for, in bytes.
const BELOW: [u64; 3] = [1 << 20, 64 << 20, 1 << 30];
/// For mappings where nothing is to be replaced.
const FIXED: i32 = libc::MAP_FIXED_NOREPLACE;

/// The bytes that make a patched site, and where they go.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    at: u64,
    bytes: Vec<u8>,
}

impl FastPath {
    /// The first call of a process image. Returns whether the call is made again.
    pub(super) fn set_up(
        &self,
        listener: &Listener,
        trapped: &Trapped,
        site: Site,
    ) -> Result<bool, Unfit> {
        let tid = trapped.tid;
        let status = self.fit(tid)?;
        let mut lent = Err(Errno::ESRCH);
        let lend = || lent = listener.lend(trapped.id, self.table.as_fd());
        let stopped = tracee::stop(listener, trapped, lend).map_err(Unfit::Trace)?;
        let Some(mut tracee) = stopped else {
            return Ok(true);
        };
        let done = lent
            .map_err(Unfit::Descriptor)
            .and_then(|fd| self.map(&mut tracee, fd as u64))
            .and_then(|()| self.write_site(&mut tracee, site, status.is_alone(tid)));
        drop(tracee);
        self.note(tid, site, done);
        Ok(true)
    }

    /// A call from another site of a process that has the image. Returns whether the call is made again.
    pub(super) fn patch(
        &self,
        listener: &Listener,
        trapped: &Trapped,
        site: Site,
    ) -> Result<bool, Unfit> {
        let tid = trapped.tid;
        let memory = tracee::memory(tid).map_err(Unfit::Memory)?;
        // The memory is now the caller's for good, if the number was still its own.
        if !listener.is_valid(trapped.id) {
            return Ok(false);
        }
        if read_sites(&memory)?.contains(&site.back()) {
            // A call that a signal has interrupted is made again at its instruction.
            return Ok(false);
        }
        let status = Status::of(tid).ok_or(Unfit::Unknown)?;
        if status.is_alone(tid)
            && let Some(change) = self.change(&memory, site)?
        {
            // Its only thread waits, and comes back behind the instruction.
            tracee::write(&memory, change.at, &change.bytes).map_err(Unfit::Memory)?;
            self.note(tid, site, Ok(()));
            return Ok(false);
        }
        let status = self.fit(tid)?;
        let stopped = tracee::stop(listener, trapped, || ()).map_err(Unfit::Trace)?;
        if let Some(mut tracee) = stopped {
            let done = self.write_site(&mut tracee, site, status.is_alone(tid));
            drop(tracee);
            self.note(tid, site, done);
        }
        Ok(true)
    }

    fn note(&self, tid: i32, site: Site, done: Result<(), Unfit>) {
        let Site {
            address,
            number,
            kind,
            ..
        } = site;
        match done {
            Ok(()) => tracing::debug!(tid, number, ?kind, "call site {address:#x} is patched"),
            // The call has been sent back.
            Err(why) => self.refuse(tid, why),
        }
    }

    /// Whether the process may be stopped, and may have the fast path.
    fn fit(&self, tid: i32) -> Result<Status, Unfit> {
        let status = Status::of(tid).ok_or(Unfit::Unknown)?;
        match &status {
            Status { tracer, .. } if *tracer != 0 => Err(Unfit::Traced(*tracer)),
            Status {
                filters: Some(filters),
                ..
            } if *filters > self.filters => Err(Unfit::OwnFilter),
            status if status.ignores_trap() => Err(Unfit::IgnoresTrap),
            Status {
                has_shadow_stack: true,
                ..
            } => Err(Unfit::ShadowStack),
            // Filters are the threads' own.
            _ if status.threads > 1 && most_filters(tid) > self.filters => Err(Unfit::OwnFilter),
            _ => Ok(status),
        }
    }

    /// Maps everything but stubs and sled, and writes what does not change.
    fn map(&self, tracee: &mut Tracee, fd: u64) -> Result<(), Unfit> {
        if let Err(why) = map_pages(tracee, CODE, EXECUTED_BYTES, libc::PROT_EXEC, FIXED) {
            close(tracee, fd);
            return Err(why);
        }
        let address = self.map_data(tracee, fd);
        if address.is_err() {
            unmap(tracee, CODE, EXECUTED_BYTES);
        }
        let mut page = self.header.clone();
        page[header::TABLE as usize..][..8].copy_from_slice(&address?.to_le_bytes());
        tracee::write(tracee.memory(), HEADER, &page).map_err(Unfit::Memory)
    }

    /// Runs the image's own part. Returns where the table is.
    fn map_data(&self, tracee: &mut Tracee, fd: u64) -> Result<u64, Unfit> {
        if let Err(error) = tracee::write(tracee.memory(), CODE, &self.image.bytes) {
            close(tracee, fd);
            return Err(Unfit::Memory(error));
        }
        let arguments = [fd, self.table.bytes() as u64, 0, 0, 0];
        let registers = tracee
            .run(self.image.set_up, arguments)
            .map_err(Unfit::Trace)?;
        result(registers.rax)?;
        Ok(registers.rbx)
    }

    /// Writes a site of a stopped thread: so that other threads can run meanwhile.
    fn write_site(&self, tracee: &mut Tracee, site: Site, alone: bool) -> Result<(), Unfit> {
        let mut change = self.change(tracee.memory(), site)?;
        if change.is_none() {
            self.make_room(tracee, site)?;
            change = self.change(tracee.memory(), site)?;
        }
        let change = change.ok_or(Unfit::Full)?;
        if alone {
            return tracee::write(tracee.memory(), change.at, &change.bytes).map_err(Unfit::Memory);
        }
        let mut bytes = [0; 8];
        bytes[..change.bytes.len()].copy_from_slice(&change.bytes);
        let arguments = [
            change.at & !(PAGE - 1),
            change.at,
            site.mapping.protection() as u64,
            u64::from_le_bytes(bytes),
            u64::from(site.kind == Kind::Near),
        ];
        let registers = tracee
            .run(self.image.patch, arguments)
            .map_err(Unfit::Trace)?;
        result(registers.rax).map(drop)
    }

    /// Prepares what the site needs and notes it in the program's list. None if a page must be mapped
    /// first, or there is no place in the list.
    fn change(&self, memory: &File, site: Site) -> Result<Option<Change>, Unfit> {
        match site.kind {
            Kind::Near => {
                let at = site.address - LOAD_BYTES as u64;
                let Some((stub, call)) = free_stub(memory, at)? else {
                    return Ok(None);
                };
                let code = self.image.stub(site.number, stub.at);
                let code = code.map_err(|_| Unfit::Unknown)?;
                tracee::write(memory, stub.at, &code)
                    .and_then(|()| tracee::write(memory, stub.used_at, &stub.used.to_le_bytes()))
                    .map_err(Unfit::Memory)?;
                let bytes = call.to_vec();
                Ok(remember_site(memory, site)?.then_some(Change { at, bytes }))
            }
            Kind::Low => {
                let (at, bytes) = (site.address, LOW_CALL.to_vec());
                let mapped = read_word(memory, HEADER + header::SLED)? != 0;
                Ok((mapped && remember_site(memory, site)?).then_some(Change { at, bytes }))
            }
        }
    }

    /// Maps what [`Self::change`] has missed.
    fn make_room(&self, tracee: &mut Tracee, site: Site) -> Result<(), Unfit> {
        match site.kind {
            Kind::Near => map_stubs(tracee, site),
            Kind::Low => {
                map_pages(tracee, 0, SLED_BYTES, libc::PROT_EXEC, FIXED)?;
                let memory = tracee.memory();
                tracee::write(memory, 0, &self.sled)
                    .and_then(|()| tracee::write(memory, HEADER + header::SLED, &[1]))
                    .map_err(Unfit::Memory)
            }
        }
    }
}

impl Site {
    /// Where the call comes back to.
    fn back(&self) -> u64 {
        self.address + SYSCALL.len() as u64
    }
}

/// A place for a stub.
struct Stub {
    at: u64,
    /// Where the number of stubs in its page is, and what it is with this one.
    used_at: u64,
    used: u64,
}

/// A free place that an instruction at `from` can call, and that call.
fn free_stub(memory: &File, from: u64) -> Result<Option<(Stub, [u8; LOAD_BYTES])>, Unfit> {
    for entry in stub_entries() {
        let (page, used) = (read_word(memory, entry)?, read_word(memory, entry + 8)?);
        if page == 0 || used >= STUBS_IN_PAGE {
            continue;
        }
        let at = page.wrapping_add(used * STUB_BYTES);
        if let Some(call) = near_call(from, at) {
            let (used_at, used) = (entry + 8, used + 1);
            return Ok(Some((Stub { at, used_at, used }, call)));
        }
    }
    Ok(None)
}

fn stub_entries() -> impl Iterator<Item = u64> {
    (0..header::STUB_PAGES as u64).map(|index| HEADER + header::STUBS + index * 16)
}

/// Maps a page for stubs near a site.
fn map_stubs(tracee: &mut Tracee, site: Site) -> Result<(), Unfit> {
    let mut free = None;
    for entry in stub_entries() {
        if read_word(tracee.memory(), entry)? == 0 {
            free = Some(entry);
            break;
        }
    }
    let entry = free.ok_or(Unfit::Full)?;
    let start = site.mapping.start;
    // 0: the kernel's choice, which is among libraries.
    let mut hints: Vec<u64> = BELOW
        .iter()
        .map(|below| start.saturating_sub(*below))
        .collect();
    let first = if site.address >= LIBRARIES {
        0
    } else {
        hints.len()
    };
    hints.insert(first, 0);
    for hint in hints {
        let access = libc::PROT_READ | libc::PROT_EXEC;
        let page = map_pages(tracee, hint, PAGE, access, 0)?;
        let reached = |at| near_call(site.address - LOAD_BYTES as u64, at).is_some();
        if reached(page) && reached(page + PAGE) {
            return tracee::write(tracee.memory(), entry, &page.to_le_bytes())
                .map_err(Unfit::Memory);
        }
        unmap(tracee, page, PAGE);
    }
    Err(Unfit::NoRoomNearby)
}

fn map_pages(
    tracee: &mut Tracee,
    at: u64,
    bytes: u64,
    protection: i32,
    flags: i32,
) -> Result<u64, Unfit> {
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let arguments = [at, bytes, protection as u64, flags as u64, u64::MAX, 0];
    tracee
        .system_call(number::MMAP.into(), arguments)
        .map_err(|error| Unfit::Mapping(at, error))
}

/// Closes the descriptor of the table, which is not mapped.
fn close(tracee: &mut Tracee, fd: u64) {
    let closed = tracee.system_call(number::CLOSE.into(), [fd, 0, 0, 0, 0, 0]);
    tracing::trace!(?closed, "the table is not mapped");
}

fn unmap(tracee: &mut Tracee, at: u64, bytes: u64) {
    let unmapped = tracee.system_call(number::MUNMAP.into(), [at, bytes, 0, 0, 0, 0]);
    tracing::trace!(?unmapped, "a mapping is not used");
}

/// What a routine of the image leaves in %rax.
fn result(rax: u64) -> Result<u64, Unfit> {
    match rax.cast_signed() {
        error @ -4095..0 => Err(Unfit::Routine(Errno::from_raw(-error as i32))),
        _ => Ok(rax),
    }
}

fn read_word(memory: &File, at: u64) -> Result<u64, Unfit> {
    let mut bytes = [0; 8];
    let read = memory.read_exact_at(&mut bytes, at);
    read.map_err(|_| Unfit::Memory(Errno::EIO))?;
    Ok(u64::from_le_bytes(bytes))
}

fn read_sites(memory: &File) -> Result<Vec<u64>, Unfit> {
    let mut bytes = vec![0; SITE_COUNT as usize * 8];
    let read = memory.read_exact_at(&mut bytes, SITES);
    read.map_err(|_| Unfit::Memory(Errno::EIO))?;
    let words = bytes.as_chunks().0.iter();
    Ok(words.map(|bytes| u64::from_le_bytes(*bytes)).collect())
}

/// Notes a site in the program's list, before it is patched. Returns false if there is no room.
fn remember_site(memory: &File, site: Site) -> Result<bool, Unfit> {
    let sites = read_sites(memory)?;
    if sites.iter().filter(|site| **site != 0).count() >= MOST_SITES {
        return Ok(false);
    }
    let back = site.back();
    let mut place = site_hash(back);
    while sites[place as usize] != 0 && sites[place as usize] != back {
        place = (place + 1) % SITE_COUNT;
    }
    let code = trampoline(back).map_err(|_| Unfit::Unknown)?;
    tracee::write(memory, TRAMPOLINES + place * TRAMPOLINE_BYTES, &code)
        .and_then(|()| tracee::write(memory, SITES + place * 8, &back.to_le_bytes()))
        .map_err(Unfit::Memory)?;
    Ok(true)
}
