//! The command line, the launcher's three processes, trust, and faults.
//!
//! With `QUICWRAP_TEST_NATIVE=1` whatever also makes sense without quicwrap runs plainly, as the oracle; tests of
//! quicwrap's own options and messages begin with `wrapped_only!()` and return at once.

#[path = "../common/mod.rs"]
mod common;

/// Ends a test that has nothing to test when programs run plainly.
macro_rules! wrapped_only {
    () => {
        if crate::common::native() {
            return;
        }
    };
}

mod carriers;
mod config;
mod daemon;
mod demo;
mod doctor;
mod faults;
mod first_contact;
mod floods;
mod gateway;
mod identity;
mod inherited;
mod keygen;
mod peers;
mod policy;
mod raw;
mod reload;
mod reorder;
mod restart;
mod roaming;
mod signals;
mod signed;
mod slow_path;
mod sockets;
mod stats;
mod stats_places;
mod status;
mod stranger;
mod talk;
mod terminal;
mod threads;
mod trust;
mod tuning;
mod unreachable;
mod zpoline;

use std::path::{Path, PathBuf};

use common::{Done, Running, Sandbox, Wrapped, command::QUICWRAP, tools};

/// quicwrap with these arguments alone, and variables.
fn plain(sandbox: &Sandbox, arguments: &[&str], variables: &[(&str, &str)]) -> Done {
    let command = sandbox.plain(QUICWRAP).args(arguments);
    let with = |command: Wrapped, (name, value): &(&str, &str)| command.env(name, value);
    variables.iter().fold(command, with).run()
}

/// A script of `tests/cli/py`, wrapped. It is copied, for an ordinary user may not see the sources.
fn script(sandbox: &Sandbox, name: &str) -> Wrapped {
    sandbox
        .wrap(tools::python())
        .arg("-u")
        .arg(script_file(sandbox, name))
}

/// A copy of a script in `py/`.
fn script_file(sandbox: &Sandbox, name: &str) -> PathBuf {
    let dir = Path::new(file!())
        .parent()
        .expect("a directory")
        .canonicalize()
        .expect("the tests' sources");
    let text = std::fs::read(dir.join("py").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    sandbox.file(name, text)
}

/// A server that echoes (`py/echo.py`), ready.
fn echo_server(command: Wrapped, port: u16) -> Running {
    let mut server = command.arg(port.to_string()).spawn();
    server.wait_stdout("listening");
    server
}
