//! Calls that must not wait for long, and would.

use std::{sync::OnceLock, time::Duration};

use nix::{
    sys::{
        signal::{
            SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, SigmaskHow, Signal,
            sigaction,
        },
        timer::{Expiration, Timer, TimerSetTimeFlags},
    },
    time::ClockId,
    unistd::gettid,
};

/// Nobody else uses it here, and all signals are blocked but during such a call.
const SIGNAL: Signal = Signal::SIGALRM;

extern "C" fn nothing(_: libc::c_int) {}

/// Runs `call`, and lets a signal interrupt it when `patience` is over, and again whenever that has passed: one that came
/// just before it began to wait would be lost. What waits then fails with EINTR.
///
/// # Errors
/// EAGAIN, ENOMEM: no timer (timer_create(2)).
pub(crate) fn impatiently<T>(patience: Duration, call: impl FnOnce() -> T) -> nix::Result<T> {
    static HANDLED: OnceLock<nix::Result<()>> = OnceLock::new();
    let handle = || {
        let action = SigAction::new(
            SigHandler::Handler(nothing),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler does nothing, and there was none that anybody relied on.
        unsafe { sigaction(SIGNAL, &action) }.map(drop)
    };
    (*HANDLED.get_or_init(handle))?;
    let thread_id = gettid().as_raw();
    let mut timer = Timer::new(
        ClockId::CLOCK_MONOTONIC,
        SigEvent::new(SigevNotify::SigevThreadId {
            signal: SIGNAL,
            thread_id,
            si_value: 0,
        }),
    )?;
    let time = patience.into();
    timer.set(
        Expiration::IntervalDelayed(time, time),
        TimerSetTimeFlags::empty(),
    )?;
    let _blocked = Blocked(SigSet::from(SIGNAL).thread_swap_mask(SigmaskHow::SIG_UNBLOCK)?);
    Ok(call())
}

/// Restores a mask, also if the call panics.
struct Blocked(SigSet);

impl Drop for Blocked {
    fn drop(&mut self) {
        let _ = self.0.thread_set_mask();
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsFd, unix::net::UnixListener};

    use nix::{errno::Errno, sys::socket::SockFlag};

    use super::*;
    use crate::sys::socket::accept_fd;

    #[test]
    fn a_call_that_would_wait_fails() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        for _ in 0..3 {
            let accept = || accept_fd(listener.as_fd(), SockFlag::empty());
            let outcome = impatiently(Duration::from_millis(1), accept).unwrap();
            assert_eq!(outcome.unwrap_err(), Errno::EINTR);
        }
    }
}
