//! One TCP connection on this side: our end of its pair, and what is known of it.
#![forbid(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv},
};
use tokio::{
    io::{Interest, Ready, unix::AsyncFd},
    sync::Notify,
};

use super::link::Share;
use crate::{
    emul::{
        socket::SocketId,
        transport::{BridgedEnd, Closing, Events, Seal},
    },
    sys::{
        fd::watch,
        socket::{ends_with_descriptors, get_option, readable_bytes, receive},
    },
};

/// First read buffer of a connection, in bytes: most connections never carry more at a time.
const SMALL_READ: usize = 4 << 10;
/// Largest read buffer: more than AF_UNIX hands out at once.
const LARGE_READ: usize = 256 << 10;

/// A connection while it is bridged.
#[derive(Debug)]
pub(super) struct Flow {
    /// The socket.
    pub(super) id: SocketId,
    /// The QUIC connection under it.
    pub(super) link: Share,
    /// Bytes from the program.
    pub(super) sent: AtomicU64,
    /// Bytes to the program.
    pub(super) received: AtomicU64,
    /// Packets and bytes that the link had lost when this connection began.
    pub(super) lost_before: (u64, u64),
    /// Our end of the pair.
    pub(super) end: AsyncFd<OwnedFd>,
    seal: Arc<Seal>,
    /// The program's close is to be seen as a reset.
    pub(super) aborted: AtomicBool,
    /// How many bytes the program is given before it must see a reset. Beyond reach if there is none.
    reset_behind: AtomicU64,
    /// The program is not waited for any more.
    pub(super) hurried: AtomicBool,
    /// Notified when either of these changes.
    pub(super) hurry: Notify,
    /// The peer was told to stop: what the program wrote and was not read is of no use.
    pub(super) cut_off: AtomicBool,
    /// Our end was shut down for writing. From then on a hang-up may also mean that the program has
    /// merely shut down its own direction.
    pub(super) fin_shown: AtomicBool,
    /// All that the program wrote has reached the peer, or is not wanted.
    pub(super) delivered: AtomicBool,
    /// Notified when that becomes true.
    pub(super) progress: Arc<Notify>,
}

impl Flow {
    /// Takes over our end of the pair. `progress` is notified when all is delivered. To be called
    /// within the runtime.
    ///
    /// # Errors
    /// ENOMEM, ENOSPC: epoll_ctl(2).
    pub(super) fn new(
        id: SocketId,
        end: BridgedEnd,
        link: Share,
        progress: Arc<Notify>,
    ) -> io::Result<Self> {
        let path = link.connection.stats().path;
        Ok(Self {
            id,
            link,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            lost_before: (path.lost_packets, path.lost_bytes),
            end: watch(end.fd)?,
            seal: end.seal,
            aborted: AtomicBool::new(false),
            reset_behind: AtomicU64::new(u64::MAX),
            hurried: AtomicBool::new(false),
            hurry: Notify::new(),
            cut_off: AtomicBool::new(false),
            fin_shown: AtomicBool::new(false),
            delivered: AtomicBool::new(false),
            progress,
        })
    }

    /// The program must see a reset, behind so many bytes if they arrive.
    pub(super) fn reset_behind(&self, bytes: u64) {
        self.reset_behind.fetch_min(bytes, Ordering::Relaxed);
        self.hurry();
    }

    /// Whether it must see it now.
    pub(super) fn is_reset(&self) -> bool {
        self.received.load(Ordering::Relaxed) >= self.reset_behind.load(Ordering::Relaxed)
    }

    /// Waits for the program no more: what its end of the pair has no room for is dropped.
    pub(super) fn hurry(&self) {
        self.hurried.store(true, Ordering::Relaxed);
        self.hurry.notify_one();
    }

    /// Whether the program may still write, or has written what the peer does not have yet.
    pub(super) fn is_undelivered(&self) -> bool {
        !self.delivered.load(Ordering::Relaxed)
    }

    /// Whether the program has closed its end, or both directions are shut down.
    pub(super) fn is_hung_up(&self) -> bool {
        let mut fds = [PollFd::new(self.end.as_fd(), PollFlags::empty())];
        let _ = poll(&mut fds, PollTimeout::ZERO);
        fds[0]
            .revents()
            .is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }

    /// What a hang-up means. AF_UNIX reports a close with data unread as an error, once.
    pub(super) fn closing(&self, events: &dyn Events) -> Closing {
        let error = get_option(self.end.as_fd(), libc::SOL_SOCKET, libc::SO_ERROR);
        if error == Ok(libc::ECONNRESET) {
            self.aborted.store(true, Ordering::Relaxed);
        }
        if self.aborted.load(Ordering::Relaxed) {
            Closing::Abort
        } else {
            events.closing(self.id)
        }
    }

    /// Waits for a change that may make reading possible.
    pub(super) async fn readable(&self) -> io::Result<()> {
        // Cleared before the attempt to read: an event after that counts again.
        self.end.readable().await?.clear_ready();
        Ok(())
    }

    /// As [`Self::readable`], for writing.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.end.writable().await?.clear_ready();
        Ok(())
    }

    /// Whether the program has written what was not read.
    ///
    /// # Errors
    /// EAGAIN: it has not, and still may. ECONNRESET: it has closed its end with data unread.
    pub(super) fn has_unread(&self) -> nix::Result<bool> {
        let sealed = self.seal.lock();
        if *sealed {
            return Ok(readable_bytes(self.end.as_fd())? > 1);
        }
        let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        Ok(recv(self.end.as_raw_fd(), &mut [0], peek)? > 0)
    }

    /// Takes the seal out, so that closing our end shows no reset.
    pub(super) fn unseal(&self) {
        let mut sealed = self.seal.lock();
        if std::mem::take(&mut *sealed) {
            let mut rest = BytesMut::with_capacity(SMALL_READ);
            while matches!(receive(self.end.as_fd(), &mut rest, SMALL_READ), Ok(1..)) {
                rest.clear();
            }
        }
    }

    /// Waits until the program has closed its end. Only the direction that also writes may call
    /// this: both wait for the same readiness.
    pub(super) async fn hung_up(&self) {
        loop {
            match self.end.ready(Interest::WRITABLE).await {
                Ok(guard) if guard.ready().is_write_closed() => return,
                Ok(mut guard) => guard.clear_ready_matching(Ready::WRITABLE),
                Err(_) => return,
            }
        }
    }
}

/// Where the seal lies in our end's queue. Nothing more is written there by then.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// It is the last byte, and stays.
    Last,
    /// Behind this many bytes, and more were written by another thread of the program before
    /// shutdown(2) took effect. It is taken out.
    Behind(usize),
}

impl Place {
    /// Looks for the byte that carries a descriptor.
    fn find(flow: &Flow) -> nix::Result<Self> {
        let queued = readable_bytes(flow.end.as_fd())?;
        if ends_with_descriptors(flow.end.as_fd(), queued)? {
            return Ok(Self::Last);
        }
        // A read ends with it.
        let mut bytes = vec![0; queued];
        let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let with_seal = recv(flow.end.as_raw_fd(), &mut bytes, peek)?;
        Ok(Self::Behind(with_seal.saturating_sub(1)))
    }
}

/// Room to read into: small at first, larger while the program keeps filling it.
#[derive(Debug, Default)]
pub(super) struct ReadBuffer {
    bytes: BytesMut,
    room: usize,
    /// Where the seal lies, once it was found.
    seal: Option<Place>,
}

impl ReadBuffer {
    /// What the program has written; none at its end.
    pub(super) fn read(&mut self, flow: &Flow) -> nix::Result<Option<Bytes>> {
        if self.bytes.capacity() < SMALL_READ {
            self.bytes.reserve(self.room.max(SMALL_READ));
        }
        let mut sealed = flow.seal.lock();
        if *sealed {
            return self.read_sealed(flow, &mut sealed);
        }
        let offered = self.bytes.capacity();
        let count = receive(flow.end.as_fd(), &mut self.bytes, usize::MAX)?;
        if count == offered {
            self.room = (offered * 4).min(LARGE_READ);
        }
        Ok((count > 0).then(|| self.bytes.split().freeze()))
    }

    /// As [`Self::read`], once the program has shut down writing.
    fn read_sealed(&mut self, flow: &Flow, sealed: &mut bool) -> nix::Result<Option<Bytes>> {
        let place = match self.seal {
            Some(place) => place,
            None => Place::find(flow)?,
        };
        self.seal = Some(place);
        match place {
            Place::Last => match readable_bytes(flow.end.as_fd())? {
                0 | 1 => Ok(None),
                queued => self.take(flow, queued - 1),
            },
            Place::Behind(0) => {
                receive(flow.end.as_fd(), &mut self.bytes, 1)?;
                self.bytes.clear();
                *sealed = false;
                self.take(flow, usize::MAX)
            }
            Place::Behind(before) => {
                let taken = self.take(flow, before)?;
                let count = taken.as_ref().map_or(0, Bytes::len);
                self.seal = Some(Place::Behind(before.saturating_sub(count)));
                Ok(taken)
            }
        }
    }

    fn take(&mut self, flow: &Flow, limit: usize) -> nix::Result<Option<Bytes>> {
        let count = receive(flow.end.as_fd(), &mut self.bytes, limit)?;
        Ok((count > 0).then(|| self.bytes.split().freeze()))
    }

    /// Gives a large buffer back while there is nothing to read, for idle connections are many.
    pub(super) fn rest(&mut self) {
        if self.bytes.capacity() > SMALL_READ {
            self.bytes = BytesMut::new();
            self.room = 0;
        }
    }
}
