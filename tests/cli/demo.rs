//! `quicwrap demo`: the main job, shown by the program itself.

use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use crate::common::command::QUICWRAP;
use crate::common::{becomes_true, running_pids, tools::need, wait_until};

/// `quicwrap demo` in a network namespace of its own, where nothing else moves the kernel's counters, with all
/// it may leave behind in `home`.
fn demo(home: &std::path::Path, words: &[&str]) -> Command {
    let flags = if Uid::effective().is_root() {
        "-n"
    } else {
        "-rn"
    };
    need("ip");
    let mut command = Command::new(need("unshare"));
    command
        .args([
            flags,
            "sh",
            "-c",
            "ip link set lo up && exec \"$@\"",
            "sh",
            QUICWRAP,
        ])
        .args(words)
        .env("HOME", home)
        .env("TMPDIR", home)
        .env_remove("XDG_STATE_HOME");
    command
}

fn texts(done: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&done.stdout), text(&done.stderr))
}

fn is_empty(folder: &std::path::Path) -> bool {
    std::fs::read_dir(folder)
        .expect("a folder")
        .next()
        .is_none()
}

#[test]
fn a_small_demo() {
    wrapped_only!();
    let home = tempfile::tempdir().expect("a folder");
    let mut command = demo(
        home.path(),
        &["demo", "--mebibytes", "64", "--short-connections", "50"],
    );
    // Settings of the caller do not reach the demonstration's programs.
    command.env("QUICWRAP_SERVER_CERT", "/no/such/file");
    let done = command.output().expect("unshare runs");
    let (stdout, stderr) = texts(&done);
    assert_eq!(done.status.code(), Some(0), "{stderr}");
    assert_eq!(stdout, "");
    for part in [
        "64 MiB over QUIC",
        "64 MiB over native TCP",
        "50 connections over QUIC",
        "50 connections over native TCP",
        "it works",
    ] {
        assert!(stderr.contains(part), "no {part:?}:\n{stderr}");
    }
    assert!(is_empty(home.path()), "something is left");
}

#[test]
fn a_demo_that_cannot_be() {
    wrapped_only!();
    let home = tempfile::tempdir().expect("a folder");
    // What the outer one keeps is not the demonstration's.
    let state = tempfile::tempdir().expect("a folder");
    let state = state.path().to_str().expect("UTF-8");
    // Within quicwrap there is no second one.
    let words = [
        "--insecure",
        "--state-dir",
        state,
        "--",
        QUICWRAP,
        "demo",
        "--mebibytes",
        "1",
        "--short-connections",
        "2",
    ];
    let done = demo(home.path(), &words).output().expect("unshare runs");
    let (stdout, stderr) = texts(&done);
    assert_eq!(
        (done.status.code(), stdout.as_str()),
        (Some(1), ""),
        "{stderr}"
    );
    assert!(stderr.contains("already wrapped"), "{stderr}");
    assert!(is_empty(home.path()), "something is left");
}

/// Processes that were started with `word` in their environment.
fn marked(word: &str) -> Vec<i32> {
    let holds = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
            environment
                .windows(word.len())
                .any(|w| w == word.as_bytes())
        })
    };
    running_pids().into_iter().filter(holds).collect()
}

#[test]
fn a_demo_that_is_interrupted() {
    wrapped_only!();
    let home = tempfile::tempdir().expect("a folder");
    let mark = format!("DEMO_OF={}", home.path().display());
    // More than can be moved before the signal arrives.
    let mut child = demo(home.path(), &["demo", "--mebibytes", "1048576"])
        .env("DEMO_OF", home.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("unshare runs");
    // Itself, and front, supervisor and program of two.
    wait_until("both programs run", || marked(&mark).len() >= 7);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(128 + 15));
    assert!(is_empty(home.path()), "something is left");
    let gone = becomes_true(crate::common::PATIENCE, || marked(&mark).is_empty());
    assert!(gone, "processes are left: {:?}", marked(&mark));
}
