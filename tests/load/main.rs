//! Many connections, at once and one after another: nothing is lost, and nothing stays behind in the supervisors.
//!
//! `QUICWRAP_TEST_SHORT=1000000` sets how many short connections are made one after another. The figures are
//! printed; `--nocapture` shows them. With `QUICWRAP_TEST_NATIVE=1` the programs themselves are measured.

#[path = "../common/mod.rs"]
mod common;

mod at_once;
mod one_by_one;
mod pair;
mod usage;
