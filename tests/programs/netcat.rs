//! netcat: bulk data both ways at once, half-close, and data on a server that speaks first.

use crate::common::{Running, Sandbox, Wrapped, net::free_port, tools};

pub(crate) fn nc(sandbox: &Sandbox) -> Wrapped {
    sandbox.wrap(tools::need("nc.openbsd"))
}

/// `nc -l`, ready for its one client.
pub(crate) fn listen(command: Wrapped, port: u16) -> Running {
    let mut server = command
        .args(["-v", "-l", "127.0.0.1", &port.to_string()])
        .spawn();
    server.wait_stderr("Listening on");
    server
}

const SIZE: usize = 100 << 20;

#[test]
fn a_hundred_megabytes_both_ways() {
    let sandbox = Sandbox::new();
    let port = free_port();
    let [there, back, got_there, got_back] =
        ["there", "back", "got-there", "got-back"].map(|f| sandbox.path(f));
    tools::random_file(&there, SIZE, 1);
    tools::random_file(&back, SIZE, 2);
    let server = listen(nc(&sandbox).arg("-N").input(&back).output(&got_there), port);
    // No -N here: `nc -l` leaves when the client has ended its sending, whatever it has yet to send itself.
    let client = nc(&sandbox).input(&there).output(&got_back);
    client
        .args(["127.0.0.1", &port.to_string()])
        .run()
        .success();
    server.finish().success();
    assert_eq!(
        tools::sha256(&got_there),
        tools::sha256(&there),
        "client to server"
    );
    assert_eq!(
        tools::sha256(&got_back),
        tools::sha256(&back),
        "server to client"
    );
}

/// The server ends its sending (`-N`) and still receives what the client sends much later.
#[test]
fn half_close() {
    let sandbox = Sandbox::new();
    let port = free_port();
    let greeting = sandbox.file("greeting", "go on\n");
    let server = listen(nc(&sandbox).arg("-N").input(&greeting), port);
    let mut client = nc(&sandbox)
        .arg("-N")
        .piped()
        .args(["127.0.0.1", &port.to_string()])
        .spawn();
    client.wait_stdout("go on");
    client.send("yes: ");
    client.send("everything\n");
    let answer = tools::random_bytes(3 << 20, 3);
    client.send(&answer);
    // Both end by themselves when both directions have ended.
    client.finish().success();
    let got = server.finish().success().stdout;
    assert_eq!(got.len(), 16 + answer.len());
    assert!(got.starts_with(b"yes: everything\n") && got.ends_with(&answer));
}

#[test]
fn server_speaks_first() {
    let sandbox = Sandbox::new();
    let port = free_port();
    let banner = sandbox.file("banner", "220 ready\n");
    let server = listen(nc(&sandbox).arg("-N").input(&banner), port);
    let mut client = nc(&sandbox)
        .piped()
        .args(["127.0.0.1", &port.to_string()])
        .spawn();
    client.wait_stdout("220 ready");
    client.send("quit\n");
    client.close_input();
    client.finish().success();
    assert_eq!(server.finish().success().text(), "quit\n");
}

/// A port scan: open and closed are told apart.
#[test]
fn scan() {
    let sandbox = Sandbox::new();
    let (open, closed) = (free_port(), free_port());
    let _server = listen(nc(&sandbox).arg("-k"), open);
    let scan = |port: u16| {
        nc(&sandbox)
            .args(["-z", "-v", "127.0.0.1", &port.to_string()])
            .run()
    };
    scan(open).success().stderr_has("succeeded");
    scan(closed).exits(1).stderr_has("refused");
}

#[test]
fn ipv6() {
    let sandbox = Sandbox::new();
    let port = free_port().to_string();
    let mut server = nc(&sandbox).args(["-6", "-v", "-l", "::1", &port]).spawn();
    server.wait_stderr("Listening on");
    let words = sandbox.file("words", "over six\n");
    nc(&sandbox)
        .arg("-N")
        .input(&words)
        .args(["::1", &port])
        .run()
        .success();
    assert_eq!(server.finish().success().text(), "over six\n");
}
