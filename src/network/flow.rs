//! One TCP connection on this side: our end of its pair, and what is known of it.
#![forbid(unsafe_code)]

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, Shutdown, recv, sendmsg, shutdown},
};
use tokio::{
    io::{Interest, Ready, unix::AsyncFd},
    net::TcpStream,
    sync::Notify,
};

use super::{activity::Activity, tcp};
use crate::{
    emul::{
        socket::SocketId,
        transport::{BridgedEnd, Closing, Events, PathInfo, Unread},
    },
    quic::{link::Share, raw::Wire},
    sys::{
        fd::{watch, watch_shared},
        socket::{get_option, is_hung_up, readable_bytes, receive, widen},
    },
};

/// Received pieces handed to the program in one system call; each is at most a datagram.
const PIECES: usize = 64;
/// Room for them while few come, as on most connections.
const FEW_PIECES: usize = 4;
/// How often room is looked for when it cannot be waited for, for want of descriptors.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Room for what is thrown away.
const SINK: usize = 4 << 10;

/// What carries a connection.
#[derive(Debug)]
pub(crate) enum Carrier {
    /// A stream of a QUIC connection.
    Quic {
        /// The connection.
        link: Share,
        /// Packets and bytes that it had lost when the stream began.
        lost_before: (u64, u64),
    },
    /// A TCP connection.
    Tcp(Arc<TcpStream>),
}

impl From<Share> for Carrier {
    fn from(link: Share) -> Self {
        let path = link.connection.stats().path;
        Self::Quic {
            link,
            lost_before: (path.lost_packets, path.lost_bytes),
        }
    }
}

/// A connection while it is bridged.
#[derive(Debug)]
pub(crate) struct Flow {
    /// The socket.
    pub(crate) id: SocketId,
    /// What is under it.
    pub(crate) carrier: Carrier,
    /// How a stream under it is spoken.
    pub(crate) wire: Wire,
    /// Bytes from the program.
    pub(crate) sent: AtomicU64,
    /// Bytes to the program.
    pub(crate) received: AtomicU64,
    /// Our end of the pair, watched for what the program writes and for its close. Not for room to
    /// write: the program makes some with each read, and would wake this side every time.
    pub(crate) end: AsyncFd<Arc<OwnedFd>>,
    /// Urgent data was in the queue when it was last said to be readable. A read ends in front of it.
    pub(crate) urgent: AtomicBool,
    /// The end was given the buffer for bulk data.
    widened: AtomicBool,
    /// What comes to it.
    pub(crate) unread: Arc<Unread>,
    /// The program's close is to be seen as a reset.
    pub(crate) aborted: AtomicBool,
    /// How many bytes the program is given before it must see a reset. Beyond reach if there is none.
    reset_behind: AtomicU64,
    /// The program is not waited for any more.
    pub(crate) hurried: AtomicBool,
    /// Notified when either of these changes.
    pub(crate) hurry: Notify,
    /// Notified when the peer has reset its direction, so that the other ends as well.
    pub(crate) reset: Notify,
    /// The program has closed, or shut down both directions, so that the peer is to see a reset, and what it had written is
    /// counted.
    pub(crate) cut_off: AtomicBool,
    /// Our end was shut down for writing. From then on a hang-up may also mean that the program has
    /// merely shut down its own direction.
    pub(crate) fin_shown: AtomicBool,
    /// Both directions of the pair were shut down, which hangs up as well, and the peer knows of it what there is to know.
    shut_down: AtomicBool,
    /// All that the program wrote has reached the peer, or is not wanted.
    pub(crate) delivered: AtomicBool,
    /// Notified when that becomes true.
    pub(crate) progress: Arc<Notify>,
    /// Told of all that is moved.
    pub(crate) activity: Arc<Activity>,
}

impl Flow {
    /// Takes over our end of the pair. `progress` is notified when all is delivered. To be called
    /// within the runtime.
    ///
    /// # Errors
    /// ENOMEM, ENOSPC: epoll_ctl(2).
    pub(crate) fn new(
        id: SocketId,
        end: BridgedEnd,
        carrier: Carrier,
        wire: Wire,
        progress: Arc<Notify>,
        activity: Arc<Activity>,
    ) -> io::Result<Self> {
        Ok(Self {
            id,
            carrier,
            wire,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            end: watch_shared(end.fd, Interest::READABLE | Interest::PRIORITY)?,
            urgent: AtomicBool::new(false),
            widened: AtomicBool::new(false),
            unread: end.unread,
            aborted: AtomicBool::new(false),
            reset_behind: AtomicU64::new(u64::MAX),
            hurried: AtomicBool::new(false),
            hurry: Notify::new(),
            reset: Notify::new(),
            cut_off: AtomicBool::new(false),
            fin_shown: AtomicBool::new(false),
            shut_down: AtomicBool::new(false),
            delivered: AtomicBool::new(false),
            progress,
            activity,
        })
    }

    /// The program must see a reset, behind so many bytes if they arrive.
    pub(crate) fn reset_behind(&self, bytes: u64) {
        self.reset_behind.fetch_min(bytes, Ordering::Relaxed);
        self.hurry();
    }

    /// Whether it must see it now.
    pub(crate) fn is_reset(&self) -> bool {
        self.received.load(Ordering::Relaxed) >= self.reset_behind.load(Ordering::Relaxed)
    }

    /// Waits for the program no more: what its end of the pair has no room for is dropped.
    pub(crate) fn hurry(&self) {
        self.hurried.store(true, Ordering::Relaxed);
        self.hurry.notify_one();
    }

    /// Whether the program may still write, has written what the peer does not have yet, or has closed, which the peer
    /// has not been told.
    pub(crate) fn is_undelivered(&self) -> bool {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        let untold = || !is(&self.fin_shown) && !is(&self.shut_down) && self.is_hung_up();
        !is(&self.delivered) || untold()
    }

    /// Our end.
    pub(crate) fn end(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    /// Whether the program has closed its end, or both directions are shut down.
    pub(crate) fn is_hung_up(&self) -> bool {
        is_hung_up(self.end.as_fd())
    }

    /// What a hang-up means. AF_UNIX reports a close with data unread as an error, once.
    pub(crate) fn closing(&self, events: &dyn Events) -> Closing {
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
    pub(crate) async fn readable(&self) -> io::Result<()> {
        let mut guard = self
            .end
            .ready(Interest::READABLE | Interest::PRIORITY)
            .await?;
        if guard.ready().is_priority() {
            self.urgent.store(true, Ordering::Relaxed);
        }
        // Cleared before the attempt to read: an event after that counts again.
        guard.clear_ready();
        Ok(())
    }

    /// Waits until the program has read enough of what it was given, or has closed its end.
    async fn writable(&self) -> io::Result<()> {
        // A copy, watched for this alone: when the buffer is full, some hundred kilobytes are read
        // before there is room.
        let copy = self.end.get_ref().try_clone();
        match copy.and_then(|copy| watch(copy, Interest::WRITABLE)) {
            Ok(copy) => copy.writable().await.map(drop),
            Err(error) => {
                tracing::debug!(%error, "room in a socketpair is looked for by the clock");
                tokio::time::sleep(LOOK_INTERVAL).await;
                Ok(())
            }
        }
    }

    /// A buffer that has been filled is to be a large one: most connections never need it. Returns
    /// whether it has just become so.
    fn widen(&self) -> bool {
        let first = !self.widened.swap(true, Ordering::Relaxed);
        if first {
            widen(self.end.as_fd());
        }
        first
    }

    /// Whether the program has written what was not read.
    ///
    /// # Errors
    /// EAGAIN: it has not, and still may. ECONNRESET: it has closed its end with data unread.
    pub(crate) fn has_unread(&self) -> nix::Result<bool> {
        let queue = self.unread.lock();
        if !queue.taken.is_empty() {
            return Ok(true);
        }
        if queue.seal.is_some() {
            return Ok(readable_bytes(self.end.as_fd())? > 1);
        }
        let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        Ok(recv(self.end.as_raw_fd(), &mut [0], peek)? > 0)
    }

    /// Bytes that the program has written, those that were not read yet included: all there will be, once it has closed.
    pub(crate) fn written(&self) -> u64 {
        let queue = self.unread.lock();
        let queued = readable_bytes(self.end.as_fd()).unwrap_or(0);
        let unread = queued.saturating_sub(usize::from(queue.seal.is_some())) + queue.taken.len();
        self.sent.load(Ordering::Relaxed) + unread as u64
    }

    /// Takes the seal out, so that closing our end shows no reset.
    pub(crate) fn unseal(&self) {
        let mut queue = self.unread.lock();
        if queue.seal.take().is_some() {
            let mut rest = BytesMut::with_capacity(SINK);
            while receive(self.end.as_fd(), &mut rest, SINK).is_ok_and(|read| read.count > 0) {
                rest.clear();
            }
        }
    }

    /// Waits until the program has closed its end. Only the direction that also writes may call
    /// this: both wait for the same readiness.
    pub(crate) async fn hung_up(&self) {
        loop {
            match self.end.ready(Interest::WRITABLE).await {
                Ok(guard) if guard.ready().is_write_closed() => return,
                Ok(mut guard) => guard.clear_ready_matching(Ready::WRITABLE),
                Err(_) => return,
            }
        }
    }

    /// All that the program wrote has reached the peer, or is not wanted.
    pub(crate) fn set_delivered(&self) {
        self.delivered.store(true, Ordering::Relaxed);
        self.progress.notify_waiters();
    }

    /// A hang-up was no close, as far as is known.
    pub(crate) fn set_shut_down(&self) {
        self.shut_down.store(true, Ordering::Relaxed);
        self.progress.notify_waiters();
    }

    /// Shows the peer's FIN, as a half-close and never as a hang-up: the program may go on writing.
    pub(crate) fn show_fin(&self, events: &dyn Events) {
        self.fin_shown.store(true, Ordering::Relaxed);
        events.peer_finished(self.id);
        let _ = shutdown(self.end.as_raw_fd(), Shutdown::Write);
    }

    /// How the path under it is. None if that cannot be known any more.
    pub(crate) fn path(&self) -> Option<PathInfo> {
        let path = match &self.carrier {
            Carrier::Quic { link, lost_before } => link.path(Some(*lost_before)),
            Carrier::Tcp(stream) => tcp::path(stream)?,
        };
        Some(PathInfo {
            bytes_sent: self.sent.load(Ordering::Relaxed),
            bytes_received: self.received.load(Ordering::Relaxed),
            ..path
        })
    }

    /// Leaves word of the path, for programs that ask for it when the connection is over.
    pub(crate) fn tell_path(&self, events: &dyn Events) {
        if let Some(path) = self.path() {
            events.path(self.id, path);
        }
    }

    /// Shows a reset, or the loss of the connection.
    pub(crate) fn show_reset(&self, errno: Errno, events: &dyn Events) {
        self.tell_path(events);
        match self.end.get_ref().try_clone() {
            // The copy is closed last, by the receiver of the event.
            Ok(end) => events.reset(self.id, end, errno),
            Err(error) => {
                tracing::warn!(%error, "a reset is shown as an end of file; raise the limit of open files (ulimit -n)");
                events.finished(self.id, self.end());
            }
        }
    }

    /// Hands all pieces to the program, and leaves them empty.
    pub(crate) async fn write_all(&self, pieces: &mut [Bytes]) -> Written {
        let mut first = 0;
        while first < pieces.len() {
            match self.write(&pieces[first..]) {
                Ok(mut written) => {
                    self.activity.note(self.id, written);
                    while let Some(piece) = pieces.get_mut(first) {
                        let taken = written.min(piece.len());
                        piece.advance(taken);
                        written -= taken;
                        if !piece.is_empty() {
                            break;
                        }
                        // Gives the datagram's buffer back at once.
                        *piece = Bytes::new();
                        first += 1;
                    }
                }
                Err(Errno::EAGAIN) if self.widen() => {}
                Err(Errno::EAGAIN) if self.hurried.load(Ordering::Relaxed) => {
                    return Written::Reset;
                }
                Err(Errno::EAGAIN) => tokio::select! {
                    biased;
                    ready = self.writable() => if ready.is_err() {
                        return Written::Refused;
                    },
                    () = self.hurry.notified() => {}
                },
                Err(_) => return Written::Refused,
            }
        }
        Written::Done
    }

    fn write(&self, pieces: &[Bytes]) -> nix::Result<usize> {
        let mut slices = [IoSlice::new(&[]); PIECES];
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
        }
        let used = &slices[..pieces.len().min(PIECES)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(self.end.as_raw_fd(), used, &[], flags, None)
    }
}

/// Room for received pieces: little at first, more while all of it is used.
#[derive(Debug)]
pub(crate) struct Pieces(Vec<Bytes>);

impl Default for Pieces {
    fn default() -> Self {
        Self(vec![Bytes::new(); FEW_PIECES])
    }
}

impl Pieces {
    /// The room.
    pub(crate) fn room(&mut self) -> &mut [Bytes] {
        &mut self.0
    }

    /// Makes it fit what has come at a time: so many pieces, which have been taken out.
    pub(crate) fn fit(&mut self, count: usize) {
        let room = self.0.len();
        if count == room {
            self.0.resize((4 * room).min(PIECES), Bytes::new());
        } else if count < room / 4 {
            self.0 = vec![Bytes::new(); FEW_PIECES];
        }
    }
}

/// Whether the program could be given its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// All of it.
    Done,
    /// It wants no more, by shutdown(SHUT_RD) or close(2).
    Refused,
    /// It does not read, and the connection was reset meanwhile: what it may be blocked in is to end.
    Reset,
}
