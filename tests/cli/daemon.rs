//! Programs that leave: daemons, and last words just before the exit.

use crate::common::{Sandbox, becomes_true, net, net::free_port, tools::need, wait_until};
use crate::script;

fn connects(sandbox: &Sandbox, port: u16) {
    let client = script(sandbox, "connect.py").arg(port.to_string());
    assert_eq!(client.run().success().text(), "echoed\n");
}

fn kill(pid: &str) {
    let pid = nix::unistd::Pid::from_raw(pid.trim().parse().expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("the daemon runs");
}

/// Control returns at once; the daemon serves wrapped; with its end everything of quicwrap's ends.
#[test]
fn a_daemon() {
    let sandbox = Sandbox::new();
    let (port, pidfile) = (free_port(), sandbox.path("pid"));
    script(&sandbox, "daemon.py")
        .arg(port.to_string())
        .arg(&pidfile)
        .run()
        .success();
    wait_until("the daemon listens", || pidfile.exists());
    assert!(net::is_served(port));
    connects(&sandbox, port);
    connects(&sandbox, port);
    kill(&std::fs::read_to_string(&pidfile).expect("a pid file"));
    wait_until("the port is free", || !net::is_served(port));
    let mut left = Vec::new();
    let ended = becomes_true(std::time::Duration::from_secs(20), || {
        left = sandbox.processes();
        left.is_empty()
    });
    assert!(ended, "still running: {left:?}");
}

/// Nothing of quicwrap's keeps the caller's pipes open: a command substitution ends with the command.
#[test]
fn a_daemon_in_a_command_substitution() {
    let sandbox = Sandbox::new();
    let (port, pidfile) = (free_port(), sandbox.path("pid"));
    let daemon = script(&sandbox, "daemon.py")
        .arg(port.to_string())
        .arg(&pidfile)
        .shell_line();
    let substitution = format!("out=$({daemon} 2>&1); echo \"returned:$?:$out\"");
    let done = sandbox
        .plain(need("sh"))
        .args(["-c", &substitution])
        .run()
        .success();
    assert_eq!(done.text(), "returned:0:\n");
    wait_until("the daemon listens", || pidfile.exists());
    connects(&sandbox, port);
}

/// What was written just before the exit arrives, whole.
fn last_bytes(size: usize, read_early: bool) {
    let sandbox = Sandbox::new();
    let (port, go) = (free_port(), sandbox.path("go"));
    let mut server = script(&sandbox, "sink.py")
        .arg(port.to_string())
        .arg(&go)
        .spawn();
    server.wait_stdout("listening");
    if read_early {
        sandbox.file("go", "");
    }
    let client = script(&sandbox, "source.py")
        .args([port.to_string(), size.to_string()])
        .run()
        .success();
    sandbox.file("go", "");
    let got = server.finish().success().text();
    assert_eq!(got, format!("listening\n{}", client.text()));
}

#[test]
fn a_few_last_bytes() {
    last_bytes(1, true);
}

#[test]
fn many_last_bytes() {
    last_bytes(8 << 20, true);
}

/// The peer takes them only when the program and its front are long gone.
#[test]
fn last_bytes_for_a_late_reader() {
    last_bytes(100_000, false);
}

/// A child that outlives the program keeps its connection.
#[test]
fn a_child_inherits_the_connection() {
    let sandbox = Sandbox::new();
    let (port, go) = (free_port(), sandbox.path("go"));
    let mut server = script(&sandbox, "sink.py")
        .arg(port.to_string())
        .arg(sandbox.path(""))
        .spawn();
    server.wait_stdout("listening");
    let program = format!(
        "exec 5<>/dev/tcp/127.0.0.1/{port}; printf parent >&5; \
         (trap '' HUP; until [ -e {} ]; do sleep 0.02; done; printf child >&5) > /dev/null 2>&1 & exit 0",
        go.display()
    );
    sandbox
        .wrap(need("bash"))
        .args(["-c", &program])
        .run()
        .success();
    sandbox.file("go", "");
    let text = server.finish().success().text();
    assert!(text.starts_with("listening\n11 "), "{text}");
}
