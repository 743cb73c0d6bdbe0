//! Connections and sockets one after another.

use std::time::Instant;

use crate::common::net::free_port;
use crate::pair::Pair;
use crate::usage::Usage;

/// Short connections where the environment does not say otherwise.
const SHORT: usize = 20_000;
const REFUSED: usize = 20_000;
const UNUSED: usize = 20_000;
/// Each is a QUIC endpoint made and ended.
const LISTENERS: usize = 2_000;

/// Most in one order, so that each is done long before the programs' time limit.
const STEP: usize = 10_000;
/// Least samples of a run.
const SAMPLES: usize = 16;

/// Growth of a supervisor's memory between the second and the last quarter of a run that is no leak, KiB.
const MARGIN: u64 = 1 << 10;

/// How many of a kind are made; all kinds grow as the short connections do.
fn scaled(default: usize) -> usize {
    let Some(asked) = std::env::var_os("QUICWRAP_TEST_SHORT") else {
        return default;
    };
    let text = asked.to_string_lossy();
    let short: usize = text
        .parse()
        .unwrap_or_else(|_| panic!("QUICWRAP_TEST_SHORT is no number: {text}"));
    (default * short / SHORT).max(SAMPLES)
}

/// Gives an order piece by piece, and asserts that memory and descriptors stay flat.
fn run(pair: &mut Pair, total: usize, order: impl Fn(usize) -> String) {
    let step = (total / SAMPLES).min(STEP);
    let start = Instant::now();
    let mut samples = vec![];
    let mut done = 0;
    while done < total {
        let count = step.min(total - done);
        assert_eq!(pair.client.count(&order(count)), count);
        done += count;
        let usage = pair.usage();
        let [server, client] = &usage;
        println!(
            "{done:8} {:6.1} s server {server}   client {client}",
            start.elapsed().as_secs_f64()
        );
        samples.push(usage);
    }
    pair.wait_empty();
    pair.wait_rest();
    let rate = total as f64 / start.elapsed().as_secs_f64();
    println!("{total} of {:?}: {rate:.0} a second", order(step));
    for side in 0..2 {
        let of_side: Vec<_> = samples.iter().map(|both| both[side]).collect();
        assert_flat(side, &of_side);
    }
}

/// The last quarter's least against the second one's: the first quarter fills the allocator's pools, and what is under way
/// when a sample is taken, as endpoints that are not ended yet, is no leak.
fn assert_flat(side: usize, samples: &[Usage]) {
    let quarter = samples.len() / 4;
    let memory: Vec<_> = samples.iter().map(|usage| usage.memory).collect();
    let early = memory[quarter..2 * quarter].iter().min().expect("samples");
    let late = memory[3 * quarter..].iter().min().expect("samples");
    assert!(
        *late <= early + MARGIN,
        "memory of side {side} grows: {memory:?} KiB"
    );
    let descriptors = samples.iter().map(|usage| usage.descriptors);
    // As one connection after another needs, with the ends of some before it under way.
    let most = descriptors.clone().max().expect("samples");
    let least = descriptors.min().expect("samples");
    assert!(
        most <= least + 64,
        "descriptors of side {side}: {least} to {most}"
    );
}

#[test]
fn client_closes_first() {
    let mut pair = Pair::start();
    let before = pair.stats();
    let total = scaled(SHORT);
    run(&mut pair, total, |count| format!("short {count} 200"));
    let after = pair.stats();
    assert_eq!(after.answered - before.answered, total);
    assert_eq!(
        (after.ended - before.ended, after.reset),
        (total, before.reset)
    );
    pair.finish();
}

#[test]
fn server_closes_first() {
    let mut pair = Pair::start();
    let before = pair.stats();
    let total = scaled(SHORT);
    run(&mut pair, total, |count| {
        format!("short {count} 200 server")
    });
    let after = pair.stats();
    assert_eq!(after.answered - before.answered, total);
    pair.finish();
}

#[test]
fn refused() {
    let mut pair = Pair::start();
    let port = free_port();
    run(&mut pair, scaled(REFUSED), |count| {
        format!("refused {count} {port}")
    });
    pair.finish();
}

#[test]
fn closed_unused() {
    let mut pair = Pair::start();
    for (kind, default) in [
        ("unused", UNUSED),
        ("bound", UNUSED),
        ("listening", LISTENERS),
    ] {
        run(&mut pair, scaled(default), |count| {
            format!("{kind} {count}")
        });
    }
    pair.finish();
}
