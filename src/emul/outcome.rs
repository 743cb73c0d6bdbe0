//! What a call comes to: the one type between the emulation and its front ends.
#![forbid(unsafe_code)]

use std::{net::SocketAddr, os::fd::OwnedFd};

use nix::errno::Errno;

use super::socket::SocketId;

/// How a call is answered. A failure is the `Err` of [`Answer`].
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Return this value.
    Value(i64),
    /// Install a descriptor in the caller and return its number.
    Inject(Injection),
    /// Leave the call to the kernel, for this reason (shown in the log).
    Native(&'static str),
    /// Keep the caller waiting until the socket's state says otherwise.
    Park(Wait),
}

/// A call's result: an outcome, or the errno it fails with.
pub(crate) type Answer = Result<Outcome, Errno>;

/// A descriptor on its way into the program.
#[derive(Debug)]
pub(crate) struct Injection {
    /// The open file to install.
    pub(crate) fd: OwnedFd,
    /// Whether the new number is closed by execve(2).
    pub(crate) cloexec: bool,
    /// What the descriptor is, so that the table can follow it and a failed accept can be undone.
    pub(crate) origin: Origin,
}

/// Where an injected descriptor comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// socket(2) made it.
    Created(SocketId),
    /// accept(2) took it from this listener; it goes back there if the caller has gone.
    Accepted {
        /// The listening socket.
        listener: SocketId,
        /// The connection.
        connection: SocketId,
        /// Its peer.
        peer: SocketAddr,
    },
}

/// What a parked call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// connect(2): established or failed.
    Connect,
    /// accept(2): a connection in the queue, or the end of listening.
    Accept,
}
