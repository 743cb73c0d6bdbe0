//! Node.js: HTTP with kept connections, half-open sockets, and a cluster. libuv's epoll and threads under V8.

use std::collections::HashMap;

use crate::common::{Sandbox, Wrapped, net::free_port, tools};

const REQUESTS: usize = 100;

/// A script of `tests/programs/node`.
fn script(sandbox: &Sandbox, name: &str) -> Wrapped {
    let path = crate::source_dir().join("node").join(name);
    sandbox.wrap(tools::need("node")).arg(path)
}

#[test]
fn http_with_kept_connections() {
    let sandbox = Sandbox::new();
    let port = free_port().to_string();
    let mut server = script(&sandbox, "http.js").args(["server", &port]).spawn();
    server.wait_stdout("listening");
    let client = script(&sandbox, "http.js").args(["client", &port]);
    assert_eq!(
        client.run().success().text(),
        "160 echoed on 8 connections\n"
    );
}

#[test]
fn half_open_reset_and_refused() {
    let sandbox = Sandbox::new();
    let port = free_port().to_string();
    let closed = free_port().to_string();
    let mut server = script(&sandbox, "net.js").args(["server", &port]).spawn();
    server.wait_stdout("listening");
    let client = script(&sandbox, "net.js").args(["client", &port, &closed]);
    assert_eq!(
        client.run().success().text(),
        "30 answered after the end\nreset: read ECONNRESET\nrefused: connect ECONNREFUSED\n"
    );
}

fn cluster(policy: &str) -> HashMap<i32, usize> {
    let sandbox = Sandbox::new();
    let port = free_port().to_string();
    let server = script(&sandbox, "cluster.js").arg(&port);
    let mut server = server.env("NODE_CLUSTER_SCHED_POLICY", policy).spawn();
    server.wait_stdout("listening");
    let url = format!("http://127.0.0.1:{port}/?[1-{REQUESTS}]");
    let curl = sandbox.wrap(tools::need("curl"));
    let curl = curl.args(["-sS", "--parallel", "--parallel-max", "10", &url]);
    let mut served = HashMap::new();
    for line in curl.run().success().text().lines() {
        let (pid, names) = line.split_once(' ').expect("pid and names");
        assert_eq!(names, format!("127.0.0.1 {port}"));
        *served.entry(pid.parse().expect("a pid")).or_insert(0) += 1;
    }
    assert_eq!(served.values().sum::<usize>(), REQUESTS, "{served:?}");
    server.stop().success();
    served
}

/// The primary accepts, and hands each connection to a worker over a UNIX socket.
#[test]
fn cluster_by_turns() {
    let served = cluster("rr");
    assert!(served.len() == 2, "{served:?}");
}

#[test]
fn cluster_with_a_shared_listener() {
    let served = cluster("none");
    assert!((1..=2).contains(&served.len()), "{served:?}");
}
