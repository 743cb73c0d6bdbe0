//! How the network's thread waits: for a moment awake, where what it waits for is known to come at once; and for whom.
#![forbid(unsafe_code)]

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout};

use crate::{emul::socket::SocketId, sys::allocator};

/// How long the thread stays awake: as long as KVM does for its guests (halt_poll_ns). A server on the same host or in the
/// same rack answers within this, also on a processor that takes 70 µs for the work of a round trip, where 50 µs were too
/// short.
const AWAKE: Duration = Duration::from_micros(200);
/// A wait that would have been over within that time, had nobody needed to be woken: at either end program and
/// supervisor are, for 30 µs each where the processor has gone to rest meanwhile (measured in virtual machines).
const SHORT_WAIT: Duration = Duration::from_micros(400);
/// How sure one must be that the next wait is short: each short one counts 1 up to the most, each other 2 less. Where
/// less than two in three are short, the thread sleeps.
const MOST: i32 = 8;
const SURE: i32 = 4;
/// A program takes 20 to 100 µs to write its request, or its answer, and wait. Who gets the processor back later than after
/// this shares it with tasks that do not wait, and which run for milliseconds each time.
const TURN: Duration = Duration::from_millis(1);
/// For so many times as long as it was kept waiting the thread does not give way then: who sleeps is run at once when it
/// is woken. With two such tasks on two processors, and without this, redis with 50 clients answered 10,300 requests a
/// second in place of 18,700.
const REFRAIN: u32 = 100;
/// How long nothing is moved before what the allocator keeps is given back. That takes 0.3 ms beside 9,000 connections: too
/// long for the pauses of a program that is at work.
const REST: Duration = Duration::from_secs(1);
/// Bytes after which it is looked whether they were a bulk transfer.
const MUCH: u64 = 1 << 20;
/// Bytes moved at a time, on average, from which on it is one. iperf3 comes to 190,000 to 440,000, on a path with an MTU
/// of 1500 to 40,000 to 90,000 where they arrive; requests and replies of 64 kB to 15,000 to 26,000.
const BULK_MOVE: u64 = 32 << 10;

/// What the bridges of one thread move.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Times that a bridge has moved bytes.
    moves: AtomicU64,
    /// As many were when [`Self::much`] returned last.
    seen: AtomicU64,
    /// Bytes since then.
    bytes: AtomicU64,
    /// The connection that moves the most, and by how many bytes more than all others (Boyer and Moore's majority).
    leader: AtomicU64,
    lead: AtomicU64,
    waits: AtomicBool,
    /// Until when the thread does not give way.
    refrains: Mutex<Option<Instant>>,
    moved: Notify,
    much_moved: Notify,
    ended: Notify,
}

impl Activity {
    /// A bridge has moved so many bytes. To be called by the thread that this belongs to.
    pub(crate) fn note(&self, id: SocketId, bytes: usize) {
        let add = |counter: &AtomicU64, amount| {
            let sum = counter.load(Ordering::Relaxed).wrapping_add(amount);
            counter.store(sum, Ordering::Relaxed);
            sum
        };
        add(&self.moves, 1);
        let bytes = bytes as u64;
        let lead = self.lead.load(Ordering::Relaxed);
        if self.leader.load(Ordering::Relaxed) == id.0 {
            self.lead.store(lead + bytes, Ordering::Relaxed);
        } else if lead >= bytes {
            self.lead.store(lead - bytes, Ordering::Relaxed);
        } else {
            self.leader.store(id.0, Ordering::Relaxed);
            self.lead.store(bytes, Ordering::Relaxed);
        }
        if add(&self.bytes, bytes) >= MUCH {
            self.much_moved.notify_one();
        }
        if self.waits.swap(false, Ordering::Relaxed) {
            self.moved.notify_one();
        }
    }

    /// A connection has come to its end, and its memory is free.
    pub(super) fn note_end(&self) {
        self.ended.notify_one();
    }

    /// Waits until much has been moved. Returns the connection that has moved the most of it if that was bulk transfer, and
    /// none if it was messages.
    pub(super) async fn much(&self) -> Option<SocketId> {
        self.much_moved.notified().await;
        let moves = self.moves.load(Ordering::Relaxed);
        let since = moves.wrapping_sub(self.seen.swap(moves, Ordering::Relaxed));
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        self.lead.store(0, Ordering::Relaxed);
        let leader = SocketId(self.leader.load(Ordering::Relaxed));
        (bytes / since.max(1) >= BULK_MOVE).then_some(leader)
    }

    /// Lets a program that has just connected run first, where it wants this processor: what it writes goes with the
    /// connection's beginning then, in one datagram, and its peer is woken once. To be called by the thread that this
    /// belongs to.
    pub(super) fn give_way(&self) {
        self.yield_by(thread::yield_now, Instant::now);
    }

    /// Returns whether the thread had the processor back soon; not at all if it did not have it back soon lately.
    fn yield_by(&self, yields: impl FnOnce(), now: impl Fn() -> Instant) -> bool {
        let begin = now();
        let mut refrains = self.refrains.lock().unwrap_or_else(PoisonError::into_inner);
        if refrains.is_some_and(|until| begin < until) {
            return false;
        }
        yields();
        let end = now();
        let passed = end - begin;
        let kept_waiting = passed > TURN;
        *refrains = kept_waiting.then(|| end + REFRAIN * passed);
        !kept_waiting
    }

    async fn next_move(&self) {
        self.waits.store(true, Ordering::Relaxed);
        self.moved.notified().await;
    }

    /// Waits for the next move. Where it is long in coming, what the allocator keeps is given back, and again when
    /// connections have ended.
    async fn next_move_after_rest(&self) {
        while timeout(REST, self.next_move()).await.is_err() {
            allocator::give_back();
            tokio::select! {
                () = self.next_move() => return,
                () = self.ended.notified() => {}
            }
        }
    }

    /// Whether bytes are moved before the thread would go to sleep.
    async fn moves_soon(&self, yields: impl Fn(), now: impl Fn() -> Instant) -> bool {
        let before = self.moves.load(Ordering::Relaxed);
        let begin = now();
        // Whoever else wants this processor comes first.
        while now() - begin < AWAKE && self.yield_by(&yields, &now) {
            tokio::task::yield_now().await;
            if self.moves.load(Ordering::Relaxed) != before {
                return true;
            }
        }
        false
    }
}

/// Keeps the thread awake between messages that follow each other at once, and gives the memory of a peak back once it rests.
pub(super) async fn stay_awake(activity: Arc<Activity>) {
    let mut sureness = 0;
    loop {
        let begin = Instant::now();
        activity.next_move_after_rest().await;
        sureness = judge(sureness, begin.elapsed() < SHORT_WAIT);
        while sureness >= SURE {
            let moves_soon = activity.moves_soon(thread::yield_now, Instant::now);
            sureness = judge(sureness, moves_soon.await);
        }
    }
}

fn judge(sureness: i32, was_short: bool) -> i32 {
    (sureness + if was_short { 1 } else { -2 }).clamp(0, MOST)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_connection_that_moves_most_leads() {
        let activity = Activity::default();
        for turn in 0..100 {
            activity.note(SocketId(turn % 7), 100);
            activity.note(SocketId(42), 1000);
        }
        assert_eq!(activity.leader.load(Ordering::Relaxed), 42);
    }

    #[test]
    fn only_waits_that_are_mostly_short_keep_the_thread_awake() {
        let after = |waits: [bool; 3]| (0..100).fold(0, |sure, turn| judge(sure, waits[turn % 3]));
        assert!(after([true, true, true]) >= SURE);
        assert!(after([true, false, true]) < SURE);
        assert!(after([false, false, true]) < SURE);
    }

    #[test]
    fn who_was_kept_waiting_does_not_give_way_at_once_again() {
        let activity = Activity::default();
        let clock = Cell::new(Instant::now());
        let wait = |time| clock.set(clock.get() + time);
        let yields = |turn| {
            let mut has = false;
            let had_back_soon = activity.yield_by(
                || {
                    has = true;
                    wait(turn);
                },
                || clock.get(),
            );
            (has, had_back_soon)
        };
        assert_eq!(yields(TURN), (true, true));
        assert_eq!(yields(2 * TURN), (true, false));
        assert_eq!(yields(TURN), (false, false));
        wait(REFRAIN * 2 * TURN - Duration::from_nanos(1));
        assert_eq!(yields(TURN), (false, false));
        wait(Duration::from_nanos(1));
        assert_eq!(yields(TURN), (true, true));
    }

    #[tokio::test]
    async fn messages_are_no_bulk_transfer() {
        let activity = Activity::default();
        for (size, found) in [
            (MUCH, Some(SocketId(1))),
            (1000, None),
            (BULK_MOVE, Some(SocketId(1))),
        ] {
            (0..MUCH.div_ceil(size)).for_each(|_| activity.note(SocketId(1), size as usize));
            assert_eq!(activity.much().await, found, "{size} bytes at a time");
        }
    }

    #[tokio::test]
    async fn a_move_ends_the_wait() {
        let activity = Activity::default();
        let clock = Cell::new(Instant::now());
        let yields = || clock.set(clock.get() + AWAKE / 10);
        let moves_soon = || activity.moves_soon(yields, || clock.get());
        assert!(!moves_soon().await);
        let mover = async { activity.note(SocketId(1), MUCH as usize) };
        let (moved, ()) = tokio::join!(moves_soon(), mover);
        assert!(moved);
        assert_eq!(activity.much().await, Some(SocketId(1)));
    }
}
