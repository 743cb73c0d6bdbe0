//! One trapped call, and the only way a handler touches the program: its arguments, its memory, its
//! descriptors.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, IoSlice, IoSliceMut},
    os::{
        fd::{AsFd, OwnedFd, RawFd},
        unix::fs::FileExt,
    },
    sync::{Mutex, PoisonError},
};

use ::pidfd::PidFd;
use nix::{
    errno::Errno,
    sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev},
    unistd::Pid,
};
use socket2::SockRef;

use crate::{
    emul::socket::SocketId,
    sys::{
        pidfd,
        seccomp::{Listener, Trapped},
    },
};

/// Nothing of a program's lies in the first page. What the fast path has there for some programs is code, which
/// could be read from here: a null pointer is to stay one.
const LOWEST: u64 = 4096;

/// Most parts that are written at a time: a value and its length.
const PARTS: usize = 2;

/// An address in the program, which cannot be followed here by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ForeignPtr(u64);

impl ForeignPtr {
    /// Whether the program passed NULL.
    pub(crate) fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The address, for the log.
    pub(crate) fn address(self) -> u64 {
        self.0
    }
}

/// A trapped call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    listener: &'a Listener,
    /// What the kernel said of it.
    pub(crate) trapped: Trapped,
}

impl<'a> Call<'a> {
    /// The call that `trapped` describes, on the listener it came from.
    pub(crate) fn new(listener: &'a Listener, trapped: Trapped) -> Self {
        Self { listener, trapped }
    }

    /// Argument `index` as an int: its upper half is whatever the register held.
    pub(crate) fn int(&self, index: usize) -> i32 {
        self.trapped.args[index] as i32
    }

    /// Argument `index` as an address.
    pub(crate) fn pointer(&self, index: usize) -> ForeignPtr {
        ForeignPtr(self.trapped.args[index])
    }

    /// Copies `length` bytes out of the program, once.
    ///
    /// # Errors
    /// EFAULT: not all of it is readable. ESRCH: the caller has gone.
    pub(crate) fn read(&self, from: ForeignPtr, length: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; length];
        if length == 0 {
            self.still_valid()?;
            return Ok(bytes);
        }
        let remote = [self.remote(from, length)?];
        let read = process_vm_readv(self.pid(), &mut [IoSliceMut::new(&mut bytes)], &remote)
            .or_else(|error| {
                let memory = self.memory_file(error, false)?;
                memory
                    .read_at(&mut bytes, from.0)
                    .map_err(|_| Errno::EFAULT)
            })?;
        // The memory may have been another task's by then: seccomp_unotify(2).
        self.still_valid()?;
        (read == length).then_some(bytes).ok_or(Errno::EFAULT)
    }

    /// Copies an int out of the program.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn read_int(&self, from: ForeignPtr) -> Result<i32, Errno> {
        let bytes = self.read(from, 4)?;
        bytes
            .first_chunk()
            .map(|int| i32::from_ne_bytes(*int))
            .ok_or(Errno::EFAULT)
    }

    /// Copies `bytes` into the program, and then the int `length` to `length_at`: a value-result
    /// argument. Its length was read just before, which has shown that the caller waits.
    ///
    /// # Errors
    /// EFAULT: not all of it is writable.
    pub(crate) fn write_value(
        &self,
        to: ForeignPtr,
        bytes: &[u8],
        length_at: ForeignPtr,
        length: i32,
    ) -> Result<(), Errno> {
        let length = length.to_ne_bytes();
        let (value, length) = ((to, bytes), (length_at, length.as_slice()));
        match bytes {
            [] => self.write(&[length]),
            _ => self.write(&[value, length]),
        }
    }

    /// Copies each of `parts` into the program. Something has been read of it just before, which has
    /// shown that the caller waits.
    ///
    /// # Errors
    /// EFAULT: not all of it is writable.
    pub(crate) fn write(&self, parts: &[(ForeignPtr, &[u8])]) -> Result<(), Errno> {
        let mut local = [IoSlice::new(&[]); PARTS];
        let mut remote = [RemoteIoVec { base: 0, len: 0 }; PARTS];
        let count = parts.len().min(PARTS);
        for (index, (to, bytes)) in parts[..count].iter().enumerate() {
            local[index] = IoSlice::new(bytes);
            remote[index] = self.remote(*to, bytes.len())?;
        }
        let expected: usize = local.iter().map(|slice| slice.len()).sum();
        let written =
            process_vm_writev(self.pid(), &local[..count], &remote[..count]).or_else(|error| {
                let memory = self.memory_file(error, true)?;
                let one = |(to, bytes): &(ForeignPtr, &[u8])| memory.write_at(bytes, to.0);
                let written: io::Result<usize> = parts.iter().map(one).sum();
                written.map_err(|_| Errno::EFAULT)
            })?;
        (written == expected).then_some(()).ok_or(Errno::EFAULT)
    }

    /// A copy of the caller's descriptor `fd`: the same open file. It may be another task's, whose
    /// number is the caller's by now: nothing is to be changed for it before [`Self::read`] or
    /// [`Self::still_valid`] has shown that the caller waits. An answer shows that by itself.
    ///
    /// # Errors
    /// EBADF: no such descriptor. EPERM: the program cannot be inspected.
    pub(crate) fn descriptor(&self, tasks: &Tasks, fd: RawFd) -> Result<OwnedFd, Errno> {
        tasks.get_fd(self.trapped.tid, fd)
    }

    /// The caller's thread id.
    pub(crate) fn tid(&self) -> i32 {
        self.trapped.tid
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.trapped.tid)
    }

    fn remote(&self, at: ForeignPtr, length: usize) -> Result<RemoteIoVec, Errno> {
        if at.0 < LOWEST {
            return Err(Errno::EFAULT);
        }
        let base = usize::try_from(at.0).map_err(|_| Errno::EFAULT)?;
        base.checked_add(length).ok_or(Errno::EFAULT)?;
        Ok(RemoteIoVec { base, len: length })
    }

    /// Whether the caller still waits.
    ///
    /// # Errors
    /// ESRCH: it has gone.
    pub(crate) fn still_valid(&self) -> Result<(), Errno> {
        if self.listener.is_valid(self.trapped.id) {
            Ok(())
        } else {
            Err(Errno::ESRCH)
        }
    }

    /// /proc/PID/mem, where process_vm_readv(2) itself is not permitted (some containers).
    fn memory_file(&self, error: Errno, write: bool) -> Result<File, Errno> {
        if !matches!(error, Errno::EPERM | Errno::ENOSYS) {
            return Err(Errno::EFAULT);
        }
        OpenOptions::new()
            .read(true)
            .write(write)
            .open(format!("/proc/{}/mem", self.trapped.tid))
            .map_err(|_| Errno::EFAULT)
    }
}

/// Handles to the threads that have called last.
#[derive(Default)]
pub(crate) struct Tasks(Mutex<HashMap<i32, PidFd>>);

/// As many are kept; a handle is a descriptor.
const TASKS: usize = 64;

impl Tasks {
    /// A copy of a descriptor of the thread that has the number `tid` now. A handle is to the task and
    /// not to its number, and that goes to another task only when this one has ended, from when on its
    /// handle says ESRCH: one that still works is the right one.
    pub(super) fn get_fd(&self, tid: i32, fd: RawFd) -> Result<OwnedFd, Errno> {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = tasks.get(&tid) {
            match pidfd::get_fd(task, fd) {
                Err(Errno::ESRCH) => tasks.remove(&tid),
                result => return result,
            };
        }
        let task = match pidfd::open_thread(tid) {
            // A handle to its process, which may outlive the thread, is not kept.
            Err(Errno::EINVAL) => return pidfd::get_fd(&open_task(tid)?, fd),
            result => result?,
        };
        let copy = pidfd::get_fd(&task, fd);
        if tasks.len() >= TASKS {
            tasks.clear();
        }
        tasks.insert(tid, task);
        copy
    }
}

/// A handle to the thread `tid`; before Linux 6.9, to its process, which has the same descriptors
/// unless the thread has unshared them.
pub(crate) fn open_task(tid: i32) -> nix::Result<PidFd> {
    match pidfd::open_thread(tid) {
        Err(Errno::EINVAL) => pidfd::open(super::tasks::thread_group(tid).ok_or(Errno::ESRCH)?),
        result => result,
    }
}

/// The identity of a socket, SO_COOKIE; none for what is not a socket.
pub(crate) fn identity(fd: impl AsFd) -> Option<SocketId> {
    SockRef::from(&fd).cookie().ok().map(SocketId)
}
