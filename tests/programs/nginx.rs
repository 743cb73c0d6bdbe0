//! nginx ↔ curl: one large file, many small requests, in the foreground and as a daemon.

use std::path::PathBuf;
use std::process::Command;

use crate::common::{Done, Running, Sandbox, net, net::free_port, tools, wait_until};

const REQUESTS: usize = 1000;

/// nginx's arguments for `nginx.conf` in the sandbox.
pub(crate) fn arguments(sandbox: &Sandbox) -> Vec<String> {
    let path = |name: &str| sandbox.path(name).display().to_string();
    let (dir, conf) = (path(""), path("nginx.conf"));
    ["-e", "stderr", "-p", &dir, "-c", &conf]
        .map(str::to_owned)
        .to_vec()
}

/// Keeps what nginx buffers in files out of the system's directories.
pub(crate) fn temp_paths(dir: &str) -> String {
    ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|t| format!("{t}_temp_path {dir}/tmp-{t};"))
        .join("\n")
}

struct Site {
    sandbox: Sandbox,
    port: u16,
    conf: PathBuf,
}

impl Site {
    fn new(settings: &str) -> Self {
        let sandbox = Sandbox::new();
        let port = free_port();
        let dir = sandbox.path("");
        let dir = dir.display();
        std::fs::create_dir(sandbox.path("www")).expect("a directory");
        sandbox.file("www/small", "small\n");
        let conf = format!(
            "{settings}
            user nobody nogroup;
            pid {dir}/nginx.pid;
            error_log stderr warn;
            events {{ worker_connections 512; }}
            http {{
                access_log off;
                {}
                sendfile on;
                tcp_nopush on;
                keepalive_requests 100000;
                server {{
                    listen 127.0.0.1:{port};
                    root {dir}/www;
                    location = /peer {{ return 200 \"$remote_addr $server_addr:$server_port\\n\"; }}
                    location /closing/ {{ alias {dir}/www/; keepalive_timeout 0; }}
                }}
            }}",
            temp_paths(&dir.to_string())
        );
        let conf = sandbox.file("nginx.conf", conf);
        Site {
            sandbox,
            port,
            conf,
        }
    }

    fn foreground(&self) -> Running {
        let mut server = self
            .sandbox
            .wrap(tools::need("nginx"))
            .args(arguments(&self.sandbox))
            .spawn();
        // Written after listen() has been called.
        wait_until("nginx's pid file", || {
            self.sandbox.path("nginx.pid").exists()
        });
        server.wait_listening(self.port);
        server
    }

    fn curl(&self, args: &[&str], path: &str) -> Done {
        let url = format!("http://127.0.0.1:{}/{path}", self.port);
        self.sandbox
            .wrap(tools::need("curl"))
            .args(["-sS"])
            .args(args)
            .arg(url)
            .run()
            .success()
    }
}

const FOREGROUND: &str = "daemon off; worker_processes 2;";

#[test]
fn a_large_file() {
    let site = Site::new(FOREGROUND);
    let (file, got) = (site.sandbox.path("www/large"), site.sandbox.path("got"));
    tools::random_file(&file, 200 << 20, 5);
    let server = site.foreground();
    site.curl(&["-o", got.to_str().expect("utf-8")], "large");
    assert_eq!(tools::sha256(&got), tools::sha256(&file));
    // A part of it, by sendfile from an offset.
    let part = site.curl(&["-r", "1000000-1999999"], "large").stdout;
    assert!(
        part == std::fs::read(&file).expect("the file")[1_000_000..2_000_000],
        "{} bytes",
        part.len()
    );
    server.stop().success();
}

/// Status and number of new connections of each of many requests made by one curl.
fn small_requests(path: &str) -> Vec<String> {
    let site = Site::new(FOREGROUND);
    let _server = site.foreground();
    let format = "\\n%{http_code} %{num_connects}\\n";
    let text = site
        .curl(&["-w", format], &format!("{path}?[1-{REQUESTS}]"))
        .text();
    let (bodies, results): (Vec<&str>, Vec<&str>) = text
        .lines()
        .filter(|l| !l.is_empty())
        .partition(|l| *l == "small");
    assert_eq!(bodies.len(), REQUESTS, "{text}");
    results.into_iter().map(str::to_owned).collect()
}

#[test]
fn a_thousand_requests_on_one_connection() {
    let results = small_requests("small");
    assert_eq!(results.len(), REQUESTS);
    assert_eq!(results[0], "200 1");
    assert!(results[1..].iter().all(|r| r == "200 0"), "{results:?}");
}

#[test]
fn a_thousand_requests_on_a_thousand_connections() {
    let results = small_requests("closing/small");
    assert_eq!(results.len(), REQUESTS);
    assert!(results.iter().all(|r| r == "200 1"), "{results:?}");
}

#[test]
fn the_log_shows_who_came() {
    let site = Site::new(FOREGROUND);
    let _server = site.foreground();
    assert_eq!(
        site.curl(&[], "peer").text(),
        format!("127.0.0.1 127.0.0.1:{}\n", site.port)
    );
}

/// Fifty transfers at once, more than there are workers.
#[test]
fn in_parallel() {
    let site = Site::new(FOREGROUND);
    tools::random_file(&site.sandbox.path("www/medium"), 1 << 20, 6);
    let _server = site.foreground();
    let to = site.sandbox.path("got-#1").display().to_string();
    site.curl(
        &[
            "--parallel",
            "--parallel-immediate",
            "--parallel-max",
            "50",
            "-o",
            &to,
        ],
        "medium?[1-50]",
    );
    let expected = tools::sha256(&site.sandbox.path("www/medium"));
    for i in 1..=50 {
        assert_eq!(
            tools::sha256(&site.sandbox.path(&format!("got-{i}"))),
            expected,
            "transfer {i}"
        );
    }
}

/// nginx's default: the command returns, the daemon serves on, and ends when it is told to.
#[test]
fn as_a_daemon() {
    let site = Site::new("daemon on; worker_processes 2;");
    site.sandbox
        .wrap(tools::need("nginx"))
        .args(arguments(&site.sandbox))
        .run()
        .success();
    wait_until("nginx listens", || net::is_served(site.port));
    let pid = std::fs::read_to_string(site.sandbox.path("nginx.pid")).expect("nginx's pid file");
    for _ in 0..20 {
        assert_eq!(site.curl(&[], "small").text(), "small\n");
    }
    let quit = Command::new(tools::need("nginx"))
        .args(arguments(&site.sandbox))
        .args(["-s", "quit"])
        .status()
        .expect("nginx runs");
    assert!(quit.success());
    wait_until("the daemon has ended", || {
        !PathBuf::from(format!("/proc/{}", pid.trim())).exists()
    });
    wait_until("the port is free again", || !net::is_served(site.port));
}

/// A configuration reload starts new workers on the old listener.
#[test]
fn reload() {
    let site = Site::new(FOREGROUND);
    let server = site.foreground();
    assert_eq!(site.curl(&[], "small").text(), "small\n");
    site.sandbox.file("www/small", "changed\n");
    let text = std::fs::read_to_string(&site.conf).expect("the configuration");
    let text = text.replace(
        "location = /peer {",
        "location = /new { return 200 \"new\\n\"; } location = /peer {",
    );
    site.sandbox.file("nginx.conf", text);
    server.signal(nix::sys::signal::Signal::SIGHUP);
    let url = format!("http://127.0.0.1:{}/new", site.port);
    wait_until("the new configuration serves", || {
        site.sandbox
            .wrap(tools::need("curl"))
            .args(["-sS", &url])
            .run()
            .text()
            == "new\n"
    });
    assert_eq!(site.curl(&[], "small").text(), "changed\n");
    server.stop().success();
}
