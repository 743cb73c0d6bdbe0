//! telnet talks to `nc -l`, typed at by a person (here: by `expect`, on a terminal) or by a pipe.

use crate::common::{Sandbox, net::free_port, tools::need};
use crate::netcat::{listen, nc};

#[test]
fn a_conversation() {
    let sandbox = Sandbox::new();
    let port = free_port();
    let mut server = listen(nc(&sandbox).piped(), port);
    let mut client = sandbox
        .wrap(need("telnet"))
        .args(["127.0.0.1", &port.to_string()])
        .piped()
        .spawn();
    client.wait_stdout("Connected to 127.0.0.1");
    server.send("who is there?\n");
    client.wait_stdout("who is there?");
    client.send("a telnet\n");
    server.wait_stdout("a telnet");
    server.send("bye\n");
    client.wait_stdout("bye");
    client.close_input();
    server.close_input();
    client.finish();
    server.finish().success();
}

/// The peer's end is noticed while telnet waits for its own input.
#[test]
fn the_peer_goes() {
    let sandbox = Sandbox::new();
    let port = free_port();
    let farewell = sandbox.file("farewell", "going\n");
    let mut server = listen(nc(&sandbox).arg("-N").input(&farewell), port);
    let mut client = sandbox
        .wrap(need("telnet"))
        .args(["127.0.0.1", &port.to_string()])
        .piped()
        .spawn();
    client.wait_stdout("going");
    // nc answers telnet's end with its own.
    client.wait_stderr("Connection closed by foreign host");
    drop(client);
    assert!(server.stdout().is_empty());
    server.close_input();
}

/// On a terminal telnet works character by character and has an escape key.
#[test]
fn on_a_terminal() {
    let sandbox = Sandbox::new();
    let port = free_port();
    let mut server = listen(nc(&sandbox).piped(), port);
    let telnet = sandbox
        .wrap(need("telnet"))
        .args(["127.0.0.1", &port.to_string()])
        .shell_line();
    let script = format!(
        r#"set timeout 30
        spawn -noecho sh -c "exec {telnet}"
        proc must {{text}} {{ expect -ex $text {{}} timeout {{ puts "no $text"; exit 9 }} eof {{ puts "eof"; exit 8 }} }}
        must "Escape character"
        send "typed\r"
        must "heard"
        send "\x1d"
        must "telnet>"
        send "quit\r"
        must "Connection closed"
        expect eof
        "#
    );
    let mut person = sandbox.plain(need("expect")).args(["-c", &script]).spawn();
    server.wait_stdout("typed");
    server.send("heard\n");
    // A person who gave up says so; else the conversation has come to its end.
    person.wait_stdout("Connection closed");
    person.finish().success();
    server.finish().success();
}
