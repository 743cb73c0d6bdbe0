//! `py/talk.py`: a server and a client that use what a TCP connection can do, wrapped or plain.

use std::path::Path;

use crate::common::{Done, Running, Sandbox, Wrapped, tools};
use crate::script;

/// What the client is to try, and prints when all is well.
pub(crate) const WORDS: &[&str] = &["echo", "sum", "reset", "who"];

fn plain(sandbox: &Sandbox) -> Wrapped {
    let text = Path::new(file!()).with_file_name("py").join("talk.py");
    let text = std::fs::read(&text).unwrap_or_else(|e| panic!("{}: {e}", text.display()));
    sandbox
        .plain(tools::python())
        .arg("-u")
        .arg(sandbox.file("talk.py", text))
}

/// The server, wrapped, ready.
pub(crate) fn server(
    sandbox: &Sandbox,
    port: u16,
    prepare: impl Fn(Wrapped) -> Wrapped,
) -> Running {
    start(prepare(script(sandbox, "talk.py")), port)
}

/// The server as it is.
pub(crate) fn plain_server(sandbox: &Sandbox, port: u16) -> Running {
    start(plain(sandbox), port)
}

fn start(command: Wrapped, port: u16) -> Running {
    let mut server = command.args(["serve", &port.to_string()]).spawn();
    server.wait_stdout("listening");
    server
}

/// The client, wrapped, at its end.
pub(crate) fn client(sandbox: &Sandbox, port: u16, prepare: impl Fn(Wrapped) -> Wrapped) -> Done {
    call(prepare(script(sandbox, "talk.py")), port, WORDS)
}

/// The client as it is.
pub(crate) fn plain_client(sandbox: &Sandbox, port: u16) -> Done {
    plain_call(sandbox, port, WORDS)
}

/// The client as it is, with some of [`WORDS`].
pub(crate) fn plain_call(sandbox: &Sandbox, port: u16, words: &[&str]) -> Done {
    call(plain(sandbox), port, words)
}

/// Tries some of [`WORDS`].
pub(crate) fn call(command: Wrapped, port: u16, words: &[&str]) -> Done {
    command.args(["call", &port.to_string()]).args(words).run()
}

/// Fails the test unless all these went well.
#[track_caller]
pub(crate) fn all_well(done: Done, words: &[&str]) -> Done {
    let expected: String = words.iter().map(|word| format!("{word} ok\n")).collect();
    let done = done.success();
    assert_eq!(done.text(), expected, "{}", done.stderr);
    done
}
