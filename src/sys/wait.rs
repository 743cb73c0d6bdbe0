//! What becomes of children and tracees: waitid(2), with the numbers of real-time signals, which nix has
//! no names for and refuses.

use std::mem;

use nix::unistd::Pid;

use super::check;

/// What has become of a child, or of a thread that a thread of this process traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It has ended, with the exit status that a shell would give it (128 + n after a signal).
    Ended(Pid, u8),
    /// A signal has stopped it.
    Stopped(Pid, i32),
    /// A tracer has: that is nobody else's business.
    Traced,
}

/// Whether to wait for a change if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Only look.
    None,
    /// Wait.
    Endless,
}

/// Takes note of a change of `pid`, or of any child and tracee. None: there is none.
///
/// # Errors
/// ECHILD: there is nobody to wait for. EINTR.
pub(crate) fn next_change(pid: Option<Pid>, patience: Patience) -> nix::Result<Option<Change>> {
    let (kind, number) = match pid {
        Some(pid) => (libc::P_PID, pid.as_raw().cast_unsigned()),
        None => (libc::P_ALL, 0),
    };
    let mut flags = libc::WEXITED | libc::WSTOPPED;
    if patience == Patience::None {
        flags |= libc::WNOHANG;
    }
    // SAFETY: an all-zero siginfo_t is valid; it is what waitid(2) leaves if nothing has changed.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    // SAFETY: `info` outlives the call, which writes no more than one of its kind.
    check(unsafe { libc::waitid(kind, number, &raw mut info, flags) }.into())?;
    // SAFETY: waitid(2) has filled in the part of SIGCHLD, or left it zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let child = Pid::from_raw(pid);
    Ok((pid != 0).then_some(match info.si_code {
        libc::CLD_EXITED => Change::Ended(child, status as u8),
        libc::CLD_STOPPED => Change::Stopped(child, status),
        libc::CLD_TRAPPED | libc::CLD_CONTINUED => Change::Traced,
        // CLD_KILLED, CLD_DUMPED.
        _ => Change::Ended(child, 128 + status as u8),
    }))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn end_of(script: &str) -> Change {
        let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        let end = next_change(Some(pid), Patience::Endless);
        // It has been collected.
        assert!(child.wait().is_err());
        end.unwrap().unwrap()
    }

    #[test]
    fn every_end_has_a_status() {
        for (script, expected) in [
            ("exit 7", 7),
            ("kill -TERM $$", 128 + 15),
            // A real-time signal.
            ("kill -35 $$", 128 + 35),
        ] {
            let Change::Ended(_, status) = end_of(script) else {
                panic!("{script}");
            };
            assert_eq!(status, expected, "{script}");
        }
    }

    #[test]
    fn who_has_no_such_child_is_told() {
        let own = nix::unistd::getpid();
        let result = next_change(Some(own), Patience::None);
        assert_eq!(result, Err(nix::errno::Errno::ECHILD));
    }
}
