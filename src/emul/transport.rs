//! What the emulation asks of the network, and what the network tells it. Implemented by `quic` and
//! by the front end; neither side knows the other.
//!
//! A [`Transport`] method may be called with the socket table locked, so it must not call
//! [`Events`] from within.
#![forbid(unsafe_code)]

use std::{
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use nix::errno::Errno;

use super::socket::SocketId;

/// What bind(2) asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BindRequest {
    /// Address in the socket's family; port 0 asks for an ephemeral one.
    pub(crate) address: SocketAddr,
    /// IPV6_V6ONLY.
    pub(crate) v6_only: bool,
    /// SO_REUSEADDR.
    pub(crate) reuse_address: bool,
    /// SO_REUSEPORT.
    pub(crate) reuse_port: bool,
}

/// What connect(2) asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectRequest {
    /// Where to, not v4-mapped.
    pub(crate) peer: SocketAddr,
    /// What bind(2) chose, if it was called; not v4-mapped. Its port may be 0.
    pub(crate) source: Option<SocketAddr>,
    /// How long an attempt may remain unanswered before ETIMEDOUT.
    pub(crate) timeout: Duration,
}

/// How connecting has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Begun {
    /// The local address.
    pub(crate) local: SocketAddr,
    /// How far it has come.
    pub(crate) progress: Progress,
}

/// How far connecting has come when connect(2) returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// [`Events`] will tell.
    Pending,
    /// It is established, and [`Transport::carry`] is to be given our end of its pair. There is no event.
    Established,
    /// It has failed. There is no event.
    Failed(Errno),
}

/// The state of the QUIC path under a connection, for TCP_INFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PathInfo {
    /// Smoothed round-trip time.
    pub(crate) rtt: Duration,
    /// Lowest round-trip time seen.
    pub(crate) min_rtt: Duration,
    /// Congestion window in bytes.
    pub(crate) cwnd: u64,
    /// Payload bytes a packet carries.
    pub(crate) mss: u32,
    /// UDP payload bytes a datagram may have.
    pub(crate) mtu: u32,
    /// Packets declared lost, and so sent again, since this connection began.
    pub(crate) lost_packets: u64,
    /// The bytes in them.
    pub(crate) lost_bytes: u64,
    /// Datagrams sent on the path.
    pub(crate) sent_packets: u64,
    /// Datagrams received on the path.
    pub(crate) received_packets: u64,
    /// Bytes the program has sent on this connection.
    pub(crate) bytes_sent: u64,
    /// Bytes the program's peer has sent on this connection.
    pub(crate) bytes_received: u64,
}

/// The network as the emulation sees it.
pub(crate) trait Transport: Send + Sync {
    /// Reserves a local address and says which.
    ///
    /// # Errors
    /// As bind(2): EADDRINUSE, EADDRNOTAVAIL, EACCES.
    fn bind(&self, id: SocketId, request: BindRequest) -> Result<SocketAddr, Errno>;

    /// The program is about to bind a UDP socket of its own to this address: makes way, or says what to do if that cannot
    /// be.
    fn expect_udp(&self, wanted: SocketAddr);

    /// Takes connections for a bound socket from now on.
    ///
    /// # Errors
    /// As listen(2): EADDRINUSE. EIO when no identity can be presented.
    fn listen(&self, id: SocketId) -> Result<(), Errno>;

    /// Takes no further connection for this socket; those accepted live on.
    fn unlisten(&self, id: SocketId);

    /// Prepares to connect, which [`Self::proceed`] begins; the result comes as an event, unless it is known at once.
    ///
    /// # Errors
    /// As connect(2), where no packet need be sent to know: ENETUNREACH, EADDRNOTAVAIL.
    fn connect(&self, id: SocketId, request: ConnectRequest) -> Result<Begun, Errno>;

    /// Takes our end of the pair of a connection that was established at once.
    fn carry(&self, id: SocketId, end: BridgedEnd);

    /// Begins what was prepared. Apart, so that the caller can let go of its locks: the network's thread may run at once.
    fn proceed(&self);

    /// Abandons an attempt to connect, and forgets the addresses of a connection.
    fn abandon(&self, id: SocketId);

    /// Forgets the socket: its address is free again, an attempt is abandoned.
    fn release(&self, id: SocketId);

    /// The path under a connection that is bridged.
    fn path(&self, id: SocketId) -> Option<PathInfo>;

    /// Name of the congestion controller, as TCP_CONGESTION gives it.
    fn congestion(&self) -> &'static str;
}

/// Our end of a pair, on its way to whoever bridges it.
#[derive(Debug)]
pub(crate) struct BridgedEnd {
    /// The end, non-blocking.
    pub(crate) fd: Arc<OwnedFd>,
    /// What the program has written there.
    pub(crate) unread: Arc<Unread>,
}

impl BridgedEnd {
    /// With this end.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        let fd = Arc::new(fd);
        let unread = Arc::new(Unread {
            end: Arc::downgrade(&fd),
            queue: Mutex::default(),
        });
        Self { fd, unread }
    }
}

/// What the program has written that was not read. Kept by whoever owns the socket, too.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    end: Weak<OwnedFd>,
    queue: Mutex<EndQueue>,
}

impl Unread {
    /// The end that it comes to, while it is bridged.
    pub(crate) fn end(&self) -> Option<Arc<OwnedFd>> {
        self.end.upgrade()
    }

    /// To be locked while something is read from the end, and while it is sealed.
    pub(crate) fn lock(&self) -> MutexGuard<'_, EndQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of our end's queue.
#[derive(Debug, Default)]
pub(crate) struct EndQueue {
    /// What was taken from it when the program shut down writing and it was full. It comes first.
    pub(crate) taken: Bytes,
    /// What is left in it for good.
    pub(crate) seal: Option<Seal>,
}

/// The byte that is left unread when the program has shut down writing: only an end that is closed with data unread shows the
/// program a reset, and after shutdown(2) nothing more could be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seal {
    /// One of the supervisor's, which carries a descriptor.
    Placed,
    /// The program's last, which was taken as well: there was no room for another.
    Kept,
}

/// How a program's end was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// close(2): send what is left, then FIN.
    Orderly,
    /// SO_LINGER with a zero time: reset.
    Abort,
    /// Perhaps not at all: both directions of the pair are shut down, which looks the same.
    Unknown,
}

/// Who makes calls that trap, and those that accept(2) connections without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Callers {
    /// How many calls there were.
    pub(crate) calls: u64,
    /// The thread that made the last, or says so of itself.
    pub(crate) last: i32,
    /// The thread that answers those that trap.
    pub(crate) answerer: i32,
}

/// What the network tells the owner of the sockets.
pub(crate) trait Events: Send + Sync {
    /// The attempt has succeeded, from this local address. Returns our end of the pair, ready for data,
    /// unless the program has gone. The path is for who asks before [`Transport::path`] knows it.
    fn connected(&self, id: SocketId, local: SocketAddr, path: PathInfo) -> Option<BridgedEnd>;

    /// The attempt has failed.
    fn failed(&self, id: SocketId, error: Errno);

    /// A connection for `listener`. Returns its id and our end of its pair. For one listener this is called once at a
    /// time: its queue may be known by the order.
    ///
    /// # Errors
    /// EAGAIN: as many wait as the backlog allows. Others: nobody listens, or there is no socket for it.
    fn incoming(
        &self,
        listener: SocketId,
        local: SocketAddr,
        peer: SocketAddr,
        path: PathInfo,
    ) -> Result<(SocketId, BridgedEnd), Errno>;

    /// How the path of a connection was that is about to be over: [`Transport::path`] does not know it then.
    fn path(&self, id: SocketId, path: PathInfo);

    /// Our end has hung up: has the program closed, and how is the peer to see it?
    fn closing(&self, id: SocketId) -> Closing;

    /// The peer's FIN was shown to the program.
    fn peer_finished(&self, id: SocketId);

    /// The connection was reset or lost: show `error` to the program, then close our end.
    fn reset(&self, id: SocketId, end: OwnedFd, error: Errno);

    /// Both directions have ended with FIN; the program may still hold its end. `end` is ours.
    fn finished(&self, id: SocketId, end: BorrowedFd<'_>);

    /// The program has closed its end and nothing is left of the connection.
    fn closed(&self, id: SocketId);

    /// The thread that was last seen with the socket.
    fn holder(&self, id: SocketId) -> Option<i32>;

    /// Who calls, and who answers; none if nobody does.
    fn callers(&self) -> Option<Callers>;

    /// All that programs wrote before they closed has reached its peers (asked for by the owner).
    fn drained(&self);
}
