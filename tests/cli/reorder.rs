//! A path where packets overtake each other.

use crate::common::{Sandbox, namespace::in_own_network, tools};
use crate::{script, script_file, stats};

const PORT: &str = "7001";

/// What either side sends at once arrives before the end of its handshake, and is not lost.
#[test]
fn first_flights_overtake_the_handshake() {
    in_own_network("reorder::first_flights_overtake_the_handshake", || {
        super::unreachable::ip("link set lo mtu 1500");
        let sandbox = Sandbox::new();
        let mut relay = sandbox
            .plain(tools::python())
            .arg("-u")
            .arg(script_file(&sandbox, "reorder.py"))
            .args([PORT, "relay"])
            .spawn();
        relay.wait_stdout("relaying");
        let run = |role| script(&sandbox, "reorder.py").args([PORT, role]);
        let mut server = run("server").spawn();
        server.wait_stdout("listening");
        let mut client = run("client").piped().spawn();
        client.wait_stdout("10000");
        for side in ["server", "client"] {
            relay.wait_stdout(&format!("overtaken: {side}"));
        }
        let report = stats::json(&sandbox);
        let instances = report["instances"].as_array().expect("a list");
        let connections = instances
            .iter()
            .flat_map(|instance| instance["quic_connections"].as_array().expect("a list"));
        let lost: Vec<_> = connections.map(|each| &each["packets_lost"]).collect();
        assert_eq!(lost, [0, 0]);
    });
}
