//! Giving a process the fast path: mapping it, and patching a site.
#![forbid(unsafe_code)]

use std::{
    fs::File,
    os::{
        fd::{AsFd, RawFd},
        unix::fs::FileExt,
    },
};

use nix::errno::Errno;

use super::{
    FastPath, Site, Unfit, has_image,
    image::trampoline,
    jobs::Job,
    kernel::number,
    layout::{
        CODE, EXECUTED_BYTES, HEADER, PAGE, SITE_COUNT, SITES, SLED_BYTES, STUB_BYTES,
        TRAMPOLINE_BYTES, TRAMPOLINES, header, site_hash,
    },
    process::{Execution, Status, most_filters},
    site::{Kind, LOAD_BYTES, LOW_CALL, SYSCALL, near_call},
    switch_off,
    tracee::{self, Tracee},
    view::View,
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
    /// Patches the site that a call comes from, and sets its process up before, if that is new. The call is
    /// made again if the job has claimed it; otherwise it still waits.
    pub(super) fn improve_now(
        &self,
        listener: &Listener,
        trapped: &Trapped,
        site: Site,
        execution: Execution,
        job: &Job,
    ) -> Result<(), Unfit> {
        let tid = trapped.tid;
        self.fit(tid)?;
        // Since it was looked at, another thread may have come first.
        let memory = tracee::memory(tid).map_err(Unfit::Memory)?;
        let has_image = has_image(&memory);
        if has_image && read_sites(&memory)?.contains(&site.back()) {
            return Ok(());
        }
        drop(memory);
        let view = (!has_image).then(View::new).transpose();
        let view = view.map_err(Unfit::Table)?;
        let files = view.as_ref().map(View::lend).transpose();
        let files = files.map_err(Unfit::Table)?;
        let mut lent = [Err(Errno::ESRCH); 2];
        let lend = || {
            if let Some(files) = &files {
                lent = [0, 1].map(|index| listener.install(trapped.id, files[index].as_fd(), true));
            }
        };
        let Some(mut tracee) =
            tracee::stop(listener, trapped, || job.claim(), lend).map_err(Unfit::Trace)?
        else {
            return Ok(());
        };
        if let Some(view) = view {
            let fds = taken(&mut tracee, lent)?;
            self.map(&mut tracee, fds, &view)?;
            self.sockets.add(view);
        }
        self.patch(&mut tracee, site)?;
        if self.findings.is_unfit(tid, execution) {
            // Turned off meanwhile, perhaps before it was there.
            switch_off(tracee.memory()).map_err(Unfit::Memory)?;
        }
        // Before the next call comes.
        job.finish();
        drop(tracee);
        self.note(tid, site);
        Ok(())
    }

    fn note(&self, tid: i32, site: Site) {
        let Site {
            address,
            number,
            kind,
            ..
        } = site;
        tracing::debug!(tid, number, ?kind, "call site {address:#x} is patched");
    }

    /// Whether the process may be stopped, and may have the fast path.
    fn fit(&self, tid: i32) -> Result<(), Unfit> {
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
            Status {
                has_locked_memory: true,
                ..
            } => Err(Unfit::LockedMemory),
            // Filters are the threads' own.
            _ if status.threads > 1 && most_filters(tid) > self.filters => Err(Unfit::OwnFilter),
            _ => Ok(()),
        }
    }

    /// Maps everything but stubs and sled, and writes what does not change.
    fn map(&self, tracee: &mut Tracee, fds: [u64; 2], view: &View) -> Result<(), Unfit> {
        if let Err(why) = map_pages(tracee, CODE, EXECUTED_BYTES, libc::PROT_EXEC, FIXED) {
            close(tracee, &fds);
            return Err(why);
        }
        let addresses = self.map_data(tracee, fds, view);
        if addresses.is_err() {
            unmap(tracee, CODE, EXECUTED_BYTES);
        }
        let [table, holders] = addresses?;
        let mut page = self.header.clone();
        for (at, word) in [
            (header::TABLE, table),
            (header::HOLDERS, holders),
            (header::VIEW, view.id),
        ] {
            page[at as usize..][..8].copy_from_slice(&word.to_le_bytes());
        }
        tracee::write(tracee.memory(), HEADER, &page).map_err(Unfit::Memory)
    }

    /// Runs the image's own part. Returns where the table and the holders are.
    fn map_data(&self, tracee: &mut Tracee, fds: [u64; 2], view: &View) -> Result<[u64; 2], Unfit> {
        if let Err(error) = tracee::write(tracee.memory(), CODE, &self.image.bytes) {
            close(tracee, &fds);
            return Err(Unfit::Memory(error));
        }
        let arguments = [fds[0], view.bytes() as u64, fds[1]];
        let registers = tracee
            .run(self.image.set_up, arguments)
            .map_err(Unfit::Trace)?;
        result(registers.rax)?;
        Ok([registers.rbx, registers.r13])
    }

    /// Patches a site.
    fn patch(&self, tracee: &mut Tracee, site: Site) -> Result<(), Unfit> {
        let mut change = self.change(tracee.memory(), site)?;
        if change.is_none() {
            self.make_room(tracee, site)?;
            change = self.change(tracee.memory(), site)?;
        }
        let change = change.ok_or(Unfit::Full)?;
        replace(tracee, &change)
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
                let mapped = read_words(memory, HEADER + header::SLED, 1)? != [0];
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

/// Changes code that other threads may be running. No processor is to see half a change, or an instruction
/// of which it has fetched a part before: with code that is written while another runs it, anything may
/// happen unless that one is stopped (Intel SDM, "Handling Self- and Cross-Modifying Code"). So nothing is
/// written that may be running: the page is moved away, changed, and moved back. Each move is one step for
/// other threads, since who comes to a page that is not there waits until the kernel is done; and a
/// processor that has known the page before is interrupted, to forget it, and fetches all anew. In the
/// meantime the file's page is there, as it was before any of its sites was patched: as right, and slower. Processes
/// that share the memory share all this.
fn replace(tracee: &mut Tracee, change: &Change) -> Result<(), Unfit> {
    let page = change.at & !(PAGE - 1);
    let away = libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP;
    let moved = move_page(tracee, page, away, 0).map_err(Unfit::Page)?;
    let written = tracee::write(tracee.memory(), moved + (change.at - page), &change.bytes);
    let back = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    if let Err(error) = move_page(tracee, moved, back, page) {
        unmap(tracee, moved, PAGE);
        return Err(Unfit::Page(error));
    }
    written.map_err(Unfit::Memory)
}

fn move_page(tracee: &mut Tracee, from: u64, flags: i32, to: u64) -> nix::Result<u64> {
    let arguments = [from, PAGE, PAGE, flags as u64, to, 0];
    tracee.system_call(libc::SYS_mremap, arguments)
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
    for (entry, page, used) in stub_pages(memory)? {
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

/// The entries of the pages of stubs: where they are, and what they say.
fn stub_pages(memory: &File) -> Result<Vec<(u64, u64, u64)>, Unfit> {
    let entries = read_words(memory, HEADER + header::STUBS, 2 * header::STUB_PAGES)?;
    let entries = (0..).zip(entries.as_chunks().0);
    Ok(entries
        .map(|(index, [page, used])| (HEADER + header::STUBS + index * 16, *page, *used))
        .collect())
}

/// Maps a page for stubs near a site.
fn map_stubs(tracee: &mut Tracee, site: Site) -> Result<(), Unfit> {
    let entries = stub_pages(tracee.memory())?;
    let free = entries.into_iter().find(|(_, page, _)| *page == 0);
    let (entry, ..) = free.ok_or(Unfit::Full)?;
    let start = site.mapping;
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

/// The descriptors that a process was lent, if it has taken both.
fn taken(tracee: &mut Tracee, lent: [nix::Result<RawFd>; 2]) -> Result<[u64; 2], Unfit> {
    if let [Ok(table), Ok(holders)] = lent {
        return Ok([table as u64, holders as u64]);
    }
    for fd in lent.into_iter().flatten() {
        close(tracee, &[fd as u64]);
    }
    let refused = lent.into_iter().find_map(Result::err);
    Err(Unfit::Descriptor(refused.unwrap_or(Errno::EMFILE)))
}

/// Closes the descriptors of what is not mapped.
fn close(tracee: &mut Tracee, fds: &[u64]) {
    for fd in fds {
        let closed = tracee.system_call(number::CLOSE.into(), [*fd, 0, 0, 0, 0, 0]);
        tracing::trace!(?closed, "the table is not mapped");
    }
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

fn read_words(memory: &File, at: u64, count: usize) -> Result<Vec<u64>, Unfit> {
    let mut bytes = vec![0; count * 8];
    let read = memory.read_exact_at(&mut bytes, at);
    read.map_err(|_| Unfit::Memory(Errno::EIO))?;
    let words = bytes.as_chunks().0.iter();
    Ok(words.map(|bytes| u64::from_le_bytes(*bytes)).collect())
}

/// Whether the site is in the program's list. A call that a signal has interrupted is made again at its
/// instruction, and traps.
pub(super) fn is_patched(tid: i32, site: Site) -> Result<bool, Unfit> {
    let memory = tracee::memory(tid).map_err(Unfit::Memory)?;
    Ok(read_sites(&memory)?.contains(&site.back()))
}

/// Whether a site is in the program's list that has changed the page of `address`.
pub(super) fn is_page_patched(tid: i32, address: u64) -> bool {
    let sites = tracee::memory(tid).map(|memory| read_sites(&memory));
    let Ok(Ok(sites)) = sites else {
        return false;
    };
    let page = address & !(PAGE - 1);
    let first_bytes = sites.iter().flat_map(|back| {
        let site = back.wrapping_sub(SYSCALL.len() as u64);
        [site, site.wrapping_sub(LOAD_BYTES as u64)]
    });
    first_bytes
        .into_iter()
        .any(|first| (page..page + PAGE).contains(&first))
}

fn read_sites(memory: &File) -> Result<Vec<u64>, Unfit> {
    read_words(memory, SITES, SITE_COUNT as usize)
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
