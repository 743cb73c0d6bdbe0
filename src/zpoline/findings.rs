//! What was found out of programs, so that their calls need not be looked at again and again.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    process::Execution,
    site::{Kind, Refusal, Surroundings},
};

/// Processes, sites and verdicts that are remembered, at most.
const REMEMBERED: usize = 4096;

/// All of it.
#[derive(Default)]
pub(super) struct Findings(Mutex<Found>);

#[derive(Default)]
struct Found {
    unfit: HashSet<Execution>,
    /// Threads of those, and sites of others, whose calls need not be looked at again as long as their
    /// processes execute the same.
    slow: HashMap<(i32, Slow), Execution>,
    verdicts: HashMap<Surroundings, Result<Kind, Refusal>>,
}

/// Which calls of a thread stay slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Slow {
    /// All.
    All,
    /// Those from this site.
    Site(u64),
}

impl Found {
    fn remember(&mut self, calls: (i32, Slow), execution: Execution) {
        if self.slow.len() >= REMEMBERED {
            self.slow.clear();
        }
        self.slow.insert(calls, execution);
    }
}

impl Findings {
    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call is known to stay slow. The number of its thread may be another's by now.
    pub(super) fn is_slow(&self, tid: i32, site: u64) -> bool {
        let found = self.found();
        let known = [Slow::All, Slow::Site(site)].map(|slow| found.slow.get(&(tid, slow)).copied());
        drop(found);
        known
            .into_iter()
            .flatten()
            .any(|execution| execution.is_of(tid))
    }

    /// The calls from a site stay slow.
    pub(super) fn set_slow(&self, tid: i32, site: u64, execution: Execution) {
        self.found().remember((tid, Slow::Site(site)), execution);
    }

    /// Whether all calls of a process stay slow.
    pub(super) fn is_unfit(&self, tid: i32, execution: Execution) -> bool {
        let mut found = self.found();
        let unfit = found.unfit.contains(&execution);
        if unfit {
            found.remember((tid, Slow::All), execution);
        }
        unfit
    }

    /// They do from now on.
    pub(super) fn set_unfit(&self, tid: i32, execution: Execution) {
        let mut found = self.found();
        if found.unfit.len() >= REMEMBERED {
            found.unfit.clear();
        }
        found.unfit.insert(execution);
        found.remember((tid, Slow::All), execution);
    }

    /// Whether a site may be patched, by the code around it.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn verdict(&self, code: &Surroundings, number: i64) -> Result<Kind, Refusal> {
        let mut found = self.found();
        if let Some(verdict) = found.verdicts.get(code) {
            return *verdict;
        }
        let verdict = code.check(number);
        if let Err(why) = verdict {
            tracing::debug!(
                number,
                address = format_args!("{:#x}", code.address),
                "a call stays slow: {why}"
            );
        }
        if found.verdicts.len() >= REMEMBERED {
            found.verdicts.clear();
        }
        found.verdicts.insert(code.clone(), verdict);
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_number_of_a_process_that_was_refused_is_not() {
        let tid = nix::unistd::gettid().as_raw();
        let execution = Execution::of(tid).unwrap();
        let findings = Findings::default();
        findings.set_unfit(tid, execution.another());
        findings.set_slow(tid, 1, execution.another());
        assert!(!findings.is_slow(tid, 1));
        assert!(!findings.is_unfit(tid, execution));
        findings.set_slow(tid, 1, execution);
        assert!(findings.is_slow(tid, 1));
        assert!(!findings.is_slow(tid, 2));
        findings.set_unfit(tid, execution);
        assert!(findings.is_slow(tid, 2));
    }

    #[test]
    fn all_threads_of_a_process_that_was_refused_are() {
        let tid = nix::unistd::gettid().as_raw();
        let execution = Execution::of(tid).unwrap();
        let findings = Findings::default();
        let other = tid + 1;
        findings.set_unfit(other, execution);
        assert!(!findings.is_slow(tid, 1));
        assert!(findings.is_unfit(tid, execution));
        assert!(findings.is_slow(tid, 1));
    }
}
