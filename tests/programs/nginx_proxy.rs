//! nginx as a reverse proxy: client ↔ proxy ↔ upstream, all three wrapped.

use std::path::PathBuf;

use crate::common::{Done, Running, Sandbox, net::free_port, tools, wait_until};

const REQUESTS: usize = 200;

/// A directory of one nginx: its own sandbox, so that proxy and upstream are strangers to each other.
struct Nginx {
    sandbox: Sandbox,
    port: u16,
}

impl Nginx {
    fn new(http: &str) -> Self {
        let sandbox = Sandbox::new();
        let port = free_port();
        let dir = sandbox.path("").display().to_string();
        let conf = format!(
            "daemon off; worker_processes 2;
            user nobody nogroup;
            pid {dir}/nginx.pid;
            error_log stderr error;
            events {{ worker_connections 512; }}
            http {{
                access_log off;
                {}
                client_max_body_size 100m;
                keepalive_requests 100000;
                {}
            }}",
            super::nginx::temp_paths(&dir),
            http.replace("PORT", &port.to_string()).replace("DIR", &dir)
        );
        sandbox.file("nginx.conf", conf);
        Nginx { sandbox, port }
    }

    fn start(&self) -> Running {
        let nginx = self.sandbox.wrap(tools::need("nginx"));
        let mut server = nginx.args(super::nginx::arguments(&self.sandbox)).spawn();
        wait_until("nginx's pid file", || {
            self.sandbox.path("nginx.pid").exists()
        });
        server.wait_listening(self.port);
        server
    }

    fn curl(&self, args: &[&str], path: &str) -> Done {
        let url = format!("http://127.0.0.1:{}/{path}", self.port);
        let curl = self.sandbox.wrap(tools::need("curl"));
        curl.arg("-sS").args(args).arg(url).run().success()
    }
}

/// An nginx that serves a large file, and says which of its connections a request came on.
fn upstream() -> Nginx {
    let upstream = Nginx::new(
        "server { listen 127.0.0.1:PORT; root DIR;
         location = /which { return 200 \"$connection $remote_addr\\n\"; } }",
    );
    tools::random_file(&upstream.sandbox.path("large"), 30 << 20, 21);
    upstream
}

/// A proxy to these upstream ports, with so many idle connections kept (0: a connection for each request).
fn proxy(upstreams: &[u16], keep: usize) -> Nginx {
    let servers: String = upstreams
        .iter()
        .map(|p| format!("server 127.0.0.1:{p} max_fails=0;"))
        .collect();
    let (pool, header) = match keep {
        0 => (String::new(), "close"),
        n => (format!("keepalive {n};"), ""),
    };
    Nginx::new(&format!(
        "upstream behind {{ {servers} {pool} }}
        server {{
            listen 127.0.0.1:PORT;
            location / {{
                proxy_pass http://behind;
                proxy_http_version 1.1;
                proxy_set_header Connection \"{header}\";
            }}
            location /direct/ {{
                proxy_pass http://behind/;
                proxy_buffering off;
                proxy_request_buffering off;
            }}
        }}"
    ))
}

/// The upstream connections that `REQUESTS` requests came on, twenty at a time.
fn connections_used(keep: usize) -> usize {
    let (upstream, _running) = started(upstream());
    let (proxy, _proxying) = started(proxy(&[upstream.port], keep));
    let text = proxy
        .curl(
            &["--parallel", "--parallel-max", "20"],
            &format!("which?[1-{REQUESTS}]"),
        )
        .text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), REQUESTS, "{text}");
    assert!(lines.iter().all(|l| l.ends_with(" 127.0.0.1")), "{text}");
    let used: std::collections::HashSet<&str> = lines.into_iter().collect();
    used.len()
}

fn started(nginx: Nginx) -> (Nginx, Running) {
    let running = nginx.start();
    (nginx, running)
}

#[test]
fn with_a_connection_for_each_request() {
    assert_eq!(connections_used(0), REQUESTS);
}

/// Two workers keep up to 20 each, as many as requests are made at a time.
#[test]
fn with_kept_connections() {
    let used = connections_used(20);
    assert!(used <= REQUESTS / 2, "{used} connections");
}

/// Large answers, buffered (through nginx's temporary files) and not, ten at a time.
#[test]
fn large_answers() {
    let (upstream, _running) = started(upstream());
    let (proxy, _proxying) = started(proxy(&[upstream.port], 4));
    let expected = tools::sha256(&upstream.sandbox.path("large"));
    let got = |i: usize| proxy.sandbox.path(&format!("got-{i}"));
    let to = proxy.sandbox.path("got-#1").display().to_string();
    for path in ["large", "direct/large"] {
        proxy.curl(&["--parallel", "-o", &to], &format!("{path}?[1-4]"));
        for i in 1..=4 {
            assert_eq!(tools::sha256(&got(i)), expected, "{path} {i}");
            std::fs::remove_file(got(i)).expect("the answer is there");
        }
    }
}

/// Uploads to a Python server behind the proxy, which echoes them.
#[test]
fn uploads_to_python() {
    let sandbox = Sandbox::new();
    let port = free_port();
    let script = crate::source_dir().join("python/http_echo.py");
    let python = sandbox.wrap(tools::python()).arg("-u").arg(script);
    let mut server = python.arg(port.to_string()).spawn();
    server.wait_stdout("serving");
    let (proxy, _proxying) = started(proxy(&[port], 4));
    let file = proxy.sandbox.path("upload");
    tools::random_file(&file, 10 << 20, 22);
    let body = format!("@{}", file.display());
    for path in ["", "direct/"] {
        let back = proxy.curl(&["--data-binary", &body], path).stdout;
        assert!(
            back == std::fs::read(&file).expect("the file"),
            "{path:?}: {} bytes came back",
            back.len()
        );
    }
}

/// An upstream that is down is passed over; if all are, the answer is 502.
#[test]
fn a_dead_upstream() {
    let (upstream, running) = started(upstream());
    let dead = free_port();
    let (proxy, _proxying) = started(proxy(&[dead, upstream.port], 0));
    let text = proxy.curl(&[], "which?[1-20]").text();
    assert_eq!(text.lines().count(), 20, "{text}");
    assert!(text.lines().all(|l| l.ends_with(" 127.0.0.1")), "{text}");
    running.stop().success();
    let null = PathBuf::from("/dev/null").display().to_string();
    let codes = proxy.curl(&["-o", &null, "-w", "%{http_code}\\n"], "which");
    assert_eq!(codes.text(), "502\n");
}
