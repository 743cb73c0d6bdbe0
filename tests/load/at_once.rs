//! Ten thousand connections open at once.

use crate::common::{native, wait_until};
use crate::pair::{FEW, Pair, Stats};
use crate::usage::Usage;

const CONNECTIONS: usize = 10_000;

/// Where the ways to end them are tried.
const SOME: usize = 4_000;

/// As many can wait for accept(2) in any listener's queue, natively and wrapped.
const UNACCEPTED: usize = 900;

/// More rounds than the memory of any supervisor takes to settle.
const MOST_ROUNDS: usize = 16;

/// Bytes that stay behind for each connection of a round, and are a leak: less than the supervisor's entry for a socket.
const LEAK: usize = 300;

/// Growth of a supervisor's memory in two rounds that is no leak, KiB, however few connections a round has: the allocator
/// keeps pages of which little is in use.
const MARGIN: u64 = 1 << 10;

/// What both sides use after each of several equal rounds. The first ones fill tables and pools that stay, in each
/// thread that takes part, so they say nothing about a leak; that there come rounds that need no more does.
struct Rounds {
    /// Growth in two rounds that is no leak, KiB.
    margin: u64,
    usage: Vec<[Usage; 2]>,
}

impl Rounds {
    /// Repeats a round of so many connections until two of them in a row have needed no more memory than the one before.
    fn until_settled(what: &str, connections: usize, mut round: impl FnMut() -> [Usage; 2]) {
        let margin = MARGIN.max((2 * LEAK * connections) as u64 >> 10);
        let mut rounds = Rounds {
            margin,
            usage: Vec::new(),
        };
        while !rounds.are_settled() {
            assert!(
                rounds.usage.len() < MOST_ROUNDS,
                "memory grows with each round: {:?} and {:?} KiB",
                rounds.memory(0),
                rounds.memory(1)
            );
            let usage = round();
            print(what, usage);
            rounds.usage.push(usage);
        }
    }

    fn memory(&self, side: usize) -> Vec<u64> {
        self.usage.iter().map(|both| both[side].memory).collect()
    }

    fn are_settled(&self) -> bool {
        (0..2).all(|side| {
            let memory = self.memory(side);
            let Some((early, last)) = memory.split_last_chunk::<2>() else {
                return false;
            };
            let before = early.last();
            before.is_some_and(|before| last.iter().all(|now| *now <= before + self.margin))
        })
    }
}

fn print(what: &str, [server, client]: [Usage; 2]) {
    println!("{what:24} server {server}   client {client}");
}

fn per_connection(pair: &Pair, count: usize, before: [Usage; 2]) {
    let now = pair.usage();
    for (side, (now, before)) in now.iter().zip(before).enumerate() {
        let opened = now.descriptors.saturating_sub(before.descriptors);
        // Or another process is measured than the one that carries them.
        assert!(
            opened + FEW >= count,
            "side {side} has only {opened} descriptors more"
        );
        let bytes = now.memory.saturating_sub(before.memory) * 1024 / count as u64;
        println!("{bytes} bytes of memory for each connection on side {side}");
    }
}

/// Opens, exchanges and closes; returns what the server saw.
fn round(pair: &mut Pair, count: usize, close: &str) -> Stats {
    let (before, usage) = (pair.stats(), pair.usage());
    assert_eq!(pair.client.count(&format!("open {count}")), count);
    assert_eq!(pair.client.count("exchange 1000"), count);
    per_connection(pair, count, usage);
    // More than fits a datagram.
    assert_eq!(pair.client.count("exchange 5000"), count);
    print("open", pair.usage());
    assert_eq!(pair.client.count(close), count);
    let after = pair.wait_empty();
    assert_eq!(after.opened - before.opened, count);
    assert_eq!(after.answered - before.answered, 2 * count);
    Stats {
        ended: after.ended - before.ended,
        reset: after.reset - before.reset,
        ..after
    }
}

#[test]
fn closed_in_order() {
    let mut pair = Pair::start();
    print("before", pair.usage());
    Rounds::until_settled("closed", CONNECTIONS, || {
        let seen = round(&mut pair, CONNECTIONS, "close");
        assert_eq!((seen.ended, seen.reset), (CONNECTIONS, 0));
        pair.wait_rest()
    });
    pair.finish();
}

#[test]
fn the_memory_of_a_peak_is_given_back() {
    if native() {
        return; // What a program keeps is its own.
    }
    let mut pair = Pair::start_as_ever();
    assert_eq!(pair.client.count(&format!("open {SOME}")), SOME);
    assert_eq!(pair.client.count("exchange 5000"), SOME);
    let peak = pair.usage();
    print("peak", peak);
    let comes_down_to = |pair: &Pair, percent| {
        wait_until("memory to be given back", || {
            let mut both = pair.usage().into_iter().zip(peak);
            both.all(|(now, peak)| now.memory < peak.memory * percent / 100)
        });
        print("given back", pair.usage());
    };
    // The buffers of the answers, and when nothing has been moved any more the connections as well.
    comes_down_to(&pair, 90);
    assert_eq!(pair.client.count("close"), SOME);
    comes_down_to(&pair, 50);
    // What is left works.
    pair.client.count("short 1 1000");
    pair.finish();
}

#[test]
fn half_of_them_reset() {
    let mut pair = Pair::start();
    Rounds::until_settled("half reset", SOME, || {
        let seen = round(&mut pair, SOME, "close mixed");
        assert_eq!((seen.ended, seen.reset), (SOME / 2, SOME / 2));
        pair.wait_rest()
    });
    pair.finish();
}

#[test]
fn closed_before_accept() {
    let mut pair = Pair::start();
    Rounds::until_settled("closed before accept", 2 * UNACCEPTED, || {
        for close in ["close", "close mixed"] {
            pair.server.ask("pause");
            let before = pair.stats();
            assert_eq!(pair.client.count(&format!("open {UNACCEPTED}")), UNACCEPTED);
            assert_eq!(pair.client.count("send 1000"), UNACCEPTED);
            assert_eq!(pair.client.count(close), UNACCEPTED);
            pair.server.ask("resume");
            // accept(2) may fail for those that were reset, or not: accept(2) and RFC 9293 leave it open. Of those
            // that were closed in order each request arrives.
            let orderly = if close == "close" {
                UNACCEPTED
            } else {
                UNACCEPTED / 2
            };
            let arrived = |now: &Stats| now.open == 0 && now.answered - before.answered >= orderly;
            pair.wait_stats("requests sent before accept", arrived);
        }
        pair.wait_rest()
    });
    pair.finish();
}

#[test]
fn listener_closed_with_a_full_queue() {
    let mut pair = Pair::start();
    pair.server.ask("pause");
    Rounds::until_settled("listener closed", UNACCEPTED, || {
        assert_eq!(pair.client.count(&format!("open {UNACCEPTED}")), UNACCEPTED);
        assert_eq!(pair.client.count("send 1000"), UNACCEPTED);
        pair.server.ask("renew");
        assert_eq!(pair.client.count("gone"), UNACCEPTED);
        assert_eq!(pair.client.count("close"), UNACCEPTED);
        pair.wait_rest()
    });
    pair.server.ask("resume");
    pair.client.count("short 1 1000");
    pair.finish();
}

#[test]
fn client_killed() {
    let mut pair = Pair::start();
    Rounds::until_settled("client killed", SOME, || {
        assert_eq!(pair.client.count(&format!("open {SOME}")), SOME);
        assert_eq!(pair.client.count("exchange 1000"), SOME);
        // In the middle of the next exchange.
        let answered = pair.stats().answered;
        pair.client.order("exchange 5000");
        pair.wait_stats("the exchange to begin", |now| now.answered > answered);
        pair.replace_client();
        let after = pair.wait_empty();
        assert_eq!(after.opened, after.ended + after.reset);
        pair.wait_rest()
    });
    // The new client works.
    pair.client.count("short 1 1000");
    pair.finish();
}

/// Lets a client open 10,000 connections to a server that does not accept them, until its queue is full.
fn overrun(pair: &mut Pair) {
    pair.server.ask("pause");
    pair.client.order(&format!("open {CONNECTIONS}"));
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
    let somaxconn: Option<usize> = somaxconn.ok().and_then(|text| text.trim().parse().ok());
    // The server asks for a backlog of 4,096; natively the next 256 wait for an answer to their SYN.
    let more = somaxconn.expect("net.core.somaxconn").min(4096) + 100;
    wait_until("more connections than the queue holds", || {
        pair.client.usage().descriptors > more
    });
}

#[test]
fn more_than_the_queue_holds() {
    let mut pair = Pair::start();
    let before = pair.stats();
    overrun(&mut pair);
    pair.server.ask("resume");
    assert_eq!(pair.client.answer(), format!("done {CONNECTIONS}"));
    assert_eq!(pair.client.count("exchange 1000"), CONNECTIONS);
    assert_eq!(pair.client.count("close"), CONNECTIONS);
    let after = pair.wait_empty();
    assert_eq!(after.answered - before.answered, CONNECTIONS);
    print("queue overrun", pair.wait_rest());
    pair.finish();
}

#[test]
fn killed_before_a_full_queue() {
    let mut pair = Pair::start();
    overrun(&mut pair);
    pair.replace_client();
    pair.server.ask("resume");
    // Behind those that the killed client has left in the queue.
    assert_eq!(pair.client.count("short 1 1000"), 1);
    pair.wait_empty();
    print("killed, queue full", pair.wait_rest());
    pair.finish();
}
