//! What the caller of quicwrap handed down and Rust's runtime changes before `main`: the program must
//! inherit it as it was.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

static SIGPIPE_IGNORED: AtomicBool = AtomicBool::new(false);
/// Bit n: descriptor n (0 to 2) was closed.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Runs before `main` and so before Rust's runtime ignores SIGPIPE and opens /dev/null in place of
/// closed standard descriptors.
// SAFETY: an .init_array entry is called by the C runtime with no Rust state needed; the function only
// makes two system calls and stores to atomics.
#[used]
#[unsafe(link_section = ".init_array")]
static RECORD: extern "C" fn() = record;

extern "C" fn record() {
    // SAFETY: sigaction with a null new action only writes the present one to `old`, for which all
    // zeroes are valid; fcntl F_GETFD takes integers alone.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGPIPE, std::ptr::null(), &raw mut old) == 0 {
            SIGPIPE_IGNORED.store(old.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
        }
        let closed = (0..3u8)
            .filter(|&fd| libc::fcntl(i32::from(fd), libc::F_GETFD) == -1)
            .fold(0, |bits, fd| bits | 1 << fd);
        CLOSED.store(closed, Ordering::Relaxed);
    }
}

/// Whether SIGPIPE was ignored when quicwrap was started.
pub(crate) fn sigpipe_ignored() -> bool {
    SIGPIPE_IGNORED.load(Ordering::Relaxed)
}

/// The standard descriptors that were closed when quicwrap was started.
pub(crate) fn closed_descriptors() -> impl Iterator<Item = i32> {
    let closed = CLOSED.load(Ordering::Relaxed);
    (0..3u8)
        .filter(move |fd| closed & 1 << fd != 0)
        .map(i32::from)
}
