//! `quicwrap doctor`: what this system allows.

use std::process::Command;

use crate::common::{Done, Sandbox, command::QUICWRAP};

/// What there is a line for.
const FACILITIES: &[&str] = &[
    "kernel",
    "seccomp filter",
    "user notification",
    "NEW_LISTENER",
    "WAIT_KILLABLE_RECV",
    "listener",
    "ADDFD",
    "ADDFD_FLAG_SETFD",
    "SYNC_WAKE_UP",
    "PIDFD_THREAD",
    "pidfd_getfd",
    "process_vm_readv",
    "io_uring",
    "trapped calls",
    "Yama",
    "UDP receive buffer",
    "UDP send buffer",
    "UDP GSO",
    "UDP GRO",
    "open files",
    "ports",
    "zpoline",
];
const VERDICTS: &[&str] = &["ok", "slow", "limited", "untried", "missing"];

/// Verdict of each facility, in the order of [`FACILITIES`].
fn verdicts(stderr: &str) -> Vec<&'static str> {
    let mut lines = stderr.lines();
    let verdict = |facility: &&str| {
        let line = lines.next().unwrap_or_default();
        let (verdict, rest) = line.split_once(' ').unwrap_or_default();
        assert!(
            rest.trim_start().starts_with(facility),
            "{facility} is not told of:\n{stderr}"
        );
        let known = VERDICTS.iter().find(|known| **known == verdict);
        *known.unwrap_or_else(|| panic!("what is {verdict:?}?\n{stderr}"))
    };
    FACILITIES.iter().map(verdict).collect()
}

#[test]
fn the_doctor_here() {
    wrapped_only!();
    let done = Command::new(QUICWRAP)
        .arg("doctor")
        .output()
        .expect("quicwrap runs");
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(0), "{stderr}");
    assert!(done.stdout.is_empty(), "something is on standard output");
    assert!(!verdicts(&stderr).contains(&"missing"), "{stderr}");
    assert!(stderr.contains("can wrap"), "{stderr}");
}

fn doctor(sandbox: &Sandbox, user: bool) -> Done {
    // A copy that an ordinary user can execute, wherever the build folder is.
    let copy = sandbox.path("doctor");
    std::fs::copy(QUICWRAP, &copy).expect("a copy");
    crate::common::set_mode(&copy, 0o755);
    if user {
        sandbox.plain(&copy).user().arg("doctor").run()
    } else {
        sandbox.wrap(&copy).arg("doctor").run()
    }
}

#[test]
fn the_doctor_of_an_ordinary_user() {
    wrapped_only!();
    let done = doctor(&Sandbox::new(), true).success();
    assert!(
        !verdicts(&done.stderr).contains(&"missing"),
        "{}",
        done.stderr
    );
    assert_eq!(done.text(), "");
}

#[test]
fn the_doctor_within_quicwrap() {
    wrapped_only!();
    let done = doctor(&Sandbox::new(), false).exits(125);
    done.stderr_has("already wrapped");
    done.stderr_has("cannot wrap");
    assert_eq!(done.text(), "");
    let listener = FACILITIES
        .iter()
        .position(|facility| *facility == "listener");
    assert_eq!(
        listener.map(|at| verdicts(&done.stderr)[at]),
        Some("missing")
    );
}
