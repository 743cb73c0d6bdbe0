//! iperf3: the program of the first example, in all its directions, and the figures it takes from TCP_INFO.

use serde_json::Value;

use crate::common::{Running, Sandbox, net::free_port, tools::need, wait_until};

/// Bytes per stream: enough for several windows, short enough for an unoptimised build.
const AMOUNT: u64 = 64 << 20;

pub(crate) fn server(sandbox: &Sandbox, port: u16, family: &str) -> Running {
    let listen = format!("-s{family}");
    let server =
        sandbox
            .wrap(need("iperf3"))
            .args([&listen, "--forceflush", "-p", &port.to_string()]);
    let mut server = server.spawn();
    server.wait_stdout("Server listening");
    server
}

/// What certainly has arrived when all has been sent, see [`received`].
const ARRIVED: u64 = AMOUNT / 2;

/// Runs a client against a server of its own and returns the client's JSON report.
fn measure(host: &str, extra: &[&str]) -> Value {
    let sandbox = Sandbox::new();
    let port = free_port();
    let _server = server(&sandbox, port, if host.contains(':') { "6" } else { "4" });
    let amount = AMOUNT.to_string();
    let client = sandbox.wrap(need("iperf3")).args([
        "-c",
        host,
        "-p",
        &port.to_string(),
        "-J",
        "-n",
        &amount,
    ]);
    let text = client.args(extra).run().success().text();
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert!(report.get("error").is_none(), "{text}");
    report
}

/// Bytes that arrived, by the receiver's count. iperf3 stops counting when the client has sent all, with some
/// of it still on the way: natively too the count is short by what the buffers hold.
fn received(report: &Value, sum: &str) -> u64 {
    report["end"][sum]["bytes"]
        .as_u64()
        .unwrap_or_else(|| panic!("no {sum} in {report:#}"))
}

#[test]
fn one_stream() {
    let report = measure("127.0.0.1", &[]);
    assert!(received(&report, "sum_received") >= ARRIVED);
    let connected = &report["start"]["connected"][0];
    assert_eq!(connected["remote_host"], "127.0.0.1");
    assert_eq!(connected["local_host"], "127.0.0.1");
}

#[test]
fn reverse() {
    let report = measure("127.0.0.1", &["-R"]);
    assert!(received(&report, "sum_received") >= ARRIVED);
}

#[test]
fn eight_streams() {
    // More than the other tests: the buffers of eight connections may hold 80 MB uncounted.
    let report = measure("127.0.0.1", &["-P", "8", "-n", "256M"]);
    assert_eq!(report["end"]["streams"].as_array().map(Vec::len), Some(8));
    assert!(received(&report, "sum_received") >= ARRIVED);
    // An eighth of what is one's due: they do not begin and end at the same instant.
    let least = (256 << 20) / 8 / 8;
    for stream in report["end"]["streams"].as_array().expect("streams") {
        assert!(
            stream["receiver"]["bytes"].as_u64() > Some(least),
            "a stream was starved: {stream:#}"
        );
    }
}

#[test]
fn both_directions_at_once() {
    let report = measure("127.0.0.1", &["--bidir"]);
    let (there, back) = (
        received(&report, "sum_received"),
        received(&report, "sum_received_bidir_reverse"),
    );
    // iperf3 stops both directions when the sum has moved, so only that and that both moved is certain.
    assert!(
        there > 0 && back > 0 && there + back >= ARRIVED,
        "{there} there, {back} back"
    );
}

#[test]
fn ipv6() {
    let report = measure("::1", &["-6"]);
    assert!(received(&report, "sum_received") >= ARRIVED);
    assert_eq!(report["start"]["connected"][0]["remote_host"], "::1");
}

/// iperf3 prints what TCP_INFO and TCP_MAXSEG say: on loopback next to no loss, a short rtt, a window, an mss.
#[test]
fn statistics_are_sane() {
    let report = measure("127.0.0.1", &[]);
    let sender = &report["end"]["streams"][0]["sender"];
    let figure = |name: &str| {
        sender[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no {name} in {sender:#}"))
    };
    let mss = report["start"]["tcp_mss_default"].as_u64().expect("an mss");
    assert!((500..=65_535).contains(&mss), "mss {mss}");
    assert!(
        figure("max_snd_cwnd") >= 2 * mss,
        "cwnd {} of mss {mss}",
        figure("max_snd_cwnd")
    );
    // Microseconds: more than none, less than a second even on a loaded machine.
    for rtt in ["min_rtt", "mean_rtt", "max_rtt"] {
        assert!(
            (1..1_000_000).contains(&figure(rtt)),
            "{rtt} {}",
            figure(rtt)
        );
    }
    let packets = AMOUNT / mss;
    assert!(
        figure("retransmits") <= packets / 10,
        "{} retransmits in {packets} packets",
        figure("retransmits")
    );
}

/// One server takes one client after another.
#[test]
fn a_server_serves_again() {
    let sandbox = Sandbox::new();
    let port = free_port();
    let mut server = server(&sandbox, port, "4");
    for round in 1..=3 {
        let client = sandbox.wrap(need("iperf3")).args([
            "-c",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-n",
            "1M",
        ]);
        client.run().success();
        wait_until("the server listens again", || {
            server.stdout().matches("Server listening").count() > round
        });
        assert!(!server.ended());
    }
}
