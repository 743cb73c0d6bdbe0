//! Peers that are out of reach without a firewall: TCP says so at once or after some seconds, and not after minutes.

use std::{net::UdpSocket, process::Command};

use crate::common::{Sandbox, namespace::in_own_network, tools};

const CONNECT: &str = "
import errno, socket, sys
try:
    socket.create_connection((sys.argv[1], 7))
except OSError as error:
    print(errno.errorcode[error.errno])
";

/// Runs ip(8).
pub(super) fn ip(words: &str) {
    let done = Command::new(tools::need("ip"))
        .args(words.split(' '))
        .status();
    assert!(done.expect("ip runs").success(), "ip {words}");
}

#[test]
fn a_host_that_is_down() {
    in_own_network("unreachable::a_host_that_is_down", || {
        // Nobody at the other end answers ARP or neighbour solicitations.
        for words in [
            "link add here type veth peer name there",
            "address add 192.0.2.1/24 dev here",
            "address add 2001:db8::1/64 dev here nodad",
            "link set here up",
            "link set there up",
        ] {
            ip(words);
        }
        let sandbox = Sandbox::new();
        for host in ["192.0.2.77", "2001:db8::77"] {
            let client = sandbox.wrap(tools::python());
            let done = client.args(["-c", CONNECT, host]).run();
            assert_eq!(done.text(), "EHOSTUNREACH\n", "{host}");
        }
    });
}

#[test]
fn a_route_that_leads_nowhere() {
    in_own_network("unreachable::a_route_that_leads_nowhere", || {
        let sandbox = Sandbox::new();
        for kind in ["unreachable", "prohibit", "blackhole", "throw"] {
            for (network, host) in [
                ("192.0.2.0/24", "192.0.2.77"),
                ("2001:db8::/64", "2001:db8::77"),
            ] {
                ip(&format!("route add {kind} {network}"));
                let connect = ["-c", CONNECT, host];
                let natively = sandbox.plain(tools::python()).args(connect).run();
                let done = sandbox.wrap(tools::python()).args(connect).run();
                assert_eq!(done.text(), natively.text(), "{kind} {host}");
                assert!(!done.text().is_empty(), "{kind} {host}");
                ip(&format!("route del {kind} {network}"));
            }
        }
    });
}

#[test]
fn a_link_that_is_too_narrow_for_quic() {
    in_own_network("unreachable::a_link_that_is_too_narrow_for_quic", || {
        ip("link set lo mtu 1000");
        std::fs::write("/proc/sys/net/ipv4/tcp_syn_retries", "1")
            .expect("a sysctl of this network");
        let sandbox = Sandbox::new();
        // It hears nothing.
        let _server = UdpSocket::bind("127.0.0.1:7").expect("port 7 is free here");
        let client = sandbox.wrap(tools::python());
        let done = client.args(["-c", CONNECT, "127.0.0.1"]).run();
        assert_eq!(done.text(), "ETIMEDOUT\n");
        let advice = "takes packets of 1000 bytes, and QUIC needs 1228";
        assert!(done.stderr.contains(advice), "{}", done.stderr);
    });
}
