//! What a TCP socket is, to the program that holds one.
//!
//! Calls come in as plain data and leave as plain data: this part makes no system call and knows
//! neither seccomp nor QUIC, so each state and transition is tested without a process. One file per
//! family of calls, named after the call.
#![forbid(unsafe_code)]

pub(crate) mod accept;
pub(crate) mod address;
pub(crate) mod bind;
pub(crate) mod connect;
pub(crate) mod getsockname;
pub(crate) mod getsockopt;
pub(crate) mod listen;
pub(crate) mod options;
pub(crate) mod outcome;
pub(crate) mod setsockopt;
pub(crate) mod shutdown;
pub(crate) mod socket;
pub(crate) mod tcp_info;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod transport;
