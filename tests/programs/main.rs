//! Real programs over QUIC, both ends wrapped, each in a quicwrap of its own.
//!
//! With `QUICWRAP_TEST_NATIVE=1` the same tests run on plain TCP and must pass too, except those of
//! `proof.rs`, which then have nothing to prove and return at once.

#[path = "../common/mod.rs"]
mod common;

mod apache;
mod curl;
mod ftp;
mod gateway;
mod git;
mod go;
mod haproxy;
mod iperf3;
mod java;
mod mariadb;
mod memcached;
mod multiprocessing;
mod netcat;
mod nginx;
mod nginx_proxy;
mod nginx_workers;
mod node;
mod postgresql;
mod proof;
mod python;
mod redis;
mod rsync;
mod socat;
mod ssh;
mod static_c;
mod telnet;
mod trees;
mod wsgi;

use std::path::{Path, PathBuf};

use common::{Sandbox, tools};

/// Where the sources of the small programs are.
fn source_dir() -> PathBuf {
    Path::new(file!())
        .parent()
        .expect("a directory")
        .canonicalize()
        .expect("the tests' sources")
}

/// Waits until a server takes connections: a wrapped port is in use from bind(2) on, a moment before listen(2).
/// The server sees a client that comes and goes.
fn wait_accepting(sandbox: &Sandbox, port: u16) {
    let attempt = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
    let script = format!("until ({attempt}) 2> /dev/null; do sleep 0.01; done");
    let bash = sandbox.wrap(tools::need("bash"));
    bash.args(["-c", &script]).run().success();
}
