//! Static C binaries, of glibc and of musl, and a dynamic one for comparison.

use std::process::Command;

use crate::common::{Sandbox, net::free_port, tools};

fn echo(compiler: &str, flags: &[&str]) {
    let sandbox = Sandbox::new();
    let binary = sandbox.path("echo");
    let mut cc = Command::new(tools::need(compiler));
    cc.args(["-O1", "-Wall", "-Werror"])
        .args(flags)
        .arg("-o")
        .arg(&binary)
        .arg(crate::source_dir().join("c/echo.c"));
    let built = cc.output().expect("the compiler runs");
    assert!(
        built.status.success(),
        "{compiler}: {}",
        String::from_utf8_lossy(&built.stderr)
    );

    let port = free_port().to_string();
    let mut server = sandbox.wrap(&binary).args(["server", &port]).spawn();
    server.wait_stdout("listening");
    let input = sandbox.path("input");
    tools::random_file(&input, 10 << 20, 8);
    let client = sandbox
        .wrap(&binary)
        .args(["client", &port])
        .input(&input)
        .run()
        .success();
    assert!(
        client.stdout == std::fs::read(&input).expect("the input"),
        "{} bytes came back",
        client.stdout.len()
    );
    server.finish().success();
}

#[test]
fn dynamic_glibc() {
    echo("cc", &[]);
}

#[test]
fn static_glibc() {
    echo("cc", &["-static"]);
}

#[test]
fn dynamic_musl() {
    echo("musl-gcc", &[]);
}

#[test]
fn static_musl() {
    echo("musl-gcc", &["-static"]);
}
