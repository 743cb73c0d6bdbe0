//! The trial: a child under the filter makes trapped calls, which are answered as the supervisor
//! answers them.
#![forbid(unsafe_code)]

use std::{
    io::{IoSliceMut, Read, Write},
    mem,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{Signal, kill},
        socket::{AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, bind, socket},
        uio::{RemoteIoVec, process_vm_readv},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use socket2::SockRef;

use crate::{
    policy::Sockets,
    supervisor::filter,
    sys::{
        fd::{receive_with_fd, send_with_fd},
        pidfd, probe,
        process::{Fork, fork},
        seccomp::{FilterFlags, Listener, Trapped, install_with_listener},
    },
};

/// Longer than any healthy step takes.
const PATIENCE: Duration = Duration::from_secs(5);
/// The address that the child binds, and that is looked for in its memory.
const ADDRESS: (u8, u16) = (127, 4433);

/// What worked while a child's calls were answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trial {
    /// The filter was granted only in exchange for no_new_privs.
    pub(super) no_new_privs: bool,
    /// SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP.
    pub(super) sync_wake_up: Result<(), Errno>,
    /// SECCOMP_IOCTL_NOTIF_ADDFD.
    pub(super) inject: Result<(), Errno>,
    /// The same with SECCOMP_ADDFD_FLAG_SETFD.
    pub(super) replace: Result<(), Errno>,
    /// PIDFD_THREAD.
    pub(super) thread_handle: Result<(), Errno>,
    /// pidfd_getfd(2).
    pub(super) copy_descriptor: Result<(), Errno>,
    /// process_vm_readv(2).
    pub(super) read_memory: Result<(), Errno>,
    /// Whether /proc/PID/mem serves in its place.
    pub(super) memory_file: bool,
    /// What the program made of it all.
    pub(super) program: Result<(), Failed>,
}

/// The step at which the child gave up; its exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Failed {
    /// socket() answered by an injected descriptor.
    Inject = 1,
    /// bind() answered by the supervisor.
    Answer,
    /// A descriptor replaced under the program.
    Replace,
    /// io_uring_setup() answered by the filter.
    IoUring,
    /// It ended otherwise, or did not end.
    Lost,
}

impl Failed {
    fn from_exit(code: i32) -> Self {
        [Self::Inject, Self::Answer, Self::Replace, Self::IoUring]
            .into_iter()
            .find(|failed| *failed as i32 == code)
            .unwrap_or(Self::Lost)
    }
}

/// Why there was no trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// This process has a listener above it.
    AlreadyWrapped,
    /// The filter is refused.
    Install(Errno),
    /// Something as common as fork(2) failed.
    System(Errno),
}

impl From<Errno> for Obstacle {
    fn from(error: Errno) -> Self {
        Self::System(error)
    }
}

/// What the child says first. The listener comes with it if the filter is installed.
enum Greeting {
    Installed { no_new_privs: bool },
    Refused(Errno),
}

impl Greeting {
    const BYTES: usize = 2;

    /// errno(3) numbers are below 256 on this architecture.
    fn encode(&self) -> [u8; Self::BYTES] {
        match self {
            Self::Installed { no_new_privs } => [0, u8::from(*no_new_privs)],
            Self::Refused(error) => [1, *error as i32 as u8],
        }
    }

    fn decode([kind, value]: [u8; Self::BYTES]) -> Self {
        match kind {
            0 => Self::Installed {
                no_new_privs: value != 0,
            },
            _ => Self::Refused(Errno::from_raw(value.into())),
        }
    }
}

/// Wraps a child and answers its calls. To be called while the process has one thread.
///
/// # Errors
/// What keeps a child from being wrapped.
pub(super) fn run() -> Result<Trial, Obstacle> {
    let program = filter::program(&Sockets::default(), false).map_err(|_| Errno::EINVAL)?;
    let (ours, childs) = UnixStream::pair().map_err(|_| Errno::last())?;
    let child = match fork()? {
        Fork::Child => {
            drop(ours);
            let code =
                behave_as_program(&program, &childs).map_or_else(|failed| failed as i32, |()| 0);
            std::process::exit(code);
        }
        Fork::Parent(pid) => Child { pid, channel: ours },
    };
    drop(childs);
    wait_readable(child.channel.as_fd())?;
    let mut greeting = [0; Greeting::BYTES];
    let listener = receive_with_fd(child.channel.as_fd(), &mut greeting, MsgFlags::empty())?;
    match (Greeting::decode(greeting), listener) {
        (Greeting::Refused(Errno::EBUSY), _) => Err(Obstacle::AlreadyWrapped),
        (Greeting::Refused(error), _) => Err(Obstacle::Install(error)),
        (Greeting::Installed { .. }, None) => Err(Obstacle::System(Errno::EMFILE)),
        (Greeting::Installed { no_new_privs }, Some(listener)) => {
            Ok(supervise(&Listener::from(listener), no_new_privs, child))
        }
    }
}

/// The child: an ordinary program's calls, each result checked.
fn behave_as_program(
    filter: &[seccompiler::sock_filter],
    supervisor: &UnixStream,
) -> Result<(), Failed> {
    let (greeting, listener) = match install(filter) {
        Ok((listener, no_new_privs)) => (Greeting::Installed { no_new_privs }, listener),
        Err(error) => {
            let said = (&mut &*supervisor).write_all(&Greeting::Refused(error).encode());
            return said.map_err(|_| Failed::Lost);
        }
    };
    send_with_fd(supervisor.as_fd(), &greeting.encode(), listener.as_fd())
        .map_err(|_| Failed::Lost)?;
    drop(listener);
    let socket = || {
        socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::empty(),
            None,
        )
    };
    let first = socket().map_err(|_| Failed::Inject)?;
    expect_byte(&first, b'i').ok_or(Failed::Inject)?;
    let (network, port) = ADDRESS;
    let address = SockaddrIn::new(network, 0, 0, 1, port);
    bind(first.as_raw_fd(), &address).map_err(|_| Failed::Answer)?;
    // The second answer is the first number, with another file behind it.
    mem::forget(first);
    let second = socket().map_err(|_| Failed::Replace)?;
    expect_byte(&second, b'r').ok_or(Failed::Replace)?;
    match probe::io_uring_setup() {
        Some(Errno::ENOSYS) => Ok(()),
        _ => Err(Failed::IoUring),
    }
}

fn install(filter: &[seccompiler::sock_filter]) -> nix::Result<(Listener, bool)> {
    let flags = FilterFlags {
        wait_killable: true,
    };
    match install_with_listener(filter, flags) {
        Err(Errno::EACCES) => {
            prctl::set_no_new_privs()?;
            Ok((install_with_listener(filter, flags)?, true))
        }
        result => Ok((result?, false)),
    }
}

fn expect_byte(socket: &OwnedFd, expected: u8) -> Option<()> {
    let mut stream = UnixStream::from(socket.try_clone().ok()?);
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    (byte[0] == expected).then_some(())
}

/// The child, which is ended in every case.
struct Child {
    pid: Pid,
    /// Its end is this channel's end.
    channel: UnixStream,
}

impl Child {
    /// What the program made of the answers.
    fn verdict(self) -> Result<(), Failed> {
        // A child that hangs is killed by the drop, and then lost.
        wait_readable(self.channel.as_fd()).map_err(|_| Failed::Lost)?;
        match waitpid(self.pid, None) {
            Ok(WaitStatus::Exited(_, 0)) => Ok(()),
            Ok(WaitStatus::Exited(_, code)) => Err(Failed::from_exit(code)),
            _ => Err(Failed::Lost),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Only a child that was not waited for has its number still.
        let left = waitpid(self.pid, Some(WaitPidFlag::WNOHANG));
        if left == Ok(WaitStatus::StillAlive) {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

/// The parent: answers the three calls. A step that fails leaves the later ones failed too.
fn supervise(listener: &Listener, no_new_privs: bool, child: Child) -> Trial {
    let mut trial = Trial {
        no_new_privs,
        sync_wake_up: listener.set_sync_wake_up(),
        inject: Err(Errno::ECANCELED),
        replace: Err(Errno::ECANCELED),
        thread_handle: Err(Errno::ECANCELED),
        copy_descriptor: Err(Errno::ECANCELED),
        read_memory: Err(Errno::ECANCELED),
        memory_file: false,
        program: Err(Failed::Lost),
    };
    if let Err(error) = answer_calls(listener, &mut trial) {
        tracing::debug!(%error, "the trial ended early");
        return trial;
    }
    trial.program = child.verdict();
    trial
}

fn answer_calls(listener: &Listener, trial: &mut Trial) -> nix::Result<()> {
    let (given, _peer) = socket_with(b'i')?;
    let call = next_call(listener)?;
    let installed = listener.install(call.id, given.as_fd(), true);
    trial.inject = installed.map(drop);
    let number = installed?;
    listener.answer(call.id, number.into(), 0)?;

    let call = next_call(listener)?;
    inspect(&call, &given, trial);
    listener.answer(call.id, 0, 0)?;

    let (other, _peer) = socket_with(b'r')?;
    let call = next_call(listener)?;
    trial.replace = listener.replace(call.id, other.as_fd(), number, true);
    listener.answer(call.id, number.into(), 0)
}

/// Looks into the caller of bind(): its descriptor must be `given`, its memory must hold ADDRESS.
fn inspect(call: &Trapped, given: &UnixStream, trial: &mut Trial) {
    let thread = pidfd::open_thread(call.tid);
    trial.thread_handle = thread.as_ref().map(drop).map_err(|error| *error);
    trial.copy_descriptor = thread
        .or_else(|_| pidfd::open(call.tid))
        .and_then(|task| pidfd::get_fd(&task, call.args[0] as RawFd))
        .and_then(|copy| same_socket(&copy, given).ok_or(Errno::EBADF));
    let mut bytes = [0; mem::size_of::<libc::sockaddr_in>()];
    let remote = [RemoteIoVec {
        base: call.args[1] as usize,
        len: bytes.len(),
    }];
    let child = Pid::from_raw(call.tid);
    let (network, port) = ADDRESS;
    trial.read_memory = process_vm_readv(child, &mut [IoSliceMut::new(&mut bytes)], &remote)
        .and_then(|_| {
            // sockaddr_in: family, port, address.
            let found = bytes[2..4] == port.to_be_bytes() && bytes[4] == network;
            found.then_some(()).ok_or(Errno::EFAULT)
        });
    trial.memory_file = std::fs::File::open(format!("/proc/{child}/mem")).is_ok();
}

fn same_socket(one: &OwnedFd, other: &UnixStream) -> Option<()> {
    let cookies = (
        SockRef::from(one).cookie().ok()?,
        SockRef::from(other).cookie().ok()?,
    );
    (cookies.0 == cookies.1).then_some(())
}

/// A socket from which `byte` can be read, and the peer that wrote it.
fn socket_with(byte: u8) -> nix::Result<(UnixStream, UnixStream)> {
    let (one, mut other) = UnixStream::pair().map_err(|_| Errno::last())?;
    other.write_all(&[byte]).map_err(|_| Errno::last())?;
    Ok((one, other))
}

fn next_call(listener: &Listener) -> nix::Result<Trapped> {
    wait_readable(listener.as_fd())?;
    listener.receive()
}

fn wait_readable(fd: BorrowedFd<'_>) -> nix::Result<()> {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    let limit = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    match (poll(&mut fds, limit)?, fds[0].revents()) {
        (0, _) => Err(Errno::ETIMEDOUT),
        (_, Some(ready)) if ready.contains(PollFlags::POLLIN) => Ok(()),
        // The other side has gone.
        _ => Err(Errno::ESRCH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_survive_the_channel() {
        let sent = Greeting::Refused(Errno::EBUSY).encode();
        assert!(matches!(
            Greeting::decode(sent),
            Greeting::Refused(Errno::EBUSY)
        ));
        let sent = Greeting::Installed { no_new_privs: true }.encode();
        assert!(matches!(
            Greeting::decode(sent),
            Greeting::Installed { no_new_privs: true }
        ));
    }
}
