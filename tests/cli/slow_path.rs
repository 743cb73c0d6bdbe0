//! A path that is slower than the programs: what they write waits, and not too much of it.

use std::process::Command;

use crate::common::{Sandbox, namespace::in_own_network, tools};
use crate::script;

const PORT: &str = "7001";
const MIB: u64 = 1 << 20;

/// Makes the loopback a link of so many Mbit/s with a short queue.
fn slow_down(rate: u32) {
    super::unreachable::ip("link set lo mtu 1500");
    let words = format!("qdisc add dev lo root tbf rate {rate}mbit burst 16kb limit 100kb");
    let tc = Command::new(tools::need("tc"))
        .args(words.split(' '))
        .status();
    assert!(tc.expect("tc runs").success(), "tc {words}");
}

/// What the client says in this role.
fn bytes(role: &str) -> u64 {
    let sandbox = Sandbox::new();
    let run = |role| {
        script(&sandbox, "slow_path.py")
            .option("--linger")
            .option("0")
            .args([PORT, role])
    };
    let mut server = run("server").spawn();
    server.wait_stdout("listening");
    let said = run(role).run().success().text();
    said.trim().parse().expect("a number")
}

#[test]
fn a_program_is_not_far_ahead() {
    in_own_network("slow_path::a_program_is_not_far_ahead", || {
        slow_down(20);
        let ahead = bytes("ahead");
        // The pair of sockets holds up to 1 MiB, what is read from it at a time is a quarter of that, and a window is four
        // times what link and queue hold, or twice that while losses are not known of.
        assert!(ahead < 4 * MIB, "{ahead} bytes ahead");
    });
}

#[test]
fn few_words_pass_many_uploads() {
    in_own_network("slow_path::few_words_pass_many_uploads", || {
        slow_down(150);
        let passed = bytes("words");
        // Ten times what it usually is, and twice TCP's.
        assert!(passed < 8 * MIB, "{passed} bytes before an answer");
    });
}
