//! Datagrams that wait for more of their kind. quinn gives ten at a time, which is 14 kB on Ethernet, and the kernel takes
//! 64 kB with one system call: a route, a buffer and a turn of the receiver's for each.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use quinn::udp::{EcnCodepoint, Transmit};

/// As many as quinn gives at a time when it has more (its MAX_TRANSMIT_SEGMENTS): fewer are the last ones for now.
const WHOLE_BATCH: usize = 10;

/// What all datagrams of one send have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Kind {
    destination: SocketAddr,
    source: Option<IpAddr>,
    ecn: Option<EcnCodepoint>,
    /// Bytes of each but the last, which may be shorter.
    segment: usize,
}

impl Kind {
    fn of(transmit: &Transmit<'_>) -> Self {
        Self {
            destination: transmit.destination,
            source: transmit.src_ip,
            ecn: transmit.ecn,
            segment: segment(transmit),
        }
    }
}

/// Bytes of each datagram of a batch but the last.
pub(super) fn segment(transmit: &Transmit<'_>) -> usize {
    transmit.segment_size.unwrap_or(transmit.contents.len())
}

/// Whole batches, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Joined {
    contents: Vec<u8>,
    kind: Option<Kind>,
    /// How often something was added.
    pub(super) additions: u64,
}

impl Joined {
    pub(super) fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    /// Bytes of each datagram that waits. None if none does.
    pub(super) fn segment(&self) -> Option<usize> {
        self.kind.map(|kind| kind.segment)
    }

    /// Whether these datagrams may go with those that wait, at most so many bytes. Behind a shorter one, which is there if
    /// the socket would take no more, nothing goes.
    pub(super) fn takes(&self, transmit: &Transmit<'_>, most: usize) -> bool {
        let Some(waiting) = self.kind else {
            return false;
        };
        let more = Kind::of(transmit);
        let is_last = transmit.segment_size.is_none() && more.segment <= waiting.segment;
        let segment = if is_last {
            waiting.segment
        } else {
            more.segment
        };
        waiting == Kind { segment, ..more }
            && self.contents.len().is_multiple_of(segment.max(1))
            && self.contents.len() + transmit.contents.len() <= most
    }

    /// Adds datagrams that [are taken](Self::takes), or the first ones. Returns whether they may wait for more.
    pub(super) fn add(&mut self, transmit: &Transmit<'_>, most: usize) -> bool {
        self.kind.get_or_insert(Kind::of(transmit));
        self.contents
            .reserve(most.saturating_sub(self.contents.len()));
        self.contents.extend_from_slice(transmit.contents);
        self.additions += 1;
        is_whole(transmit) && self.contents.len() + transmit.contents.len() <= most
    }

    /// What waits. None if nothing does.
    pub(super) fn transmit(&self) -> Option<Transmit<'_>> {
        let kind = self.kind?;
        Some(Transmit {
            destination: kind.destination,
            ecn: kind.ecn,
            contents: &self.contents,
            segment_size: (self.contents.len() > kind.segment).then_some(kind.segment),
            src_ip: kind.source,
        })
    }

    /// It has been sent.
    pub(super) fn clear(&mut self) {
        self.contents.clear();
        self.kind = None;
    }
}

/// Whether more will follow, and so many datagrams more have room in a send of `most` bytes.
pub(super) fn may_wait(transmit: &Transmit<'_>, most: usize) -> bool {
    is_whole(transmit) && 2 * transmit.contents.len() <= most
}

fn is_whole(transmit: &Transmit<'_>) -> bool {
    transmit.contents.len() == WHOLE_BATCH * segment(transmit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 44;

    fn transmit(contents: &[u8], segment_size: Option<usize>) -> Transmit<'_> {
        Transmit {
            destination: SocketAddr::from(([192, 0, 2, 1], 1)),
            ecn: None,
            contents,
            segment_size,
            src_ip: None,
        }
    }

    #[test]
    fn whole_batches_wait_until_there_is_no_room_for_another() {
        let mut joined = Joined::default();
        let batch = transmit(&[1; 10], Some(1));
        assert!(may_wait(&batch, MOST));
        assert!(!joined.takes(&batch, MOST));
        for waits in [true, true, true, false] {
            assert_eq!(joined.add(&batch, MOST), waits);
        }
        assert!(!joined.takes(&batch, MOST));
        let all = joined.transmit().unwrap();
        assert_eq!((all.contents, all.segment_size), (&[1; 40][..], Some(1)));
        joined.clear();
        assert!(joined.is_empty() && joined.transmit().is_none());
    }

    #[test]
    fn what_ends_a_batch_goes_with_it_and_waits_for_nothing() {
        let batch = transmit(&[1; 20], Some(2));
        for (last, segment) in [(&[2; 1][..], None), (&[2; 2], None), (&[2; 5], Some(2))] {
            let mut joined = Joined::default();
            assert!(joined.add(&batch, MOST));
            let last = transmit(last, segment);
            assert!(!may_wait(&last, MOST));
            assert!(joined.takes(&last, MOST));
            assert!(!joined.add(&last, MOST));
            // The socket has not taken it.
            let is_aligned = last.contents.len().is_multiple_of(2);
            assert_eq!(joined.takes(&batch, MOST), is_aligned);
            assert_eq!(joined.takes(&last, MOST), is_aligned);
            let all = joined.transmit().unwrap();
            assert_eq!(all.segment_size, Some(2));
            assert_eq!(all.contents.len(), 20 + last.contents.len());
        }
    }

    #[test]
    fn what_differs_does_not_go_along() {
        let mut joined = Joined::default();
        let batch = transmit(&[1; 20], Some(2));
        assert!(joined.add(&batch, MOST));
        let elsewhere = Transmit {
            destination: SocketAddr::from(([192, 0, 2, 2], 1)),
            ..batch.clone()
        };
        let marked = Transmit {
            ecn: Some(EcnCodepoint::Ce),
            ..batch.clone()
        };
        let from_elsewhere = Transmit {
            src_ip: Some([192, 0, 2, 3].into()),
            ..batch.clone()
        };
        let larger = transmit(&[1; 3], None);
        let others = transmit(&[1; 10], Some(1));
        for other in [elsewhere, marked, from_elsewhere, larger, others] {
            assert!(!joined.takes(&other, MOST), "{other:?}");
        }
    }
}
