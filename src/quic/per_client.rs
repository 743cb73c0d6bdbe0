//! What takes the place of a port's socket when the port is given to somebody else while connections live on: a socket for
//! each client, connected to it. The kernel gives a datagram to the socket that is connected to its sender rather than to
//! one that hears everybody, so both can be bound to one port.
//!
//! A client whose address changes from now on is not found any more: its datagrams go to who has the port.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, VecDeque},
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use socket2::{Domain, Socket, Type};

use super::udp::{Poller, UdpSocket};

/// A client as an endpoint sees it: its address, and the own address that it sends to, if that is known.
pub(super) type Client = (SocketAddr, Option<IpAddr>);

/// The sockets of one endpoint.
#[derive(Debug)]
pub(super) struct PerClient {
    local: SocketAddr,
    sockets: Vec<Arc<UdpSocket>>,
    /// Which of them is whose.
    by_client: HashMap<Client, usize>,
    /// Each socket's own waker.
    wakers: Vec<Waker>,
    readiness: Arc<Readiness>,
    /// The one that took no more the last time.
    full: Mutex<Option<Arc<UdpSocket>>>,
}

/// Which sockets may have something.
#[derive(Debug)]
struct Readiness(Mutex<Ready>);

#[derive(Debug)]
struct Ready {
    queue: VecDeque<usize>,
    /// Of each socket, whether it is in the queue.
    queued: Vec<bool>,
    /// Who waits for one.
    waker: Option<Waker>,
}

impl Readiness {
    /// All of so many sockets may.
    fn of_all(count: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Ready {
            queue: (0..count).collect(),
            queued: vec![true; count],
            waker: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Ready> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a socket. Returns who waits for one.
    fn add(&self, number: usize) -> Option<Waker> {
        let mut ready = self.lock();
        if !std::mem::replace(&mut ready.queued[number], true) {
            ready.queue.push_back(number);
        }
        ready.waker.take()
    }

    /// Takes the next, or notes who waits for one.
    fn next(&self, waits: &Waker) -> Option<usize> {
        let mut ready = self.lock();
        let next = ready.queue.pop_front();
        match next {
            Some(number) => ready.queued[number] = false,
            None => ready.waker = Some(waits.clone()),
        }
        next
    }
}

/// Notes that a socket may have something, and wakes the endpoint.
struct Signal {
    number: usize,
    readiness: Arc<Readiness>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        if let Some(waker) = self.readiness.add(self.number) {
            waker.wake();
        }
    }
}

impl PerClient {
    /// Makes the sockets beside the one that all clients share, which admits them. To be called within the runtime of its
    /// endpoint.
    ///
    /// # Errors
    /// EMFILE, and as bind(2) and connect(2).
    pub(super) fn beside(shared: &UdpSocket, clients: &[Client]) -> io::Result<Arc<Self>> {
        let local = shared.local_addr()?;
        let v6_only = local.is_ipv6() && shared.reference().only_v6()?;
        let connected = |(client, own): &Client| connect(local, *client, *own, v6_only);
        let sockets = clients
            .iter()
            .map(connected)
            .collect::<io::Result<Vec<_>>>()?;
        let readiness = Readiness::of_all(sockets.len());
        let waker = |number| {
            let readiness = Arc::clone(&readiness);
            Arc::new(Signal { number, readiness }).into()
        };
        Ok(Arc::new(Self {
            local,
            by_client: clients.iter().copied().zip(0..).collect(),
            wakers: (0..sockets.len()).map(waker).collect(),
            sockets,
            readiness,
            full: Mutex::default(),
        }))
    }

    /// Whether others can be bound to the port, if they say the same: see SO_REUSEADDR in socket(7).
    ///
    /// # Errors
    /// None, in truth.
    pub(super) fn admit_others(&self, others: bool) -> io::Result<()> {
        let mut each = self.sockets.iter();
        each.try_for_each(|socket| socket.reference().set_reuse_address(others))
    }

    /// Gives the socket of a client up.
    pub(super) fn part_from(&self, client: Client) {
        if let Some(&number) = self.by_client.get(&client) {
            self.sockets[number].free_port();
        }
    }

    /// Gives the port up altogether: see [`UdpSocket::free_port`].
    pub(super) fn free_port(&self) {
        for socket in &self.sockets {
            socket.free_port();
        }
    }

    fn full(&self) -> MutexGuard<'_, Option<Arc<UdpSocket>>> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket on the port that hears one client alone.
fn connect(
    local: SocketAddr,
    client: SocketAddr,
    own: Option<IpAddr>,
    v6_only: bool,
) -> io::Result<Arc<UdpSocket>> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, None)?;
    if local.is_ipv6() {
        socket.set_only_v6(v6_only)?;
    }
    socket.set_reuse_address(true)?;
    let own = match own.unwrap_or(local.ip()) {
        IpAddr::V4(v4) if local.is_ipv6() => v4.to_ipv6_mapped().into(),
        own => own,
    };
    let mut bound = local;
    bound.set_ip(own);
    if let (SocketAddr::V6(bound), SocketAddr::V6(client)) = (&mut bound, client) {
        // A link-local address means nothing without its link, ipv6(7). A client of this host may call it from another.
        if client.scope_id() != 0 {
            bound.set_scope_id(client.scope_id());
        }
    }
    socket.bind(&bound.into())?;
    socket.connect(&client.into())?;
    UdpSocket::new(socket.into())
}

impl AsyncUdpSocket for PerClient {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        // A connection waits for room right after it has found that there is none.
        Poller::boxed(move || self.full().take())
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let client = (transmit.destination, transmit.src_ip);
        let Some(&number) = self.by_client.get(&client) else {
            // An address that a client has had: lost on the way.
            return Ok(());
        };
        let socket = &self.sockets[number];
        socket.try_send(transmit).inspect_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                *self.full() = Some(Arc::clone(socket));
            }
        })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let Some(number) = self.readiness.next(cx.waker()) else {
                return Poll::Pending;
            };
            let mut own = Context::from_waker(&self.wakers[number]);
            if let Poll::Ready(received) = self.sockets[number].poll_recv(&mut own, bufs, meta) {
                // There may be more; behind what others have.
                self.readiness.add(number);
                return Poll::Ready(received);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn may_fragment(&self) -> bool {
        self.sockets.iter().all(|socket| socket.may_fragment())
    }

    fn max_transmit_segments(&self) -> usize {
        // Sends are cut where another takes less.
        self.sockets
            .first()
            .map_or(1, |socket| socket.max_transmit_segments())
    }

    fn max_receive_segments(&self) -> usize {
        self.sockets
            .first()
            .map_or(1, |socket| socket.max_receive_segments())
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, net::UdpSocket as StdUdpSocket};

    use super::*;

    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

    /// The content and the sender of the next datagram.
    async fn receive(sockets: &PerClient) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 65_536];
        let mut meta = [RecvMeta::default()];
        let received = poll_fn(|cx| {
            let mut bufs = [IoSliceMut::new(&mut buffer)];
            sockets.poll_recv(cx, &mut bufs, &mut meta)
        });
        let received = tokio::time::timeout(PATIENCE, received);
        assert_eq!(received.await.unwrap().unwrap(), 1);
        buffer.truncate(meta[0].len);
        (buffer, meta[0].addr)
    }

    fn to(destination: SocketAddr, contents: &[u8]) -> Transmit<'_> {
        Transmit {
            destination,
            ecn: None,
            contents,
            segment_size: None,
            src_ip: Some("127.0.0.1".parse().unwrap()),
        }
    }

    #[tokio::test]
    async fn each_client_is_heard_and_answered_and_strangers_go_to_who_has_the_port() {
        let any = "127.0.0.1:0";
        let [one, two, stranger] = [(); 3].map(|()| {
            let socket = StdUdpSocket::bind(any).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        });
        let shared = UdpSocket::new(StdUdpSocket::bind(any).unwrap()).unwrap();
        let port = shared.local_addr().unwrap();
        shared.reference().set_reuse_address(true).unwrap();
        let own = Some(port.ip());
        let clients = [&one, &two].map(|client| (client.local_addr().unwrap(), own));
        let sockets = PerClient::beside(&shared, &clients).unwrap();
        shared.free_port();
        assert!(StdUdpSocket::bind(port).is_err());
        let next = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        next.set_reuse_address(true).unwrap();
        next.bind(&port.into()).unwrap();
        let next = StdUdpSocket::from(next);
        next.set_read_timeout(Some(PATIENCE)).unwrap();
        stranger.send_to(b"stranger", port).unwrap();
        for turn in 0..3 {
            for (client, (address, _)) in [&one, &two].into_iter().zip(clients) {
                let text = format!("{turn} {address}").into_bytes();
                client.send_to(&text, port).unwrap();
                assert_eq!(receive(&sockets).await, (text.clone(), address));
                sockets.try_send(&to(address, &text)).unwrap();
                let mut room = [0; 64];
                assert_eq!(client.recv_from(&mut room).unwrap(), (text.len(), port));
            }
        }
        // Of a client that was elsewhere before: lost.
        let strange = stranger.local_addr().unwrap();
        sockets.try_send(&to(strange, b"x")).unwrap();
        let mut room = [0; 64];
        let (bytes, from) = next.recv_from(&mut room).unwrap();
        assert_eq!((&room[..bytes], from), (&b"stranger"[..], strange));
        drop(next);
        sockets.admit_others(false).unwrap();
        let refused = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        refused.set_reuse_address(true).unwrap();
        assert!(refused.bind(&port.into()).is_err());
        sockets.part_from(clients[0]);
        assert!(StdUdpSocket::bind(port).is_err());
        sockets.part_from(clients[1]);
        assert!(StdUdpSocket::bind(port).is_ok());
    }

    #[tokio::test]
    async fn who_waits_for_room_waits_for_the_socket_that_is_full() {
        let peer = StdUdpSocket::bind("127.0.0.1:0").unwrap();
        let shared = UdpSocket::new(StdUdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        shared.reference().set_reuse_address(true).unwrap();
        let clients = [(peer.local_addr().unwrap(), None)];
        let sockets = PerClient::beside(&shared, &clients).unwrap();
        let mut poller = Arc::clone(&sockets).create_io_poller();
        let poll = |cx: &mut Context<'_>| poller.as_mut().poll_writable(cx);
        poll_fn(poll).await.unwrap();
        let socket = &sockets.sockets[0];
        socket.say_full();
        *sockets.full() = Some(Arc::clone(socket));
        let waiting = tokio::spawn({
            let mut poller = Arc::clone(&sockets).create_io_poller();
            async move { poll_fn(|cx| poller.as_mut().poll_writable(cx)).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        socket.has_room();
        waiting.await.unwrap().unwrap();
    }
}
