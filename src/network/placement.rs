//! Where the supervisor's threads run while no processor is to spare: where its program does.
//!
//! The kernel moves a woken task to whatever processor has nothing to do at that instant. With a program and its
//! supervisor at either end, and fewer processors than that, it so takes apart those that share data, and puts
//! both supervisors on one. On two processors a transfer over loopback, and short connections as well, are half as fast
//! again if it is not let. Where processors are to spare it is right, and is left alone.
#![forbid(unsafe_code)]

use std::{fs, sync::Arc, time::Duration};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};
use tokio::time::Instant;

use super::activity::Activity;
use crate::{
    emul::{
        socket::SocketId,
        transport::{Callers, Events},
    },
    sys::startup,
};

/// How often it is looked where the program runs. The kernel balances every few milliseconds; at 20 ms program and
/// supervisor chased each other.
const INTERVAL: Duration = Duration::from_millis(5);
/// Looks in a row without reason to stay near anything after which the thread stops looking.
const QUIET: u32 = 20;
/// The calling thread, as sched_setaffinity(2) names it.
const SELF: Pid = Pid::from_raw(0);
/// How long idle time is summed up for: the kernel tells it in hundredths of a second.
const WINDOW: Duration = Duration::from_millis(50);
/// Looks that find no processor free, moving average over about 16 of them, in 256ths.
const ALL: u32 = 256;
/// How many of them must be for a bulk transfer to be stayed near: program and supervisor work at the same time, and
/// gain by a processor each.
const MOST: u32 = 176;
/// Processors that must be free, on average, for short connections to be left to the kernel: program and supervisor
/// mostly wait for each other.
const SPARE: f64 = 0.7;
/// Calls in an interval that show short connections: 4,000 in a second. One has a call or two at the client's end, and as
/// many at the server's, where the one that has accepted it counts if it did not trap.
const MANY_CALLS: u64 = 20;

/// Keeps the calling thread with its program while that helps.
pub(super) async fn stay_near(activity: Arc<Activity>, events: Arc<dyn Events>) {
    let Some(mut placement) = Placement::new() else {
        return;
    };
    loop {
        let mut leader = activity.much().await;
        let mut quiet = 0;
        while quiet < QUIET {
            let near = interval(events.as_ref(), leader).await;
            quiet = if near.is_some() { 0 } else { quiet + 1 };
            placement.look(near);
            tokio::select! {
                biased;
                most = activity.much() => leader = most,
                () = std::future::ready(()) => {}
            }
        }
    }
}

/// Lets an interval pass, and says what to stay near by what went on in it; a bulk transfer may have huge pages as well.
/// `leader` is the connection that moves most in a bulk transfer.
async fn interval(events: &dyn Events, leader: Option<SocketId>) -> Option<Near> {
    let (begin, time_before, before) = (Instant::now(), processor_time(), events.callers());
    tokio::time::sleep(INTERVAL).await;
    let calls_before = before.map_or(0, |before| before.calls);
    let many = |now: &Callers| now.calls.saturating_sub(calls_before) >= MANY_CALLS;
    if let Some(callers) = events.callers().filter(many) {
        return Some(Near {
            program: callers.last,
            answerer: Some(callers.answerer),
        });
    }
    let busy = processor_time().saturating_sub(time_before);
    let leader = leader.filter(|_| 2 * busy > begin.elapsed())?;
    startup::allow_huge_pages();
    let program = events.holder(leader)?;
    Some(Near {
        program,
        answerer: None,
    })
}

/// What to stay near, and who is to come along.
#[derive(Debug, Clone, Copy)]
struct Near {
    /// The program's thread.
    program: i32,
    /// The thread that answers its calls: with short connections it has as much to do as the network's.
    answerer: Option<i32>,
}

/// Where threads are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    processor: usize,
    answerer: Option<i32>,
}

/// Where the thread may run, and where it was told to.
#[derive(Debug)]
struct Placement {
    /// Where it may run when it is let.
    allowed: CpuSet,
    processors: usize,
    held: Option<Held>,
    /// In how many of the last looks no processor was free, in 256ths.
    crowded: u32,
    spare: Spare,
}

impl Placement {
    /// None if there is nothing to choose.
    fn new() -> Option<Self> {
        let allowed = sched_getaffinity(SELF).ok()?;
        let processors = count(&allowed);
        (processors > 1).then(|| Self {
            allowed,
            processors,
            held: None,
            crowded: 0,
            spare: Spare::new(),
        })
    }

    /// Looks where the program runs, if there is one to stay near.
    fn look(&mut self, near: Option<Near>) {
        let full = runnable_tasks().is_some_and(|runnable| runnable >= self.processors);
        self.crowded = (15 * self.crowded + u32::from(full) * ALL) / 16;
        let free = self.spare.look().unwrap_or(f64::INFINITY);
        let is_crowded = |near: &Near| match near.answerer {
            Some(_) => free < SPARE,
            None => self.crowded >= MOST,
        };
        let wanted = near.filter(is_crowded).and_then(|near| {
            let processor = last_processor(near.program)?;
            let held = Held {
                processor,
                answerer: near.answerer,
            };
            self.allowed.is_set(processor).ok()?.then_some(held)
        });
        if wanted == self.held {
            return;
        }
        let before = self.held.and_then(|held| held.answerer);
        let after = wanted.and_then(|held| held.answerer);
        if let Some(left) = before.filter(|_| before != after) {
            self.place(Pid::from_raw(left), None);
        }
        let processor = wanted.map(|held| held.processor);
        for thread in after.map(Pid::from_raw).into_iter().chain([SELF]) {
            self.place(thread, processor);
        }
        self.held = wanted;
    }

    /// Holds a thread on a processor, or lets it run wherever it may.
    fn place(&self, thread: Pid, processor: Option<usize>) {
        let mut set = self.allowed;
        if let Some(processor) = processor {
            set = CpuSet::new();
            if set.set(processor).is_err() {
                return;
            }
        }
        // A processor may be taken from us (cpuset(7)): the kernel then chooses others.
        if let Err(error) = sched_setaffinity(thread, &set) {
            tracing::debug!(%error, "sched_setaffinity");
        }
    }
}

/// How much of the machine is free.
#[derive(Debug)]
struct Spare {
    since: Instant,
    /// Of all processors together, since the machine started.
    idle: Duration,
    /// Processors that were free in the last window.
    free: Option<f64>,
}

impl Spare {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            idle: idle_time().unwrap_or_default(),
            free: None,
        }
    }

    /// Processors that are free, on average; none if that is not known.
    fn look(&mut self) -> Option<f64> {
        let passed = self.since.elapsed();
        if passed >= WINDOW {
            let idle = idle_time()?;
            let free = idle.saturating_sub(self.idle).as_secs_f64() / passed.as_secs_f64();
            // Of long ago: what it says is of another time.
            self.free = (passed < 4 * WINDOW).then_some(free);
            (self.since, self.idle) = (Instant::now(), idle);
        }
        self.free
    }
}

fn count(set: &CpuSet) -> usize {
    let is_in = |&processor: &usize| set.is_set(processor).unwrap_or(false);
    (0..CpuSet::count()).filter(is_in).count()
}

/// Processor time of the calling thread.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Tasks of the host that run or could: the fourth field of /proc/loadavg (proc_loadavg(5)).
fn runnable_tasks() -> Option<usize> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').nth(3)?.split('/').next()?.parse().ok()
}

/// Time that all processors were idle: the second field of /proc/uptime (proc_uptime(5)).
fn idle_time() -> Option<Duration> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    let seconds = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The processor that a thread last ran on: field 39 of /proc/PID/stat (proc_pid_stat(5)).
fn last_processor(tid: i32) -> Option<usize> {
    let text = fs::read_to_string(format!("/proc/{tid}/stat")).ok()?;
    // The name, field 2, may hold anything.
    let (_, fields) = text.rsplit_once(") ")?;
    fields.split(' ').nth(36)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Barrier, mpsc},
        thread,
    };

    use super::*;

    #[test]
    fn it_is_known_where_a_thread_runs() {
        let own = nix::unistd::gettid().as_raw();
        let processor = last_processor(own).unwrap();
        assert!(sched_getaffinity(SELF).unwrap().is_set(processor).unwrap());
        assert_eq!(last_processor(i32::MAX), None);
        assert!(idle_time().is_some());
        assert!(runnable_tasks().unwrap() >= 1);
    }

    #[test]
    fn a_bulk_transfer_is_stayed_near_only_while_processors_are_crowded() {
        let Some(mut placement) = Placement::new() else {
            return;
        };
        let near = Near {
            program: nix::unistd::gettid().as_raw(),
            answerer: None,
        };
        for (processors, held) in [(usize::MAX, false), (1, true), (usize::MAX, false)] {
            placement.processors = processors;
            (0..100).for_each(|_| placement.look(Some(near)));
            let is_held = count(&sched_getaffinity(SELF).unwrap()) == 1;
            assert_eq!(is_held, held, "{processors}");
        }
    }

    #[test]
    fn short_connections_are_stayed_near_only_while_little_is_free() {
        let Some(mut placement) = Placement::new() else {
            return;
        };
        let own = nix::unistd::gettid().as_raw();
        let (name, wait) = (Barrier::new(2), Barrier::new(2));
        thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            let (name, wait) = (&name, &wait);
            scope.spawn(move || {
                sender.send(nix::unistd::gettid()).unwrap();
                name.wait();
                wait.wait();
            });
            let other = receiver.recv().unwrap();
            name.wait();
            let near = Near {
                program: own,
                answerer: Some(other.as_raw()),
            };
            let allowed = |thread| count(&sched_getaffinity(thread).unwrap());
            for (free, held) in [(9.0, false), (0.0, true), (9.0, false)] {
                placement.spare = Spare {
                    since: Instant::now() + WINDOW,
                    idle: Duration::ZERO,
                    free: Some(free),
                };
                placement.look(Some(near));
                assert_eq!(
                    (allowed(SELF) == 1, allowed(other) == 1),
                    (held, held),
                    "{free}"
                );
            }
            wait.wait();
        });
    }
}
