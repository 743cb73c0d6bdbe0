//! Real programs over QUIC, both ends wrapped, each in a quicwrap of its own.
//!
//! With `QUICWRAP_TEST_NATIVE=1` the same tests run on plain TCP and must pass too, except those of
//! `proof.rs`, which then have nothing to prove and return at once.

#[path = "../common/mod.rs"]
mod common;

mod apache;
mod curl;
mod git;
mod go;
mod haproxy;
mod iperf3;
mod memcached;
mod multiprocessing;
mod netcat;
mod nginx;
mod nginx_proxy;
mod nginx_workers;
mod node;
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

/// Where the sources of the small programs are.
fn source_dir() -> PathBuf {
    Path::new(file!())
        .parent()
        .expect("a directory")
        .canonicalize()
        .expect("the tests' sources")
}
