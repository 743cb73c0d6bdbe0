//! The variables by which systemd says which process it has started: the front, where it should be the program.
#![forbid(unsafe_code)]

use std::{
    ffi::{CString, OsString},
    os::unix::ffi::OsStrExt,
};

use nix::unistd::Pid;

/// sd_listen_fds(3), sd_watchdog_enabled(3), systemd.exec(5).
const PIDS: [&str; 3] = [LISTENER, "WATCHDOG_PID", "SYSTEMD_EXEC_PID"];
const LISTENER: &str = "LISTEN_PID";
/// The same process as [`LISTENER`] once more, by the inode of its pidfd. It need not be there.
const LISTENER_PIDFD: &str = "LISTEN_PIDFDID";

/// The environment with `ours` in place of `theirs`. None if nothing in it is to be changed.
pub(super) fn readdressed(
    mut variables: Vec<(OsString, OsString)>,
    theirs: Pid,
    ours: Pid,
) -> Option<Vec<CString>> {
    let theirs = theirs.to_string();
    let (mut found, mut listener) = (false, false);
    for (name, value) in &mut variables {
        if PIDS.iter().any(|pid| name == pid) && *value == *theirs {
            *value = ours.to_string().into();
            found = true;
            listener |= name == LISTENER;
        }
    }
    let kept = variables
        .into_iter()
        .filter(|(name, _)| !listener || name != LISTENER_PIDFD);
    // What has come by execve(2) has no zero byte in it.
    let whole = kept.filter_map(|(name, value)| {
        CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
    });
    found.then(|| whole.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(variables: &[(&str, &str)]) -> Option<Vec<String>> {
        let variables = variables
            .iter()
            .map(|&(name, value)| (name.into(), value.into()));
        let changed = readdressed(variables.collect(), Pid::from_raw(7), Pid::from_raw(9))?;
        Some(
            changed
                .into_iter()
                .map(|c| c.into_string().unwrap())
                .collect(),
        )
    }

    #[test]
    fn what_names_the_front_names_the_program() {
        let variables = [
            ("LISTEN_PID", "7"),
            ("LISTEN_PIDFDID", "4711"),
            ("LISTEN_FDS", "7"),
            ("WATCHDOG_PID", "7"),
            ("SYSTEMD_EXEC_PID", "8"),
            ("EMPTY", ""),
        ];
        let expected = [
            "LISTEN_PID=9",
            "LISTEN_FDS=7",
            "WATCHDOG_PID=9",
            "SYSTEMD_EXEC_PID=8",
            "EMPTY=",
        ];
        assert_eq!(changed(&variables).unwrap(), expected);
    }

    #[test]
    fn what_names_others_is_left() {
        let variables = [("LISTEN_PID", "77"), ("LISTEN_PIDFDID", "1"), ("PID", "7")];
        assert_eq!(changed(&variables), None);
        assert_eq!(changed(&[]), None);
        let watched = [("WATCHDOG_PID", "7"), ("LISTEN_PIDFDID", "1")];
        let expected = ["WATCHDOG_PID=9", "LISTEN_PIDFDID=1"];
        assert_eq!(changed(&watched).unwrap(), expected);
    }
}
