//! Exit status, messages about bad usage, and quicwrap's silence when all is well.

use std::process::Command;

use crate::common::command::QUICWRAP;
use crate::common::{Done, Sandbox, set_mode, tools::need};

fn shell(sandbox: &Sandbox, script: &str) -> Done {
    sandbox.wrap(need("sh")).args(["-c", script]).run()
}

#[test]
fn the_programs_own_status() {
    let sandbox = Sandbox::new();
    for status in [0, 1, 7, 125, 255] {
        assert_eq!(
            shell(&sandbox, &format!("exit {status}")).shell_status(),
            status
        );
    }
}

#[test]
fn a_signal_is_128_and_its_number() {
    let sandbox = Sandbox::new();
    for (signal, status) in [("TERM", 143), ("KILL", 137), ("ABRT", 134), ("HUP", 129)] {
        let script = format!("ulimit -c 0; kill -{signal} $$");
        assert_eq!(shell(&sandbox, &script).shell_status(), status, "{signal}");
    }
}

#[test]
fn command_not_found() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    sandbox
        .wrap("no-such-program-anywhere")
        .run()
        .exits(127)
        .stderr_has("no-such-program-anywhere");
    sandbox
        .wrap(sandbox.path("no/such/path"))
        .run()
        .exits(127)
        .stderr_has("no/such/path");
}

#[test]
fn command_not_executable() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let plain_file = sandbox.file("plain-file", "#!/bin/sh\n");
    set_mode(&plain_file, 0o644);
    sandbox
        .wrap(plain_file)
        .run()
        .exits(126)
        .stderr_has("plain-file");
    sandbox.wrap("/").run().exits(126);
}

/// Runs quicwrap with exactly these arguments.
fn quicwrap(args: &[&str]) -> (Option<i32>, String, String) {
    let done = Command::new(QUICWRAP)
        .args(args)
        .env("QUICWRAP_CONFIG", "/dev/null")
        .output()
        .expect("quicwrap runs");
    let text = |bytes| String::from_utf8(bytes).expect("utf-8");
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn bad_options() {
    wrapped_only!();
    let bad: &[(&[&str], &str)] = &[
        (&["--no-such-option", "--", "true"], "--no-such-option"),
        (&["--log", "quicwrap=nonsense", "--", "true"], "nonsense"),
        (&["--linger", "soon", "--", "true"], "soon"),
        (&["--server-cert"], "--server-cert"),
        (&["--"], "COMMAND"),
        (&[], "COMMAND"),
    ];
    for (args, named) in bad {
        let (code, stdout, stderr) = quicwrap(args);
        assert_eq!(code, Some(125), "{args:?}: {stderr}");
        assert!(
            stderr.to_uppercase().contains(&named.to_uppercase()),
            "{args:?} does not name {named}: {stderr}"
        );
        assert_eq!(stdout, "", "{args:?}");
    }
}

#[test]
fn version_and_help() {
    wrapped_only!();
    let (code, stdout, _) = quicwrap(&["--version"]);
    assert_eq!(
        (code, stdout.trim_end()),
        (Some(0), concat!("quicwrap ", env!("CARGO_PKG_VERSION")))
    );
    let (code, stdout, _) = quicwrap(&["--help"]);
    assert_eq!(code, Some(0));
    for word in [
        "--server-cert",
        "--insecure",
        "--state-dir",
        "COMMAND",
        "doctor",
    ] {
        assert!(stdout.contains(word), "--help lacks {word}:\n{stdout}");
    }
}

#[test]
fn nothing_but_the_programs_output() {
    let sandbox = Sandbox::new();
    let done = sandbox.wrap(need("true")).run().success();
    assert_eq!((done.text().as_str(), done.stderr.as_str()), ("", ""));
    let done = shell(&sandbox, "echo out; echo err >&2").success();
    assert_eq!(
        (done.text().as_str(), done.stderr.as_str()),
        ("out\n", "err\n")
    );
}

/// Arguments after `--` are the program's, byte for byte, whatever they look like.
#[test]
fn arguments_are_passed_as_they_are() {
    let sandbox = Sandbox::new();
    let words = ["", "two words", "--insecure", "--", "*", "'\"$HOME\\"];
    let done = sandbox
        .wrap(need("printf"))
        .arg("[%s]\\n")
        .args(words)
        .run()
        .success();
    let expected: String = words.iter().map(|w| format!("[{w}]\n")).collect();
    assert_eq!(done.text(), expected);
}

/// The debug log shows each trapped call as strace would, and why a call was left to the kernel.
#[test]
fn the_debug_log() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let log = sandbox.path("log");
    let done = crate::script(&sandbox, "connect.py")
        .option("--log")
        .option("debug")
        .option("--log-file")
        .option(&log)
        .args([&crate::common::net::free_port().to_string(), "1"])
        .run()
        .exits(1);
    assert_eq!(done.stderr, "");
    let text = std::fs::read_to_string(log).expect("a log");
    for expected in [
        "socket(2, 0x80001, 0) = a new descriptor",
        "connect(3, {127.0.0.1:",
        "ECONNREFUSED",
    ] {
        assert!(text.contains(expected), "no {expected} in\n{text}");
    }
    // A socket pair is the kernel's own.
    let log = sandbox.path("foreign");
    sandbox
        .wrap(crate::common::tools::python())
        .option("--log=debug")
        .option(format!("--log-file={}", log.display()))
        .args(["-c", "import socket; socket.socketpair()[0].getsockname()"])
        .run()
        .success();
    let text = std::fs::read_to_string(log).expect("a log");
    assert!(
        text.contains("left to the kernel: not an emulated socket"),
        "{text}"
    );
}
