//! `--threads` and `--connections`: many connections of one pair of programs on several threads.

use serde_json::Value;

use crate::common::{Running, Sandbox, Wrapped, net::free_port};
use crate::stats::instance;
use crate::{echo_server, script};

/// TCP connections after which each QUIC connection is as full as makes the client dial another.
const FULL: usize = 8;
const MANY: usize = 40;
/// What the first moves.
const BYTES: usize = 200_000;

fn on_threads(command: Wrapped) -> Wrapped {
    command.option("--threads").option("3")
}

/// The streams of each QUIC connection.
fn streams(instance: &Value) -> Vec<u64> {
    let all = instance["quic_connections"].as_array().expect("a list");
    all.iter()
        .filter_map(|each| each["streams"].as_u64())
        .collect()
}

fn connect(client: &mut Running, numbers: std::ops::RangeInclusive<usize>) {
    for number in numbers {
        client.send("again\n");
        client.wait_stdout(&format!("connected {number}\n"));
    }
}

fn move_and_end(mut client: Running) {
    client.send(format!("{BYTES}\n"));
    client.wait_stdout(&format!("echoed {BYTES}"));
    client.close_input();
    client.finish().success();
}

#[test]
fn many_connections_are_spread() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let server = echo_server(on_threads(script(&sandbox, "echo.py")), port);
    let client = on_threads(script(&sandbox, "hold.py")).arg(port.to_string());
    let mut client = client.piped().spawn();
    client.wait_stdout("connected 1");
    connect(&mut client, 2..=FULL + 1);
    let links = |count| move |each: &Value| streams(each).len() == count;
    instance(&sandbox, client.pid(), "a second link", links(2));
    connect(&mut client, FULL + 2..=MANY);
    instance(&sandbox, client.pid(), "a third link", links(3));
    instance(&sandbox, server.pid(), "three links", links(3));
    let of_client = instance(&sandbox, client.pid(), "all streams", |each| {
        streams(each).iter().sum::<u64>() == MANY as u64
    });
    // The second was there when the others came, which take turns.
    let used = streams(&of_client).iter().filter(|&&each| each > 0).count();
    assert!(used >= 2, "{of_client}");
    move_and_end(client);
}

#[test]
fn one_quic_connection_if_so_wished() {
    wrapped_only!();
    let (sandbox, port) = (Sandbox::new(), free_port());
    let _server = echo_server(on_threads(script(&sandbox, "echo.py")), port);
    let client = on_threads(script(&sandbox, "hold.py"))
        .option("--connections")
        .option("1");
    let mut client = client.arg(port.to_string()).piped().spawn();
    client.wait_stdout("connected 1");
    connect(&mut client, 2..=MANY);
    instance(&sandbox, client.pid(), "one link", |each| {
        streams(each) == [MANY as u64]
    });
    move_and_end(client);
}
