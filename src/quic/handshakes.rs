//! Handshakes in progress, as far as a UDP socket is concerned.
//!
//! A server limits what an address is sent that has not shown to be the sender's own: three times what came from it (RFC
//! 9000 section 8.1), or anyone could have us flood a third party. quinn stops once the limit is reached, which may be a
//! datagram late; here that datagram is held back. And at both ends what comes too early to be read is kept.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, VecDeque},
    io::IoSliceMut,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
};

use quinn::udp::RecvMeta;

use super::early::{Early, Held};

/// Bytes that may be sent for each that was received, RFC 9000 section 8.1.
const FACTOR: usize = 3;
/// Bytes of the datagram that begins a handshake, at least: RFC 9000 section 14.1. It has been
/// received before anybody knew what it was.
const FIRST_DATAGRAM: usize = 1200;

/// The addresses that take part in them.
#[derive(Debug, Default)]
pub(crate) struct Handshakes {
    accounts: Mutex<HashMap<SocketAddr, Account>>,
    /// How many there are: without any, nothing is locked.
    open: AtomicUsize,
    /// What was early, and can be read now.
    late: Mutex<Late>,
    /// How many datagrams those are.
    late_count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Late {
    held: VecDeque<Held>,
    /// Who waits for some.
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Account {
    /// Handshakes that the address takes part in.
    handshakes: usize,
    /// It has not shown to be the sender's own.
    limited: bool,
    /// Bytes.
    received: usize,
    sent: usize,
    /// Until one of them is complete: from then on nothing that can be read is kept back, whoever else begins another.
    early: Option<Early>,
}

/// A handshake with an address, until it is complete or given up.
#[derive(Debug)]
pub(crate) struct Handshake {
    all: Arc<Handshakes>,
    address: SocketAddr,
}

impl Handshake {
    /// The handshake is complete: the address is its sender's, and whoever pretends to be there too
    /// cannot have its connection throttled. What was early can be read.
    pub(crate) fn complete(self) {
        let mut accounts = self.all.accounts();
        if let Some(account) = accounts.get_mut(&self.address) {
            account.limited = false;
            if let Some(early) = account.early.take() {
                self.all.add_late(early.into_held());
            }
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut accounts = self.all.accounts();
        if let Some(account) = accounts.get_mut(&self.address) {
            account.handshakes -= 1;
            if account.handshakes == 0 {
                accounts.remove(&self.address);
            }
        }
        self.all.open.store(accounts.len(), Ordering::Relaxed);
    }
}

impl Handshakes {
    /// Begins one with an address: as a server, which has had the first datagram, and limits the address; or as a client.
    pub(crate) fn begin(self: &Arc<Self>, address: SocketAddr, limited: bool) -> Handshake {
        let mut accounts = self.accounts();
        let account = accounts.entry(address).or_insert_with(|| Account {
            limited,
            early: Some(Early::default()),
            ..Account::default()
        });
        account.handshakes += 1;
        account.received += FIRST_DATAGRAM;
        self.open.store(accounts.len(), Ordering::Relaxed);
        Handshake {
            all: Arc::clone(self),
            address,
        }
    }

    /// Notes what came from an address, and keeps what is too early.
    pub(crate) fn received(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        if self.open.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(account) = self.accounts().get_mut(&meta.addr) {
            account.received += meta.len;
            if let Some(early) = &mut account.early {
                early.take(buffer, meta);
            }
        }
    }

    fn add_late(&self, held: Vec<Held>) {
        let mut late = self.late();
        late.held.extend(held);
        self.late_count.store(late.held.len(), Ordering::Relaxed);
        if let Some(waker) = late.waker.take() {
            waker.wake();
        }
    }

    /// Gives out what was too early and is not any more. Returns how many datagrams; if there are none, the task is woken
    /// when there are.
    pub(crate) fn poll_late(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> usize {
        let idle =
            [&self.open, &self.late_count].map(|count| count.load(Ordering::Relaxed)) == [0, 0];
        if idle {
            return 0;
        }
        let mut late = self.late();
        let count = late.held.len().min(buffers.len()).min(metas.len());
        for ((held, buffer), meta) in late.held.drain(..count).zip(buffers).zip(metas) {
            held.restore(buffer, meta);
        }
        self.late_count.store(late.held.len(), Ordering::Relaxed);
        if count == 0 {
            late.waker = Some(cx.waker().clone());
        }
        count
    }

    /// How many of these bytes may be sent to an address, in whole datagrams of `segment` bytes (the
    /// last may be shorter). They count as sent.
    pub(crate) fn allowed(&self, address: SocketAddr, contents: &[u8], segment: usize) -> usize {
        let bytes = contents.len();
        if self.open.load(Ordering::Relaxed) == 0 {
            return bytes;
        }
        let mut accounts = self.accounts();
        let Some(account) = accounts.get_mut(&address) else {
            return bytes;
        };
        let left = (FACTOR * account.received).saturating_sub(account.sent);
        let allowed = if bytes <= left || !account.limited {
            bytes
        } else {
            left / segment.max(1) * segment
        };
        account.sent += allowed;
        if let Some(early) = &mut account.early {
            early.note(&contents[..allowed]);
        }
        allowed
    }

    fn late(&self) -> MutexGuard<'_, Late> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<SocketAddr, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn came(address: SocketAddr, length: usize) -> RecvMeta {
        RecvMeta {
            addr: address,
            len: length,
            stride: length,
            ..RecvMeta::default()
        }
    }

    #[test]
    fn a_proven_address_is_limited_no_more_whoever_else_claims_it() {
        let all = Arc::<Handshakes>::default();
        let address = SocketAddr::from(([192, 0, 2, 1], 1));
        let (own, forged) = (all.begin(address, true), all.begin(address, true));
        assert_eq!(all.allowed(address, &[0; 9000], 1200), 7200);
        own.complete();
        assert_eq!(all.allowed(address, &[0; 9000], 1200), 9000);
        drop(forged);
        assert_eq!(all.open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn three_times_what_came_in_whole_datagrams() {
        let all = Arc::<Handshakes>::default();
        let address = SocketAddr::from(([192, 0, 2, 1], 1));
        assert_eq!(all.allowed(address, &[0; 9000], 1200), 9000);
        let handshake = all.begin(address, true);
        assert_eq!(all.allowed(address, &[0; 2900], 1200), 2900);
        assert_eq!(all.allowed(address, &[0; 1200], 1200), 0);
        assert_eq!(all.allowed(address, &[0; 600], 600), 600);
        all.received(&mut [0; 1000], &mut came(address, 1000));
        assert_eq!(all.allowed(address, &[0; 3600], 1200), 2400);
        let other = SocketAddr::from(([192, 0, 2, 2], 1));
        assert_eq!(all.allowed(other, &[0; 9000], 1200), 9000);
        drop(handshake);
        assert_eq!(all.allowed(address, &[0; 9000], 1200), 9000);
        assert_eq!(all.open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_was_early_is_given_out_once_the_handshake_is_complete() {
        let all = Arc::<Handshakes>::default();
        let address = SocketAddr::from(([192, 0, 2, 1], 1));
        let handshake = all.begin(address, true);
        // A handshake packet from the connection ID 9, and what comes for that.
        all.allowed(address, &[0xe0, 0, 0, 0, 1, 0, 1, 9], 8);
        let mut meta = came(address, 3);
        all.received(&mut [0x40, 9, 7], &mut meta);
        assert_eq!(meta.len, 0);
        let mut buffer = [0; 10];
        let mut give_out = || {
            let mut cx = Context::from_waker(Waker::noop());
            let count = all.poll_late(
                &mut cx,
                &mut [IoSliceMut::new(&mut buffer)],
                std::slice::from_mut(&mut meta),
            );
            (count, meta.addr, buffer[..meta.len].to_vec())
        };
        assert_eq!(give_out().0, 0);
        handshake.complete();
        assert_eq!(give_out(), (1, address, vec![0x40, 9, 7]));
        assert_eq!(give_out().0, 0);
        assert_eq!(all.open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_handshake_that_somebody_pretends_to_begin_keeps_nothing_back() {
        let all = Arc::<Handshakes>::default();
        let address = SocketAddr::from(([192, 0, 2, 1], 1));
        let (own, forged) = (all.begin(address, true), all.begin(address, true));
        own.complete();
        // The server acknowledges the client's last handshake packet, from the connection ID 9.
        all.allowed(address, &[0xe0, 0, 0, 0, 1, 0, 1, 9], 8);
        let mut meta = came(address, 3);
        all.received(&mut [0x40, 9, 7], &mut meta);
        assert_eq!(meta.len, 3);
        drop(forged);
    }

    #[test]
    fn a_client_is_not_limited() {
        let all = Arc::<Handshakes>::default();
        let address = SocketAddr::from(([192, 0, 2, 1], 1));
        let _handshake = all.begin(address, false);
        assert_eq!(all.allowed(address, &[0; 9000], 1200), 9000);
    }
}
