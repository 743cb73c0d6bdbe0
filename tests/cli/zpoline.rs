//! `--mode zpoline`: that calls are answered in the program, and what becomes of it where that cannot be.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Sandbox, Wrapped, command::QUICWRAP, tools};

/// So many calls of each kind, to sockets that are emulated and to others.
const CALLS: &str = "
import socket
tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
tcp.bind(('127.0.0.1', 0))
for call in range(200):
    assert tcp.getsockname()[0] == '127.0.0.1'
    assert udp.getsockname() == ('0.0.0.0', 0)
    assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
    udp.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 7)
print('all well')
";
/// Traps, at most, of calls that are answered in the program: some until a site is patched.
const FEW: usize = 20;

/// Not with the tests' own options, which may name another mode.
fn quicwrap(sandbox: &Sandbox, mode: &str, log: &str) -> Wrapped {
    let state = sandbox.path("state-of-mode");
    sandbox
        .plain(QUICWRAP)
        .args(["--mode", mode, "--log", log, "--state-dir"])
        .arg(state)
        .arg("--")
}

fn traps(report: &str) -> usize {
    let calls = ["getsockname(", "getsockopt(", "setsockopt("];
    let is_one = |line: &&str| calls.iter().any(|call| line.contains(call));
    report.lines().filter(is_one).count()
}

#[test]
fn calls_are_answered_in_the_program() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let run = |mode| {
        let python = quicwrap(&sandbox, mode, "debug").arg(tools::python());
        let done = python.args(["-c", CALLS]).run().success();
        assert_eq!(done.text(), "all well\n");
        traps(&done.stderr)
    };
    assert!(run("seccomp") >= 1000);
    let few = run("zpoline");
    assert!(few < FEW, "{few} calls have trapped");
}

/// Neither root nor a sysctl is needed for programs of the C library.
#[test]
fn of_an_ordinary_user_too() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let python = sandbox.wrap(tools::python()).args(["-c", CALLS]).user();
    let python = python.env("QUICWRAP_MODE", "zpoline");
    let done = python.env("QUICWRAP_LOG", "debug").run().success();
    assert_eq!(done.text(), "all well\n");
    let few = traps(&done.stderr);
    assert!(few < FEW, "{few} calls have trapped");
}

#[test]
fn what_is_executed_is_patched_anew() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let again = "import os, sys; exec(sys.argv[1]); os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])";
    let python = quicwrap(&sandbox, "zpoline", "debug").arg(tools::python());
    let done = python.args(["-c", again, CALLS]).run().success();
    assert_eq!(done.text().lines().last(), Some("all well"));
    let few = traps(&done.stderr);
    assert!(few < 2 * FEW, "{few} calls have trapped");
}

#[test]
fn a_traced_quicwrap_refuses_and_auto_does_without() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let traced = |mode| {
        let words = quicwrap(&sandbox, mode, "info").arg("true").words();
        let strace = sandbox.plain(tools::need("strace"));
        strace
            .args(["-f", "-o", "/dev/null", "--"])
            .args(words)
            .run()
    };
    traced("zpoline").exits(125).stderr_has("--mode seccomp");
    traced("auto")
        .success()
        .stderr_has("--mode auto takes seccomp");
}

#[test]
fn a_traced_program_stays_slow() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let strace = quicwrap(&sandbox, "zpoline", "info").arg(tools::need("strace"));
    let strace = strace.args(["-f", "-o", "/dev/null"]).arg(tools::python());
    let done = strace.args(["-c", CALLS]).run().success();
    assert_eq!(done.text(), "all well\n");
    done.stderr_has("it is traced by");
}

fn compile(sandbox: &Sandbox, name: &str) -> PathBuf {
    let source = Path::new(file!())
        .with_file_name("c")
        .join(format!("{name}.c"));
    let program = sandbox.path(name);
    let mut cc = Command::new(tools::need("cc"));
    let built = cc
        .args(["-O1", "-g", "-o"])
        .arg(&program)
        .arg(source)
        .status();
    assert!(built.is_ok_and(|status| status.success()), "cc");
    program
}

#[test]
fn backtraces_lead_through_a_call() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let program = compile(&sandbox, "waits");
    let mut waiting = quicwrap(&sandbox, "zpoline", "debug").arg(program).spawn();
    waiting.wait_stdout("waits");
    waiting.wait_stderr("number=43");
    let pid = waits(&sandbox).to_string();
    let gdb = sandbox.plain(tools::need("gdb"));
    let done = gdb
        .args(["-q", "-nx", "-batch", "-p", &pid, "-ex", "bt"])
        .run();
    let (text, stderr) = (done.text(), &done.stderr);
    for function in ["accept", "wait_here", "main"] {
        assert!(text.contains(function), "no {function} in\n{text}{stderr}");
    }
}

/// The pid of the program that waits.
fn waits(sandbox: &Sandbox) -> i32 {
    let is_it = |pid: &i32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim() == "waits")
    };
    let found = sandbox.processes().into_iter().find(is_it);
    found.expect("the program runs")
}
