//! The fast path (`--mode zpoline`): system call instructions that have trapped are rewritten into calls
//! of code in the program itself, which answers what it can without a trap. The seccomp filter stays as
//! the net below: what is not rewritten is slower, never wrong.
#![forbid(unsafe_code)]

mod answers;
mod image;
pub(crate) mod layout;
mod site;
mod sled;
