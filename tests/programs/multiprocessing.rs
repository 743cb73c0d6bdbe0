//! Python's multiprocessing over TCP: managers, and Listener with Client, with an authentication key.

use crate::common::{Sandbox, Wrapped, net::free_port, tools};

/// A script of `tests/programs/python`.
fn script(sandbox: &Sandbox, name: &str, port: u16) -> Wrapped {
    let path = crate::source_dir().join("python").join(name);
    sandbox
        .wrap(tools::python())
        .arg(path)
        .arg(port.to_string())
}

#[test]
fn manager() {
    let sandbox = Sandbox::new();
    let port = free_port();
    let mut server = script(&sandbox, "manager_server.py", port).spawn();
    server.wait_stdout("serving");
    let client = script(&sandbox, "manager_client.py", port).run();
    assert_eq!(client.success().text(), "120 done\n");
}

#[test]
fn listener_and_clients() {
    let sandbox = Sandbox::new();
    let port = free_port();
    let mut server = script(&sandbox, "listener_server.py", port).spawn();
    server.wait_stdout("listening");
    let client = script(&sandbox, "listener_client.py", port).run();
    assert_eq!(client.success().text(), "16 talked\n");
    server.finish().success();
}
