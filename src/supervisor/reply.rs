//! The one place that answers a trapped call.
#![forbid(unsafe_code)]

use std::{
    os::fd::{AsFd, RawFd},
    panic::AssertUnwindSafe,
    sync::atomic::Ordering,
};

use nix::errno::Errno;

use super::{
    Supervisor,
    call::Call,
    calls::{CALLS, TrappedCall},
    park::{Interrupted, Parked, restart},
    sockets::Table,
    tasks::Holder,
    trace,
};
use crate::{
    emul::outcome::{Answer, Injection, Origin, Outcome, Wait},
    sys::seccomp::Trapped,
};

impl Supervisor {
    /// A thread has made a call, or has been found to have made one that did not trap.
    pub(super) fn note_caller(&self, tid: i32) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.last_caller.store(tid, Ordering::Relaxed);
    }

    /// Handles a call that has just trapped.
    pub(super) fn handle(&self, trapped: Trapped) {
        self.note_caller(trapped.tid);
        if let Some(fast_path) = &self.fast_path {
            let improve = || fast_path.improve(&self.listener, &trapped);
            let improved = std::panic::catch_unwind(AssertUnwindSafe(improve));
            if improved.unwrap_or(false) {
                return;
            }
        }
        self.answer_call(trapped);
    }

    /// Answers a call, or lets it wait.
    pub(super) fn answer_call(&self, trapped: Trapped) {
        let call = Call::new(&self.listener, trapped);
        let Some(row) = CALLS.iter().find(|row| row.number == trapped.number) else {
            // Not in the table the filter was made from: leave it as it is.
            self.send(&trapped, Ok(Outcome::Native("not handled")));
            return;
        };
        let shown = tracing::enabled!(tracing::Level::DEBUG).then(|| trace::call(row, &call));
        let answer = run(self, row, &call);
        if let Some(shown) = shown {
            tracing::debug!("{shown} {}", trace::answer(&answer));
        }
        let answer = match answer {
            // Without the table, which the network's thread may want meanwhile.
            Ok(Outcome::Inject(injection)) => {
                let installed = self.install(&trapped, &injection);
                settle(&mut self.table(), &trapped, injection, installed)
            }
            answer => answer,
        };
        self.send(&trapped, answer);
        if trapped.number == libc::SYS_connect {
            self.transport().proceed();
        }
    }

    /// Answers a call that has waited.
    pub(super) fn answer_parked(&self, table: &mut Table, parked: Parked, answer: Answer) {
        let trapped = parked.trapped;
        let tid = trapped.tid;
        tracing::debug!(
            "[{tid}] … {:?} resumed {}",
            parked.wait,
            trace::answer(&answer)
        );
        // First: what the program closes next is closed then.
        drop(parked);
        self.deliver(table, &trapped, answer);
    }

    /// Ends a wait that something else than its socket has cut short.
    pub(super) fn interrupt(&self, table: &mut Table, parked: Parked, why: &Interrupted) {
        tracing::debug!(
            "[{}] … {:?} interrupted: {why:?}",
            parked.trapped.tid,
            parked.wait
        );
        if parked.wait == Wait::Connect
            && let Err(error) = self.join(table, parked.socket, parked.end.as_fd())
        {
            tracing::error!(%error, "no socketpair to show a connecting socket; raise the limit of open files (ulimit -n)");
        }
        let (trapped, answer) = (parked.trapped, parked.answer(why));
        drop(parked);
        match answer {
            Some(answer) => self.deliver(table, &trapped, answer),
            None if matches!(why, Interrupted::Signal { .. }) => {
                restart(&self.listener, &trapped);
            }
            None => {}
        }
    }

    fn deliver(&self, table: &mut Table, trapped: &Trapped, answer: Answer) {
        let answer = match answer {
            Ok(Outcome::Inject(injection)) => {
                let installed = self.install(trapped, &injection);
                settle(table, trapped, injection, installed)
            }
            answer => answer,
        };
        self.send(trapped, answer);
    }

    /// Gives an answer.
    fn send(&self, trapped: &Trapped, answer: Answer) {
        let sent = match answer {
            Ok(Outcome::Value(value)) => self.listener.answer(trapped.id, value, 0),
            Ok(Outcome::Native(_)) => self.listener.resume(trapped.id),
            Ok(Outcome::Park(_) | Outcome::Inject(_)) => return,
            Err(errno) => self.listener.answer(trapped.id, 0, -(errno as i32)),
        };
        if let Err(error) = sent {
            tracing::debug!(tid = trapped.tid, %error, "the caller has gone before its answer");
        }
    }

    /// Gives the caller a descriptor, whose number this returns.
    fn install(&self, trapped: &Trapped, injection: &Injection) -> nix::Result<RawFd> {
        let source = injection.fd.as_fd();
        self.listener.install(trapped.id, source, injection.cloexec)
    }
}

/// Notes who has the descriptor, or undoes what it was to be. Returns what to tell the caller: from then on the
/// descriptor is the program's alone, since epoll(7) tells of what it has closed as long as we have it too.
fn settle(
    table: &mut Table,
    trapped: &Trapped,
    injection: Injection,
    installed: nix::Result<RawFd>,
) -> Answer {
    match installed {
        Ok(fd) => {
            let (Origin::Created(id) | Origin::Accepted { connection: id, .. }) = injection.origin;
            let tid = trapped.tid;
            table.handed_over(id, Holder { tid, fd }, injection.fd);
            Ok(Outcome::Value(fd.into()))
        }
        // EMFILE and the like are the program's own limits: told as they are.
        Err(error) => {
            table.undo(injection);
            Err(error)
        }
    }
}

/// Runs a handler. One that panics must not leave its caller hanging: EIO.
fn run(supervisor: &Supervisor, row: &TrappedCall, call: &Call<'_>) -> Answer {
    let handled = std::panic::catch_unwind(AssertUnwindSafe(|| (row.handler)(supervisor, call)));
    handled.unwrap_or_else(|_| {
        tracing::error!(
            call = row.name,
            "internal error while handling a call; it fails with EIO. Please report this"
        );
        Err(Errno::EIO)
    })
}
