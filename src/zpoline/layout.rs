//! Where the fast path lies in the program, and the offsets that it and the supervisor share.
//!
//! | from | what | access |
//! |---|---|---|
//! | 0 | the sled, in few programs: `call *%rax` comes here, the number of a call in %rax | execute |
//! | [`CODE`] | the fast path; system calls made from here pass the filter | execute |
//! | [`GATE`] | system calls made from here are filtered as any other | execute |
//! | [`UNKNOWN`] | the same, about sockets that the program's table does not have | execute |
//! | [`TAKEN`] | the same, where a socket's pending error has been taken already | execute |
//! | [`TRAMPOLINES`] | the same, one for each patched site, for calls that return on another stack | execute |
//! | [`HEADER`] | what the fast path looks up | read |
//! | [`SITES`] | return addresses of the patched sites | read |
//! | within 2 GiB of patched sites | stubs, which go on to [`CODE`] | read, execute |
//! | chosen by the kernel | the table of sockets, which the process shares with those that it forks | read |
//! | chosen by the kernel | who has accepted which connection, and guesses (foreign.rs), the same | read, write |
#![forbid(unsafe_code)]

/// Bytes of a page.
pub(crate) const PAGE: u64 = 0x1000;

/// Bytes of the sled: it begins at 0, and has room for every number of a system call that there is.
pub(super) const SLED_BYTES: u64 = PAGE;
/// Numbers from here on do not reach the end of the sled: its last instruction lies there.
pub(super) const SLED_NUMBERS: u64 = SLED_BYTES - 5;

/// The fast path. Above vm.mmap_min_addr's usual 65,536, below where programs are linked.
pub(crate) const CODE: u64 = 0x1_0000;
/// Its bytes.
pub(crate) const CODE_BYTES: u64 = 2 * PAGE;
/// The way out for calls that are to be filtered.
pub(crate) const GATE: u64 = CODE + CODE_BYTES;
/// The way out for calls about sockets that are not in the table.
pub(super) const UNKNOWN: u64 = GATE + 16;
/// The way out for getsockopt(2) of SO_ERROR when the error of the pair is where the program wants it, and the socket may be
/// ours.
pub(super) const TAKEN: u64 = UNKNOWN + 16;
/// Bytes of the page of all three.
pub(crate) const GATE_BYTES: u64 = PAGE;
/// One for each place in [`SITES`].
pub(super) const TRAMPOLINES: u64 = GATE + GATE_BYTES;
/// Bytes of one.
pub(super) const TRAMPOLINE_BYTES: u64 = 16;
/// Bytes of everything that is executed but for the sled, in one mapping.
pub(super) const EXECUTED_BYTES: u64 = CODE_BYTES + GATE_BYTES + SITE_COUNT * TRAMPOLINE_BYTES;

/// What the fast path looks up.
pub(super) const HEADER: u64 = CODE + EXECUTED_BYTES;
/// Return addresses, 8 bytes each, by [`site_hash`] and the places after it; 0 is a free place.
pub(super) const SITES: u64 = HEADER + PAGE;
/// Places for sites; a power of two.
pub(super) const SITE_COUNT: u64 = 512;
/// Bytes of header and sites, in one mapping.
pub(super) const DATA_BYTES: u64 = PAGE + SITE_COUNT * 8;

/// Offsets from [`HEADER`].
pub(super) mod header {
    /// [`MAGIC`], by which the supervisor knows a process that has the fast path.
    pub(in crate::zpoline) const MAGIC_AT: u64 = 0;
    /// Where the table of sockets lies.
    pub(in crate::zpoline) const TABLE: u64 = 8;
    /// Not 0: everything goes through the gate.
    pub(in crate::zpoline) const OFF: u64 = 16;
    /// Not 0: the sled is mapped.
    pub(in crate::zpoline) const SLED: u64 = 24;
    /// The protocols with which an AF_INET stream socket is emulated, a bit for each number below 32.
    pub(in crate::zpoline) const PROTOCOLS_V4: u64 = 32;
    /// The same of AF_INET6.
    pub(in crate::zpoline) const PROTOCOLS_V6: u64 = 36;
    /// Where to note who has accepted a connection (view.rs), and guesses (foreign.rs).
    pub(in crate::zpoline) const HOLDERS: u64 = 40;
    /// Whose the table is: view.rs.
    pub(in crate::zpoline) const VIEW: u64 = 48;
    /// Pages of stubs: their addresses and how many stubs they have, 8 bytes each.
    pub(in crate::zpoline) const STUBS: u64 = 0x80;
    /// A byte for each number of a system call: an [`action`](super::action).
    pub(in crate::zpoline) const ACTIONS: u64 = 0x100;
    /// A byte for each option of SOL_SOCKET to get: a slot, or one of [`slot`](super::slot).
    pub(in crate::zpoline) const GET_SOCKET: u64 = 0x300;
    /// The same for IPPROTO_TCP.
    pub(in crate::zpoline) const GET_TCP: u64 = 0x380;
    /// The same for SOL_SOCKET to set.
    pub(in crate::zpoline) const SET_SOCKET: u64 = 0x400;

    /// The same for IPPROTO_TCP to set.
    pub(in crate::zpoline) const SET_TCP: u64 = 0x480;

    /// Pages of stubs, at most.
    pub(in crate::zpoline) const STUB_PAGES: usize = 8;
    /// Changes with the layout.
    pub(in crate::zpoline) const MAGIC: u64 = u64::from_le_bytes(*b"quicwrp5");
    /// Numbers that have an action.
    pub(in crate::zpoline) const ACTION_COUNT: u64 = 0x200;
    /// Options that have a byte.
    pub(in crate::zpoline) const OPTION_COUNT: u64 = 0x80;
}

/// What the fast path does with a call.
pub(super) mod action {
    /// Makes it at the gate.
    pub(in crate::zpoline) const ASK: u8 = 0;
    /// Makes it itself if the socket is not emulated.
    pub(in crate::zpoline) const FOREIGN: u8 = 1;
    /// getsockname(2).
    pub(in crate::zpoline) const LOCAL: u8 = 2;
    /// getpeername(2).
    pub(in crate::zpoline) const PEER: u8 = 3;
    /// getsockopt(2).
    pub(in crate::zpoline) const GET: u8 = 4;
    /// setsockopt(2).
    pub(in crate::zpoline) const SET: u8 = 5;
    /// Makes it on a trampoline: it returns on another stack, or twice on this.
    pub(in crate::zpoline) const TRAMPOLINE: u8 = 6;
    /// connect(2).
    pub(in crate::zpoline) const CONNECT: u8 = 7;
    /// socket(2).
    pub(in crate::zpoline) const MAKE: u8 = 8;
    /// accept(2).
    pub(in crate::zpoline) const ACCEPT: u8 = 9;
    /// accept4(2).
    pub(in crate::zpoline) const ACCEPT4: u8 = 10;
    /// bind(2): makes it itself if the socket is neither emulated nor for UDP.
    pub(in crate::zpoline) const BIND: u8 = 11;
}

/// What stands for an option beside the number of its slot.
pub(super) mod slot {
    /// The supervisor knows.
    pub(in crate::zpoline) const ASK: u8 = 0;
    /// The first of [`NOTED`](super::super::mark::NOTED): where its value lies; to set, that it is the fast path's.
    pub(in crate::zpoline) const NOTED: u8 = 11;
    /// The first of [`NUMBERS`](super::super::mark::NUMBERS), the same.
    pub(in crate::zpoline) const NUMBERS: u8 = NOTED + super::super::mark::NOTED.len() as u8;
    /// SO_ERROR.
    pub(in crate::zpoline) const ERROR: u8 = 0xfe;
    /// The same, when the kernel's answer is there.
    pub(in crate::zpoline) const TAKEN: u8 = 0xfd;
    /// The kernel answers for the pair.
    pub(in crate::zpoline) const NATIVE: u8 = 0xff;
}

/// The table of sockets: a header, then entries by [`mark_hash`] and the places after it.
pub(super) mod table {
    /// Odd while entries move.
    pub(in crate::zpoline) const GENERATION: u64 = 0;
    /// Number of entries − 1, a power of two − 1.
    pub(in crate::zpoline) const MASK: u64 = 4;
    /// The first entry.
    pub(in crate::zpoline) const ENTRIES: u64 = 0x100;
    /// Bytes of an entry: 1 << this.
    pub(in crate::zpoline) const ENTRY_SHIFT: u32 = 8;
}

/// Offsets in an entry.
pub(super) mod entry {
    /// What the program's end is marked with (mark.rs), without a ticket's secret. 0: never used, the end of a search.
    pub(in crate::zpoline) const MARK: u64 = 0;
    /// Odd while the supervisor may be changing the socket.
    pub(in crate::zpoline) const SEQUENCE: u64 = 8;
    /// The pending error, which the supervisor knows more precisely than the pair.
    pub(in crate::zpoline) const ERROR: u64 = 12;
    /// Bytes of the local address: 16 or 28.
    pub(in crate::zpoline) const LOCAL_BYTES: u64 = 16;
    /// Bytes of the peer's, 0 if there is none.
    pub(in crate::zpoline) const PEER_BYTES: u64 = 20;
    /// Not 0: it is connected, and connect(2) is yet to say so.
    pub(in crate::zpoline) const UNTOLD: u64 = 24;
    /// Not 0: connections can be accepted on it without the supervisor.
    pub(in crate::zpoline) const ACCEPTS: u64 = 28;
    /// A sockaddr.
    pub(in crate::zpoline) const LOCAL: u64 = 32;
    /// A sockaddr.
    pub(in crate::zpoline) const PEER: u64 = 64;
    /// Values of options, 4 bytes each. Slot 0 is not used.
    pub(in crate::zpoline) const SLOTS: u64 = 96;
    /// Their number.
    pub(in crate::zpoline) const SLOT_COUNT: usize = 40;
}

/// What hashes are made with: 2³² divided by the golden ratio.
pub(super) const MULTIPLIER: u32 = 0x9e37_79b1;
/// Bits of a product that [`site_hash`] drops.
pub(super) const SITE_SHIFT: u32 = 32 - SITE_COUNT.trailing_zeros();

/// Bytes of a stub.
pub(super) const STUB_BYTES: u64 = 16;

/// Where the search for a return address begins.
pub(super) fn site_hash(address: u64) -> u64 {
    u64::from((address as u32).wrapping_mul(MULTIPLIER) >> SITE_SHIFT)
}

/// Where the search for a mark begins, before it is cut to the size of the table.
pub(super) fn mark_hash(mark: u64) -> u32 {
    let product = (mark as u32).wrapping_mul(MULTIPLIER);
    product ^ product >> 16
}

/// Whether a call was made at the gate, or on a trampoline: from a site that is patched.
pub(crate) fn is_gate(instruction_pointer: u64) -> bool {
    (GATE..HEADER).contains(&instruction_pointer)
}

/// Whether a call was made because the program's table does not have its socket, as far as is known.
pub(crate) fn is_unknown(instruction_pointer: u64) -> bool {
    is_at(UNKNOWN, instruction_pointer) || has_taken_error(instruction_pointer)
}

/// Whether a call was made behind one that has taken the pair's error.
pub(crate) fn has_taken_error(instruction_pointer: u64) -> bool {
    is_at(TAKEN, instruction_pointer)
}

fn is_at(gate: u64, instruction_pointer: u64) -> bool {
    instruction_pointer == gate + super::site::SYSCALL.len() as u64
}
