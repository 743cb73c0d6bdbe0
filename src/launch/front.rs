//! The front process: stands for the program towards the caller. Passes signals on, stops when the
//! program stops, and ends with its exit status.
#![forbid(unsafe_code)]

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, raise},
        signalfd::{SfdFlags, SignalFd},
        socket::{
            Shutdown, getsockopt, shutdown,
            sockopt::{AcceptConn, PeerCredentials},
        },
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpgid, getpgrp, getpid, getsid},
};
use pidfd::PidFd;

use super::access::remedy;
use crate::{
    cli::FAILURE,
    supervisor::{Notice, is_nonblocking, open_task, tasks, until},
    sys::pidfd as sys_pidfd,
    zpoline::mark::Mark,
};

/// How long a signal of systemd is kept to find out whether it goes to all processes of the service: then the target gets
/// it from there. It signals the front first, as the service's main process, and the others within a millisecond.
const HOLD: Duration = Duration::from_millis(50);

/// What the front process knows of the others.
struct Others {
    supervisor: Pid,
    target: Pid,
    /// None once the target has ended.
    handle: Option<PidFd>,
    /// Whether programs have the fast path.
    fast_path: bool,
}

/// Stands for the program until it has ended. `channel` leads to the supervisor; `fast_path` says whether programs have
/// that.
///
/// # Errors
/// EMFILE, ENOMEM: no signal descriptor.
pub(super) fn run(mut channel: UnixStream, supervisor: Pid, fast_path: bool) -> io::Result<u8> {
    let mut pid = [0; 4];
    if channel.read_exact(&mut pid).is_err() {
        // It has said why on standard error, or was killed.
        return Ok(exit_code(waitpid(supervisor, None)?).unwrap_or(FAILURE));
    }
    let target = Pid::from_raw(i32::from_ne_bytes(pid));
    let others = Others {
        supervisor,
        target,
        handle: sys_pidfd::open(target.as_raw()).ok(),
        fast_path,
    };
    // All signals are blocked (launch::run), so each arrives here. SIGPIPE, as everywhere in Rust,
    // is an error of write(2).
    let signals = SignalFd::with_flags(
        &SigSet::all(),
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?;
    let mut held = Held::default();
    loop {
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(channel.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, held.timeout()) {
            Err(Errno::EINTR) => continue,
            result => result?,
        };
        let told = fds[1].any().unwrap_or(false);
        while let Ok(Some(signal)) = signals.read_signal() {
            if tasks::is_of_systemd(&signal) {
                held.0.push((Instant::now() + HOLD, signal));
            } else {
                others.pass_on(&signal);
            }
        }
        if !told {
            for signal in held.due(Instant::now()) {
                others.pass_on(&signal);
            }
            continue;
        }
        let mut bytes = [0; Notice::BYTES];
        match channel
            .read_exact(&mut bytes)
            .ok()
            .and_then(|()| Notice::decode(bytes))
        {
            Some(Notice::Ended(code)) => return Ok(code),
            Some(Notice::Stopped(signal)) => stop_likewise(signal),
            Some(Notice::Signalled(number)) => held.drop_one(number),
            None => {
                for (_, signal) in held.0 {
                    others.pass_on(&signal);
                }
                return others.without_supervisor(&signals);
            }
        }
    }
}

/// Signals of systemd, and until when they are kept.
#[derive(Default)]
struct Held(Vec<(Instant, libc::signalfd_siginfo)>);

impl Held {
    /// Until the first is due.
    fn timeout(&self) -> PollTimeout {
        let first = self.0.first();
        first.map_or(PollTimeout::NONE, |(at, _)| until(*at))
    }

    /// Takes those out that are due: they were for the front alone.
    fn due(&mut self, now: Instant) -> Vec<libc::signalfd_siginfo> {
        let count = self.0.iter().take_while(|(at, _)| *at <= now).count();
        self.0.drain(..count).map(|(_, signal)| signal).collect()
    }

    /// One with this number went to all processes.
    fn drop_one(&mut self, number: u8) {
        let is = |signal: &libc::signalfd_siginfo| signal.ssi_signo == u32::from(number);
        if let Some(place) = self.0.iter().position(|(_, signal)| is(signal)) {
            self.0.remove(place);
            tracing::debug!(number, "systemd has signalled all processes of the service");
        }
    }
}

impl Others {
    /// Passes a signal on to the target, if it has not got it already.
    fn pass_on(&self, signal: &libc::signalfd_siginfo) {
        let Ok(number) = i32::try_from(signal.ssi_signo) else {
            return;
        };
        match Signal::try_from(number) {
            // Our children's.
            Ok(Signal::SIGCHLD) => return,
            // fg(1) continues the whole group; kill -CONT of this pid alone means the target too.
            Ok(Signal::SIGCONT) if !self.target_is_stopped() => return,
            Ok(Signal::SIGCONT) => {}
            // The terminal signals the whole group, and what the program's own processes send to
            // their group has reached the target as well.
            // But a hang-up is told to the session's leader alone.
            Ok(Signal::SIGHUP) if getsid(None) == Ok(getpid()) => {}
            _ if signal.ssi_code == libc::SI_KERNEL || self.is_of_the_program(signal) => return,
            _ => {}
        }
        let sent = self
            .handle
            .as_ref()
            .map(|target| sys_pidfd::send_signal(target, number));
        tracing::debug!(number, ?sent, "signal passed on");
    }

    /// Whether a process of the program has sent the signal to the group that we share.
    fn is_of_the_program(&self, signal: &libc::signalfd_siginfo) -> bool {
        let Ok(mut pid) = i32::try_from(signal.ssi_pid) else {
            return false;
        };
        if getpgid(Some(Pid::from_raw(pid))) != Ok(getpgrp()) {
            return false;
        }
        while pid > 1 {
            if pid == self.supervisor.as_raw() {
                return true;
            }
            pid = parent(pid).unwrap_or(0);
        }
        false
    }

    fn target_is_stopped(&self) -> bool {
        stat_field(self.target.as_raw(), 0).as_deref() == Some("T")
    }

    /// The supervisor was killed. The target is ours now (launch::run made us a subreaper); its
    /// sockets fail, but it is not to be abandoned.
    fn without_supervisor(&self, signals: &SignalFd) -> io::Result<u8> {
        let status = waitpid(self.supervisor, None);
        tracing::debug!(?status, "the supervisor has ended");
        if let Ok(WaitStatus::Exited(_, code)) = status
            && code != 0
        {
            return Ok(FAILURE);
        }
        if let Ok(WaitStatus::Signaled(_, signal, _)) = status
            && let Some(remedy) = remedy(signal)
        {
            let _ = writeln!(
                io::stderr(),
                "quicwrap: {signal} has ended the supervisor: {remedy}"
            );
        }
        let _ = writeln!(
            io::stderr(),
            "quicwrap: the supervisor (pid {}) was killed: the network connections of the program (pid {}) are gone and its socket calls fail; start it again under quicwrap",
            self.supervisor,
            self.target
        );
        if self.fast_path {
            self.end_waiting();
        }
        loop {
            match waitpid(self.target, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => {}
                Ok(status) => return Ok(exit_code(status).unwrap_or(FAILURE)),
                Err(Errno::EINTR) => continue,
                // Ended before it could become our child.
                Err(_) => return Ok(FAILURE),
            }
            let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::NONE);
            while let Ok(Some(signal)) = signals.read_signal() {
                self.pass_on(&signal);
            }
        }
    }

    /// Ends accept(2) in programs with the fast path: there the kernel waits for connections, which come no more. It
    /// fails then, and they ask the supervisor, as it does from then on.
    fn end_waiting(&self) {
        for (holder, _) in tasks::sockets() {
            let copy = open_task(holder.tid).and_then(|task| sys_pidfd::get_fd(&task, holder.fd));
            if let Ok(socket) = copy
                && self.is_waited_on(&socket)
            {
                let ended = shutdown(socket.as_raw_fd(), Shutdown::Both);
                tracing::debug!(?holder, ?ended, "a listener without a supervisor");
            }
        }
    }

    /// Whether a socket is a listener that our supervisor has made one, and accept(2) waits on it.
    fn is_waited_on(&self, socket: &OwnedFd) -> bool {
        let is_marked = matches!(Mark::of(socket.as_fd()), Mark::Emulated { .. });
        let listens = getsockopt(socket, AcceptConn) == Ok(true);
        let made_by = getsockopt(socket, PeerCredentials).map(|by| by.pid());
        let waits = is_nonblocking(socket.as_fd()) == Ok(false);
        is_marked && listens && waits && made_by == Ok(self.supervisor.as_raw())
    }
}

/// Stops as the target has, so that the caller's shell sees the job stopped. Execution goes on here
/// with SIGCONT.
fn stop_likewise(signal: Signal) {
    tracing::debug!(%signal, "the program has stopped, and so does this");
    // SIGTSTP and its like are blocked here, and would be ignored in an orphaned group.
    if let Err(error) = raise(Signal::SIGSTOP) {
        tracing::debug!(%error, "cannot stop");
    }
}

fn exit_code(status: WaitStatus) -> Option<u8> {
    match status {
        WaitStatus::Exited(_, code) => Some(code as u8),
        WaitStatus::Signaled(_, signal, _) => Some(128 + signal as i32 as u8),
        _ => None,
    }
}

fn parent(pid: i32) -> Option<i32> {
    stat_field(pid, 1)?.parse().ok()
}

/// Field `index` after the command name in /proc/PID/stat: 0 is the state, 1 the parent.
fn stat_field(pid: i32, index: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may itself hold any character.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(index).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_gives_state_and_parent() {
        let pid = std::process::id().cast_signed();
        assert_eq!(parent(pid), Some(nix::unistd::getppid().as_raw()));
        assert!(matches!(stat_field(pid, 0).as_deref(), Some("R" | "S")));
    }

    #[test]
    fn a_signal_death_is_128_and_the_number() {
        let pid = Pid::from_raw(1);
        assert_eq!(
            exit_code(WaitStatus::Signaled(pid, Signal::SIGTERM, false)),
            Some(143)
        );
        assert_eq!(exit_code(WaitStatus::Exited(pid, 7)), Some(7));
    }
}
