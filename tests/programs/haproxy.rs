//! haproxy before two servers, all wrapped: TCP and HTTP.

use std::collections::HashMap;

use crate::common::{Done, Running, Sandbox, net::free_port, tools, wait_until};

const REQUESTS: usize = 100;

struct Balanced {
    sandbox: Sandbox,
    port: u16,
    backends: Vec<Running>,
    proxy: Running,
}

impl Balanced {
    /// Two HTTP servers that give their own name, and haproxy with this frontend and backend mode.
    fn new(settings: &str) -> Self {
        let sandbox = Sandbox::new();
        let ports = [free_port(), free_port()];
        let backends = ports.map(|port| backend(&sandbox, port)).into();
        let port = free_port();
        let conf = format!(
            "global
                maxconn 500
                log stderr local0 notice
            defaults
                timeout connect 10s
                timeout client 60s
                timeout server 60s
                retries 3
                {settings}
            frontend front
                bind 127.0.0.1:{port}
                bind :::{port} v6only
                default_backend behind
            backend behind
                balance roundrobin
                option redispatch
                server first 127.0.0.1:{} check inter 1000 fastinter 50 fall 2 rise 1
                server second 127.0.0.1:{} check inter 1000 fastinter 50 fall 2 rise 1\n",
            ports[0], ports[1]
        );
        let conf = sandbox.file("haproxy.cfg", conf);
        let haproxy = sandbox.wrap(tools::need("haproxy"));
        let mut proxy = haproxy.args(["-db", "-f"]).arg(conf).spawn();
        proxy.wait_listening(port);
        crate::wait_accepting(&sandbox, port);
        Balanced {
            sandbox,
            port,
            backends,
            proxy,
        }
    }

    fn curl(&self, args: &[&str], host: &str, path: &str) -> Done {
        let url = format!("http://{host}:{}/{path}", self.port);
        let curl = self.sandbox.wrap(tools::need("curl"));
        curl.arg("-sS").args(args).arg(url).run()
    }

    /// How many of `REQUESTS` requests each backend answered.
    fn shares(&self, args: &[&str]) -> HashMap<String, usize> {
        let many = [&["--parallel", "--parallel-max", "10"], args].concat();
        let done = self.curl(&many, "127.0.0.1", &format!("?[1-{REQUESTS}]"));
        let mut shares = HashMap::new();
        for line in done.success().text().lines() {
            *shares.entry(line.to_owned()).or_insert(0) += 1;
        }
        assert_eq!(shares.values().sum::<usize>(), REQUESTS, "{shares:?}");
        shares
    }

    fn echoes(&self) {
        let file = self.sandbox.path("upload");
        tools::random_file(&file, 5 << 20, 61);
        let body = format!("@{}", file.display());
        for host in ["127.0.0.1", "[::1]"] {
            let back = self.curl(&["--data-binary", &body], host, "").success();
            assert!(
                back.stdout == std::fs::read(&file).expect("the file"),
                "{host}"
            );
        }
    }

    /// One backend ends: haproxy sees it by its checks, and the other serves all.
    fn loses_one(&mut self) {
        self.backends.pop().expect("a backend").stop();
        wait_until("haproxy has marked the server down", || {
            self.proxy.stderr().contains("Server behind/second is DOWN")
        });
        assert_eq!(self.shares(&[]).len(), 1);
        self.backends.pop().expect("a backend").stop();
        wait_until("haproxy has marked the other server down", || {
            self.proxy.stderr().contains("Server behind/first is DOWN")
        });
    }
}

fn backend(sandbox: &Sandbox, port: u16) -> Running {
    let script = crate::source_dir().join("python/http_echo.py");
    let python = sandbox.wrap(tools::python()).arg("-u").arg(script);
    let mut server = python.arg(port.to_string()).spawn();
    server.wait_stdout("serving");
    server
}

/// By turns; a check that came late may have put one server out of the list for a while.
fn both_served(shares: &HashMap<String, usize>) {
    let share = |n: &usize| *n >= REQUESTS / 4;
    assert!(
        shares.len() == 2 && shares.values().all(share),
        "{shares:?}"
    );
}

const CLOSE: [&str; 2] = ["-H", "Connection: close"];

#[test]
fn tcp() {
    let mut balanced = Balanced::new("mode tcp");
    let shares = balanced.shares(&CLOSE);
    both_served(&shares);
    balanced.echoes();
    balanced.loses_one();
    // Without a server the connection is closed before an answer.
    let code = balanced.curl(&[], "127.0.0.1", "").shell_status();
    assert!([52, 56].contains(&code), "{code}");
}

#[test]
fn http() {
    let mut balanced = Balanced::new("mode http\n option forwardfor");
    let shares = balanced.shares(&[]);
    both_served(&shares);
    balanced.shares(&CLOSE);
    balanced.echoes();
    balanced.loses_one();
    let code = ["-o", "/dev/null", "-w", "%{http_code}"];
    assert_eq!(
        balanced.curl(&code, "127.0.0.1", "").success().text(),
        "503"
    );
}
