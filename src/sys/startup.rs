//! What the caller of quicwrap handed down and Rust's runtime, or this, changes before `main`: the program must
//! inherit it as it was.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use nix::sys::prctl;

static SIGPIPE_IGNORED: AtomicBool = AtomicBool::new(false);
/// Bit n: descriptor n (0 to 2) was closed.
static CLOSED: AtomicU8 = AtomicU8::new(0);
/// Huge pages were allowed, and are not.
static WITHOUT_HUGE_PAGES: AtomicBool = AtomicBool::new(false);

/// Runs before `main` and so before Rust's runtime ignores SIGPIPE and opens /dev/null in place of
/// closed standard descriptors.
// SAFETY: an .init_array entry is called by the C runtime with no Rust state needed; the function only
// makes system calls and stores to atomics.
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
    // The allocator takes memory from three places at first: 2 MiB of zeroes for each, a seventh of the time that
    // `quicwrap -- true` takes, and two fifths of the memory of a process that carries nothing.
    let forbidden = prctl::get_thp_disable() == Ok(false) && prctl::set_thp_disable(true).is_ok();
    WITHOUT_HUGE_PAGES.store(forbidden, Ordering::Relaxed);
}

/// Allows huge pages again, if they were when quicwrap was started (PR_SET_THP_DISABLE, prctl(2)): for what is executed,
/// which inherits this, and once there is bulk data.
pub(crate) fn allow_huge_pages() {
    if WITHOUT_HUGE_PAGES.swap(false, Ordering::Relaxed)
        && let Err(error) = prctl::set_thp_disable(false)
    {
        tracing::debug!(%error, "huge pages stay forbidden");
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
