//! What carries a connection: QUIC, TCP by a rule or as a fallback, or both on one listener.

use std::net::UdpSocket;

use crate::common::net::{free_port, tcp_listens, udp_bound};
use crate::common::{Sandbox, Wrapped};
use crate::identity::Identity;
use crate::script;
use crate::talk::{self, WORDS, all_well};

fn as_it_is(command: Wrapped) -> Wrapped {
    command
}

fn with<'a>(options: &'a [&'a str]) -> impl Fn(Wrapped) -> Wrapped + 'a {
    move |command| {
        options
            .iter()
            .fold(command, |command, option| command.option(option))
    }
}

#[test]
fn a_rule_leaves_a_destination_on_tcp() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let _server = talk::plain_server(&sandbox, port);
    let rule = format!("127.0.0.1:{port}");
    let done = talk::client(&sandbox, port, with(&["--tcp", &rule]));
    assert_eq!(all_well(done, WORDS).stderr, "");
    let refused = talk::client(&sandbox, port, as_it_is).exits(1);
    assert_eq!(
        refused.text(),
        "ECONNREFUSED\n",
        "QUIC is not given up silently"
    );
}

#[test]
fn a_rule_leaves_a_listener_on_tcp() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let rule = format!(":{port}");
    let _server = talk::server(&sandbox, port, with(&["--tcp", &rule]));
    assert!(tcp_listens(port) && !udp_bound(port));
    all_well(talk::plain_client(&sandbox, port), WORDS);
    all_well(talk::client(&sandbox, port, with(&["--tcp", &rule])), WORDS);
}

#[test]
fn quic_rules_limit_quic_to_matches() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let _server = talk::plain_server(&sandbox, port);
    let done = talk::client(&sandbox, port, with(&["--quic", "10.0.0.0/8"]));
    all_well(done, WORDS);
}

/// A server is wrapped before its clients are.
#[test]
fn a_listener_for_both() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let _server = talk::server(&sandbox, port, with(&["--also-tcp"]));
    assert!(tcp_listens(port) && udp_bound(port));
    all_well(talk::plain_client(&sandbox, port), WORDS);
    all_well(talk::client(&sandbox, port, as_it_is), WORDS);
}

/// Neither kind of client reaches a port whose listener is gone, and it can be had again at once.
#[test]
fn a_listener_for_both_ends_at_once() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    for _ in 0..3 {
        let server = talk::server(&sandbox, port, with(&["--also-tcp"]));
        all_well(talk::plain_client(&sandbox, port), WORDS);
        server.stop();
        let gone = talk::client(&sandbox, port, as_it_is).exits(1);
        assert_eq!(gone.text(), "ECONNREFUSED\n");
    }
}

#[test]
fn where_nobody_speaks_quic_the_fallback_is_taken() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let options = ["--fallback", "tcp"];
    let refused = talk::client(&sandbox, port, with(&options)).exits(1);
    assert_eq!(refused.text(), "ECONNREFUSED\n");
    let _server = talk::plain_server(&sandbox, port);
    let done = all_well(talk::client(&sandbox, port, with(&options)), WORDS);
    let told = done.stderr.matches("connected over TCP").count();
    assert_eq!(
        told, 1,
        "remembered for the connections after:\n{}",
        done.stderr
    );
}

/// A firewall that drops UDP: no answer at all.
#[test]
fn silence_is_not_waited_out() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let _silent = UdpSocket::bind(("127.0.0.1", port)).expect("a free port");
    let _server = talk::plain_server(&sandbox, port);
    all_well(
        talk::client(&sandbox, port, with(&["--fallback", "tcp"])),
        WORDS,
    );
}

#[test]
fn where_quic_is_spoken_it_is_preferred() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let _server = talk::server(&sandbox, port, with(&["--also-tcp"]));
    let options = ["--fallback", "tcp", "--log", "info"];
    let done = all_well(talk::client(&sandbox, port, with(&options)), WORDS);
    assert!(!done.stderr.contains("over TCP"), "{}", done.stderr);
}

/// Or whoever has a wrong key would only have to wait for the plain connection.
#[test]
fn a_peer_that_is_not_trusted_is_no_case_for_the_fallback() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let other = Identity::new(&sandbox, "other");
    let _server = talk::server(&sandbox, port, with(&["--also-tcp"]));
    let trusting = |command: Wrapped| {
        let command = command.option("--fallback").option("tcp");
        command.option("--server-cert").option(&other.cert)
    };
    let done = talk::client(&sandbox, port, trusting).exits(1);
    assert_eq!(done.text(), "EACCES\n");
}

#[test]
fn a_port_offset_leaves_udp_to_the_program() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let _own = UdpSocket::bind(("127.0.0.1", port)).expect("a free port");
    let offset = with(&["--port-offset", "1300"]);
    let _server = talk::server(&sandbox, port, &offset);
    assert!(udp_bound(port + 1300));
    all_well(talk::client(&sandbox, port, &offset), WORDS);
}

/// As a DNS server does.
#[test]
fn a_program_that_has_tcp_and_udp_on_one_port_is_told_of_the_offset() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port().to_string());
    let both = |order: [&str; 2]| script(&sandbox, "both.py").arg(&port).args(order);
    for (order, refused, reason) in [
        (["tcp", "udp"], "udp", "the program wants UDP port"),
        (["udp", "tcp"], "tcp", "UDP port"),
    ] {
        let done = both(order).run().success();
        assert_eq!(done.text(), format!("{refused} EADDRINUSE\n"));
        done.stderr_has(reason);
        done.stderr_has("choose another --port-offset");
        let done = both(order).option("--port-offset").option("1300").run();
        let done = done.success();
        assert_eq!((done.text().as_str(), done.stderr.as_str()), ("", ""));
    }
    // TCP by itself would have refused that.
    let done = both(["tcp", "any"]).run().success();
    let told = done.stderr.as_str();
    assert_eq!((done.text().as_str(), told), ("any EADDRINUSE\n", ""));
}

#[test]
fn a_port_without_a_counterpart_is_named() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let offset = with(&["--port-offset", "10000"]);
    let done = talk::client(&sandbox, 60_000, offset).exits(1);
    assert_eq!(done.text(), "EADDRNOTAVAIL\n");
    done.stderr_has("60000 + 10000 is beyond 65535");
}

/// Whoever keeps QUIC from getting through would otherwise read along.
#[test]
fn a_peer_whose_key_is_recorded_is_not_taken_in_the_clear() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let server = talk::server(&sandbox, port, as_it_is);
    all_well(talk::client(&sandbox, port, as_it_is), WORDS);
    server.stop();
    let _server = talk::plain_server(&sandbox, port);
    let fallback = with(&["--fallback", "tcp"]);
    let done = talk::client(&sandbox, port, &fallback).exits(1);
    assert_eq!(done.text(), "ECONNREFUSED\n");
    done.stderr_has(&format!(
        "remove the line of 127.0.0.1:{port} from known_hosts"
    ));
    std::fs::remove_file(sandbox.path("state/known_hosts")).expect("a recorded key");
    all_well(talk::client(&sandbox, port, &fallback), WORDS);
}

/// A server is wrapped while a client remembers that it was not.
#[test]
fn a_peer_may_learn_quic() {
    wrapped_only!();
    const TWICE: &str = "
import socket, sys
for _ in range(2):
    client = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
    client.sendall(b'echo\\nword')
    client.shutdown(socket.SHUT_WR)
    print('answer', client.recv(4, socket.MSG_WAITALL).decode(), flush=True)
    sys.stdin.readline()
";
    let (sandbox, port) = (Sandbox::new(), free_port());
    let plain = talk::plain_server(&sandbox, port);
    let script = sandbox.file("twice.py", TWICE);
    let client = sandbox.wrap(crate::common::tools::python()).arg(script);
    let client = with(&["--fallback", "tcp"])(client).arg(port.to_string());
    let mut client = client.piped().spawn();
    client.wait_stdout("answer word\n");
    plain.stop();
    let _wrapped = talk::server(&sandbox, port, as_it_is);
    client.send("\n");
    client.wait_stdout("answer word\nanswer word\n");
    client.send("\n");
    client.finish().success().stderr_has("first contact");
}

#[test]
fn no_door_for_strangers_beside_the_one_that_is_guarded() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let ca = Identity::new(&sandbox, "ca");
    let options = with(&["--also-tcp", "--client-ca"]);
    let done = options(sandbox.wrap("true")).option(&ca.cert).run();
    done.exits(125)
        .stderr_has("--also-tcp takes plain TCP clients");
}

/// A stream of the QUIC connection that is there is not waited for. TCP left alone is, by the supervisor.
#[test]
fn a_known_peer_is_connected_to_at_once() {
    let sandbox = Sandbox::new();
    let done = script(&sandbox, "at_once.py").run().success();
    assert_eq!(done.text(), "EINPROGRESS [True]\n");
}
