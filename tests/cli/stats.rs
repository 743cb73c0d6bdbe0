//! `quicwrap stats`: what runs, and how its connections are.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::common::net::{free_port, udp_bound};
use crate::common::running::children;
use crate::common::{Done, Running, Sandbox, Wrapped, command::QUICWRAP, tools, wait_until};
use crate::{echo_server, script};

/// The command, for the programs of a state directory.
pub(crate) fn stats(sandbox: &Sandbox, state: &str) -> Wrapped {
    sandbox
        .plain(QUICWRAP)
        .args(["stats", "--state-dir"])
        .arg(sandbox.path(state))
}

pub(crate) fn document(done: Done) -> Value {
    let text = done.success().text();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The document of `--json` for the sandbox's own.
pub(crate) fn json(sandbox: &Sandbox) -> Value {
    document(stats(sandbox, "state").arg("--json").run())
}

/// The instance with one of these pids, once it is there and is as it should be.
pub(crate) fn instance(
    sandbox: &Sandbox,
    pid: Pid,
    what: &str,
    holds: impl Fn(&Value) -> bool,
) -> Value {
    let mut found = Value::Null;
    wait_until(what, || {
        let report = json(sandbox);
        let instances = report["instances"].as_array().expect("a list");
        let own = |each: &&Value| each["front_pid"] == pid.as_raw();
        found = instances.iter().find(own).cloned().unwrap_or_default();
        !found.is_null() && holds(&found)
    });
    found
}

fn connections(instance: &Value) -> usize {
    instance["quic_connections"].as_array().map_or(0, Vec::len)
}

/// A client with an open connection.
fn holder(command: Wrapped, port: u16) -> Running {
    let mut client = command.arg(port.to_string()).piped().spawn();
    client.wait_stdout("connected 1");
    client
}

/// The sockets in a directory.
pub(crate) fn sockets(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let entries = entries.map(|entry| entry.expect("an entry"));
    entries
        .filter(|entry| entry.file_type().expect("a type").is_socket())
        .map(|entry| entry.path())
        .collect()
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn a_server_and_its_client() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let server = echo_server(script(&sandbox, "echo.py"), port);
    let mut client = holder(script(&sandbox, "hold.py"), port);
    let one = |each: &Value| connections(each) == 1;
    let of_client = instance(&sandbox, client.pid(), "the client", one);
    let of_server = instance(&sandbox, server.pid(), "the server", one);

    let near = &of_client["quic_connections"][0];
    assert_eq!(near["peer"], format!("127.0.0.1:{port}"));
    assert_eq!(
        (&near["role"], &near["streams"]),
        (&"client".into(), &1.into())
    );
    let far = &of_server["quic_connections"][0];
    let peer = far["peer"].as_str().expect("an address");
    let (ip, source) = peer.rsplit_once(':').expect("a port");
    assert_eq!(ip, "127.0.0.1");
    assert!(udp_bound(source.parse().expect("a port")), "{peer}");
    assert_eq!(
        (&far["role"], &far["streams"]),
        (&"server".into(), &1.into())
    );
    let words = of_client["command"].as_array().expect("words");
    assert!(
        words
            .iter()
            .any(|word| word.as_str().is_some_and(|word| word.ends_with("hold.py")))
    );
    assert_eq!(words.last(), Some(&port.to_string().into()));
    for each in [near, far] {
        assert!(
            number(&each["rtt_us"]) > 0 && number(&each["mtu_bytes"]) >= 1_200,
            "{each}"
        );
        assert!(number(&each["congestion_window_bytes"]) > 0, "{each}");
        assert!(
            number(&each["packets_lost"]) <= number(&each["packets_sent"]),
            "{each}"
        );
    }

    // What was moved is seen on both sides, and the second connection shares the first's.
    const MOVED: u64 = 3_000_000;
    let before = number(&near["bytes_sent"]);
    client.send(format!("{MOVED}\nagain\n"));
    client.wait_stdout(&format!("echoed {MOVED}\nconnected 2"));
    let of_client = instance(&sandbox, client.pid(), "the bytes", |each| {
        let each = &each["quic_connections"][0];
        number(&each["bytes_sent"]) >= before + MOVED && number(&each["bytes_received"]) >= MOVED
    });
    assert_eq!(connections(&of_client), 1);
    assert_eq!(of_client["quic_connections"][0]["streams"], 2);
    instance(&sandbox, server.pid(), "the server's bytes", |each| {
        let each = &each["quic_connections"][0];
        number(&each["bytes_sent"]) >= MOVED && number(&each["bytes_received"]) >= MOVED
    });

    client.finish().success();
    instance(&sandbox, server.pid(), "the end", |each| {
        connections(each) == 0
    });
    assert_eq!(
        json(&sandbox)["instances"].as_array().map(Vec::len),
        Some(1)
    );
    assert_eq!(sockets(&sandbox.path("state/run")).len(), 1);
    server.stop();
    wait_until("the socket is gone", || {
        sockets(&sandbox.path("state/run")).is_empty()
    });
}

/// Names of the fields, sorted.
fn names(value: &Value) -> Vec<&str> {
    let object = value
        .as_object()
        .unwrap_or_else(|| panic!("{value} has no fields"));
    let mut names: Vec<_> = object.keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// The document has exactly the fields that the manual page describes.
#[test]
fn the_fields_are_those_of_the_manual_page() {
    wrapped_only!();
    const REPORT: &[&str] = &["instances", "totals"];
    const INSTANCE: &[&str] = &[
        "command",
        "front_pid",
        "kind",
        "pid",
        "quic_connections",
        "supervisor_pid",
        "tcp_connections",
        "totals",
        "uptime_seconds",
    ];
    const QUIC: &[&str] = &[
        "bytes_received",
        "bytes_sent",
        "congestion_window_bytes",
        "mtu_bytes",
        "packets_lost",
        "packets_sent",
        "peer",
        "role",
        "rtt_us",
        "streams",
    ];
    const TCP: &[&str] = &[
        "bytes_received",
        "bytes_sent",
        "congestion_window_bytes",
        "local",
        "mtu_bytes",
        "peer",
        "rtt_us",
        "segments_retransmitted",
    ];
    const TOTALS: &[&str] = &[
        "bytes_received",
        "bytes_sent",
        "packets_lost",
        "packets_sent",
        "quic_connections",
        "streams",
        "tcp_connections",
    ];
    let (sandbox, port) = (Sandbox::new(), free_port());
    let _server = echo_server(script(&sandbox, "echo.py").option("--also-tcp"), port);
    let _quic = holder(script(&sandbox, "hold.py"), port);
    let by_tcp = script(&sandbox, "hold.py")
        .option("--tcp")
        .option(format!(":{port}"));
    let tcp = holder(by_tcp, port);
    let of_tcp = instance(&sandbox, tcp.pid(), "the TCP connection", |each| {
        each["tcp_connections"]
            .as_array()
            .is_some_and(|all| all.len() == 1)
    });
    assert_eq!(
        of_tcp["tcp_connections"][0]["peer"],
        format!("127.0.0.1:{port}")
    );
    assert_eq!(connections(&of_tcp), 0);

    let mut report = Value::Null;
    wait_until("both ends of both", || {
        report = json(&sandbox);
        let totals = &report["totals"];
        totals["tcp_connections"] == 2 && totals["quic_connections"] == 2
    });
    assert_eq!(names(&report), REPORT);
    assert_eq!(names(&report["totals"]), TOTALS);
    for each in report["instances"].as_array().expect("a list") {
        assert_eq!(names(each), INSTANCE);
        assert_eq!(names(&each["totals"]), TOTALS);
        for each in each["quic_connections"].as_array().expect("a list") {
            assert_eq!(names(each), QUIC);
        }
        for each in each["tcp_connections"].as_array().expect("a list") {
            assert_eq!(names(each), TCP);
        }
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/quicwrap.1");
    let page = fs::read_to_string(page).expect("the manual page");
    for name in [REPORT, INSTANCE, QUIC, TCP, TOTALS].concat() {
        assert!(
            page.contains(&format!("\n.BR {name} ")) || page.contains(&format!("\n.B {name}\n")),
            "{name}"
        );
    }
}

#[test]
fn one_of_them_by_any_of_its_pids() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let server = echo_server(script(&sandbox, "echo.py"), port);
    let _other = echo_server(script(&sandbox, "echo.py"), free_port());
    let is_there = |_: &Value| true;
    let of_server = instance(&sandbox, server.pid(), "the server", is_there);
    let supervisor = children(server.pid())[0];
    let program = children(supervisor)[0];
    assert_eq!(of_server["supervisor_pid"], supervisor.as_raw());
    assert_eq!(of_server["pid"], program.as_raw());
    assert_eq!(of_server["kind"], "program");
    for pid in [server.pid(), supervisor, program] {
        let one = stats(&sandbox, "state").args([&pid.to_string(), "--json"]);
        let one = document(one.run());
        assert_eq!(one["instances"].as_array().map(Vec::len), Some(1));
        assert_eq!(one["instances"][0]["pid"], program.as_raw());
    }
    let table = stats(&sandbox, "state").arg(server.pid().to_string());
    let text = table.run().success().text();
    assert!(
        text.starts_with(&format!("{program} program, up 00:0")),
        "{text}"
    );
    assert!(
        text.contains("echo.py") && text.contains("Total: 1 running;"),
        "{text}"
    );

    let none = std::process::id().to_string();
    for form in [&[none.as_str()][..], &[none.as_str(), "--json"]] {
        let done = stats(&sandbox, "state").args(form).run().exits(1);
        done.stderr_has(&format!("quicwrap: {none} is no process of a program"));
        assert_eq!(done.text(), "");
    }
    for wrong in ["0", "x", "99999999999"] {
        let done = stats(&sandbox, "state").arg(wrong).run().exits(125);
        done.stderr_has("[PID]");
    }
}

#[test]
fn nothing_is_running() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    for state in ["state", "missing"] {
        let done = stats(&sandbox, state).run().success();
        assert_eq!(done.text(), "Nothing is running under quicwrap.\n");
        assert_eq!(done.stderr, "");
        let report = document(stats(&sandbox, state).arg("--json").run());
        assert_eq!(report["instances"], Value::Array(Vec::new()));
        assert_eq!(report["totals"]["bytes_sent"], 0);
    }
    assert!(!sandbox.path("missing").exists());
    stats(&sandbox, "state").arg("1").run().exits(1);
}

#[test]
fn the_socket_of_a_killed_supervisor_is_removed() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let mut server = echo_server(script(&sandbox, "echo.py"), port);
    let _other = echo_server(script(&sandbox, "echo.py"), free_port());
    instance(&sandbox, server.pid(), "the server", |_| true);
    wait_until("both sockets", || {
        sockets(&sandbox.path("state/run")).len() == 2
    });
    kill(children(server.pid())[0], Signal::SIGKILL).expect("the supervisor runs");
    server.wait_stderr("was killed");
    assert_eq!(sockets(&sandbox.path("state/run")).len(), 2, "a stale one");
    let report = json(&sandbox);
    assert_eq!(report["instances"].as_array().map(Vec::len), Some(1));
    assert_eq!(sockets(&sandbox.path("state/run")).len(), 1);
}

/// Nothing of one that does not answer is waited for, for ever; nor does who asks and does not read keep others
/// from it.
#[test]
fn one_that_is_stopped() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let server = echo_server(script(&sandbox, "echo.py"), port);
    let supervisor = children(server.pid())[0];
    instance(&sandbox, server.pid(), "the server", |_| true);
    let socket = &sockets(&sandbox.path("state/run"))[0];
    let _silent: Vec<_> = (0..10)
        .map(|_| UnixStream::connect(socket).expect("it listens"))
        .collect();
    instance(&sandbox, server.pid(), "the server still", |_| true);
    kill(supervisor, Signal::SIGSTOP).expect("the supervisor runs");
    let done = stats(&sandbox, "state").run().success();
    done.stderr_has(&format!(
        "state/run/{supervisor}.sock gives no answer: not within"
    ));
    assert_eq!(done.text(), "Nothing is running under quicwrap.\n");
    kill(supervisor, Signal::SIGCONT).expect("the supervisor runs");
    instance(&sandbox, server.pid(), "the server again", |_| true);
}

#[test]
fn a_gateway() {
    wrapped_only!();
    let (sandbox, port, behind) = (Sandbox::new(), free_port(), free_port());
    let plain = fs::read(Path::new(file!()).with_file_name("py").join("echo.py")).expect("echo.py");
    let plain = sandbox
        .plain(tools::python())
        .arg("-u")
        .arg(sandbox.file("plain.py", plain));
    let _server = echo_server(plain, behind);
    let mut gateway = sandbox
        .plain(QUICWRAP)
        .args([
            "gateway",
            "--log",
            "info",
            "--listen",
            &format!("127.0.0.1:{port}"),
        ])
        .args(["--to", &format!("127.0.0.1:{behind}"), "--state-dir"])
        .arg(sandbox.path("state"))
        .spawn();
    gateway.wait_stderr("gateway ready");
    let mut client = holder(script(&sandbox, "hold.py"), port);
    client.send("100000\n");
    client.wait_stdout("echoed 100000");
    let shown = instance(&sandbox, gateway.pid(), "the gateway", |each| {
        let tcp = &each["tcp_connections"][0];
        let moved = |field: &str| tcp[field] == 100_000;
        connections(each) == 1 && moved("bytes_sent") && moved("bytes_received")
    });
    assert_eq!(shown["kind"], "gateway");
    assert_eq!(shown["pid"], gateway.pid().as_raw());
    assert_eq!(shown["command"][1], "gateway");
    assert_eq!(shown["quic_connections"][0]["role"], "server");
    let tcp = &shown["tcp_connections"][0];
    assert_eq!(tcp["peer"], format!("127.0.0.1:{behind}"));
    let table = stats(&sandbox, "state")
        .arg(gateway.pid().to_string())
        .run();
    let text = table.success().text();
    assert!(text.contains(" gateway, up 00:0"), "{text}");
    for row in [
        format!("  TCP      -       127.0.0.1:{behind} "),
        "  QUIC     server  127.0.0.1:".to_owned(),
    ] {
        assert!(text.contains(&row), "{text}");
    }
    gateway.stop().success();
    let left = sockets(&sandbox.path("state/run"));
    assert_eq!(left.len(), 1, "the client's: {left:?}");
}
