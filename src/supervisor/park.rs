//! Calls that wait: a blocking accept(2) or connect(2), until its socket, a signal or a timeout ends
//! it.
#![forbid(unsafe_code)]

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use nix::errno::Errno;

use super::{call::Call, tasks};
use crate::{
    emul::{
        outcome::{Answer, Wait},
        socket::SocketId,
    },
    sys::seccomp::{Listener, Trapped},
};

/// How soon a new waiter is looked at for signals, and how slowly an old one at last. A Ctrl-C is
/// then felt at once, and a server that waits for days costs nothing to speak of.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_millis(40);

/// ERESTARTSYS (linux/errno.h): the kernel turns it into EINTR, or restarts the call under
/// SA_RESTART, exactly as for a native call.
const ERESTARTSYS: i32 = 512;

/// A call that waits.
#[derive(Debug)]
pub(super) struct Parked {
    /// The notification to answer.
    pub(super) trapped: Trapped,
    /// The socket it waits for.
    pub(super) socket: SocketId,
    /// What it waits for.
    pub(super) wait: Wait,
    /// A copy of the program's end: as long as a call is in progress, close(2) by another thread
    /// does not end the socket.
    pub(super) end: OwnedFd,
    /// When SO_RCVTIMEO or SO_SNDTIMEO ends it.
    deadline: Option<Instant>,
    /// What the call then fails with.
    timed_out: Errno,
    next_look: Instant,
    interval: Duration,
}

/// Why a wait is over without its socket having changed.
#[derive(Debug)]
pub(super) enum Interrupted {
    /// The caller was killed: there is nobody to answer.
    Gone,
    /// A signal is to be delivered. The kernel decides whether the call restarts, except after
    /// a timeout was set: signal(7) says EINTR then.
    Signal {
        /// Whether SA_RESTART may restart it.
        restartable: bool,
    },
    /// The timeout is over.
    TimedOut,
}

impl Parked {
    /// A call that begins to wait now, for at most `timeout`, and fails with `timed_out` then.
    pub(super) fn new(
        trapped: Trapped,
        socket: SocketId,
        wait: Wait,
        end: OwnedFd,
        timeout: Option<Duration>,
        timed_out: Errno,
    ) -> Self {
        let now = Instant::now();
        Self {
            trapped,
            socket,
            wait,
            end,
            deadline: timeout.map(|timeout| now + timeout),
            timed_out,
            next_look: now + FIRST_LOOK,
            interval: FIRST_LOOK,
        }
    }

    /// When this wait wants to be looked at.
    pub(super) fn due(&self) -> Instant {
        self.deadline
            .map_or(self.next_look, |deadline| deadline.min(self.next_look))
    }

    /// Looks whether the wait is over, and if not, when to look again.
    pub(super) fn look(&mut self, listener: &Listener, now: Instant) -> Option<Interrupted> {
        if !listener.is_valid(self.trapped.id) {
            return Some(Interrupted::Gone);
        }
        if tasks::has_pending_signal(self.trapped.tid) {
            return Some(Interrupted::Signal {
                restartable: self.deadline.is_none(),
            });
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Some(Interrupted::TimedOut);
        }
        self.interval = (self.interval * 3 / 2).min(LAST_LOOK);
        self.next_look = now + self.interval;
        None
    }

    /// The answer for a wait that was cut short, unless it is the restart that [`restart`] sends.
    pub(super) fn answer(&self, interrupted: &Interrupted) -> Option<Answer> {
        match interrupted {
            Interrupted::Gone | Interrupted::Signal { restartable: true } => None,
            Interrupted::Signal { restartable: false } => Some(Err(Errno::EINTR)),
            // socket(7), SO_RCVTIMEO and SO_SNDTIMEO.
            Interrupted::TimedOut => Some(Err(self.timed_out)),
        }
    }

    /// The call that waits.
    pub(super) fn call<'a>(&self, listener: &'a Listener) -> Call<'a> {
        Call::new(listener, self.trapped)
    }
}

/// Hands a call back to the kernel's signal delivery.
pub(super) fn restart(listener: &Listener, trapped: &Trapped) {
    if let Err(error) = listener.answer(trapped.id, 0, -ERESTARTSYS) {
        tracing::debug!(tid = trapped.tid, %error, "the interrupted caller has gone");
    }
}
