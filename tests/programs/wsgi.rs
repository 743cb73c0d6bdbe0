//! gunicorn and uvicorn with several workers, which listen and accept on sockets of their parent's.

use std::collections::HashSet;

use nix::sys::signal::Signal;

use crate::common::{Done, Running, Sandbox, Wrapped, net::free_port, tools, wait_until};

const REQUESTS: usize = 200;

struct Site {
    sandbox: Sandbox,
    port: u16,
}

impl Site {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let port = free_port();
        let app = crate::source_dir().join("python/web_app.py");
        std::fs::copy(app, sandbox.path("web_app.py")).expect("a copy");
        Site { sandbox, port }
    }

    fn program(&self, name: &str) -> Wrapped {
        // The scripts name their interpreter themselves, whatever python3 comes first in PATH.
        let program = self.sandbox.wrap(tools::need(name));
        program.env("PYTHONPATH", self.sandbox.path(""))
    }

    fn curl(&self, args: &[&str], path: &str) -> Done {
        let url = format!("http://127.0.0.1:{}/{path}", self.port);
        let curl = self.sandbox.wrap(tools::need("curl"));
        curl.arg("-sS").args(args).arg(url).run().success()
    }

    /// Many requests; each answer is a worker's pid and the peer that it saw. Returns the pids.
    fn workers(&self) -> HashSet<i32> {
        let many = ["--parallel", "--parallel-max", "20"];
        let text = self.curl(&many, &format!("?[1-{REQUESTS}]")).text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), REQUESTS, "{text}");
        let pid = |line: &&str| {
            let (pid, peer) = line.split_once(' ').expect("pid and peer");
            assert_eq!(peer, "127.0.0.1", "{text}");
            pid.parse().expect("a pid")
        };
        lines.iter().map(pid).collect()
    }

    /// What is uploaded comes back.
    fn echoes(&self) {
        let file = self.sandbox.path("upload");
        tools::random_file(&file, 5 << 20, 24);
        let back = self.curl(&["--data-binary", &format!("@{}", file.display())], "");
        assert!(back.stdout == std::fs::read(&file).expect("the file"));
    }
}

/// Waits until so many workers have said that they are there.
fn wait_workers(server: &Running, line: &str, count: usize) {
    wait_until(&format!("{line:?} {count} times"), || {
        server.stderr().matches(line).count() == count
    });
}

fn gunicorn(extra: &[&str]) {
    let site = Site::new();
    let bind = format!("127.0.0.1:{}", site.port);
    let gunicorn = site.program("gunicorn").args(extra);
    let server = gunicorn
        .args(["--workers", "3", "--bind", &bind, "web_app:wsgi"])
        .spawn();
    wait_workers(&server, "Booting worker", 3);
    let before = site.workers();
    site.echoes();
    // A reload: new workers on the old listener.
    server.signal(Signal::SIGHUP);
    wait_workers(&server, "Booting worker", 6);
    wait_workers(&server, "Worker exiting", 3);
    let after = site.workers();
    assert!(before.is_disjoint(&after), "{before:?} {after:?}");
    server.stop().success();
}

#[test]
fn gunicorn_sync_workers() {
    gunicorn(&[]);
}

#[test]
fn gunicorn_threads_and_keep_alive() {
    gunicorn(&["--worker-class", "gthread", "--threads", "4"]);
}

#[test]
fn gunicorn_with_reuse_port() {
    gunicorn(&["--reuse-port"]);
}

/// Spawned, not forked: the bound socket is an inherited descriptor, on which each worker listens.
#[test]
fn uvicorn_workers() {
    let site = Site::new();
    let port = site.port.to_string();
    let uvicorn = site.program("uvicorn").args(["--workers", "2"]);
    let server = uvicorn
        .args(["--no-access-log", "--port", &port, "web_app:asgi"])
        .spawn();
    wait_workers(&server, "Application startup complete", 2);
    site.workers();
    site.echoes();
    server.stop().success();
}
