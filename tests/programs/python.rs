//! Python's http.server ↔ urllib, and an asyncio pair.

use std::path::PathBuf;

use crate::common::{Sandbox, Wrapped, net::free_port, tools};

/// A script of `tests/programs/python`.
fn script(sandbox: &Sandbox, name: &str, port: u16) -> Wrapped {
    let path = crate::source_dir().join("python").join(name);
    sandbox
        .wrap(tools::python())
        .arg("-u")
        .arg(path)
        .arg(port.to_string())
}

fn http_server(sandbox: &Sandbox, port: u16, root: &PathBuf) -> crate::common::Running {
    let args = [
        "-u",
        "-m",
        "http.server",
        &port.to_string(),
        "--bind",
        "127.0.0.1",
        "--directory",
    ];
    let mut server = sandbox.wrap(tools::python()).args(args).arg(root).spawn();
    server.wait_stdout("Serving HTTP on 127.0.0.1");
    server
}

#[test]
fn http_server_and_urllib() {
    let sandbox = Sandbox::new();
    let (port, root) = (free_port(), sandbox.path("www"));
    std::fs::create_dir(&root).expect("a directory");
    tools::random_file(&root.join("file"), 20 << 20, 7);
    let server = http_server(&sandbox, port, &root);
    let client = script(&sandbox, "fetch.py", port).run().success();
    assert_eq!(client.text().trim(), tools::sha256(&root.join("file")));
    // http.server logs the peer's address.
    assert!(
        server.stderr().contains("127.0.0.1 - - ["),
        "{}",
        server.stderr()
    );
    assert!(
        server.stderr().contains("\"GET /missing HTTP/1.1\" 404"),
        "{}",
        server.stderr()
    );
}

#[test]
fn asyncio_echo() {
    let sandbox = Sandbox::new();
    let port = free_port();
    let mut server = script(&sandbox, "aio_server.py", port).spawn();
    server.wait_stdout("serving");
    let client = script(&sandbox, "aio_client.py", port).run().success();
    assert_eq!(client.text(), "50 echoed, peers distinct and agreed\n");
}

/// An interrupt ends a Python server as it does natively: KeyboardInterrupt out of a blocked call.
#[test]
fn keyboard_interrupt() {
    let sandbox = Sandbox::new();
    let server = http_server(&sandbox, free_port(), &sandbox.path(""));
    server.signal(nix::sys::signal::Signal::SIGINT);
    assert!(
        server
            .finish()
            .success()
            .text()
            .contains("Keyboard interrupt received")
    );
}
