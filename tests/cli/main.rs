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

mod daemon;
mod demo;
mod doctor;
mod faults;
mod first_contact;
mod floods;
mod identity;
mod inherited;
mod keygen;
mod peers;
mod reload;
mod signals;
mod signed;
mod status;
mod stranger;
mod terminal;
mod trust;

use std::path::Path;

use common::{Running, Sandbox, Wrapped, tools};

/// A script of `tests/cli/py`, wrapped. It is copied, for an ordinary user may not see the sources.
fn script(sandbox: &Sandbox, name: &str) -> Wrapped {
    let dir = Path::new(file!())
        .parent()
        .expect("a directory")
        .canonicalize()
        .expect("the tests' sources");
    let text = std::fs::read(dir.join("py").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    sandbox
        .wrap(tools::python())
        .arg("-u")
        .arg(sandbox.file(name, text))
}

/// A server that echoes (`py/echo.py`), ready.
fn echo_server(command: Wrapped, port: u16) -> Running {
    let mut server = command.arg(port.to_string()).spawn();
    server.wait_stdout("listening");
    server
}
