//! The UDP socket under a QUIC endpoint: quinn-udp's, with sends cut to what one system call may carry
//! and receive buffers of a fixed size.
#![forbid(unsafe_code)]

use std::{
    fmt,
    future::{Future, poll_fn},
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket as StdUdpSocket},
    os::fd::{AsFd, OwnedFd},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use socket2::{Domain, SockRef, Type};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::Notify,
};

use super::{
    handshakes::{Handshake, Handshakes},
    joined::{self, Joined},
};
use crate::sys::fd::{replace, watch, watch_shared};

/// Largest UDP payload over IPv4 (RFC 768, RFC 791): 65,535 less 20 and 8 bytes of headers. A send
/// with segmentation offload beyond this fails with EMSGSIZE, and its datagrams vanish.
const MAX_PAYLOAD: usize = 65_507;
/// Largest datagram that peers may send. quinn makes its receive buffers of this size times the segments of
/// [`UdpSocket::max_receive_segments`], one behind the other: 64 KiB, all that the kernel joins. So each begins a page of
/// memory, as does what is allocated for its content: to 1 to 31 bytes behind the place in a page where the source lies
/// AMD's Zen 3 copies twenty times more slowly (`rep movsb`, which the C library uses; docs/performance.md).
pub(super) const MAX_UDP_PAYLOAD: u16 = 1 << 15;
/// Kernel buffers that are asked for, in bytes. The default of 212,992 holds less than a hundred
/// packets; the kernel grants no more than net.core.rmem_max and wmem_max.
const KERNEL_BUFFER: usize = 8 << 20;

/// Buffers filled by one system call, each with all the datagrams that the kernel has joined, up to 64 KiB. quinn would
/// take 32: what it then decrypts, and the bridge copies, would have left the processor's cache meanwhile.
const RECEIVE_BATCH: usize = 8;
/// How often room is looked for when it cannot be waited for, for want of descriptors.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// A UDP socket for quinn.
#[derive(Debug)]
pub(crate) struct UdpSocket {
    /// Watched for what arrives until the port is given up. Not for room to send: each datagram makes some when it has left,
    /// and would wake this side.
    arrivals: Mutex<Option<AsyncFd<Arc<OwnedFd>>>>,
    socket: Arc<OwnedFd>,
    state: UdpSocketState,
    /// It would take no more.
    full: AtomicBool,
    /// Notified when it takes more.
    room: Notify,
    /// A copy of it, watched for room alone, while it is full.
    copy: Mutex<Option<AsyncFd<OwnedFd>>>,
    /// Size of the datagrams in the last batch that was sent, in bytes.
    segment: AtomicUsize,
    handshakes: Arc<Handshakes>,
    joined: Mutex<Joined>,
    /// Datagrams wait, for more or for room; or none will any more: the port was given up, or the socket is no more.
    waits: Arc<Notify>,
}

impl UdpSocket {
    /// Takes over a bound socket. To be called within the runtime.
    ///
    /// # Errors
    /// Of setsockopt(2) for what quinn-udp needs.
    pub(crate) fn new(socket: StdUdpSocket) -> io::Result<Arc<Self>> {
        let reference = SockRef::from(&socket);
        // Without privilege these are capped silently; `quicwrap doctor` tells the limits.
        reference.set_recv_buffer_size(KERNEL_BUFFER)?;
        reference.set_send_buffer_size(KERNEL_BUFFER)?;
        let state = UdpSocketState::new((&socket).into())?;
        socket.set_nonblocking(true)?;
        let socket = Arc::new(OwnedFd::from(socket));
        let arrivals = watch_shared(Arc::clone(&socket), Interest::READABLE)?;
        let socket = Arc::new(Self {
            arrivals: Mutex::new(Some(arrivals)),
            socket,
            state,
            full: AtomicBool::new(false),
            room: Notify::new(),
            copy: Mutex::default(),
            segment: AtomicUsize::new(1),
            handshakes: Arc::default(),
            joined: Mutex::default(),
            waits: Arc::default(),
        });
        let waits = Arc::clone(&socket.waits);
        tokio::spawn(send_what_waits(Arc::downgrade(&socket), waits));
        Ok(socket)
    }

    /// A handshake with a client begins: what is sent to its address is limited until the returned value says that it is
    /// complete, or is dropped.
    pub(in crate::quic) fn serve(&self, address: SocketAddr) -> Handshake {
        self.handshakes.begin(address, true)
    }

    /// A handshake with a server begins. Until the returned value says that it is complete, or is dropped, what comes too
    /// early is kept.
    pub(in crate::quic) fn dial(&self, address: SocketAddr) -> Handshake {
        self.handshakes.begin(address, false)
    }

    /// Gives the port up at once, although the endpoint holds its socket until its connections have
    /// drained (RFC 9000 section 10.2): a socket without a port takes its place.
    pub(crate) fn free_port(&self) {
        if let Err(error) = self
            .unbound()
            .and_then(|unbound| self.free_port_by(&unbound))
        {
            tracing::warn!(%error, "the port of a closed listener stays in use for a moment");
        }
    }

    /// What takes the place of the socket when the port is given up.
    ///
    /// # Errors
    /// EMFILE, ENFILE.
    pub(in crate::quic) fn unbound(&self) -> io::Result<OwnedFd> {
        let domain = Domain::for_address(self.local_addr()?);
        let unbound = socket2::Socket::new(domain, Type::DGRAM, None)?;
        unbound.set_nonblocking(true)?;
        Ok(unbound.into())
    }

    /// Gives the port up as [`Self::free_port`] does, by what [`Self::unbound`] has made.
    ///
    /// # Errors
    /// EBUSY: see [`replace`].
    pub(in crate::quic) fn free_port_by(&self, unbound: &OwnedFd) -> io::Result<()> {
        let mut joined = self.joined();
        let _: io::Result<()> = self.send_joined(&mut joined);
        // Nothing leaves by the other socket, which is not watched either.
        joined.clear();
        self.arrivals().take();
        self.copy().take();
        let freed = replace(self.socket.as_fd(), unbound);
        self.waits.notify_one();
        Ok(freed?)
    }

    /// The socket itself, for its options.
    pub(in crate::quic) fn reference(&self) -> SockRef<'_> {
        SockRef::from(&*self.socket)
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send((&*self.socket).into(), transmit);
        if let Err(error) = &sent
            && error.kind() == io::ErrorKind::WouldBlock
            && !self.full.swap(true, Ordering::Relaxed)
        {
            self.waits.notify_one();
        }
        sent
    }

    fn arrivals(&self) -> MutexGuard<'_, Option<AsyncFd<Arc<OwnedFd>>>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn copy(&self) -> MutexGuard<'_, Option<AsyncFd<OwnedFd>>> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a copy watched for room.
    ///
    /// # Errors
    /// EMFILE; ENOMEM, ENOSPC: epoll_ctl(2).
    fn watch_for_room(&self) -> io::Result<()> {
        let mut copy = self.copy();
        if copy.is_none() {
            *copy = Some(watch(self.socket.try_clone()?, Interest::WRITABLE)?);
        }
        Ok(())
    }

    /// Ready when that has some, or is there no more.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &*self.copy() {
            Some(copy) => copy.poll_write_ready(cx).map(drop),
            None => Poll::Ready(()),
        }
    }

    /// Whoever waits for room tries again.
    pub(super) fn has_room(&self) {
        self.copy().take();
        self.full.store(false, Ordering::Relaxed);
        self.room.notify_waiters();
    }

    #[cfg(test)]
    pub(super) fn say_full(&self) {
        self.full.store(true, Ordering::Relaxed);
    }

    /// Waits until the socket takes more, as far as is known.
    async fn writable(&self) {
        loop {
            let mut room = pin!(self.room.notified());
            // Registered before the look, so that nothing in between is missed.
            room.as_mut().enable();
            if !self.full.load(Ordering::Relaxed) {
                return;
            }
            room.await;
        }
    }

    /// Sends what has waited.
    ///
    /// # Errors
    /// WouldBlock: it waits on.
    fn send_joined(&self, joined: &mut Joined) -> io::Result<()> {
        if let Some(transmit) = joined.transmit() {
            match self.send(&transmit) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                sent => {
                    joined.clear();
                    return sent;
                }
            }
        }
        Ok(())
    }

    fn joined(&self) -> MutexGuard<'_, Joined> {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the largest send of datagrams of this size.
    fn most(&self, segment: usize) -> usize {
        let segments = (MAX_PAYLOAD / segment.max(1)).min(self.state.max_gso_segments());
        segments.max(1) * segment
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        let _: io::Result<()> = self.send_joined(&mut self.joined());
        self.waits.notify_one();
    }
}

/// Sends what waits for more, as soon as whoever would add to it has had its turn and has not; and watches for room
/// while the socket is full.
async fn send_what_waits(weak: Weak<UdpSocket>, waits: Arc<Notify>) {
    let mut seen = 0;
    loop {
        waits.notified().await;
        loop {
            let_others_run().await;
            let Some(socket) = weak.upgrade() else {
                return;
            };
            if socket.full.load(Ordering::Relaxed) {
                let room = find_room(&weak, socket.watch_for_room());
                drop(socket);
                tokio::select! {
                    () = room => if let Some(socket) = weak.upgrade() {
                        socket.has_room();
                    },
                    // Its port may have been given up, and this copy with it.
                    () = waits.notified() => {}
                }
                continue;
            }
            let mut joined = socket.joined();
            if joined.is_empty() {
                break;
            }
            if std::mem::replace(&mut seen, joined.additions) != joined.additions {
                continue;
            }
            let _: io::Result<()> = socket.send_joined(&mut joined);
        }
    }
}

/// Waits until a socket takes more, if a copy is watched for that, or for a moment.
async fn find_room(socket: &Weak<UdpSocket>, watched: io::Result<()>) {
    if let Err(error) = watched {
        tracing::debug!(%error, "room in a QUIC socket is looked for by the clock");
        return tokio::time::sleep(LOOK_INTERVAL).await;
    }
    poll_fn(|cx| match socket.upgrade() {
        Some(socket) => socket.poll_room(cx),
        None => Poll::Ready(()),
    })
    .await;
}

/// Goes behind all tasks that are ready. tokio's own yield_now goes behind a look at all sockets as well.
async fn let_others_run() {
    let mut have_run = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut have_run, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl AsyncUdpSocket for UdpSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Poller::boxed(move || {
            let is_full = self.full.load(Ordering::Relaxed);
            is_full.then(|| Arc::clone(&self))
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let (bytes, destination) = (transmit.contents.len(), transmit.destination);
        let segment = joined::segment(transmit);
        let allowed = self
            .handshakes
            .allowed(destination, transmit.contents, segment);
        if allowed == 0 && bytes > 0 {
            // Lost on the way, as it were: it is sent again once the address has been validated.
            return Ok(());
        }
        let transmit = &Transmit {
            contents: &transmit.contents[..allowed],
            segment_size: transmit.segment_size.filter(|&segment| segment < allowed),
            ..transmit.clone()
        };
        if transmit.segment_size.is_some() {
            self.segment.store(segment.max(1), Ordering::Relaxed);
        }
        let mut joined = self.joined();
        let most = |joined: &Joined| self.most(joined.segment().unwrap_or(segment));
        if !joined.takes(transmit, most(&joined)) {
            self.send_joined(&mut joined)?;
        }
        let most = most(&joined);
        if !joined.is_empty() || joined::may_wait(transmit, most) {
            // If the socket takes no more now, all of it waits.
            if joined.add(transmit, most) || self.send_joined(&mut joined).is_err() {
                self.waits.notify_one();
            }
            return Ok(());
        }
        drop(joined);
        for contents in transmit.contents.chunks(most.max(1)) {
            // Where the socket fills up in between, quinn sends the whole again; the peer drops what
            // it has seen.
            self.send(&Transmit {
                contents,
                segment_size: transmit
                    .segment_size
                    .filter(|&segment| segment < contents.len()),
                ..transmit.clone()
            })?;
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let arrivals = self.arrivals();
        let Some(arrivals) = &*arrivals else {
            // The port was given up: nothing comes any more.
            return Poll::Pending;
        };
        let late = self.handshakes.poll_late(cx, bufs, meta);
        if late > 0 {
            return Poll::Ready(Ok(late));
        }
        loop {
            let mut ready = ready!(arrivals.poll_read_ready(cx))?;
            let batch = bufs.len().min(RECEIVE_BATCH);
            let socket = (&*self.socket).into();
            match self.state.recv(socket, &mut bufs[..batch], meta) {
                Ok(count) => {
                    if count < batch {
                        // Nothing is left: asking once more, only to hear so, would cost another system call. What
                        // comes from now on is told by epoll again, which is asked by this thread, and later.
                        ready.clear_ready();
                    }
                    for (buffer, meta) in bufs.iter_mut().zip(&mut meta[..count]) {
                        self.handshakes.received(buffer, meta);
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                // An error that a datagram of ours has met must not end the endpoint.
                Err(error) => tracing::debug!(%error, "receiving on a QUIC socket"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = self.reference().local_addr()?;
        address
            .as_socket()
            .ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    /// As many as fill a send: of a larger batch the rest would make a small one.
    fn max_transmit_segments(&self) -> usize {
        let segment = self.segment.load(Ordering::Relaxed);
        self.most(segment) / segment
    }

    /// Two although the kernel joins more: quinn multiplies this by [`MAX_UDP_PAYLOAD`] to size each receive buffer, and 64
    /// KiB is all that joined datagrams can have.
    fn max_receive_segments(&self) -> usize {
        2
    }
}

type Writable = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// Waits for a socket to take more. Each connection has its own, so that all are woken.
pub(super) struct Poller {
    /// The socket to wait for, if there is one that takes no more.
    full: Box<dyn Fn() -> Option<Arc<UdpSocket>> + Send + Sync>,
    waiting: Option<Writable>,
}

impl Poller {
    pub(super) fn boxed(
        full: impl Fn() -> Option<Arc<UdpSocket>> + Send + Sync + 'static,
    ) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Self {
            full: Box::new(full),
            waiting: None,
        })
    }
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.waiting.is_none() {
            let Some(socket) = (this.full)() else {
                return Poll::Ready(Ok(()));
            };
            this.waiting = Some(Box::pin(async move { socket.writable().await }));
        }
        if let Some(waiting) = &mut this.waiting {
            ready!(waiting.as_mut().poll(cx));
        }
        this.waiting = None;
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Poller").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_was_given_up_can_be_bound_although_the_socket_lives() {
        let socket = UdpSocket::new(StdUdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        assert!(StdUdpSocket::bind(address).is_err());
        socket.free_port();
        assert!(StdUdpSocket::bind(address).is_ok());
    }

    #[tokio::test]
    async fn a_port_can_be_given_up_while_room_is_waited_for() {
        let socket = UdpSocket::new(StdUdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        socket.watch_for_room().unwrap();
        socket.free_port();
        assert!(StdUdpSocket::bind(address).is_ok());
        // Nobody waits for what is not watched any more.
        poll_fn(|cx| socket.poll_room(cx)).await;
        assert_eq!(Arc::strong_count(&socket.socket), 1);
    }

    /// No socket on loopback is ever full.
    #[tokio::test]
    async fn all_who_wait_for_room_are_woken_when_there_is_some() {
        let socket = UdpSocket::new(StdUdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        socket.say_full();
        let wait = || {
            let mut poller = Arc::clone(&socket).create_io_poller();
            tokio::spawn(async move { poll_fn(|cx| poller.as_mut().poll_writable(cx)).await })
        };
        let waiting = [wait(), wait()];
        tokio::task::yield_now().await;
        assert!(waiting.iter().all(|each| !each.is_finished()));
        socket.waits.notify_one();
        for each in waiting {
            each.await.unwrap().unwrap();
        }
        assert!(!socket.full.load(Ordering::Relaxed) && socket.copy().is_none());
    }

    /// Sends this many datagrams of 1,200 bytes, as quinn does, and a shorter one if `last` says so; each has its number.
    fn send_in_batches(sender: &UdpSocket, destination: SocketAddr, count: u8, last: bool) {
        let numbers: Vec<u8> = (0..count).collect();
        for batch in numbers.chunks(10) {
            let mut contents: Vec<u8> = batch.iter().flat_map(|number| [*number; 1200]).collect();
            if last && batch.last() == numbers.last() {
                contents.truncate(contents.len() - 1);
            }
            let transmit = Transmit {
                destination,
                ecn: None,
                contents: &contents,
                segment_size: (batch.len() > 1).then_some(1200),
                src_ip: None,
            };
            sender.try_send(&transmit).unwrap();
        }
    }

    #[tokio::test]
    async fn what_waits_for_more_arrives_whole_and_in_order() {
        let receiver = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let destination = receiver.local_addr().unwrap();
        let sender = UdpSocket::new(StdUdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let mut buffer = [0; 2000];
        for (count, is_short) in [
            (10, false),
            (20, false),
            (20, true),
            (31, true),
            (95, false),
        ] {
            send_in_batches(&sender, destination, count, is_short);
            let waits = count % 10 == 0 && !is_short;
            assert_eq!(sender.joined().is_empty(), !waits, "{count}");
            for number in 0..count {
                let length = receiver.recv(&mut buffer).await.unwrap();
                let short = usize::from(is_short && number == count - 1);
                assert_eq!((length, buffer[0]), (1200 - short, number));
            }
        }
    }

    #[tokio::test]
    async fn what_waits_leaves_before_the_port_is_given_up_and_the_task_ends_with_the_socket() {
        let receiver = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let destination = receiver.local_addr().unwrap();
        let sender = UdpSocket::new(StdUdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        send_in_batches(&sender, destination, 10, false);
        sender.free_port();
        let mut buffer = [0; 2000];
        for number in 0..10 {
            assert_eq!(receiver.recv(&mut buffer).await.unwrap(), 1200);
            assert_eq!(buffer[0], number);
        }
        let waits = Arc::downgrade(&sender.waits);
        drop(sender);
        while waits.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_batch_larger_than_a_datagram_arrives_whole() {
        let receiver = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let sender = UdpSocket::new(StdUdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let segment = 16_336;
        let contents: Vec<u8> = (0..10 * segment)
            .map(|index| (index / segment) as u8)
            .collect();
        sender
            .try_send(&Transmit {
                destination: receiver.local_addr().unwrap(),
                ecn: None,
                contents: &contents,
                segment_size: Some(segment),
                src_ip: None,
            })
            .unwrap();
        let mut buffer = vec![0; 65_536];
        for expected in 0..10 {
            let length = receiver.recv(&mut buffer).await.unwrap();
            assert_eq!((length, buffer[0]), (segment, expected));
        }
    }
}
