//! memcached with four threads, which take over connections that the first one has accepted ↔ Python clients.

use crate::common::{Running, Sandbox, net::free_port, tools};

fn start(sandbox: &Sandbox, port: &str) -> Running {
    // It refuses to run as root unless it is told a user.
    let memcached = sandbox.wrap(tools::need("memcached")).user();
    let memcached = memcached.args(["-t", "4", "-m", "64", "-l", "127.0.0.1,::1", "-p", port]);
    let mut server = memcached.spawn();
    server.wait_listening(port.parse().expect("a port"));
    crate::wait_accepting(sandbox, port.parse().expect("a port"));
    server
}

fn client(sandbox: &Sandbox, host: &str, port: &str) -> crate::common::Wrapped {
    let script = crate::source_dir().join("python/memcache.py");
    let python = sandbox.wrap(tools::python()).arg(script);
    python.args([host, port])
}

#[test]
fn many_keys_by_many_connections() {
    let sandbox = Sandbox::new();
    let port = free_port().to_string();
    let server = start(&sandbox, &port);
    for host in ["127.0.0.1", "::1"] {
        assert_eq!(
            client(&sandbox, host, &port).run().success().text(),
            "8000 keys by 16 connections, 16000 counted\n"
        );
    }
    server.stop().success();
}

/// Two client programs at once count on the same counter.
#[test]
fn two_clients_at_once() {
    let sandbox = Sandbox::new();
    let port = free_port().to_string();
    let _server = start(&sandbox, &port);
    let clients = ["127.0.0.1", "::1"].map(|h| client(&sandbox, h, &port).arg("shared").spawn());
    for client in clients {
        let text = client.finish().success().text();
        assert!(text.starts_with("8000 keys by 16 connections, "), "{text}");
    }
    let last = client(&sandbox, "127.0.0.1", &port).arg("shared").run();
    assert!(last.success().text().ends_with(", 48000 counted\n"));
}
