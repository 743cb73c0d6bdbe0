//! The allocator of the whole program (see `lib.rs`).

/// Gives the kernel back what the calling thread has freed, and what other threads have freed of its memory. The allocator
/// does so by itself only while a thread goes on allocating.
pub(crate) fn give_back() {
    // SAFETY: mi_collect takes no pointer, and leaves alone what is in use.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
