//! The wire, spoken by others: QUIC stacks that know nothing of quicwrap (`--wire raw`), and a peer that was written
//! from docs/protocol.md alone.

#[path = "../common/mod.rs"]
mod common;

#[path = "../cli/identity.rs"]
#[allow(dead_code, reason = "the command line's tests need more of it")]
mod identity;

mod aioquic;
mod protocol;
mod s2n;

use common::{Done, Running, Sandbox, Wrapped, tools};
use identity::Identity;

/// What both kinds of peer are asked, of what `tests/cli/py/talk.py` knows.
const WORDS: &[&str] = &["echo", "sum", "reset"];

/// `talk.py`, wrapped, with quicwrap's options for a raw peer of this identity.
fn talk(sandbox: &Sandbox, identity: &Identity) -> Wrapped {
    let text = include_str!("../cli/py/talk.py");
    sandbox
        .wrap(tools::python())
        .option("--wire")
        .option("raw")
        .option("--alpn")
        .option("test")
        .option("--server-cert")
        .option(&identity.cert)
        .arg("-u")
        .arg(sandbox.file("talk.py", text))
}

/// A wrapped server of this identity, ready.
fn wrapped_server(sandbox: &Sandbox, identity: &Identity, port: u16) -> Running {
    let server = talk(sandbox, identity)
        .option("--server-key")
        .option(&identity.key);
    let mut server = server.args(["serve", &port.to_string()]).spawn();
    server.wait_stdout("listening");
    server
}

/// A wrapped client, at its end.
fn wrapped_client(sandbox: &Sandbox, identity: &Identity, port: u16) -> Done {
    talk(sandbox, identity)
        .args(["call", &port.to_string()])
        .args(WORDS)
        .run()
}

/// Fails the test unless the client found all well.
#[track_caller]
fn all_well(done: Done) {
    let expected: String = WORDS.iter().map(|word| format!("{word} ok\n")).collect();
    let done = done.success();
    assert_eq!(done.text(), expected, "{}", done.stderr);
}
