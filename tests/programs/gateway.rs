//! `quicwrap gateway` before real servers that are not wrapped.

use crate::common::{
    Running, Sandbox, command::QUICWRAP, net::free_port, net::tcp_listens, tools, wait_until,
};
use crate::nginx;

/// A gateway between two ports, ready.
fn between(sandbox: &Sandbox, listen: u16, to: u16, options: &[&str]) -> Running {
    let (listen, to) = (format!("127.0.0.1:{listen}"), format!("127.0.0.1:{to}"));
    let mut gateway = sandbox
        .plain(QUICWRAP)
        .args(["gateway", "--log", "info", "--state-dir"])
        .arg(sandbox.path("state"))
        .args(["--listen", &listen, "--to", &to])
        .args(options)
        .spawn();
    gateway.wait_stderr("gateway ready");
    gateway
}

fn started(server: crate::common::Wrapped, port: u16) -> Running {
    let server = server.spawn();
    wait_until("the server", || tcp_listens(port));
    server
}

/// Redis, its own benchmark as the client: many small messages, pipelined and not.
#[test]
fn redis() {
    let sandbox = Sandbox::new();
    let (port, behind) = (free_port(), free_port());
    let server = sandbox.plain(tools::need("redis-server"));
    let server = server.args(["--save", "", "--port", &behind.to_string()]);
    let _server = started(server, behind);
    let _gateway = between(&sandbox, port, behind, &[]);
    let port = port.to_string();
    let cli = |words: &[&str]| {
        let client = sandbox.wrap(tools::need("redis-cli"));
        client
            .args(["-p", &port])
            .args(words)
            .run()
            .success()
            .text()
    };
    assert_eq!(cli(&["set", "key", "value"]), "OK\n");
    let benchmark = sandbox.wrap(tools::need("redis-benchmark"));
    let benchmark = benchmark.args(["-p", &port, "-n", "20000", "-c", "20", "-q"]);
    benchmark.args(["-t", "incr", "-P", "4"]).run().success();
    assert_eq!(cli(&["get", "counter:__rand_int__"]), "20000\n");
}

/// nginx learns the client's address from the PROXY header, and answers a large file.
#[test]
fn nginx_with_the_proxy_protocol() {
    for version in ["v1", "v2"] {
        let sandbox = Sandbox::new();
        let (port, behind) = (free_port(), free_port());
        let dir = sandbox.path("").display().to_string();
        std::fs::create_dir(sandbox.path("www")).expect("a directory");
        let large = sandbox.path("www/large");
        tools::random_file(&large, 20 << 20, 71);
        let temp = nginx::temp_paths(&dir);
        let conf = format!(
            "daemon off; pid {dir}/nginx.pid; error_log stderr warn; user nobody nogroup;
            events {{ }}
            http {{
                access_log off;
                {temp}
                server {{
                    listen 127.0.0.1:{behind} proxy_protocol;
                    root {dir}/www;
                    location = /who {{
                        return 200 \"$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_port\\n\";
                    }}
                }}
            }}"
        );
        sandbox.file("nginx.conf", conf);
        let server = sandbox.plain(tools::need("nginx"));
        let _server = started(server.args(nginx::arguments(&sandbox)), behind);
        let _gateway = between(&sandbox, port, behind, &["--proxy-protocol", version]);
        let curl = |arguments: &[&str]| {
            let curl = sandbox.wrap(tools::need("curl"));
            curl.arg("-sS").args(arguments).run().success().text()
        };
        let who = format!("http://127.0.0.1:{port}/who");
        let said = curl(&[&who, "-w", "%{local_ip} %{local_port}"]);
        let (server, client) = said.split_once('\n').expect("two lines");
        assert_eq!(server, format!("{client} {port}"), "{version}");
        let got = sandbox.path("got");
        let url = format!("http://127.0.0.1:{port}/large");
        curl(&["-o", &got.display().to_string(), &url]);
        assert_eq!(tools::sha256(&got), tools::sha256(&large));
    }
}
