//! `--socket`: which calls of socket(2) make emulated sockets.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::common::{Sandbox, Wrapped, net::free_port, tools::need};
use crate::script;

/// A number above IPPROTO_MAX, which the kernel knows nothing of.
const MADE_UP: &str = "123456";

fn made_up(sandbox: &Sandbox, role: &str, ports: &[u16]) -> Wrapped {
    let ports = ports.iter().map(u16::to_string);
    let command = script(sandbox, "made_up.py")
        .args([MADE_UP, role])
        .args(ports);
    command
        .option("--socket")
        .option(format!("AF_INET,SOCK_STREAM,{MADE_UP}"))
}

/// Both ends use a made-up number; the server's ordinary listener is the kernel's, for a plain client reaches it.
#[test]
fn a_made_up_protocol() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let (port, tcp_port) = (free_port(), free_port());
    let mut server = made_up(&sandbox, "server", &[port, tcp_port]).spawn();
    server.wait_stdout("listening");
    TcpStream::connect(("127.0.0.1", port)).expect_err("TCP reaches the made-up socket");

    let client = made_up(&sandbox, "client", &[port]).run().success();
    assert_eq!(client.text(), format!("word {MADE_UP}\n"));

    let mut plain = TcpStream::connect(("127.0.0.1", tcp_port)).expect("a TCP server");
    plain.write_all(b"plain").expect("sent");
    plain.shutdown(Shutdown::Write).expect("shut down");
    let mut answer = String::new();
    plain.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "plain");
    let said = server.finish().success().text();
    assert_eq!(said, format!("listening\n{MADE_UP} {MADE_UP}\n6 6\n"));
}

/// With `tcp` besides, both kinds are emulated; without the option, the made-up one is the kernel's to refuse.
#[test]
fn combined_and_absent() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let (port, tcp_port) = (free_port(), free_port());
    let server = made_up(&sandbox, "server", &[port, tcp_port]).option("--socket");
    let mut server = server.option("tcp").spawn();
    server.wait_stdout("listening");
    TcpStream::connect(("127.0.0.1", tcp_port)).expect_err("TCP reaches a wrapped socket");
    made_up(&sandbox, "client", &[port]).run().success();
    let tcp = script(&sandbox, "connect.py").arg(tcp_port.to_string());
    assert_eq!(tcp.run().success().text(), "echoed\n");
    server.finish().success();

    // __sock_create, inet_create: EINVAL for a number from IPPROTO_MAX on.
    let absent = script(&sandbox, "made_up.py").args([MADE_UP, "client", "1"]);
    assert_eq!(absent.run().exits(1).text(), "socket EINVAL\n");
    let of_environment = script(&sandbox, "made_up.py")
        .args([MADE_UP, "client", "1"])
        .env("QUICWRAP_SOCKET", "tcp inet6,stream,123456");
    assert_eq!(of_environment.run().exits(1).text(), "socket EINVAL\n");
}

#[test]
fn what_cannot_be_emulated() {
    wrapped_only!();
    for (choice, words) in [
        ("AF_UNIX,SOCK_STREAM,0", "internet addresses"),
        ("inet,dgram,0", "a stream of bytes"),
        ("inet,stream", "DOMAIN,TYPE,PROTOCOL"),
        ("inet,stream,x", "is not a protocol"),
    ] {
        let sandbox = Sandbox::new();
        let command = sandbox.wrap(need("echo")).arg("it ran");
        let done = command.option("--socket").option(choice).run().exits(125);
        assert_eq!(done.text(), "", "the program ran");
        done.stderr_has(words);
    }
}
