//! The notification thread: one loop over trapped calls, closing sockets, waiting calls and the
//! processes themselves.
#![forbid(unsafe_code)]

use std::{
    io::Write,
    os::{fd::AsFd, unix::net::UnixStream},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        epoll::{EpollEvent, EpollFlags, EpollTimeout},
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::{Pid, gettid},
};

use super::{Supervisor, tasks};
use crate::{
    emul::socket::SocketId,
    sys::wait::{Change, Patience, next_change},
};

/// Tags of the loop's own descriptors. Socket ids are SO_COOKIEs, which the kernel counts up from 1.
pub(super) mod tag {
    pub(in crate::supervisor) const SIGNALS: u64 = u64::MAX;
    pub(in crate::supervisor) const FRONT: u64 = u64::MAX - 1;
    pub(in crate::supervisor) const DRAINED: u64 = u64::MAX - 2;
    pub(in crate::supervisor) const CLOSES: u64 = u64::MAX - 3;
    pub(in crate::supervisor) const FAST_PATH: u64 = u64::MAX - 4;
    pub(in crate::supervisor) const AWAKE: u64 = u64::MAX - 5;
}

/// Events fetched at a time.
const BATCH: usize = 64;

/// How often closed sockets are looked for where inotify does not tell.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What the front process is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The target has ended; the exit status that a shell would give it (128 + n after a signal).
    Ended(u8),
    /// A signal has stopped the target.
    Stopped(Signal),
    /// The service manager has sent this signal to the supervisor, and so to all processes of the service.
    Signalled(u8),
}

impl Notice {
    /// Bytes of an encoded notice.
    pub(crate) const BYTES: usize = 2;

    /// For the channel between supervisor and front.
    pub(crate) fn encode(self) -> [u8; Self::BYTES] {
        match self {
            Self::Ended(code) => [0, code],
            Self::Stopped(signal) => [1, signal as i32 as u8],
            Self::Signalled(number) => [2, number],
        }
    }

    /// The reverse of [`Self::encode`].
    pub(crate) fn decode(bytes: [u8; Self::BYTES]) -> Option<Self> {
        match bytes {
            [0, code] => Some(Self::Ended(code)),
            [1, signal] => Some(Self::Stopped(Signal::try_from(i32::from(signal)).ok()?)),
            [2, number] => Some(Self::Signalled(number)),
            _ => None,
        }
    }
}

/// The other processes, as the supervisor sees them.
#[derive(Debug)]
pub(crate) struct Front {
    /// The channel to the front process; none once it was told that the target has ended.
    pub(crate) channel: Option<UnixStream>,
    /// The target.
    pub(crate) target: Pid,
    /// How long the front waits, after the target has ended, for what it wrote to be delivered.
    pub(crate) linger: Duration,
}

/// The front process is still to be told that the target has ended.
#[derive(Debug)]
pub(crate) struct Farewell {
    channel: UnixStream,
    code: u8,
}

impl Farewell {
    /// Lets the front process go.
    pub(crate) fn send(mut self) {
        tell(&mut self.channel, Notice::Ended(self.code));
    }
}

/// What the network and the launcher do for the loop.
pub(crate) struct Hooks<'a> {
    /// Asks the network to call `Events::drained` once all that closed sockets hold is delivered.
    pub(crate) begin_drain: &'a dyn Fn(),
    /// The front process has been let go while tasks remain.
    pub(crate) released: &'a dyn Fn(),
}

/// What the loop keeps beside the shared state.
struct Processes<'a> {
    front: Front,
    hooks: Hooks<'a>,
    ended: Option<u8>,
    /// When the front process is let go even if not all is delivered.
    release_at: Option<Instant>,
    /// No task with the filter is left.
    all_gone: bool,
}

impl Supervisor {
    /// Serves until the last wrapped task has gone and what it wrote is delivered. The front process
    /// is told at once when the target has ended while other tasks remain; otherwise by the result,
    /// when the target's ports are free again.
    ///
    /// # Errors
    /// Of the loop's own descriptors: EMFILE, ENOMEM; EBADF, ENOTTY if somebody has closed or replaced one.
    pub(crate) fn run(&self, front: Front, hooks: Hooks<'_>) -> nix::Result<Option<Farewell>> {
        let signals = signals()?;
        let readable = |tag| EpollEvent::new(EpollFlags::EPOLLIN, tag);
        self.epoll.add(&signals, readable(tag::SIGNALS))?;
        self.epoll.add(&self.drained, readable(tag::DRAINED))?;
        self.epoll.add(&self.awake, readable(tag::AWAKE))?;
        if let Some(fast_path) = &self.fast_path {
            self.epoll.add(fast_path.done(), readable(tag::FAST_PATH))?;
        }
        if let Some(channel) = &front.channel {
            self.epoll
                .add(channel, EpollEvent::new(EpollFlags::empty(), tag::FRONT))?;
        }
        let mut processes = Processes {
            front,
            hooks,
            ended: None,
            release_at: None,
            all_gone: false,
        };
        self.answerer.store(gettid().as_raw(), Ordering::Relaxed);
        // The target may have ended before the signal descriptor existed.
        processes.reap();
        loop {
            let drained = self.turn(&mut processes, &signals)?;
            self.look_at_waiting();
            self.take_back();
            self.look_for_lost();
            let late = processes.release_at.is_some_and(|at| at <= Instant::now());
            if drained || late {
                if processes.all_gone && !late {
                    return Ok(processes.farewell());
                }
                processes.release();
            }
            if processes.all_gone && processes.release_at.is_none() {
                return Ok(processes.farewell());
            }
            self.sweep();
        }
    }

    /// Waits for calls and events, and deals with them. Returns whether the network has delivered everything.
    fn turn(&self, processes: &mut Processes<'_>, signals: &SignalFd) -> nix::Result<bool> {
        // By poll(2), which a call wakes on its own processor: through epoll(7) that is lost, and this thread is left
        // where it was last. The listener comes first, so that what a program closed before a call that is found is
        // found as well.
        let mut ready = [&self.listener.as_fd(), &self.epoll.0.as_fd()]
            .map(|fd| PollFd::new(*fd, PollFlags::POLLIN));
        let asked = if processes.all_gone {
            &mut ready[1..]
        } else {
            &mut ready
        };
        match poll(asked, self.timeout(processes)) {
            Err(Errno::EINTR) => return Ok(false),
            result => result?,
        };
        let [calls, events] = ready.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        let drained = !events.is_empty() && self.events(processes, signals)?;
        if calls.contains(PollFlags::POLLIN) {
            self.receive()?;
        } else if !calls.is_empty() {
            processes.all_gone = true;
            processes.wait_for_target();
        }
        Ok(drained)
    }

    /// Deals with events. Returns whether the network has delivered everything.
    fn events(&self, processes: &mut Processes<'_>, signals: &SignalFd) -> nix::Result<bool> {
        let mut events = [EpollEvent::empty(); BATCH];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO)?;
        let mut drained = false;
        for event in &events[..count] {
            match event.data() {
                tag::SIGNALS => {
                    while let Ok(Some(signal)) = signals.read_signal() {
                        processes.signalled(&signal);
                    }
                    processes.reap();
                }
                tag::FAST_PATH => {
                    let _ = self
                        .fast_path
                        .as_ref()
                        .map(|fast_path| fast_path.done().read());
                    // A process that stops with a thread of it traced tells only who looks.
                    processes.reap();
                }
                tag::FRONT => processes.front_died(self),
                tag::DRAINED => {
                    drained = self.drained.read().is_ok();
                }
                tag::AWAKE => {
                    let _ = self.awake.read();
                }
                tag::CLOSES => {
                    for id in self.closes.take() {
                        self.closed(&mut self.table(), id);
                    }
                }
                id => self.closed(&mut self.table(), SocketId(id)),
            }
        }
        Ok(drained)
    }

    fn receive(&self) -> nix::Result<()> {
        match self.listener.receive() {
            Ok(trapped) => self.handle(trapped),
            // The caller was killed or interrupted between the poll and this.
            Err(Errno::ENOENT | Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Until when nothing needs doing unasked.
    fn timeout(&self, processes: &Processes<'_>) -> PollTimeout {
        let (waiting, lost) = {
            let table = self.table();
            let waiting = table.parked.iter().map(|parked| parked.due()).min();
            (waiting, table.lost.due())
        };
        let look = self
            .closes
            .are_untold()
            .then(|| Instant::now() + LOOK_INTERVAL);
        let job = self
            .fast_path
            .as_ref()
            .and_then(|fast_path| fast_path.due());
        let others = processes.release_at.into_iter().chain(look);
        let others = others.chain(job).chain(lost);
        let Some(at) = waiting.into_iter().chain(others).min() else {
            return PollTimeout::NONE;
        };
        until(at)
    }

    /// Answers calls that were to get the fast path, and do not.
    fn take_back(&self) {
        for trapped in self
            .fast_path
            .iter()
            .flat_map(|fast_path| fast_path.given_back())
        {
            self.answer_call(trapped);
        }
    }

    fn look_at_waiting(&self) {
        let mut table = self.table();
        let now = Instant::now();
        let mut index = 0;
        while index < table.parked.len() {
            let parked = &mut table.parked[index];
            let over = if parked.due() <= now {
                parked.look(&self.listener, now)
            } else {
                None
            };
            match over {
                Some(why) => {
                    let parked = table.parked.remove(index);
                    self.interrupt(&mut table, parked, &why);
                }
                None => index += 1,
            }
        }
    }
}

/// How long poll(2) is to wait. Rounded up: a millisecond early would be a turn for nothing.
pub(crate) fn until(at: Instant) -> PollTimeout {
    let left = at.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
    u16::try_from(left.as_millis()).map_or(PollTimeout::MAX, PollTimeout::from)
}

fn tell(channel: &mut UnixStream, notice: Notice) {
    if let Err(error) = channel.write_all(&notice.encode()) {
        tracing::debug!(%error, "the front process has gone");
    }
}

/// All signals as a descriptor. The launcher has blocked them before any thread was started.
fn signals() -> nix::Result<SignalFd> {
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&SigSet::all(), flags)
}

impl Processes<'_> {
    /// A signal has come: of a child, or to all processes of a service, which the front cannot tell by itself.
    fn signalled(&mut self, signal: &libc::signalfd_siginfo) {
        if let Some(channel) = self.front.channel.as_mut()
            && let Ok(number) = u8::try_from(signal.ssi_signo)
            && tasks::is_of_systemd(signal)
        {
            tell(channel, Notice::Signalled(number));
        }
    }

    /// Collects ended and stopped children. As a subreaper the supervisor inherits orphans too.
    fn reap(&mut self) {
        while let Ok(Some(change)) = next_change(None, Patience::None) {
            match change {
                Change::Ended(pid, status) => self.gone(pid, status),
                Change::Stopped(pid, signal) if pid == self.front.target => {
                    let channel = self.front.channel.as_mut();
                    if let (Some(channel), Ok(signal)) = (channel, Signal::try_from(signal)) {
                        tell(channel, Notice::Stopped(signal));
                    }
                }
                Change::Stopped(..) | Change::Traced => {}
            }
        }
    }

    /// The target has begun to exit; its status follows at once.
    fn wait_for_target(&mut self) {
        while self.ended.is_none() {
            match next_change(Some(self.front.target), Patience::Endless) {
                Ok(Some(Change::Ended(pid, status))) => self.gone(pid, status),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!(%error, "the program's exit status is lost");
                    self.gone(self.front.target, crate::cli::FAILURE);
                }
            }
        }
    }

    fn gone(&mut self, pid: Pid, code: u8) {
        if pid != self.front.target || self.ended.is_some() {
            return;
        }
        tracing::debug!(%pid, code, "the program has ended");
        self.ended = Some(code);
        self.release_at = Some(Instant::now() + self.front.linger);
        (self.hooks.begin_drain)();
    }

    /// Lets the front process go, with the target's status, once that is known.
    fn release(&mut self) {
        self.release_at = None;
        if let Some(farewell) = self.farewell() {
            farewell.send();
            (self.hooks.released)();
        }
    }

    fn farewell(&mut self) -> Option<Farewell> {
        let code = self.ended?;
        Some(Farewell {
            channel: self.front.channel.take()?,
            code,
        })
    }

    /// Whoever kills the front process outright means the program.
    fn front_died(&mut self, supervisor: &Supervisor) {
        if let Some(channel) = self.front.channel.take() {
            let _ = supervisor.epoll.delete(channel.as_fd());
        }
        if self.ended.is_none() {
            tracing::debug!("the front process was killed: so is the program");
            let _ = kill(self.front.target, Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_survives_the_channel() {
        for notice in [
            Notice::Ended(143),
            Notice::Stopped(Signal::SIGTSTP),
            Notice::Signalled(64),
        ] {
            assert_eq!(Notice::decode(notice.encode()), Some(notice));
        }
        assert_eq!(Notice::decode([9, 9]), None);
    }
}
