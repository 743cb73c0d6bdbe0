//! What /proc tells of the wrapped tasks: pending signals, and who holds which socket.
#![forbid(unsafe_code)]

use std::{
    collections::HashSet,
    fs,
    os::fd::{OwnedFd, RawFd},
    path::Path,
};

use super::{
    call::{Tasks, identity},
    sockets::ProgramEnd,
};

/// A descriptor in some task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The thread.
    pub(crate) tid: i32,
    /// Its descriptor.
    pub(crate) fd: RawFd,
}

impl Holder {
    /// A copy of the descriptor, if it is still this socket. One of another is not made: that would be kept open.
    pub(super) fn fetch(self, tasks: &Tasks, socket: ProgramEnd) -> Option<OwnedFd> {
        let Self { tid, fd } = self;
        let link = fs::read_link(format!("/proc/{tid}/fd/{fd}")).ok()?;
        if socket_inode(link.to_str()?)? != socket.inode {
            return None;
        }
        let copy = tasks.get_fd(tid, fd).ok()?;
        (identity(&copy) == Some(socket.cookie)).then_some(copy)
    }
}

/// Whether a signal waits for `tid` that it does not block. While a call is held, the kernel keeps
/// such a signal from interrupting it, so the supervisor has to look (proc_pid_status(5)).
pub(crate) fn has_pending_signal(tid: i32) -> bool {
    let Some(status) = status(tid) else {
        return false;
    };
    let mask = |name| mask(&status, name);
    (mask("SigPnd") | mask("ShdPnd")) & !mask("SigBlk") != 0
}

/// Whether `tid` has CAP_NET_BIND_SERVICE, capabilities(7).
pub(crate) fn may_bind_any_port(tid: i32) -> bool {
    const CAP_NET_BIND_SERVICE: u32 = 10;
    status(tid).is_some_and(|status| mask(&status, "CapEff") & 1 << CAP_NET_BIND_SERVICE != 0)
}

/// The process that `tid` is a thread of.
pub(crate) fn thread_group(tid: i32) -> Option<i32> {
    field(&status(tid)?, "Tgid")?.parse().ok()
}

/// Whether a signal was sent by systemd, the system's or the user's: with `KillMode=control-group`, systemd.kill(5), it
/// sends one to each process of a service.
pub(crate) fn is_of_systemd(signal: &libc::signalfd_siginfo) -> bool {
    const INIT: u32 = 1;
    if signal.ssi_code > libc::SI_USER {
        return false;
    }
    match fs::read(format!("/proc/{}/comm", signal.ssi_pid)) {
        Ok(name) => name == b"systemd\n",
        // ProtectProc=invisible shows it to nobody.
        Err(_) => signal.ssi_pid == INIT,
    }
}

fn status(tid: i32) -> Option<String> {
    fs::read_to_string(format!("/proc/{tid}/status")).ok()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':');
    status.lines().find_map(line).map(str::trim)
}

fn mask(status: &str, name: &str) -> u64 {
    let bits = field(status, name).and_then(|bits| u64::from_str_radix(bits, 16).ok());
    bits.unwrap_or(0)
}

/// Whether descriptor `fd` of `tid` is closed by execve(2) (proc_pid_fdinfo(5)).
pub(crate) fn is_cloexec(tid: i32, fd: RawFd) -> bool {
    fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}"))
        .ok()
        .and_then(|text| {
            let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
            i32::from_str_radix(flags.trim(), 8).ok()
        })
        .is_some_and(|flags| flags & libc::O_CLOEXEC != 0)
}

/// All sockets of all tasks that can be inspected, by their inodes. Only for rare events: it reads /proc from end to end.
pub(crate) fn sockets() -> impl Iterator<Item = (Holder, u64)> {
    processes().flat_map(|tid| {
        let sockets = descriptors(tid).filter_map(|(fd, link)| Some((fd, socket_inode(&link)?)));
        sockets.map(move |(fd, inode)| (Holder { tid, fd }, inode))
    })
}

/// Looks for the socket with this inode among them.
pub(crate) fn find_holder(wanted: u64) -> Option<Holder> {
    sockets().find_map(|(holder, inode)| (inode == wanted).then_some(holder))
}

/// Those of `inodes` that no socket has any more. /proc/net/unix alone is not believed: it is read in
/// pages, and a socket is missed if another is closed in between.
pub(crate) fn gone(inodes: &HashSet<u64>) -> Option<HashSet<u64>> {
    let listed = unix_sockets()?;
    let mut missing: HashSet<u64> = inodes.difference(&listed).copied().collect();
    if !missing.is_empty() {
        for (_, held) in sockets() {
            missing.remove(&held);
        }
    }
    Some(missing)
}

fn socket_inode(link: &str) -> Option<u64> {
    let inode = link.strip_prefix("socket:[")?.strip_suffix(']')?;
    inode.parse().ok()
}

/// The inodes of all AF_UNIX sockets in this network namespace, which every emulated one was made in
/// (proc_pid_net(5)).
fn unix_sockets() -> Option<HashSet<u64>> {
    let list = fs::read_to_string("/proc/self/net/unix").ok()?;
    let inode = |line: &str| line.split_whitespace().nth(6)?.parse().ok();
    Some(list.lines().skip(1).filter_map(inode).collect())
}

/// A thread of each process other than this one. They share their descriptors unless they unshared them, which is rare
/// enough to be left out here. A main thread that has ended has none.
fn processes() -> impl Iterator<Item = i32> {
    let own = std::process::id().cast_signed();
    let others = numbers(Path::new("/proc")).filter(move |&pid| pid != own);
    others.map(|pid| {
        let threads = || numbers(&Path::new("/proc").join(pid.to_string()).join("task"));
        let has_descriptors = |tid: &i32| descriptors(*tid).next().is_some();
        if has_descriptors(&pid) {
            return pid;
        }
        threads().find(has_descriptors).unwrap_or(pid)
    })
}

fn descriptors(pid: i32) -> impl Iterator<Item = (RawFd, String)> {
    let folder = Path::new("/proc").join(pid.to_string()).join("fd");
    numbers(&folder).filter_map(move |fd| {
        let link = fs::read_link(folder.join(fd.to_string())).ok()?;
        Some((fd, link.to_str()?.to_owned()))
    })
}

fn numbers(folder: &Path) -> impl Iterator<Item = i32> + use<> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsRawFd, unix::net::UnixStream};

    use super::*;

    #[test]
    fn cloexec_is_read_from_fdinfo() {
        let (socket, _) = UnixStream::pair().unwrap();
        let tid = nix::unistd::gettid().as_raw();
        assert!(is_cloexec(tid, socket.as_raw_fd()));
    }

    #[test]
    fn a_holder_is_believed_only_for_the_same_socket() {
        let (ours, other) = UnixStream::pair().unwrap();
        let tid = nix::unistd::gettid().as_raw();
        let holder = Holder {
            tid,
            fd: ours.as_raw_fd(),
        };
        let fetch = |end: &UnixStream| {
            let end = ProgramEnd::of(&OwnedFd::from(end.try_clone().unwrap())).unwrap();
            holder.fetch(&Tasks::default(), end)
        };
        assert!(fetch(&ours).is_some());
        assert!(fetch(&other).is_none());
    }

    #[test]
    fn a_socket_is_gone_when_it_is_closed() {
        let (socket, other) = UnixStream::pair().unwrap();
        let inodes = HashSet::from([nix::sys::stat::fstat(&socket).unwrap().st_ino]);
        assert!(gone(&inodes).unwrap().is_empty());
        drop((socket, other));
        assert_eq!(gone(&inodes), Some(inodes));
    }

    #[test]
    fn this_thread_has_no_signal_waiting_and_a_group() {
        let tid = nix::unistd::gettid().as_raw();
        assert!(!has_pending_signal(tid));
        assert_eq!(thread_group(tid), Some(std::process::id().cast_signed()));
    }
}
