//! Where the network's thread runs: during a bulk transfer on a machine without a processor to spare, where its program
//! does.
//!
//! The kernel moves a woken task to whatever processor has nothing to do at that instant. With a program and its
//! supervisor at either end, and fewer processors than that, it so takes apart those that share data, and puts
//! both supervisors on one. On two processors a transfer over loopback is half as fast again if it is not let.
//! Where processors are to spare it is right, and is left alone.
#![forbid(unsafe_code)]

use std::{fs, sync::Arc, time::Duration};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};
use tokio::time::Instant;

use super::activity::Activity;
use crate::emul::transport::Events;

/// How often it is looked where the program runs. The kernel balances every few milliseconds; at 20 ms program and
/// supervisor chased each other.
const INTERVAL: Duration = Duration::from_millis(5);
/// The calling thread, as sched_setaffinity(2) names it.
const SELF: Pid = Pid::from_raw(0);
/// Looks that count as crowded, moving average over about 16 of them, in 256ths.
const ALL: u32 = 256;
/// How many of them must be for a program to be stayed near.
const MOST: u32 = 176;

/// Where the thread may run, and where it was told to.
#[derive(Debug)]
struct Placement {
    /// Where it may run when it is let.
    allowed: CpuSet,
    processors: usize,
    /// The processor that it is held on.
    held: Option<usize>,
    /// In how many of the last looks no processor was free, in 256ths.
    crowded: u32,
}

/// Keeps the calling thread with its program while that helps.
pub(super) async fn stay_near(activity: Arc<Activity>, events: Arc<dyn Events>) {
    let Some(mut placement) = Placement::new() else {
        return;
    };
    loop {
        let mut leader = activity.bulk().await;
        loop {
            let (begin, busy) = (Instant::now(), processor_time());
            tokio::time::sleep(INTERVAL).await;
            let is_busy = 2 * (processor_time().saturating_sub(busy)) > begin.elapsed();
            let program = events.holder(leader).filter(|_| is_busy);
            placement.look(program);
            if !is_busy {
                break;
            }
            tokio::select! {
                biased;
                most = activity.bulk() => leader = most,
                () = std::future::ready(()) => {}
            }
        }
    }
}

impl Placement {
    /// None if there is nothing to choose.
    fn new() -> Option<Self> {
        let allowed = sched_getaffinity(SELF).ok()?;
        let processors = count(&allowed);
        (processors > 1).then_some(Self {
            allowed,
            processors,
            held: None,
            crowded: 0,
        })
    }

    /// Looks where the thread `program` runs, if there is one to stay near.
    fn look(&mut self, program: Option<i32>) {
        let full = runnable_tasks().is_some_and(|runnable| runnable >= self.processors);
        self.crowded = (15 * self.crowded + u32::from(full) * ALL) / 16;
        let wanted = program
            .filter(|_| self.crowded >= MOST)
            .and_then(last_processor)
            .filter(|&processor| self.allowed.is_set(processor).unwrap_or(false));
        if wanted == self.held {
            return;
        }
        let set = match wanted {
            Some(processor) => {
                let mut set = CpuSet::new();
                if set.set(processor).is_err() {
                    return;
                }
                set
            }
            None => self.allowed,
        };
        match sched_setaffinity(SELF, &set) {
            Ok(()) => self.held = wanted,
            // The processor was taken from us (cpuset(7)), and the kernel has chosen others already.
            Err(error) => tracing::debug!(%error, "sched_setaffinity"),
        }
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

/// The processor that a thread last ran on: field 39 of /proc/PID/stat (proc_pid_stat(5)).
fn last_processor(tid: i32) -> Option<usize> {
    let text = fs::read_to_string(format!("/proc/{tid}/stat")).ok()?;
    // The name, field 2, may hold anything.
    let (_, fields) = text.rsplit_once(") ")?;
    fields.split(' ').nth(36)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_where_a_thread_runs() {
        let own = nix::unistd::gettid().as_raw();
        let processor = last_processor(own).unwrap();
        assert!(sched_getaffinity(SELF).unwrap().is_set(processor).unwrap());
        assert_eq!(last_processor(i32::MAX), None);
        assert!(runnable_tasks().unwrap() >= 1);
    }

    #[test]
    fn it_stays_near_only_while_processors_are_crowded() {
        let Some(mut placement) = Placement::new() else {
            return;
        };
        let own = Some(nix::unistd::gettid().as_raw());
        // More than there are tasks: never crowded.
        placement.processors = usize::MAX;
        (0..100).for_each(|_| placement.look(own));
        assert_eq!(placement.held, None);
        placement.processors = 1;
        (0..100).for_each(|_| placement.look(own));
        assert!(placement.held.is_some());
        assert_eq!(count(&sched_getaffinity(SELF).unwrap()), 1);
        placement.look(None);
        assert_eq!(sched_getaffinity(SELF).unwrap(), placement.allowed);
    }
}
