//! Warnings that strangers can cause: they must not fill the log.
#![forbid(unsafe_code)]

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Warnings in a row that are given.
const BURST: u32 = 20;
/// After how long the next ones are.
const PERIOD: Duration = Duration::from_secs(60);

/// Lets [`BURST`] warnings through in a [`PERIOD`]; the rest appear at level info.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<Option<Window>>);

#[derive(Debug)]
struct Window {
    since: Instant,
    given: u32,
}

impl Throttle {
    /// Reports what `text` says.
    pub(crate) fn warn(&self, text: impl FnOnce() -> String) {
        match self.count(Instant::now()) {
            0..BURST => tracing::warn!("{}", text()),
            BURST => tracing::warn!(
                "{}. There are more of these: for a minute they are shown only with --log info",
                text()
            ),
            _ => tracing::info!("{}", text()),
        }
    }

    /// How many warnings were given before in the present period.
    fn count(&self, now: Instant) -> u32 {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = match &mut *window {
            Some(window) if now.duration_since(window.since) < PERIOD => window,
            other => other.insert(Window {
                since: now,
                given: 0,
            }),
        };
        let before = window.given;
        window.given = before.saturating_add(1);
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_anew_in_each_period() {
        let throttle = Throttle::default();
        let start = Instant::now();
        assert_eq!([throttle.count(start), throttle.count(start)], [0, 1]);
        assert_eq!(throttle.count(start + PERIOD / 2), 2);
        assert_eq!(throttle.count(start + PERIOD), 0);
    }
}
