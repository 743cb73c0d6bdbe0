//! Static Go programs, which no LD_PRELOAD reaches: raw system calls, epoll, signals for preemption.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::common::{Sandbox, net::free_port, tools};

/// Builds `tests/programs/go/NAME.go` once per test run. Go's cache stays in cargo's directory for tests.
fn build(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let binary = dir.join(format!("go-{name}"));
    let mut go = Command::new(tools::need("go"));
    go.env("CGO_ENABLED", "0")
        .env("GOCACHE", dir.join("go-cache"))
        .env("GOFLAGS", "")
        .env("GO111MODULE", "off");
    go.args(["build", "-o"])
        .arg(&binary)
        .arg(crate::source_dir().join("go").join(format!("{name}.go")));
    let built = go.output().expect("go runs");
    assert!(
        built.status.success(),
        "go build: {}",
        String::from_utf8_lossy(&built.stderr)
    );
    binary
}

fn binaries() -> &'static (PathBuf, PathBuf) {
    static BUILT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    BUILT.get_or_init(|| (build("server"), build("client")))
}

fn echo(address: &str) {
    let sandbox = Sandbox::new();
    let (server, client) = binaries();
    let address = format!("{address}:{}", free_port());
    let mut server = sandbox.wrap(server).arg(&address).spawn();
    server.wait_stdout("listening on ");
    let done = sandbox.wrap(client).arg(&address).run().success();
    assert_eq!(done.text(), "40 connections echoed\n");
}

#[test]
fn echo_over_ipv4() {
    echo("127.0.0.1");
}

#[test]
fn echo_over_ipv6() {
    echo("[::1]");
}

/// Without a host Go listens on the IPv6 wildcard and takes IPv4 clients there too.
#[test]
fn echo_over_the_wildcard() {
    let sandbox = Sandbox::new();
    let (server, client) = binaries();
    let port = free_port();
    let mut server = sandbox.wrap(server).arg(format!(":{port}")).spawn();
    server.wait_stdout("listening on ");
    for host in ["127.0.0.1", "[::1]"] {
        let done = sandbox
            .wrap(client)
            .arg(format!("{host}:{port}"))
            .run()
            .success();
        assert_eq!(done.text(), "40 connections echoed\n");
    }
}
