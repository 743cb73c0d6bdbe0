//! Java: java.net with a thread for each connection, and java.nio with a selector.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::common::{Sandbox, Wrapped, net::free_port, tools};

/// The directory with `Echo.class`, compiled once per test run.
fn classes() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("java");
        let mut javac = Command::new(tools::need("javac"));
        javac.arg("-d").arg(&dir);
        let built = javac
            .arg(crate::source_dir().join("java/Echo.java"))
            .output();
        let built = built.expect("javac runs");
        assert!(
            built.status.success(),
            "javac: {}",
            String::from_utf8_lossy(&built.stderr)
        );
        dir
    })
}

fn java(sandbox: &Sandbox, args: [&str; 3]) -> Wrapped {
    let java = sandbox.wrap(tools::need("java"));
    // Quick to start: the programs are short.
    let java = java.args([
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-Xshare:auto",
    ]);
    java.arg("-cp").arg(classes()).arg("Echo").args(args)
}

/// Each kind of client at each kind of server.
fn echo(server_kind: &str, client_kinds: [&str; 2]) {
    let sandbox = Sandbox::new();
    let port = free_port().to_string();
    let mut server = java(&sandbox, ["server", server_kind, &port]).spawn();
    server.wait_stdout("listening");
    for kind in client_kinds {
        let client = java(&sandbox, ["client", kind, &port]).run().success();
        assert_eq!(client.text(), "20 echoed\n", "{kind}");
    }
    assert_eq!(
        server.stderr().matches("Exception").count(),
        0,
        "{}",
        server.stderr()
    );
}

#[test]
fn blocking_server() {
    echo("blocking", ["blocking", "blocking"]);
}

#[test]
fn selecting_server() {
    echo("selector", ["selector", "blocking"]);
}
