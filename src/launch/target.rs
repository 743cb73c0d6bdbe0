//! The target process, from the fork to the program itself: installs the filter, hands the listener
//! over, and executes.
#![forbid(unsafe_code)]

use std::{
    ffi::{CStr, OsStr},
    fs,
    io::{self, Read, Write},
    os::{
        fd::AsFd,
        unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, PermissionsExt},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{SigmaskHow, Signal, sigprocmask},
    },
    unistd::{geteuid, getpid},
};

use super::{Plan, access::PROFILE, environment::readdressed};
use crate::{
    cli::FAILURE,
    sys::{
        fd::send_with_fd,
        process::{close_inherited, exec, set_disposition},
        seccomp::{FilterFlags, Listener, install_with_listener},
        startup,
    },
};

/// Exit status for a program that cannot be executed, as in sh(1).
const NOT_EXECUTABLE: u8 = 126;
/// Exit status for a program that does not exist, as in sh(1).
const NOT_FOUND: u8 = 127;

/// Becomes the program. Returns, with the exit status, only if that fails.
pub(super) fn run(plan: &Plan<'_>, mut supervisor: UnixStream) -> u8 {
    let listener = match install(plan) {
        Ok(listener) => listener,
        Err(message) => {
            say(&message);
            return FAILURE;
        }
    };
    let mut ready = [0];
    let handed_over = send_with_fd(supervisor.as_fd(), &[0], listener.as_fd())
        .map_err(io::Error::from)
        .and_then(|()| {
            // The target must not keep it: a dead supervisor would then hang its calls for ever.
            drop(listener);
            supervisor.read_exact(&mut ready)
        });
    if handed_over.is_err() {
        // The supervisor has ended, and has said why.
        return FAILURE;
    }
    drop(supervisor);
    execute(plan)
}

fn install(plan: &Plan<'_>) -> Result<Listener, String> {
    let flags = FilterFlags {
        wait_killable: true,
    };
    // With CAP_SYS_ADMIN set-user-ID programs keep their privilege; without it, the kernel demands
    // that they lose it: seccomp(2), SECCOMP_SET_MODE_FILTER.
    let installed = match install_with_listener(&plan.filter, flags) {
        Err(Errno::EACCES) => {
            prctl::set_no_new_privs().map_err(|error| format!("no_new_privs: {error}"))?;
            warn_of_lost_privilege(plan);
            install_with_listener(&plan.filter, flags)
        }
        result => result,
    };
    installed.map_err(|error| match error {
        Errno::EBUSY => "already wrapped: this process runs under quicwrap, or in a container whose manager watches its system calls, and the kernel allows one such watcher; run the program without this quicwrap".to_owned(),
        Errno::EINVAL | Errno::ENOSYS => format!(
            "this kernel lacks seccomp user notification ({error}): Linux 5.19 or later with CONFIG_SECCOMP_FILTER is needed; `quicwrap doctor` says more"
        ),
        Errno::EPERM => format!("cannot install the seccomp filter: {error}; {PROFILE}; `quicwrap doctor` says more"),
        error => format!("cannot install the seccomp filter: {error}; `quicwrap doctor` says more"),
    })
}

/// Restores what the caller handed down, and executes the program.
fn execute(plan: &Plan<'_>) -> u8 {
    // Rust's runtime has ignored SIGPIPE and opened /dev/null for closed descriptors.
    let restored = set_disposition(Signal::SIGPIPE, startup::sigpipe_ignored())
        .and_then(|()| sigprocmask(SigmaskHow::SIG_SETMASK, Some(&plan.mask), None));
    if let Err(error) = restored {
        say(&format!("cannot restore the signals: {error}"));
        return FAILURE;
    }
    let name = plan
        .program
        .first()
        .map_or(Path::new(""), |name| path(name));
    startup::closed_descriptors().for_each(close_inherited);
    startup::allow_huge_pages();
    let environment = readdressed(std::env::vars_os().collect(), plan.front, getpid());
    let error = match exec(plan.program, environment.as_deref()) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let (code, hint) = match error {
        Errno::ENOENT => (NOT_FOUND, "is its name right, and its folder in PATH?"),
        Errno::EACCES => (
            NOT_EXECUTABLE,
            "is it a program, and may you execute it (ls -l)?",
        ),
        Errno::ENOEXEC => (
            NOT_EXECUTABLE,
            "it is of a format this system does not execute",
        ),
        _ => (NOT_EXECUTABLE, "see execve(2)"),
    };
    say(&format!(
        "cannot run '{}': {}: {hint}",
        name.display(),
        error.desc()
    ));
    code
}

/// Under no_new_privs the kernel ignores set-user-ID bits and file capabilities: execve(2).
fn warn_of_lost_privilege(plan: &Plan<'_>) {
    let Some(file) = plan.program.first().and_then(|name| find(path(name))) else {
        return;
    };
    let Ok(metadata) = fs::metadata(&file) else {
        return;
    };
    const SET_USER_ID: u32 = 0o4000;
    const SET_GROUP_ID: u32 = 0o2000;
    let mode = metadata.permissions().mode();
    let gains =
        mode & SET_USER_ID != 0 && metadata.uid() != geteuid().as_raw() || mode & SET_GROUP_ID != 0;
    if gains {
        tracing::warn!(
            "{} is set-user-ID or set-group-ID and runs without that privilege: seccomp demands so of ordinary users; run quicwrap as root if the program needs it",
            file.display()
        );
    }
}

/// The file that execvp(3) will run.
fn find(name: &Path) -> Option<PathBuf> {
    if name.as_os_str().as_bytes().contains(&b'/') {
        return Some(name.to_owned());
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn path(name: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(name.to_bytes()))
}

fn say(message: &str) {
    // With standard error closed there is nobody to tell; the exit status remains.
    let _ = writeln!(io::stderr(), "quicwrap: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_execvp_finds_them() {
        assert_eq!(find(Path::new("./x")), Some(PathBuf::from("./x")));
        assert!(find(Path::new("sh")).is_some_and(|file| file.ends_with("sh")));
        assert_eq!(find(Path::new("no-such-program-anywhere")), None);
    }
}
