//! Several nginx workers on one port: they share the listener, or have one each (`reuseport`).

use std::collections::HashMap;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{Running, Sandbox, net::free_port, tools, wait_until};

const WORKERS: usize = 4;
const REQUESTS: usize = 200;

struct Site {
    sandbox: Sandbox,
    port: u16,
}

impl Site {
    fn new(listen_options: &str) -> Self {
        let sandbox = Sandbox::new();
        let port = free_port();
        let dir = sandbox.path("").display().to_string();
        let conf = format!(
            "daemon off; worker_processes {WORKERS};
            user nobody nogroup;
            pid {dir}/nginx.pid;
            error_log {dir}/error.log notice;
            events {{ worker_connections 512; }}
            http {{
                access_log off;
                {}
                server {{
                    listen 127.0.0.1:{port} {listen_options};
                    listen [::1]:{port} {listen_options};
                    location / {{ return 200 \"$pid\\n\"; }}
                }}
            }}",
            super::nginx::temp_paths(&dir)
        );
        sandbox.file("nginx.conf", conf);
        Site { sandbox, port }
    }

    fn start(&self) -> Running {
        let mut server = self.sandbox.wrap(tools::need("nginx"));
        server = server.args(super::nginx::arguments(&self.sandbox));
        let mut server = server.spawn();
        server.wait_listening(self.port);
        self.wait_workers(WORKERS);
        server
    }

    /// Waits until so many workers were started since the beginning.
    fn wait_workers(&self, count: usize) {
        wait_until(&format!("{count} nginx workers were started"), || {
            let log = std::fs::read_to_string(self.sandbox.path("error.log"));
            log.is_ok_and(|text| text.matches("start worker process ").count() == count)
        });
    }

    /// How many of `REQUESTS` connections each worker, named by its pid, has served.
    fn served(&self, host: &str) -> HashMap<i32, usize> {
        let url = format!("http://{host}:{}/?[1-{REQUESTS}]", self.port);
        let curl = self.sandbox.wrap(tools::need("curl"));
        let curl = curl.args(["-sS", "--parallel", "--parallel-max", "20"]);
        // Without keep-alive each request is a connection.
        let done = curl.args(["-H", "Connection: close", &url]).run().success();
        let mut served = HashMap::new();
        for line in done.text().lines() {
            *served.entry(line.parse().expect("a pid")).or_insert(0) += 1;
        }
        assert_eq!(served.values().sum::<usize>(), REQUESTS, "{served:?}");
        served
    }
}

/// All requests are served, also after a worker was killed and replaced, and after a reload.
fn serves_on(site: &Site) {
    let server = site.start();
    let served = site.served("127.0.0.1");
    let victim = *served.keys().next().expect("a worker");
    kill(Pid::from_raw(victim), Signal::SIGKILL).expect("the worker is there");
    site.wait_workers(WORKERS + 1);
    let served = site.served("127.0.0.1");
    assert!(!served.contains_key(&victim), "{served:?}");
    server.signal(Signal::SIGHUP);
    site.wait_workers(2 * WORKERS + 1);
    site.served("[::1]");
    server.stop().success();
}

#[test]
fn on_one_listener() {
    serves_on(&Site::new(""));
}

#[test]
fn on_a_listener_each() {
    serves_on(&Site::new("reuseport"));
}

/// Among several listeners Linux chooses by a hash of the addresses: each worker has its share.
#[test]
fn reuseport_shares_the_load() {
    let site = Site::new("reuseport");
    let server = site.start();
    for host in ["127.0.0.1", "[::1]"] {
        let served = site.served(host);
        assert_eq!(served.len(), WORKERS, "{host}: {served:?}");
    }
    server.stop().success();
}
