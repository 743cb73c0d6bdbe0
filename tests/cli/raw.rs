//! `--wire raw`, between two wrapped programs.

use crate::common::net::free_port;
use crate::common::{Sandbox, Wrapped};
use crate::script;
use crate::talk::{self, WORDS, all_well};

fn raw(command: Wrapped) -> Wrapped {
    command.option("--wire").option("raw")
}

#[test]
fn what_tcp_can_do() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let _server = talk::server(&sandbox, port, raw);
    all_well(talk::client(&sandbox, port, raw), WORDS);
}

#[test]
fn application_protocols_must_agree() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let alpn = |name: &'static str| move |command| raw(command).option("--alpn").option(name);
    let _server = talk::server(&sandbox, port, alpn("one,two"));
    all_well(talk::client(&sandbox, port, alpn("two")), WORDS);
    let done = talk::client(&sandbox, port, alpn("three")).exits(1);
    assert_eq!(done.text(), "ECONNREFUSED\n");
    done.stderr_has("--alpn");
    // quicwrap's own protocol is another one.
    let done = talk::client(&sandbox, port, |command| command).exits(1);
    assert_eq!(done.text(), "ECONNREFUSED\n");
    done.stderr_has("ALPN quicwrap/1");
}

/// It cannot work, and both sides say so.
#[test]
fn a_server_that_speaks_first() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let mut server = raw(script(&sandbox, "greet.py"))
        .arg(port.to_string())
        .spawn();
    server.wait_stdout("listening");
    let listen =
        "import socket,sys; socket.create_connection(('127.0.0.1', int(sys.argv[1]))).recv(1)";
    let python = crate::common::tools::python();
    let client = raw(sandbox.wrap(python).args(["-c", listen, &port.to_string()]));
    let mut client = client.spawn();
    server.wait_stderr("the program speaks first");
    client.wait_stderr("waits for its peer to speak first");
}

#[test]
fn application_protocols_are_for_raw_alone() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let done = sandbox.wrap("true").option("--alpn").option("x").run();
    done.exits(125).stderr_has("add --wire raw");
    let long = "x".repeat(256);
    let done = raw(sandbox.wrap("true"))
        .option("--alpn")
        .option(&long)
        .run();
    done.exits(125).stderr_has("256 bytes");
}
