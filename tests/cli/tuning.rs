//! `--congestion`, `--mtu`, `--window` and `--qlog`: how QUIC connections use the network.

use std::fs;

use serde_json::Value;

use crate::common::{Sandbox, Wrapped, net::free_port, set_mode};
use crate::stats::instance;
use crate::{echo_server, plain, script};

const MIB: usize = 1 << 20;
/// What the pairs of sockets at both ends hold at most, and what quinn keeps beyond a stream's window.
const BETWEEN: usize = 8 * MIB;

fn with(command: Wrapped, options: &[&str]) -> Wrapped {
    let option = |command: Wrapped, word: &&str| command.option(word);
    options.iter().fold(command, option)
}

/// The congestion controller that a client is told of, and how many bytes it can write to a server that does not read.
fn fill(options: &[&str]) -> (String, usize) {
    let (sandbox, port) = (Sandbox::new(), free_port());
    let never = sandbox.path("never");
    let server = with(script(&sandbox, "sink.py"), options).arg(port.to_string());
    let mut server = server.arg(never).spawn();
    server.wait_stdout("listening");
    let client = with(script(&sandbox, "fill.py"), options).arg(port.to_string());
    let said = client.run().success().text();
    let mut lines = said.lines();
    let name = lines.next().expect("a name").to_owned();
    let bytes = lines.next().and_then(|line| line.parse().ok());
    (name, bytes.expect("a number"))
}

/// Moves some megabytes to and fro, until the size of datagrams that the client has found to arrive is as it should be.
fn echo(options: &[&str], what: &str, is_it: impl Fn(u64) -> bool) {
    let (sandbox, port) = (Sandbox::new(), free_port());
    let _server = echo_server(with(script(&sandbox, "echo.py"), options), port);
    let client = with(script(&sandbox, "hold.py"), options).arg(port.to_string());
    let mut client = client.piped().spawn();
    for _ in 0..3 {
        client.send(format!("{}\n", 4 * MIB));
    }
    let pid = client.pid();
    let is_so = |each: &Value| {
        let size = each["quic_connections"][0]["mtu_bytes"].as_u64();
        size.is_some_and(&is_it)
    };
    client.wait_stdout(&format!("echoed {}\n", 4 * MIB).repeat(3));
    instance(&sandbox, pid, what, is_so);
    client.close_input();
    client.finish().success();
}

#[test]
fn every_congestion_controller_moves_bytes_and_is_named() {
    wrapped_only!();
    for name in ["cubic", "reno", "bbr"] {
        let options = ["--congestion", name];
        echo(&options, "a connection", |_| true);
        assert_eq!(fill(&options).0, name);
    }
}

#[test]
fn datagrams_grow_to_the_mtu_and_no_further() {
    wrapped_only!();
    echo(&["--mtu", "1248"], "the least", |mtu| mtu == 1_200);
    echo(&["--mtu", "9000"], "jumbo frames", |mtu| {
        assert!(mtu <= 8_952, "{mtu}");
        // The search ends when it has come near enough.
        mtu > 8_900
    });
}

#[test]
fn a_window_bounds_what_is_under_way() {
    wrapped_only!();
    let small = fill(&["--window", "1"]).1;
    assert!((MIB..MIB + BETWEEN).contains(&small), "{small}");
    let large = fill(&["--window", "33"]).1;
    let more = large.saturating_sub(small);
    // Not all 32: what has been read is granted anew when it is an eighth of the window.
    assert!((26 * MIB..=33 * MIB).contains(&more), "{small}, {large}");
}

#[test]
fn qlog_tells_of_packets_at_both_ends() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let folder = sandbox.path("qlog");
    fs::create_dir(&folder).unwrap();
    set_mode(&folder, 0o777);
    let logged = |name| {
        let command = script(&sandbox, name).option("--qlog");
        command.option(&folder)
    };
    let server = echo_server(logged("echo.py"), port);
    let mut client = logged("hold.py").arg(port.to_string()).piped().spawn();
    client.send(format!("{MIB}\n"));
    client.close_input();
    client.finish().success();
    server.stop();
    let files = fs::read_dir(&folder).unwrap().flatten();
    let mut files: Vec<_> = files.map(|file| file.path()).collect();
    files.sort_by_key(|path| !path.to_string_lossy().contains("-client-127.0.0.1-"));
    assert_eq!(files.len(), 2, "{files:?}");
    for (path, side) in files.iter().zip(["client", "server"]) {
        assert!(path.to_string_lossy().contains(side), "{path:?}");
        let text = fs::read_to_string(path).unwrap();
        // RFC 7464: each record begins with a record separator and ends with a newline.
        let records = text.split_inclusive('\n').map(|line| {
            let record = line.strip_prefix('\u{1e}').expect("a record");
            assert!(record.ends_with('\n'), "{record}");
            serde_json::from_str::<Value>(record).unwrap_or_else(|error| panic!("{error}: {line}"))
        });
        let records: Vec<_> = records.collect();
        assert_eq!(records[0]["qlog_format"], "JSON-SEQ");
        let bytes = |name: &str| -> u64 {
            let events = records.iter().filter(|event| event["name"] == name);
            events
                .filter_map(|event| event["data"]["header"]["length"].as_u64())
                .sum()
        };
        assert!(bytes("transport:packet_sent") >= MIB as u64, "{path:?}");
        let has = |name: &str| records.iter().any(|event| event["name"] == name);
        assert!(has("transport:packet_received") && has("recovery:metrics_updated"));
    }
}

#[test]
fn what_cannot_be_is_refused_before_the_program_starts() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", "");
    let cases = [
        (["--qlog", file.to_str().unwrap()], 125, "--qlog"),
        (["--congestion", "vegas"], 125, "cubic, reno, bbr"),
        (["--mtu", "1247"], 125, "1248"),
        (["--window", "0"], 125, "1..=1024"),
    ];
    for (options, code, says) in cases {
        let done = plain(&sandbox, &[&options[..], &["--", "true"]].concat(), &[]);
        done.exits(code).stderr_has(says);
    }
}
