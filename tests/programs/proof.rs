//! The proof that bytes went over QUIC: the kernel's counters, and a capture that opens with the key log.
//!
//! Each test runs again, alone, in a network namespace of its own, where nothing else moves the counters.

use std::path::Path;
use std::process::Command;

use crate::common::namespace::in_own_network;
use crate::common::{Running, Sandbox, net::Counters, net::free_port, tools, wait_until};
use crate::{iperf3, netcat};

/// Largest payload of one UDP datagram; the kernel counts a batch of segments, which is no larger, as one.
const LARGEST: u64 = 65_507;

fn assert_moved_by_udp(before: Counters, bytes: u64) {
    let now = Counters::now();
    let (tcp, udp) = (now.tcp_out - before.tcp_out, now.udp_out - before.udp_out);
    assert_eq!(tcp, 0, "TCP segments were sent ({udp} UDP datagrams)");
    assert!(
        udp >= bytes / LARGEST,
        "{udp} datagrams cannot have carried {bytes} bytes"
    );
}

#[test]
fn iperf3_counters() {
    in_own_network("proof::iperf3_counters", || {
        let sandbox = Sandbox::new();
        let port = free_port();
        let _server = iperf3::server(&sandbox, port, "4");
        let before = Counters::now();
        let client = sandbox.wrap(tools::need("iperf3")).args([
            "-c",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-n",
            "128M",
        ]);
        client.run().success();
        assert_moved_by_udp(before, 128 << 20);
    });
}

#[test]
fn netcat_counters() {
    in_own_network("proof::netcat_counters", || {
        let sandbox = Sandbox::new();
        let port = free_port();
        let (input, got) = (sandbox.path("input"), sandbox.path("got"));
        tools::random_file(&input, 100 << 20, 11);
        let server = netcat::listen(netcat::nc(&sandbox).output(&got), port);
        let before = Counters::now();
        netcat::nc(&sandbox)
            .arg("-N")
            .input(&input)
            .args(["127.0.0.1", &port.to_string()])
            .run()
            .success();
        server.finish().success();
        assert_moved_by_udp(before, 100 << 20);
        assert_eq!(tools::sha256(&got), tools::sha256(&input));
    });
}

/// The counters would show it: natively the same transfer does move the TCP counter.
#[test]
fn the_counters_tell_tcp() {
    in_own_network("proof::the_counters_tell_tcp", || {
        let sandbox = Sandbox::new();
        let port = free_port().to_string();
        let nc = || sandbox.plain(tools::need("nc.openbsd"));
        let mut server = nc().args(["-v", "-l", "127.0.0.1", &port]).spawn();
        server.wait_stderr("Listening on");
        let before = Counters::now();
        let input = sandbox.file("input", "some bytes\n");
        nc().arg("-N")
            .input(&input)
            .args(["127.0.0.1", &port])
            .run()
            .success();
        assert_eq!(server.finish().success().text(), "some bytes\n");
        assert!(Counters::now().tcp_out > before.tcp_out);
    });
}

/// A capture of everything on loopback.
struct Capture {
    tshark: Running,
    file: std::path::PathBuf,
}

impl Capture {
    fn start(sandbox: &Sandbox) -> Self {
        let file = sandbox.path("capture.pcapng");
        let args = ["-i", "lo", "-f", "udp or tcp", "-w"];
        let tshark = sandbox
            .plain(tools::need("tshark"))
            .args(args)
            .arg(&file)
            .spawn();
        // It captures once its packet socket is bound: proc_pid_net(5), /proc/net/packet, column "R".
        wait_until("the capture runs", || {
            let sockets = std::fs::read_to_string("/proc/self/net/packet").unwrap_or_default();
            sockets
                .lines()
                .skip(1)
                .any(|l| l.split_whitespace().nth(5) == Some("1"))
        });
        Capture { tshark, file }
    }

    /// Ends the capture when it holds `packets` QUIC packets, and returns the decrypted stream data.
    fn stream_data(self, port: u16, keylog: &Path, wanted: &str) -> String {
        let mut text = String::new();
        wait_until(&format!("{wanted:?} in the decrypted streams"), || {
            text = self.decode(
                port,
                keylog,
                &[
                    "-Y",
                    "quic.stream_data",
                    "-T",
                    "fields",
                    "-e",
                    "quic.stream_data",
                ],
            );
            text.contains(wanted)
        });
        // The same capture without the keys: QUIC, and nothing in it.
        let nothing = std::path::Path::new("/dev/null");
        let quic = self.decode(port, nothing, &["-Y", "quic"]);
        assert!(quic.contains("Protected Payload"), "no QUIC:\n{quic}");
        let streams = ["-T", "fields", "-e", "quic.stream_data"];
        let opened = self.decode(port, nothing, &streams);
        assert_eq!(opened.trim(), "", "readable without the key log");
        let tcp = self.decode(port, keylog, &["-Y", "tcp"]);
        assert!(tcp.is_empty(), "TCP on the wire:\n{tcp}");
        let raw = std::fs::read(&self.file).expect("the capture");
        let clear = raw.windows(wanted.len()).any(|w| w == wanted.as_bytes());
        assert!(!clear, "{wanted:?} is readable on the wire");
        let _ = self.tshark.stop();
        text
    }

    /// tshark's output over what has been captured so far; hexadecimal fields as text.
    fn decode(&self, port: u16, keylog: &Path, args: &[&str]) -> String {
        let mut tshark = Command::new(tools::need("tshark"));
        tshark
            .arg("-r")
            .arg(&self.file)
            .args(["-d", &format!("udp.port=={port},quic")]);
        tshark
            .args(["-o", &format!("tls.keylog_file:{}", keylog.display())])
            .args(args);
        let text = String::from_utf8(tshark.output().expect("tshark runs").stdout).expect("text");
        if text.contains(' ') {
            text
        } else {
            unhex(&text)
        }
    }
}

/// Hex digits, anything between them ignored, to text.
fn unhex(hex: &str) -> String {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .map(|d| (d[0] * 16 + d[1]) as u8)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn netcat_capture() {
    in_own_network("proof::netcat_capture", || {
        let sandbox = Sandbox::new();
        let (port, keylog) = (free_port(), sandbox.path("keys"));
        let capture = Capture::start(&sandbox);
        // Short, so that it is alone in its packet: the capture sees a batch of segments as one packet.
        let words = "the very words that went through netcat";
        let input = sandbox.file("input", words);
        let server = netcat::listen(netcat::nc(&sandbox), port);
        let client = netcat::nc(&sandbox)
            .option("--keylog")
            .option(&keylog)
            .arg("-N")
            .input(&input);
        client
            .args(["127.0.0.1", &port.to_string()])
            .run()
            .success();
        assert_eq!(server.finish().success().text(), words);
        capture.stream_data(port, &keylog, words);
    });
}

#[test]
fn iperf3_capture() {
    in_own_network("proof::iperf3_capture", || {
        let sandbox = Sandbox::new();
        let (port, keylog) = (free_port(), sandbox.path("keys"));
        let capture = Capture::start(&sandbox);
        let _server = iperf3::server(&sandbox, port, "4");
        let client = sandbox
            .wrap(tools::need("iperf3"))
            .option("--keylog")
            .option(&keylog);
        client
            .args(["-c", "127.0.0.1", "-p", &port.to_string(), "-n", "100K"])
            .run()
            .success();
        // What iperf3's client says first on its control connection.
        capture.stream_data(port, &keylog, "\"tcp\":true");
    });
}
