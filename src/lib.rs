//! quicwrap runs an unmodified program so that its TCP sockets are carried over QUIC.
//!
//! ARCHITECTURE.md is the map of the rooms. The crate is a program: [`cli::main`] is all that is
//! meant for others.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("quicwrap is for Linux on x86-64: it traps that system call interface");

pub mod cli;
mod config;
mod demo;
mod doctor;
mod emul;
#[cfg(fuzzing)]
pub mod fuzz;
mod gateway;
mod home;
mod keygen;
mod launch;
mod logging;
mod network;
mod policy;
mod quic;
mod stats;
mod supervisor;
mod sys;
mod trust;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the supervisor does not use it yet")
)]
mod zpoline;

#[doc(hidden)]
pub use quic::bench;

/// Bulk data allocates a buffer a datagram; the C library's allocator halves the rate.
#[cfg(not(fuzzing))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
