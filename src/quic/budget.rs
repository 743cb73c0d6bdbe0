//! The limit on what an address may be sent that has not shown to be the sender's own: three times what
//! came from it (RFC 9000 section 8.1), or anyone could have us flood a third party. quinn stops once
//! the limit is reached, which may be a datagram late; here that datagram is held back.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Bytes that may be sent for each that was received, RFC 9000 section 8.1.
const FACTOR: usize = 3;
/// Bytes of the datagram that begins a handshake, at least: RFC 9000 section 14.1. It has been
/// received before anybody knew what it was.
const FIRST_DATAGRAM: usize = 1200;

/// What addresses that are being validated have sent and were sent.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    accounts: Mutex<HashMap<SocketAddr, Account>>,
    /// How many there are: without any, nothing is locked.
    open: AtomicUsize,
}

#[derive(Debug, Default)]
struct Account {
    /// Handshakes that the address takes part in.
    handshakes: usize,
    /// Bytes.
    received: usize,
    sent: usize,
}

/// A handshake with an address, until it is complete or given up.
#[derive(Debug)]
pub(crate) struct Validation {
    budget: Arc<Budget>,
    address: SocketAddr,
}

impl Validation {
    /// The handshake is complete: the address is its sender's, and whoever pretends to be there too
    /// cannot have its connection throttled.
    pub(crate) fn proven(self) {
        self.budget.accounts().remove(&self.address);
    }
}

impl Drop for Validation {
    fn drop(&mut self) {
        let mut accounts = self.budget.accounts();
        if let Some(account) = accounts.get_mut(&self.address) {
            account.handshakes -= 1;
            if account.handshakes == 0 {
                accounts.remove(&self.address);
            }
        }
        self.budget.open.store(accounts.len(), Ordering::Relaxed);
    }
}

impl Budget {
    /// Begins to count for an address that has sent the first datagram of a handshake.
    pub(crate) fn begin(self: &Arc<Self>, address: SocketAddr) -> Validation {
        let mut accounts = self.accounts();
        let account = accounts.entry(address).or_default();
        account.handshakes += 1;
        account.received += FIRST_DATAGRAM;
        self.open.store(accounts.len(), Ordering::Relaxed);
        Validation {
            budget: Arc::clone(self),
            address,
        }
    }

    /// Notes bytes that came from an address.
    pub(crate) fn received(&self, address: SocketAddr, bytes: usize) {
        if self.open.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(account) = self.accounts().get_mut(&address) {
            account.received += bytes;
        }
    }

    /// How many of these bytes may be sent to an address, in whole datagrams of `segment` bytes (the
    /// last may be shorter). They count as sent.
    pub(crate) fn allowed(&self, address: SocketAddr, bytes: usize, segment: usize) -> usize {
        if self.open.load(Ordering::Relaxed) == 0 {
            return bytes;
        }
        let mut accounts = self.accounts();
        let Some(account) = accounts.get_mut(&address) else {
            return bytes;
        };
        let left = (FACTOR * account.received).saturating_sub(account.sent);
        let allowed = if bytes <= left {
            bytes
        } else {
            left / segment.max(1) * segment
        };
        account.sent += allowed;
        allowed
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<SocketAddr, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proven_address_is_limited_no_more_whoever_else_claims_it() {
        let budget = Arc::<Budget>::default();
        let address = SocketAddr::from(([192, 0, 2, 1], 1));
        let (own, forged) = (budget.begin(address), budget.begin(address));
        assert_eq!(budget.allowed(address, 9000, 1200), 7200);
        own.proven();
        assert_eq!(budget.allowed(address, 9000, 1200), 9000);
        drop(forged);
        assert_eq!(budget.open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn three_times_what_came_in_whole_datagrams() {
        let budget = Arc::<Budget>::default();
        let address = SocketAddr::from(([192, 0, 2, 1], 1));
        assert_eq!(budget.allowed(address, 9000, 1200), 9000);
        let validation = budget.begin(address);
        assert_eq!(budget.allowed(address, 2900, 1200), 2900);
        assert_eq!(budget.allowed(address, 1200, 1200), 0);
        assert_eq!(budget.allowed(address, 600, 600), 600);
        budget.received(address, 1000);
        assert_eq!(budget.allowed(address, 3600, 1200), 2400);
        let other = SocketAddr::from(([192, 0, 2, 2], 1));
        assert_eq!(budget.allowed(other, 9000, 1200), 9000);
        drop(validation);
        assert_eq!(budget.allowed(address, 9000, 1200), 9000);
        assert_eq!(budget.open.load(Ordering::Relaxed), 0);
    }
}
