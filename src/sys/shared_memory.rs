//! Memory that this process shares with others.

use std::{
    ffi::CStr,
    num::NonZeroUsize,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU32, AtomicU64},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open},
    libc,
    sys::{
        memfd::{MFdFlags, memfd_create},
        mman::{MapFlags, ProtFlags, mmap, munmap},
        stat::Mode,
    },
    unistd::ftruncate,
};

/// `F_SEAL_FUTURE_WRITE` (linux/fcntl.h, since 5.1), which nix does not name.
const FUTURE_WRITE: SealFlag = SealFlag::from_bits_retain(0x10);

/// A file in memory, zero at first, mapped here.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    file: OwnedFd,
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to no thread, and is handed out as atomics alone.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// So many bytes; pages that are not touched take no memory. Nobody else can write them, whatever descriptor they
    /// have: the file is sealed.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM: memfd_create(2), mmap(2). EINVAL: no bytes.
    pub(crate) fn new(name: &CStr, bytes: usize) -> nix::Result<Self> {
        Self::sealed(name, bytes, FUTURE_WRITE)
    }

    /// The same, and whoever has a descriptor can write them.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn for_all(name: &CStr, bytes: usize) -> nix::Result<Self> {
        Self::sealed(name, bytes, SealFlag::empty())
    }

    fn sealed(name: &CStr, bytes: usize, writing: SealFlag) -> nix::Result<Self> {
        let length = NonZeroUsize::new(bytes).ok_or(Errno::EINVAL)?;
        let size = i64::try_from(bytes).map_err(|_| Errno::EINVAL)?;
        let file = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ftruncate(&file, size)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses; no other code knows it.
        let start = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, &file, 0) }?.cast();
        let memory = Self { file, start, bytes };
        let fixed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
        let seals = fixed | writing | SealFlag::F_SEAL_SEAL;
        fcntl(&memory.file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(memory)
    }

    /// A descriptor to read by, and to map, for another process. Until that has neither, [`Self::is_lent`].
    ///
    /// # Errors
    /// EMFILE, ENFILE; ENOENT: there is no /proc.
    pub(crate) fn lend(&self) -> nix::Result<OwnedFd> {
        // Opened anew: what is lent are the file descriptions but ours.
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let lent = open(
            path.as_str(),
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        // Of the file description, which mappings keep: fcntl_locking(2).
        fcntl(&lent, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_RDLCK)))?;
        Ok(lent)
    }

    /// Whether a process has what was [lent](Self::lend), as a descriptor or mapped.
    pub(crate) fn is_lent(&self) -> bool {
        let mut lock = whole_file(libc::F_WRLCK);
        let asked = fcntl(&self.file, FcntlArg::F_OFD_GETLK(&mut lock));
        asked.is_err() || i32::from(lock.l_type) != libc::F_UNLCK
    }

    /// Another descriptor of it.
    ///
    /// # Errors
    /// EMFILE, ENFILE.
    pub(crate) fn share(&self) -> nix::Result<OwnedFd> {
        let cloned = self.file.try_clone();
        cloned.map_err(|error| Errno::try_from(error).unwrap_or(Errno::EMFILE))
    }

    /// The number of bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// As words of 4 bytes.
    pub(crate) fn words(&self) -> &[AtomicU32] {
        // SAFETY: the mapping is page-aligned, as long as `bytes`, zeroed and alive as long as self;
        // atomics may be written by several.
        unsafe { slice::from_raw_parts(self.start.cast().as_ptr(), self.bytes / size_of::<u32>()) }
    }

    /// As words of 8 bytes, the same memory.
    pub(crate) fn long_words(&self) -> &[AtomicU64] {
        // SAFETY: as above. x86-64 keeps accesses of different sizes coherent.
        unsafe { slice::from_raw_parts(self.start.cast().as_ptr(), self.bytes / size_of::<u64>()) }
    }
}

/// A lock (fcntl_locking(2)) of this kind.
fn whole_file(kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no slice of it outlives self.
        let unmapped = unsafe { munmap(self.start.cast(), self.bytes) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use nix::unistd::write;

    use super::*;

    #[test]
    fn only_this_mapping_can_be_written() {
        let memory = SharedMemory::new(c"test", 4096).unwrap();
        memory.words()[1].store(7, Ordering::Relaxed);
        assert_eq!(memory.long_words()[0].load(Ordering::Relaxed), 7 << 32);
        assert_eq!(write(&memory.file, b"x"), Err(Errno::EPERM));
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let length = NonZeroUsize::new(4096).unwrap();
        // SAFETY: a new mapping, if there is one at all.
        let writable = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, &memory, 0) };
        assert_eq!(writable, Err(Errno::EPERM));
        assert_eq!(ftruncate(&memory.file, 0), Err(Errno::EPERM));
    }

    #[test]
    fn what_is_lent_is_so_while_it_is_mapped() {
        let memory = SharedMemory::new(c"test", 4096).unwrap();
        assert!(!memory.is_lent());
        let lent = memory.lend().unwrap();
        let length = NonZeroUsize::new(4096).unwrap();
        let (read, write) = (ProtFlags::PROT_READ, ProtFlags::PROT_WRITE);
        // SAFETY: a new mapping, if there is one at all.
        let written = unsafe { mmap(None, length, write, MapFlags::MAP_SHARED, &lent, 0) };
        assert_eq!(written, Err(Errno::EACCES));
        // SAFETY: a new mapping.
        let mapped = unsafe { mmap(None, length, read, MapFlags::MAP_SHARED, &lent, 0) }.unwrap();
        drop(lent);
        assert!(memory.is_lent());
        // SAFETY: the mapping is ours.
        unsafe { munmap(mapped, 4096) }.unwrap();
        assert!(!memory.is_lent());
    }

    #[test]
    fn others_can_write_what_is_for_all() {
        let memory = SharedMemory::for_all(c"test", 4096).unwrap();
        assert_eq!(write(&memory.file, &[7]), Ok(1));
        assert_eq!(memory.words()[0].load(Ordering::Relaxed), 7);
        assert_eq!(ftruncate(&memory.file, 0), Err(Errno::EPERM));
    }
}
