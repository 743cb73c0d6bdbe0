//! What the processes of one program see of their emulated sockets: a table that they read and the supervisor alone
//! writes. All have it that a process has forked; what one of them executes begins with another.
//!
//! What the program may see of a socket is written when the supervisor has made up its mind, and before
//! the program can notice: from the moment that the supervisor takes an entry up until it has written it
//! anew the entry is odd, and who asks comes to the supervisor, which is busy with it.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    net::SocketAddr,
    os::fd::{OwnedFd, RawFd},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use nix::errno::Errno;

use super::{
    foreign::NOTES_BYTES,
    layout::{entry, mark_hash, table},
    tickets,
};
use crate::{
    emul::{
        address, getsockname,
        getsockopt::stored,
        options::{Limits, Name, Options},
        socket::{Family, Socket, State},
    },
    sys::shared_memory::SharedMemory,
};

/// Entries at first, and at most. A page of memory holds sixteen, and is taken when one of them is.
const FIRST_ENTRIES: usize = 256;
const MOST_ENTRIES: usize = 1 << 17;
/// Stands where an entry was: a search goes on behind it. No mark has this value.
const REMOVED: u64 = u64::MAX;

/// The options whose values lie in the slots from 1 on, in this order.
#[rustfmt::skip] // names, some to a line
pub(super) const SLOTS: &[Name] = &[
    (libc::SOL_SOCKET, libc::SO_ACCEPTCONN), (libc::SOL_SOCKET, libc::SO_DOMAIN),
    (libc::SOL_SOCKET, libc::SO_PROTOCOL), (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (libc::SOL_SOCKET, libc::SO_REUSEPORT), (libc::SOL_SOCKET, libc::SO_SNDBUF),
    (libc::SOL_SOCKET, libc::SO_RCVBUF), (libc::SOL_SOCKET, libc::SO_BUF_LOCK),
    (libc::SOL_SOCKET, libc::SO_MARK), (libc::SOL_SOCKET, libc::SO_TXREHASH),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY), (libc::IPPROTO_TCP, libc::TCP_CORK),
    (libc::IPPROTO_TCP, libc::TCP_QUICKACK), (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL), (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_LINGER2), (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT), (libc::IPPROTO_TCP, libc::TCP_SYNCNT),
    (libc::IPPROTO_TCP, libc::TCP_FASTOPEN), (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT),
];

/// Where an entry lies, and what of it need not be written again.
#[derive(Debug)]
struct Place {
    index: usize,
    options: Option<Options>,
}

/// The values of [`SLOTS`] for a socket with these options, in no particular state. Those of the last one are kept: most
/// are alike.
#[derive(Debug)]
pub(super) struct Values {
    limits: Limits,
    of: Option<(Family, i32, Options)>,
    values: Vec<u32>,
}

impl Values {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            of: None,
            values: Vec::new(),
        }
    }

    fn of(&mut self, socket: &Socket) -> &[u32] {
        let Socket {
            family,
            protocol,
            options,
            ..
        } = socket;
        let is_known = |(of, with, set): &(Family, i32, Options)| {
            (of, with, set) == (family, protocol, options)
        };
        if !self.of.as_ref().is_some_and(is_known) {
            let value = |option: &Name| stored(socket, *option, &self.limits).unwrap_or(0);
            self.values = SLOTS
                .iter()
                .map(|option| value(option).cast_unsigned())
                .collect();
            self.of = Some((*family, *protocol, options.clone()));
        }
        &self.values
    }
}

/// What the processes of one program see, and what they say.
#[derive(Debug)]
pub(super) struct View {
    /// By which the program's calls say whose they are. Nobody else can guess it.
    pub(super) id: u64,
    table: SharedMemory,
    /// Who has accepted which connection, by the number of its ticket: a thread in the lower half, which is not 0 then,
    /// its descriptor in the upper. Behind that, what the fast path alone notes (foreign.rs).
    holders: SharedMemory,
    places: HashMap<u64, Place>,
    /// Entries, a power of two.
    entries: usize,
    /// Those that a search does not end at.
    taken: usize,
    /// There was no room: everything goes to the supervisor.
    full: bool,
}

impl View {
    /// An empty table.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM; ENOSYS: no random numbers.
    pub(super) fn new() -> nix::Result<Self> {
        Self::with_room(FIRST_ENTRIES, MOST_ENTRIES)
    }

    fn with_room(first: usize, most: usize) -> nix::Result<Self> {
        let mut id = [0; 8];
        aws_lc_rs::rand::fill(&mut id).map_err(|_| Errno::ENOSYS)?;
        let bytes = table::ENTRIES as usize + (most << table::ENTRY_SHIFT);
        let holders = SharedMemory::for_all(c"quicwrap-notes", NOTES_BYTES)?;
        let view = Self {
            id: u64::from_ne_bytes(id),
            table: SharedMemory::new(c"quicwrap-sockets", bytes)?,
            holders,
            places: HashMap::new(),
            entries: first,
            taken: 0,
            full: false,
        };
        view.word(table::MASK)
            .store(first as u32 - 1, Ordering::Release);
        Ok(view)
    }

    /// What is to be mapped into the program: the table, to be read, and the list of who has accepted what. As long as
    /// a process has the first one mapped, or its descriptor, the view [is used](Self::is_used).
    ///
    /// # Errors
    /// EMFILE, ENFILE; of open(2) in /proc.
    pub(super) fn lend(&self) -> nix::Result<[OwnedFd; 2]> {
        Ok([self.table.lend()?, self.holders.share()?])
    }

    /// Bytes of the table.
    pub(super) fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Whether there are processes that have it.
    pub(super) fn is_used(&self) -> bool {
        self.table.is_lent()
    }

    /// The thread that has accepted a connection, as it calls itself, and its descriptor then. The program may have
    /// written anything there.
    pub(super) fn holder(&self, key: u64) -> Option<(i32, RawFd)> {
        let word = self.noted(key)?.load(Ordering::Acquire);
        let (tid, fd) = (word as i32, (word >> 32) as RawFd);
        (tid > 0 && fd >= 0).then_some((tid, fd))
    }

    /// Nobody has accepted the connection yet.
    pub(super) fn clear_holder(&self, key: u64) {
        if let Some(word) = self.noted(key) {
            word.store(0, Ordering::Relaxed);
        }
    }

    fn noted(&self, key: u64) -> Option<&AtomicU64> {
        let number = tickets::number_of_key(key)?;
        self.holders.long_words().get(number)
    }

    /// The sockets that are in it.
    pub(super) fn keys(&self) -> impl Iterator<Item = u64> {
        self.places.keys().copied()
    }

    /// Adds a socket, odd. Returns whether it was not there, and is now.
    pub(super) fn insert(&mut self, key: u64) -> bool {
        if self.full || self.places.contains_key(&key) {
            return false;
        }
        if 2 * (self.taken + 1) > self.entries && !self.rebuild() {
            return false;
        }
        let index = self.free_place(key);
        self.put(index, key);
        let options = None;
        self.places.insert(key, Place { index, options });
        true
    }

    /// Removes a socket: the program asks for what it still has of it.
    pub(super) fn remove(&mut self, key: u64) {
        if let Some(place) = self.places.remove(&key) {
            self.make_odd(place.index);
            self.mark_at(place.index).store(REMOVED, Ordering::Release);
        }
    }

    /// Says that the supervisor is busy with the socket. Returns whether it was not yet.
    pub(super) fn take_up(&self, key: u64) -> bool {
        let index = self.places.get(&key).map(|place| place.index);
        index.is_some_and(|index| self.make_odd(index))
    }

    /// Shows the socket as it is now. If it listens, `accepts` says whether connections may be accepted on it without the
    /// supervisor.
    pub(super) fn show(&mut self, key: u64, socket: &Socket, accepts: bool, values: &mut Values) {
        let Some(place) = self.places.get_mut(&key) else {
            return;
        };
        let index = place.index;
        let same = place.options.as_ref() == Some(&socket.options);
        if !same {
            place.options = Some(socket.options.clone());
        }
        self.make_odd(index);
        let local = Some(getsockname::getsockname(socket));
        self.write_address(index, entry::LOCAL_BYTES, entry::LOCAL, local);
        let peer = getsockname::getpeername(socket).ok();
        self.write_address(index, entry::PEER_BYTES, entry::PEER, peer);
        if !same {
            for (slot, value) in (1..).zip(values.of(socket)) {
                let word = self.entry_word(index, entry::SLOTS + 4 * slot);
                word.store(*value, Ordering::Relaxed);
            }
        }
        let write = |offset, value| {
            let word = self.entry_word(index, offset);
            word.store(value, Ordering::Relaxed);
        };
        let error = socket.error.map_or(0, |error| error as i32);
        write(entry::ERROR, error.cast_unsigned());
        // The first slot is no option, but the state.
        let listens = matches!(socket.state, State::Listening { .. });
        write(entry::SLOTS + 4, listens.into());
        let untold = matches!(
            socket.state,
            State::Connected {
                announced: false,
                ..
            }
        );
        write(entry::UNTOLD, untold.into());
        write(entry::ACCEPTS, (listens && accepts).into());
        self.make_even(index);
    }

    /// Shows the pending error at once: before the pair has one, by which the program notices.
    pub(super) fn show_error(&self, key: u64, socket: &Socket) {
        if let Some(place) = self.places.get(&key) {
            let error = socket.error.map_or(0, |error| error as i32);
            let word = self.entry_word(place.index, entry::ERROR);
            word.store(error.cast_unsigned(), Ordering::Release);
        }
    }

    fn write_address(&self, index: usize, bytes_at: u64, at: u64, address: Option<SocketAddr>) {
        let bytes = address
            .map(|address| address::encode(&address))
            .unwrap_or_default();
        let length = self.entry_word(index, bytes_at);
        length.store(bytes.len() as u32, Ordering::Relaxed);
        for (word, chunk) in (0..).zip(bytes.chunks_exact(4)) {
            let value = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
            let word = self.entry_word(index, at + 4 * word);
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Makes room: twice as many entries, if it is not removed ones that fill the table. Returns whether
    /// there is room now.
    fn rebuild(&mut self) -> bool {
        if 4 * self.places.len() > self.entries {
            self.entries *= 2;
        }
        let generation = self.word(table::GENERATION);
        let odd = generation.load(Ordering::Relaxed) | 1;
        generation.store(odd, Ordering::SeqCst);
        if table::ENTRIES as usize + (self.entries << table::ENTRY_SHIFT) > self.table.bytes() {
            // It stays odd.
            self.full = true;
            tracing::warn!("more sockets than the fast path has room for: it is no longer taken");
            return false;
        }
        let old: Vec<(u64, Vec<u32>)> = self
            .places
            .iter()
            .map(|(key, place)| (*key, self.copy(place.index)))
            .collect();
        for index in 0..self.entries {
            self.make_odd(index);
            self.mark_at(index).store(0, Ordering::Relaxed);
        }
        self.taken = 0;
        for (key, words) in old {
            let index = self.free_place(key);
            self.put(index, key);
            self.restore(index, &words);
            if let Some(place) = self.places.get_mut(&key) {
                place.index = index;
            }
        }
        self.word(table::MASK)
            .store(self.entries as u32 - 1, Ordering::Relaxed);
        self.word(table::GENERATION)
            .store(odd.wrapping_add(1), Ordering::Release);
        true
    }

    fn copy(&self, index: usize) -> Vec<u32> {
        let words = (0..1 << table::ENTRY_SHIFT).step_by(4);
        words
            .map(|offset| self.entry_word(index, offset).load(Ordering::Relaxed))
            .collect()
    }

    /// Writes what [`Self::copy`] has read, but for the mark; the sequence goes on, odd or even as it
    /// was.
    fn restore(&self, index: usize, words: &[u32]) {
        let was_odd = words[entry::SEQUENCE as usize / 4] & 1 == 1;
        for (offset, word) in (0..).step_by(4).zip(words) {
            if offset >= entry::ERROR {
                self.entry_word(index, offset)
                    .store(*word, Ordering::Relaxed);
            }
        }
        if !was_odd {
            self.make_even(index);
        }
    }

    fn free_place(&self, key: u64) -> usize {
        let mut index = mark_hash(key) as usize & (self.entries - 1);
        while self.mark_at(index).load(Ordering::Relaxed) != 0 {
            index = (index + 1) & (self.entries - 1);
        }
        index
    }

    /// Gives an entry to a socket, odd.
    fn put(&mut self, index: usize, key: u64) {
        self.make_odd(index);
        self.mark_at(index).store(key, Ordering::Release);
        self.taken += 1;
    }

    fn make_odd(&self, index: usize) -> bool {
        let sequence = self.entry_word(index, entry::SEQUENCE);
        let now = sequence.load(Ordering::Relaxed);
        // Before whatever follows: x86 keeps the order of stores, but not of a store and a later load.
        sequence.store(now | 1, Ordering::SeqCst);
        now & 1 == 0
    }

    fn make_even(&self, index: usize) {
        let sequence = self.entry_word(index, entry::SEQUENCE);
        let odd = sequence.load(Ordering::Relaxed);
        sequence.store(odd.wrapping_add(1), Ordering::Release);
    }

    fn mark_at(&self, index: usize) -> &AtomicU64 {
        let at = table::ENTRIES as usize + (index << table::ENTRY_SHIFT);
        &self.table.long_words()[at / 8]
    }

    fn entry_word(&self, index: usize, offset: u64) -> &AtomicU32 {
        let at = table::ENTRIES as usize + (index << table::ENTRY_SHIFT) + offset as usize;
        &self.table.words()[at / 4]
    }

    fn word(&self, offset: u64) -> &AtomicU32 {
        &self.table.words()[offset as usize / 4]
    }
}

#[cfg(test)]
impl View {
    /// As a program does.
    pub(super) fn note(&self, key: u64, tid: i32, fd: RawFd) {
        let word = tid.cast_unsigned() as u64 | (fd as u64) << 32;
        self.noted(key).unwrap().store(word, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;
    use crate::emul::options::name;
    use crate::emul::testing::{LOCAL, PEER, tcp};

    fn view(first: usize, most: usize) -> View {
        View::with_room(first, most).unwrap()
    }

    fn show(view: &mut View, key: u64, socket: &Socket) {
        view.show(key, socket, true, &mut Values::new(Limits::default()));
    }

    /// Searches as the fast path does. None: the table is changing; Some(None): it is not in it.
    fn find(view: &View, key: u64) -> Option<Option<usize>> {
        let mask = view.word(table::MASK).load(Ordering::Relaxed);
        let mut index = mark_hash(key) & mask;
        if view.word(table::GENERATION).load(Ordering::Relaxed) & 1 == 1 {
            return None;
        }
        loop {
            match view.mark_at(index as usize).load(Ordering::Relaxed) {
                0 => return Some(None),
                found if found == key => return Some(Some(index as usize)),
                _ => index = (index + 1) & mask,
            }
        }
    }

    fn is_odd(view: &View, index: usize) -> bool {
        view.entry_word(index, entry::SEQUENCE)
            .load(Ordering::Relaxed)
            & 1
            == 1
    }

    #[test]
    fn a_socket_is_odd_until_it_is_shown() {
        let mut view = view(16, 64);
        assert_eq!(find(&view, 7), Some(None));
        view.insert(7);
        let index = find(&view, 7).unwrap().unwrap();
        assert!(is_odd(&view, index));
        show(&mut view, 7, &tcp());
        assert!(!is_odd(&view, index));
        assert!(view.take_up(7));
        assert!(!view.take_up(7));
        assert!(is_odd(&view, index));
        view.remove(7);
        assert_eq!(find(&view, 7), Some(None));
    }

    #[test]
    fn addresses_error_and_options_lie_where_the_fast_path_looks() {
        let mut view = view(16, 64);
        let mut socket = tcp();
        socket.local = Some(LOCAL);
        socket.state = State::Connected {
            peer: PEER,
            announced: true,
        };
        socket.error = Some(Errno::ECONNRESET);
        socket.options.set(name::SO_REUSEADDR, 1);
        view.insert(9);
        show(&mut view, 9, &socket);
        let index = find(&view, 9).unwrap().unwrap();
        let word = |offset| view.entry_word(index, offset).load(Ordering::Relaxed);
        assert_eq!(word(entry::LOCAL_BYTES), 16);
        assert_eq!(word(entry::PEER_BYTES), 16);
        let bytes = address::encode(&PEER);
        assert_eq!(word(entry::PEER).to_ne_bytes(), bytes[..4]);
        assert_eq!(word(entry::PEER + 4).to_ne_bytes(), bytes[4..8]);
        assert_eq!(word(entry::ERROR), libc::ECONNRESET as u32);
        let slot = SLOTS
            .iter()
            .position(|name| *name == name::SO_REUSEADDR)
            .unwrap() as u64
            + 1;
        assert_eq!(word(entry::SLOTS + 4 * slot), 1);
        socket.finished();
        show(&mut view, 9, &socket);
        assert_eq!(
            view.entry_word(index, entry::PEER_BYTES)
                .load(Ordering::Relaxed),
            0
        );
    }

    #[test]
    fn the_table_grows_and_what_was_in_it_stays() {
        let mut view = view(16, 4096);
        for key in 1..=1000 {
            view.insert(key);
            if key % 3 != 0 {
                show(&mut view, key, &tcp());
            }
            if key % 5 == 0 {
                view.remove(key);
            }
        }
        for key in 1..=1000 {
            let found = find(&view, key).unwrap();
            assert_eq!(found.is_some(), key % 5 != 0, "{key}");
            if let Some(index) = found {
                assert_eq!(is_odd(&view, index), key % 3 == 0, "{key}");
            }
        }
    }

    #[test]
    fn sockets_that_come_and_go_need_no_larger_table() {
        let mut view = view(16, 16);
        for key in 1..=1000 {
            view.insert(key);
            show(&mut view, key, &tcp());
            view.remove(key);
        }
        assert_eq!(find(&view, 1000), Some(None));
    }

    #[test]
    fn a_table_that_is_full_is_asked_for_nothing() {
        let mut view = view(16, 16);
        for key in 1..=20 {
            view.insert(key);
        }
        assert_eq!(find(&view, 1), None);
        assert_eq!(find(&view, 20), None);
    }
}
