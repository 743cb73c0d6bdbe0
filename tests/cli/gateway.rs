//! `quicwrap gateway`: one end wrapped, the other plain TCP.

use nix::sys::signal::Signal;

use crate::common::net::{free_port, tcp_listens, udp_bound};
use crate::common::{Done, Running, Sandbox, Wrapped, command::QUICWRAP, tools, wait_until};
use crate::talk::{self, all_well};

fn gateway(sandbox: &Sandbox, arguments: &[&str]) -> Wrapped {
    sandbox
        .plain(QUICWRAP)
        .args(["gateway", "--state-dir"])
        .arg(sandbox.path("state"))
        .args(["--log", "info"])
        .args(arguments)
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// A gateway between two ports, ready.
fn between(sandbox: &Sandbox, listen: u16, to: u16, options: &[&str]) -> Running {
    let (listen, to) = (address(listen), format!("localhost:{to}"));
    let gateway = gateway(sandbox, &["--listen", &listen, "--to", &to]);
    let mut running = gateway.args(options).spawn();
    running.wait_stderr("gateway ready");
    running
}

#[test]
fn from_quic_to_tcp() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let (port, behind) = (free_port(), free_port());
    let _server = talk::plain_server(&sandbox, behind);
    let gateway = between(&sandbox, port, behind, &[]);
    assert!(udp_bound(port) && !tcp_listens(port));
    let words = &["echo", "sum", "reset"];
    all_well(
        talk::call(crate::script(&sandbox, "talk.py"), port, words),
        words,
    );
    gateway.stop().success();
    wait_until("the port is free", || !udp_bound(port));
}

/// Two gateways, no wrapped program at all.
#[test]
fn from_tcp_to_quic_to_tcp() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let (port, middle, behind) = (free_port(), free_port(), free_port());
    let _server = talk::plain_server(&sandbox, behind);
    let _inner = between(&sandbox, middle, behind, &[]);
    let _outer = between(&sandbox, port, middle, &["--from-tcp"]);
    assert!(tcp_listens(port) && !udp_bound(port));
    let words = &["echo", "sum", "reset"];
    all_well(talk::plain_call(&sandbox, port, words), words);
}

#[test]
fn from_tcp_to_a_wrapped_server() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let (port, behind) = (free_port(), free_port());
    let _server = talk::server(&sandbox, behind, |command| command);
    let _gateway = between(&sandbox, port, behind, &["--from-tcp"]);
    let words = &["echo", "sum", "reset"];
    all_well(talk::plain_call(&sandbox, port, words), words);
}

/// Clients see a reset, and the gateway's operator why.
#[test]
fn a_server_that_is_down() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let (port, behind) = (free_port(), free_port());
    let mut gateway = between(&sandbox, port, behind, &[]);
    // It reads: the reset may be there before a first write, which says EPIPE then (docs/limitations.md).
    let read =
        "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1]))).recv(1)";
    let client = sandbox.wrap(tools::python());
    let done: Done = client.args(["-c", read, &port.to_string()]).run();
    assert!(!done.status.success());
    done.stderr_has("ConnectionResetError");
    gateway.wait_stderr(&format!(
        "cannot reach localhost:{behind}: Connection refused"
    ));
    let _server = talk::plain_server(&sandbox, behind);
    let words = &["echo"];
    all_well(
        talk::call(crate::script(&sandbox, "talk.py"), port, words),
        words,
    );
}

#[test]
fn signals_end_it() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let gateway = between(&sandbox, free_port(), free_port(), &[]);
        gateway.signal(signal);
        gateway.finish().success();
    }
}

#[test]
fn what_cannot_be_is_said_at_the_start() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let port = free_port();
    let taken = std::net::UdpSocket::bind(("127.0.0.1", port)).expect("a free port");
    let listen = address(port);
    let done = gateway(&sandbox, &["--listen", &listen, "--to", "localhost:1"]).run();
    done.exits(125).stderr_has(&format!(
        "cannot listen on {listen}: Address already in use"
    ));
    drop(taken);
    for (listen, to) in [("127.0.0.1", "a:1"), (listen.as_str(), "a"), (":x", "a:1")] {
        let done = gateway(&sandbox, &["--listen", listen, "--to", to]).run();
        done.exits(125).stderr_has("port");
    }
    let missing = gateway(&sandbox, &["--listen", &listen]).run();
    missing.exits(125).stderr_has("--to <HOST:PORT>");
}

/// The options of a wrapped program are its own too, from the file as from the command line.
#[test]
fn it_reads_the_configuration_file() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let (port, behind) = (free_port(), free_port());
    let _server = talk::plain_server(&sandbox, behind);
    let file = sandbox.file("both.toml", "also-tcp = true\n");
    let file = file.display().to_string();
    let _gateway = between(&sandbox, port, behind, &["--config", &file]);
    assert!(udp_bound(port) && tcp_listens(port));
    let words = &["echo"];
    all_well(talk::plain_call(&sandbox, port, words), words);
    let wrong = sandbox.file("wrong.toml", "also-tpc = true\n");
    let arguments = ["--listen", ":1", "--to", "a:1", "--config"];
    let done = gateway(&sandbox, &arguments).arg(&wrong).run().exits(125);
    done.stderr_has("wrong.toml:1");
}
