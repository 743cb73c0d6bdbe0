//! Which handshakes a listener takes up. Strangers can begin any number of them, from addresses that
//! are not theirs.
#![forbid(unsafe_code)]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::config::{HANDSHAKES, UNPROVEN_HANDSHAKES};

/// The handshakes in progress at one port.
#[derive(Debug, Default)]
pub(crate) struct Admission(Arc<AtomicUsize>);

/// A place among them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What becomes of a client's first packet.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The handshake begins.
    Accept(Place),
    /// It begins when the client has shown that its address is its own (RFC 9000 section 8.1.2).
    Retry,
    /// It is dropped; the client sends it again.
    Ignore,
}

impl Admission {
    /// Decides about a client whose address has been validated or not.
    pub(crate) fn judge(&self, validated: bool) -> Verdict {
        match self.0.load(Ordering::Relaxed) {
            HANDSHAKES.. => Verdict::Ignore,
            UNPROVEN_HANDSHAKES.. if !validated => Verdict::Retry,
            _ => {
                self.0.fetch_add(1, Ordering::Relaxed);
                Verdict::Accept(Place(Arc::clone(&self.0)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(admission: &Admission, validated: bool) -> Option<Place> {
        match admission.judge(validated) {
            Verdict::Accept(place) => Some(place),
            _ => None,
        }
    }

    #[test]
    fn strangers_are_asked_for_their_address_and_then_wait() {
        let admission = Admission::default();
        let unproven: Vec<_> = std::iter::from_fn(|| accept(&admission, false)).collect();
        assert_eq!(unproven.len(), UNPROVEN_HANDSHAKES);
        assert!(matches!(admission.judge(false), Verdict::Retry));
        let proven: Vec<_> = std::iter::from_fn(|| accept(&admission, true)).collect();
        assert_eq!(unproven.len() + proven.len(), HANDSHAKES);
        assert!(matches!(admission.judge(false), Verdict::Ignore));
        drop((unproven, proven));
        assert!(accept(&admission, false).is_some());
    }
}
