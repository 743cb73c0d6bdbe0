//! The supervisor dies; quicwrap in quicwrap; kernels and settings that do not do.

use nix::sys::signal::{Signal, kill};

use crate::common::command::QUICWRAP;
use crate::common::{
    Sandbox,
    net::free_port,
    running::children,
    set_mode,
    tools::{need, python},
};
use crate::{script, script_file};

#[test]
fn nested() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let inner = sandbox.wrap(QUICWRAP).args(["--", "true"]);
    inner.run().exits(125).stderr_has("already wrapped");
    // Also from deeper within.
    let deeper = sandbox
        .wrap(need("sh"))
        .args(["-c", &format!("({QUICWRAP} -- true); exit $?")]);
    deeper.run().exits(125).stderr_has("already wrapped");
}

/// Kills the supervisor of a program that waits in `how`; returns what the program then says.
fn orphaned(how: &str) -> String {
    let sandbox = Sandbox::new();
    let mut program = script(&sandbox, "orphan.py").arg(how).piped().spawn();
    program.wait_stdout("ready");
    let inner = children(program.pid());
    let [supervisor] = inner[..] else {
        panic!("front's children: {inner:?}")
    };
    kill(supervisor, Signal::SIGKILL).expect("the supervisor runs");
    program.wait_stderr("supervisor");
    if how == "connect" {
        program.send("go\n");
    }
    let done = program.finish().exits(3);
    done.text()
        .trim_start_matches("ready\n")
        .trim_end()
        .to_owned()
}

#[test]
fn supervisor_killed() {
    wrapped_only!();
    // seccomp_unotify(2): without a supervisor trapped calls fail with ENOSYS.
    assert_eq!(orphaned("connect"), "failed ENOSYS");
}

#[test]
fn supervisor_killed_during_accept() {
    wrapped_only!();
    assert_eq!(orphaned("accept"), "failed ENOSYS");
}

#[test]
fn supervisor_killed_during_recv() {
    wrapped_only!();
    let outcome = orphaned("recv");
    assert!(
        ["end", "failed ECONNRESET"].contains(&outcome.as_str()),
        "{outcome}"
    );
}

/// The peer of a program whose supervisor died gets an end or a reset; it does not wait for ever.
#[test]
fn the_peer_of_a_dead_supervisor() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let port = free_port().to_string();
    let mut server = sandbox
        .wrap(need("nc.openbsd"))
        .args(["-v", "-l", "127.0.0.1", &port])
        .spawn();
    server.wait_stderr("Listening on");
    let short = sandbox
        .wrap(need("nc.openbsd"))
        .option("--idle-timeout")
        .option("3");
    let mut client = short.args(["-v", "127.0.0.1", &port]).piped().spawn();
    client.send("hello");
    server.wait_stdout("hello");
    let supervisors = children(server.pid());
    kill(supervisors[0], Signal::SIGKILL).expect("the supervisor runs");
    // Any way of ending will do: it must not hang.
    client.finish();
}

#[test]
fn an_unusable_state_directory() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let file = sandbox.file("not-a-directory", "");
    let done = sandbox
        .wrap(need("nc.openbsd"))
        .state(&file)
        .args(["-l", "127.0.0.1", "0"])
        .run();
    assert_ne!(done.status.code(), Some(0));
    done.stderr_has("not-a-directory");
}

/// A kernel without user notification (ENOSYS), or without the flags that are needed (EINVAL); and what service managers
/// and containers forbid.
#[test]
fn what_is_forbidden_is_named_with_what_to_do() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let script = script_file(&sandbox, "forbidden.py");
    for (call, how, said) in [
        ("seccomp", "38", "Linux 5.19"),
        ("seccomp", "22", "Linux 5.19"),
        ("seccomp", "1", "must allow seccomp"),
        ("seccomp", "SIGSYS", "must allow seccomp"),
        ("pidfd_getfd", "1", "must allow seccomp, pidfd_open"),
        ("pidfd_getfd", "SIGSYS", "must allow seccomp, pidfd_open"),
        ("unix", "97", "must allow AF_UNIX"),
    ] {
        let done = sandbox
            .plain(python())
            .arg(&script)
            .args([call, how, QUICWRAP, "--", "echo", "has run"])
            .run()
            .exits(125);
        done.stderr_has(said);
        assert_eq!(done.text(), "", "{call} {how}");
    }
}

/// Nobody may look into what executes such a file, and yet into what that executes.
#[test]
fn a_quicwrap_that_may_not_be_read_wraps() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let copy = sandbox.path("quicwrap");
    std::fs::copy(QUICWRAP, &copy).expect("a copy");
    set_mode(&copy, 0o711);
    let listen = "import socket; print(socket.create_server(('127.0.0.1', 0)).getsockname()[0])";
    let state = sandbox.path("state-nobody");
    let command = sandbox.plain(&copy).user().arg("--state-dir").arg(state);
    let done = command.arg("--").arg(python()).args(["-c", listen]).run();
    assert_eq!(done.success().text(), "127.0.0.1\n");
}

/// Where it may not choose a processor, quicwrap does without, and does not try: the attempt may end it.
#[test]
fn a_bulk_transfer_where_processors_may_not_be_chosen() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let script = script_file(&sandbox, "forbidden.py");
    let port = free_port();
    let iperf3 = need("iperf3");
    let iperf3 = iperf3.display();
    let both = format!(
        "{iperf3} -s -1 -p {port} & until {iperf3} -c 127.0.0.1 -p {port} -t 1; do sleep 0.1; done; wait $!"
    );
    for how in ["1", "SIGSYS"] {
        sandbox
            .plain(python())
            .arg(&script)
            .args(["sched_setaffinity", how, QUICWRAP, "--", "sh", "-c", &both])
            .run()
            .success();
    }
}
