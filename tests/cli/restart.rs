//! Servers that are started again while sessions of their predecessors live on, as sshd is.

use crate::common::{Running, Sandbox, Wrapped, net::free_port};
use crate::script;

/// A server with this name, listening.
fn serve(command: Wrapped, addresses: &str, port: u16, name: &str) -> Running {
    let command = command.args(["serve", addresses, &port.to_string(), name]);
    let mut server = command.spawn();
    server.wait_stdout(&format!("listening {name}"));
    server
}

struct Client {
    running: Running,
    lines: usize,
}

impl Client {
    fn new(sandbox: &Sandbox, address: &str, port: u16) -> Self {
        let client = script(sandbox, "sessions.py");
        let client = client.args(["call", address, &port.to_string()]);
        Self {
            running: client.piped().spawn(),
            lines: 0,
        }
    }

    /// It does what the line says, and sees these servers.
    #[track_caller]
    fn sees(&mut self, line: &str, servers: &str) {
        self.running.send(format!("{line}\n"));
        let expected = format!("{} served by {servers}\n", self.lines);
        self.running.wait_stdout(&expected);
        self.lines += 1;
    }
}

/// Three servers, one after another, and clients of each.
fn restarted(address: &str, called: &str, prepare: impl Fn(Wrapped) -> Wrapped) {
    let sandbox = Sandbox::new();
    let port = free_port();
    let server = |name| {
        serve(
            prepare(script(&sandbox, "sessions.py")),
            address,
            port,
            name,
        )
    };
    let first = server("first");
    let [mut client, mut other] = [(); 2].map(|()| Client::new(&sandbox, called, port));
    client.sees("new", "first");
    other.sees("new", "first");
    first.stop();
    let second = server("second");
    client.sees("new", "first second");
    client.sees("much", "first second");
    client.running.wait_stdout("much True True\n");
    let mut latest = Client::new(&sandbox, called, port);
    latest.sees("new", "second");
    second.stop();
    let third = server("third");
    client.sees("new", "first second third");
    other.sees("new", "first third");
    latest.sees("again", "second");
    for client in [client, other, latest] {
        client.running.finish().success();
    }
    third.stop();
}

#[test]
fn sessions_outlive_their_server() {
    restarted("127.0.0.1", "127.0.0.1", |server| server);
}

/// Natively, too, a socket for both families hears whoever connects by IPv4.
#[test]
fn sessions_outlive_their_server_at_any_address() {
    restarted("::", "127.0.0.1", |server| server);
    restarted("::", "::1", |server| server);
    restarted("0.0.0.0", "127.0.0.2", |server| server);
}

/// A socket for each family, as sshd and nginx have; and a client that calls two addresses of the server.
#[test]
fn sessions_outlive_their_server_at_several_addresses() {
    for (addresses, called) in [
        ("0.0.0.0,::", "127.0.0.1,::1"),
        ("0.0.0.0", "127.0.0.1,127.0.0.2"),
    ] {
        let sandbox = Sandbox::new();
        let port = free_port();
        let server = |name| serve(script(&sandbox, "sessions.py"), addresses, port, name);
        let first = server("first");
        let mut client = Client::new(&sandbox, called, port);
        client.sees("new", &["first"; 2].join(" "));
        first.stop();
        let second = server("second");
        client.sees("new", &[["first"; 2], ["second"; 2]].concat().join(" "));
        client.sees("much", &[["first"; 2], ["second"; 2]].concat().join(" "));
        client.running.wait_stdout("much True True True True\n");
        client.running.finish().success();
        second.stop();
    }
}

#[test]
fn sessions_outlive_a_server_with_several_threads() {
    wrapped_only!();
    restarted("127.0.0.1", "127.0.0.1", |server| {
        server.option("--threads").option("3")
    });
}
