//! Signals sent to the pid that the shell knows reach the program, once; stopping and continuing.

use std::ffi::OsStr;

use nix::sys::signal::Signal;

use crate::common::running::{process_state, wait_state};
use crate::common::{Running, Sandbox, tools, wait_until};
use crate::{script, script_file};

fn counter(sandbox: &Sandbox) -> Running {
    let mut program = script(sandbox, "signals.py").spawn();
    program.wait_stdout("ready");
    program
}

#[test]
fn each_signal_arrives_once() {
    let sandbox = Sandbox::new();
    let mut program = counter(&sandbox);
    let signals = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGQUIT,
        Signal::SIGWINCH,
    ];
    for signal in signals {
        program.signal(signal);
        program.wait_stdout(&format!("got {signal}\n"));
    }
    program.signal(Signal::SIGUSR2);
    let text = program.finish().exits(9).text();
    let counts = "counts SIGHUP=1 SIGINT=1 SIGQUIT=1 SIGTERM=1 SIGUSR1=1 SIGWINCH=1\n";
    assert!(text.ends_with(counts), "{text}");
}

/// With KillMode=control-group, systemd's default, each process of a service is signalled, the program too.
#[test]
fn a_service_managers_signals_arrive_once() {
    for whom in ["all", "main"] {
        let sandbox = Sandbox::new();
        let manager = script_file(&sandbox, "manager.py");
        let manager: [&OsStr; 3] = [tools::python().as_ref(), manager.as_ref(), whom.as_ref()];
        let text = script(&sandbox, "signals.py")
            .through(manager)
            .run()
            .exits(9)
            .text();
        let counts = "counts SIGHUP=1 SIGTERM=2\n";
        assert!(text.ends_with(counts), "{whom}: {text}");
    }
}

#[test]
fn an_unhandled_signal_ends_it() {
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
    ] {
        let sandbox = Sandbox::new();
        let mut program = sandbox
            .wrap(tools::need("sh"))
            .args(["-c", "echo ready; exec sleep 600"])
            .spawn();
        program.wait_stdout("ready");
        program.signal(signal);
        assert_eq!(program.finish().shell_status(), 128 + signal as i32);
    }
}

/// SIGKILL cannot be forwarded: the program must nevertheless not be left running behind its front.
#[test]
fn a_killed_front_takes_its_program_along() {
    let sandbox = Sandbox::new();
    let mut program = sandbox
        .wrap(tools::need("sh"))
        .args(["-c", "echo ready $$; exec sleep 600"])
        .spawn();
    program.wait_stdout("\n");
    let pid: i32 = program
        .stdout()
        .split_whitespace()
        .nth(1)
        .expect("a pid")
        .parse()
        .expect("a number");
    program.signal(Signal::SIGKILL);
    program.finish();
    wait_until("the program has gone", || {
        process_state(nix::unistd::Pid::from_raw(pid)).is_none_or(|s| s == 'Z')
    });
}

/// A program that stops itself stops quicwrap, as its shell expects; SIGCONT resumes both.
#[test]
fn stopping_itself() {
    let sandbox = Sandbox::new();
    let mut program = sandbox
        .wrap(tools::need("sh"))
        .args(["-c", "echo ready; kill -STOP $$; echo resumed; exit 4"])
        .spawn();
    program.wait_stdout("ready");
    wait_state(program.pid(), "T");
    assert!(!program.stdout().contains("resumed"));
    program.signal(Signal::SIGCONT);
    program.wait_stdout("resumed");
    program.finish().exits(4);
}

/// SIGTSTP from outside, twice: the program itself stops, and runs again after SIGCONT.
#[test]
fn stopped_from_outside() {
    let sandbox = Sandbox::new();
    let mut program = sandbox
        .wrap(tools::need("sh"))
        .args(["-c", "echo $$; exec cat"])
        .piped()
        .spawn();
    program.wait_stdout("\n");
    let inner = nix::unistd::Pid::from_raw(program.stdout().trim().parse().expect("a pid"));
    for round in ["first", "second"] {
        program.signal(Signal::SIGTSTP);
        wait_state(inner, "T");
        wait_state(program.pid(), "T");
        program.signal(Signal::SIGCONT);
        program.send(round);
        program.wait_stdout(round);
    }
    program.finish().success();
}

/// A stopped program keeps its connections; they go on when it does.
#[test]
fn connections_survive_a_stop() {
    let sandbox = Sandbox::new();
    let port = crate::common::net::free_port();
    let nc = || sandbox.wrap(tools::need("nc.openbsd"));
    let mut server = nc()
        .args(["-v", "-l", "127.0.0.1", &port.to_string()])
        .spawn();
    server.wait_stderr("Listening on");
    let mut client = nc()
        .arg("-N")
        .args(["127.0.0.1", &port.to_string()])
        .piped()
        .spawn();
    client.send("before ");
    server.wait_stdout("before ");
    client.signal(Signal::SIGTSTP);
    wait_state(client.pid(), "T");
    client.send("after");
    client.signal(Signal::SIGCONT);
    server.wait_stdout("before after");
    client.finish().success();
    server.finish().success();
}
