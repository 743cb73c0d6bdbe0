//! The threads that change programs. To stop a thread of a program may take any time: it may be frozen
//! (cgroups(7)), and ptrace(2) itself waits while another thread of its process is in execve(2). So
//! none is stopped by the notification thread, for which all programs wait, but by one that has nothing
//! else to do until it is done: all requests to a tracee must come from the same.
#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::process::Execution;
use crate::sys::seccomp::Trapped;

/// So long a call waits for its thread to be stopped; then it is answered as ever, and its process is
/// left alone.
const PATIENCE: Duration = Duration::from_millis(100);
/// Jobs at a time. Calls that come while there are more stay slow.
const MOST: usize = 16;
/// Bytes of a thread's stack.
const STACK: usize = 256 << 10;

/// What is being done.
pub(super) struct Jobs {
    threads: Mutex<Threads>,
    /// Work has come.
    wanted: Condvar,
    running: Mutex<Vec<Running>>,
    /// Calls that are to be answered as ever.
    returned: Mutex<Vec<Trapped>>,
    /// Says that a job is done.
    done: EventFd,
}

/// Threads, which stay, and what they have not begun.
#[derive(Default)]
struct Threads {
    waiting: VecDeque<Box<dyn FnOnce() + Send>>,
    idle: usize,
}

/// A job.
#[derive(Debug)]
struct Running {
    execution: Execution,
    trapped: Trapped,
    since: Instant,
    claim: Claim,
}

/// To whom it falls to answer a call: to its job or, if that takes too long, to the notification thread.
#[derive(Debug, Clone, Default)]
struct Claim(Arc<AtomicBool>);

impl Claim {
    /// Whether it falls to who asks, the first.
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    fn is_taken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Jobs {
    /// None yet, and a thread for the first.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(super) fn new() -> nix::Result<Arc<Self>> {
        let jobs = Arc::new(Self {
            threads: Mutex::default(),
            wanted: Condvar::new(),
            running: Mutex::default(),
            returned: Mutex::default(),
            done: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        });
        jobs.hire();
        Ok(jobs)
    }

    /// Readable when [`Self::returned`] has something to tell, or when stops may have been missed of a
    /// process whose thread was traced.
    pub(super) fn done(&self) -> &EventFd {
        &self.done
    }

    /// Begins a job, unless there is one for the same process. Returns whether the call is the job's.
    pub(super) fn begin(
        self: &Arc<Self>,
        execution: Execution,
        trapped: Trapped,
        work: impl FnOnce(&Job) + Send + 'static,
    ) -> bool {
        let claim = Claim::default();
        let running = Running {
            execution,
            trapped,
            since: Instant::now(),
            claim: claim.clone(),
        };
        if !self.add(running) {
            return false;
        }
        let job = Job {
            jobs: Arc::clone(self),
            trapped,
            claim: claim.clone(),
        };
        self.hand_over(Box::new(move || {
            let done = catch_unwind(AssertUnwindSafe(|| work(&job)));
            if done.is_err() {
                tracing::error!(
                    "internal error while a program was to get the fast path. Please report this"
                );
            }
        }));
        true
    }

    /// Gives work to a thread that has none, or to a new one.
    fn hand_over(self: &Arc<Self>, work: Box<dyn FnOnce() + Send>) {
        let mut threads = self.threads();
        threads.waiting.push_back(work);
        if threads.waiting.len() <= threads.idle {
            self.wanted.notify_one();
            return;
        }
        drop(threads);
        if !self.hire() {
            // Dropped, it gives its call back.
            let last = self.threads().waiting.pop_back();
            drop(last);
        }
    }

    fn hire(self: &Arc<Self>) -> bool {
        let jobs = Arc::clone(self);
        let thread = thread::Builder::new().name("fast-path".to_owned());
        let hired = thread.stack_size(STACK).spawn(move || jobs.work());
        if let Err(error) = &hired {
            tracing::debug!(%error, "no thread to set up the fast path");
        }
        hired.is_ok()
    }

    fn work(&self) {
        let mut threads = self.threads();
        loop {
            if let Some(work) = threads.waiting.pop_front() {
                drop(threads);
                work();
                threads = self.threads();
            } else {
                threads.idle += 1;
                let woken = self.wanted.wait(threads);
                threads = woken.unwrap_or_else(PoisonError::into_inner);
                threads.idle -= 1;
            }
        }
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, job: Running) -> bool {
        let mut running = self.running();
        let is_new = running.iter().all(|other| other.execution != job.execution);
        let fits = is_new && running.len() < MOST;
        if fits {
            running.push(job);
        }
        fits
    }

    /// Calls whose jobs have given them back.
    pub(super) fn returned(&self) -> Vec<Trapped> {
        std::mem::take(&mut self.returned.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls that have waited too long, and what made them. They are no longer their jobs'.
    pub(super) fn overdue(&self, now: Instant) -> Vec<(Execution, Trapped)> {
        let running = self.running();
        let late = running
            .iter()
            .filter(|job| job.since + PATIENCE <= now && job.claim.take());
        late.map(|job| (job.execution, job.trapped)).collect()
    }

    /// When [`Self::overdue`] is to be asked.
    pub(super) fn due(&self) -> Option<Instant> {
        let running = self.running();
        let waiting = running.iter().filter(|job| !job.claim.is_taken());
        waiting.map(|job| job.since + PATIENCE).min()
    }

    fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job, as its own thread sees it. When this is dropped, its call is given back unless it was claimed.
pub(super) struct Job {
    jobs: Arc<Jobs>,
    trapped: Trapped,
    claim: Claim,
}

impl Job {
    /// Whether the call is to be answered by the job.
    pub(super) fn claim(&self) -> bool {
        self.claim.take()
    }

    /// The process may have another.
    pub(super) fn finish(&self) {
        let id = self.trapped.id;
        self.jobs.running().retain(|job| job.trapped.id != id);
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.finish();
        if self.claim() {
            let returned = &self.jobs.returned;
            let mut returned = returned.lock().unwrap_or_else(PoisonError::into_inner);
            returned.push(self.trapped);
        }
        // Its counter does not overflow.
        let _ = self.jobs.done.write(1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn execution() -> Execution {
        Execution::of(nix::unistd::gettid().as_raw()).unwrap()
    }

    fn call(id: u64) -> Trapped {
        Trapped {
            id,
            tid: 0,
            number: 0,
            instruction_pointer: 0,
            args: [0; 6],
        }
    }

    fn jobs() -> Arc<Jobs> {
        Jobs::new().unwrap()
    }

    fn until_done(jobs: &Jobs) {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let mut done = [PollFd::new(jobs.done.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut done, PollTimeout::from(10_000u16)), Ok(1));
    }

    /// A job that ends when the sender is dropped.
    fn begin_waiting(jobs: &Arc<Jobs>, id: u64) -> (bool, std::sync::mpsc::Sender<()>) {
        let (sender, receiver): (_, Receiver<()>) = channel();
        let begun = jobs.begin(execution(), call(id), move |_| {
            let _ = receiver.recv();
        });
        (begun, sender)
    }

    #[test]
    fn a_process_has_one_job_at_a_time() {
        let jobs = jobs();
        let (begun, hold) = begin_waiting(&jobs, 1);
        assert!(begun);
        assert!(!begin_waiting(&jobs, 2).0);
        drop(hold);
        until_done(&jobs);
        assert!(begin_waiting(&jobs, 3).0);
    }

    #[test]
    fn a_call_that_is_not_claimed_is_given_back() {
        let jobs = jobs();
        drop(begin_waiting(&jobs, 1));
        until_done(&jobs);
        let returned: Vec<u64> = jobs.returned().iter().map(|call| call.id).collect();
        assert_eq!(returned, [1]);
        assert!(jobs.begin(execution(), call(2), |job| {
            assert!(job.claim());
        }));
        while !jobs.running().is_empty() {
            thread::yield_now();
        }
        assert!(jobs.returned().is_empty());
    }

    #[test]
    fn a_job_that_panics_gives_its_call_back() {
        let jobs = jobs();
        assert!(jobs.begin(execution(), call(1), |_| panic!("of a test")));
        until_done(&jobs);
        assert_eq!(jobs.returned().len(), 1);
        assert_eq!(jobs.due(), None);
    }

    #[test]
    fn a_call_that_waits_too_long_is_taken_from_its_job() {
        let jobs = jobs();
        let (_, hold) = begin_waiting(&jobs, 1);
        let due = jobs.due().unwrap();
        assert!(jobs.overdue(due - Duration::from_nanos(1)).is_empty());
        assert_eq!(jobs.overdue(due).len(), 1);
        assert!(jobs.overdue(due).is_empty());
        assert_eq!(jobs.due(), None);
        // The job goes on, and its process gets no other.
        assert!(!begin_waiting(&jobs, 2).0);
        drop(hold);
        until_done(&jobs);
        assert!(jobs.returned().is_empty());
    }
}
