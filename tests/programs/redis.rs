//! redis-server ↔ redis-cli and redis-benchmark.

use crate::common::{Done, Running, Sandbox, net, net::free_port, tools, wait_until};

struct Redis {
    sandbox: Sandbox,
    port: String,
}

impl Redis {
    fn new() -> Self {
        Redis {
            sandbox: Sandbox::new(),
            port: free_port().to_string(),
        }
    }

    /// Protected mode stays on, as redis has it: only peers that redis sees as 127.0.0.1 are served.
    fn server_args(&self) -> Vec<String> {
        let log = self.sandbox.path("redis.log").display().to_string();
        let dir = self.sandbox.path("").display().to_string();
        [
            "--port",
            &self.port,
            "--bind",
            "0.0.0.0",
            "--save",
            "",
            "--dir",
            &dir,
            "--logfile",
            &log,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn start(&self) -> Running {
        let server = self
            .sandbox
            .wrap(tools::need("redis-server"))
            .args(self.server_args())
            .spawn();
        self.wait_ready();
        server
    }

    fn wait_ready(&self) {
        let log = self.sandbox.path("redis.log");
        wait_until("redis accepts connections", || {
            std::fs::read_to_string(&log)
                .is_ok_and(|text| text.contains("Ready to accept connections"))
        });
    }

    fn cli(&self, args: &[&str]) -> Done {
        self.sandbox
            .wrap(tools::need("redis-cli"))
            .args(["-h", "127.0.0.1", "-p", &self.port])
            .args(args)
            .run()
            .success()
    }
}

#[test]
fn set_and_get() {
    let redis = Redis::new();
    let server = redis.start();
    assert_eq!(redis.cli(&["set", "name", "value"]).text(), "OK\n");
    assert_eq!(redis.cli(&["get", "name"]).text(), "value\n");
    let clients = redis.cli(&["client", "list"]).text();
    assert!(clients.contains(" addr=127.0.0.1:"), "{clients}");
    assert!(
        clients.contains(&format!(" laddr=127.0.0.1:{}", redis.port)),
        "{clients}"
    );
    server.stop().success();
}

#[test]
fn a_large_value() {
    let redis = Redis::new();
    let _server = redis.start();
    let value = "0123456789abcdef".repeat(1 << 20);
    let file = redis.sandbox.file("value", &value);
    let cli = redis.sandbox.wrap(tools::need("redis-cli")).args([
        "-p",
        &redis.port,
        "-x",
        "set",
        "large",
    ]);
    assert_eq!(cli.input(&file).run().success().text(), "OK\n");
    assert_eq!(
        redis.cli(&["strlen", "large"]).text(),
        format!("{}\n", value.len())
    );
    assert!(redis.cli(&["get", "large"]).text().trim_end() == value);
}

#[test]
fn benchmark() {
    let redis = Redis::new();
    let _server = redis.start();
    let run = |extra: &[&str]| {
        let bench =
            redis
                .sandbox
                .wrap(tools::need("redis-benchmark"))
                .args(["-p", &redis.port, "-q"]);
        let text = bench.args(extra).run().success().text();
        assert!(!text.contains("rror"), "{text}");
        text
    };
    let text = run(&["-n", "5000", "-c", "50", "-t", "set,get,incr,lpush"]);
    for command in ["SET: ", "GET: ", "INCR: ", "LPUSH: "] {
        assert!(text.contains(command), "{command} missing: {text}");
    }
    // redis counts too: 5,000 of each, and with pipelining 20,000 more.
    assert_eq!(redis.cli(&["llen", "mylist"]).text(), "5000\n");
    run(&["-n", "20000", "-P", "16", "-t", "lpush"]);
    assert_eq!(redis.cli(&["llen", "mylist"]).text(), "25000\n");
    // A new connection per request.
    run(&["-n", "1000", "-k", "0", "-t", "lpush"]);
    assert_eq!(redis.cli(&["llen", "mylist"]).text(), "26000\n");
}

#[test]
fn publish_and_subscribe() {
    let redis = Redis::new();
    let _server = redis.start();
    let subscriber =
        redis
            .sandbox
            .wrap(tools::need("redis-cli"))
            .args(["-p", &redis.port, "subscribe", "news"]);
    let mut subscriber = subscriber.piped().spawn();
    subscriber.wait_stdout("subscribe");
    assert_eq!(redis.cli(&["publish", "news", "first"]).text(), "1\n");
    subscriber.wait_stdout("first");
}

/// `--daemonize yes`: the command returns, redis serves on, `shutdown` ends it.
#[test]
fn as_a_daemon() {
    let redis = Redis::new();
    let server = redis
        .sandbox
        .wrap(tools::need("redis-server"))
        .args(redis.server_args());
    server.args(["--daemonize", "yes"]).run().success();
    redis.wait_ready();
    assert_eq!(redis.cli(&["ping"]).text(), "PONG\n");
    assert_eq!(redis.cli(&["ping"]).text(), "PONG\n");
    redis.cli(&["shutdown", "nosave"]);
    let port = redis.port.parse().expect("a port");
    wait_until("the port is free again", || !net::is_served(port));
}
