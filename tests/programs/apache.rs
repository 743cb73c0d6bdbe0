//! Apache httpd, a process or a thread for each connection ↔ ab and curl.

use nix::sys::signal::Signal;

use crate::common::{Done, Running, Sandbox, net::free_port, tools, wait_until};

const REQUESTS: usize = 300;

struct Apache {
    sandbox: Sandbox,
    ports: [u16; 2],
}

impl Apache {
    /// With two ports the processes must take turns at accepting (Apache's accept mutex).
    fn new(mpm: &str, settings: &str) -> Self {
        let sandbox = Sandbox::new();
        let ports = [free_port(), free_port()];
        let dir = sandbox.path("").display().to_string();
        std::fs::create_dir(sandbox.path("www")).expect("a directory");
        sandbox.file("www/small", "small\n".repeat(100));
        tools::random_file(&sandbox.path("www/large"), 20 << 20, 23);
        let modules = ["authz_core", "headers"]
            .map(|m| format!("LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so\n"));
        let conf = format!(
            "ServerRoot {dir}
            ServerName localhost
            DefaultRuntimeDir {dir}
            PidFile {dir}/apache.pid
            ErrorLog {dir}/error.log
            LoadModule mpm_{mpm}_module /usr/lib/apache2/modules/mod_mpm_{mpm}.so
            {}
            User nobody
            Group nogroup
            Listen 127.0.0.1:{}
            Listen 127.0.0.1:{}
            {settings}
            KeepAlive On
            MaxKeepAliveRequests 0
            DocumentRoot {dir}/www
            Header set Peer \"expr=%{{REMOTE_ADDR}}\"\n",
            modules.concat(),
            ports[0],
            ports[1]
        );
        sandbox.file("apache.conf", conf);
        Apache { sandbox, ports }
    }

    fn start(&self) -> Running {
        let apache = self.sandbox.wrap(tools::need("apache2"));
        let apache = apache.arg("-f").arg(self.sandbox.path("apache.conf"));
        let mut server = apache.arg("-DFOREGROUND").spawn();
        self.wait_starts(1);
        server.wait_listening(self.ports[1]);
        server
    }

    /// Waits until the server, or after a restart its new generation, says that it runs.
    fn wait_starts(&self, count: usize) {
        wait_until(&format!("Apache has started {count} times"), || {
            std::fs::read_to_string(self.sandbox.path("error.log"))
                .is_ok_and(|text| text.matches("resuming normal operations").count() == count)
        });
    }

    fn url(&self, port: usize, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.ports[port])
    }

    fn curl(&self, args: &[&str], port: usize, path: &str) -> Done {
        let curl = self.sandbox.wrap(tools::need("curl")).arg("-sS");
        curl.args(args).arg(self.url(port, path)).run().success()
    }

    /// ab counts what it got; every request must be complete, and every answer alike.
    fn ab(&self, args: &[&str], port: usize) -> String {
        let count = REQUESTS.to_string();
        let ab = self.sandbox.wrap(tools::need("ab")).args(args);
        let ab = ab.args(["-n", &count, "-c", "10", &self.url(port, "small")]);
        let text = ab.run().success().text();
        assert_eq!(figure(&text, "Complete requests:"), REQUESTS, "{text}");
        assert_eq!(figure(&text, "Failed requests:"), 0, "{text}");
        assert!(!text.contains("Non-2xx"), "{text}");
        assert_eq!(figure(&text, "HTML transferred:"), REQUESTS * 600, "{text}");
        text
    }
}

fn figure(report: &str, name: &str) -> usize {
    let line = report.lines().find(|l| l.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name:?} in {report}"));
    let words: Vec<&str> = line[name.len()..].split_whitespace().collect();
    words[0].parse().expect("a number")
}

fn serves(mpm: &str, settings: &str) {
    let apache = Apache::new(mpm, settings);
    let server = apache.start();
    for port in [0, 1] {
        apache.ab(&[], port);
        let kept = apache.ab(&["-k"], port);
        assert_eq!(figure(&kept, "Keep-Alive requests:"), REQUESTS, "{kept}");
    }
    let got = apache.sandbox.path("got").display().to_string();
    let head = apache.curl(&["-o", &got, "-D", "-"], 1, "large").text();
    assert!(head.contains("Peer: 127.0.0.1\r\n"), "{head}");
    assert_eq!(
        tools::sha256(&apache.sandbox.path("got")),
        tools::sha256(&apache.sandbox.path("www/large"))
    );
    // A graceful restart: new processes on the old listeners.
    server.signal(Signal::SIGUSR1);
    apache.wait_starts(2);
    apache.ab(&[], 0);
    server.stop().success();
}

const PREFORK: &str =
    "StartServers 12\nMinSpareServers 4\nMaxSpareServers 16\nMaxRequestWorkers 16";
/// With threads to spare: a process without closes kept connections, which ab counts as failures.
const EVENT: &str = "StartServers 2\nThreadsPerChild 25\nMaxRequestWorkers 100";

#[test]
fn prefork() {
    serves("prefork", PREFORK);
}

#[test]
fn event() {
    serves("event", EVENT);
}

/// More clients than processes: the ones that wait are served in the end.
#[test]
fn prefork_with_more_clients_than_processes() {
    let apache = Apache::new("prefork", PREFORK);
    let server = apache.start();
    let to = apache.sandbox.path("got-#1").display().to_string();
    let close = ["-H", "Connection: close"];
    let many = ["--parallel", "--parallel-max", "40", "-o", &to];
    apache.curl(&[&many[..], &close].concat(), 0, "small?[1-80]");
    let expected = tools::sha256(&apache.sandbox.path("www/small"));
    for i in 1..=80 {
        let got = apache.sandbox.path(&format!("got-{i}"));
        assert_eq!(tools::sha256(&got), expected, "transfer {i}");
    }
    server.stop().success();
}
