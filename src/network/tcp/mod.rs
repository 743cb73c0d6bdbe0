//! Connections that stay on TCP, by a rule or because nobody answers over QUIC: the same pair and the same
//! events, with the kernel's TCP at the far side.
#![forbid(unsafe_code)]

pub(crate) mod bridge;
mod info;

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use nix::errno::Errno;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

pub(crate) use info::path;

use super::{
    listeners::{Arrival, Listeners},
    shared::Shared,
};
use crate::emul::{address::canonical, transport::BindRequest};

/// Connections that the kernel keeps until the program's own queue, which is as long as its backlog says,
/// has a place for them: as many as the system allows (net.core.somaxconn), for they may come at once.
const BACKLOG: i32 = i32::MAX;
/// MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL of the kernel.
const LONGEST_KEEPALIVE: Duration = Duration::from_secs(32_767);
/// Pause after accept(2) found no descriptor.
const NO_DESCRIPTOR_PAUSE: Duration = Duration::from_millis(100);

/// Reserves a port; nobody can connect to it yet.
///
/// # Errors
/// As bind(2).
pub(crate) fn reserve(request: &BindRequest) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(request.address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(request.reuse_address)?;
    socket.set_reuse_port(request.reuse_port)?;
    if request.address.is_ipv6() {
        socket.set_only_v6(request.v6_only)?;
    }
    socket.bind(&request.address.into())?;
    let address = socket.local_addr()?.as_socket().unwrap_or(request.address);
    Ok((socket, address))
}

/// Takes TCP connections on a port until dropped.
#[derive(Debug)]
pub(crate) struct Acceptor {
    /// Until it is dropped: the port is free at once then, as after close(2), although the task ends a little later.
    listener: Arc<Mutex<Option<TcpListener>>>,
    task: AbortHandle,
}

impl Acceptor {
    /// Starts to. To be called within the runtime.
    ///
    /// # Errors
    /// As listen(2): EADDRINUSE.
    pub(crate) fn start(
        socket: Socket,
        listeners: Arc<Listeners>,
        shared: &Arc<Shared>,
    ) -> io::Result<Self> {
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        let listener = Arc::new(Mutex::new(Some(listener)));
        let accepting = accept(Arc::clone(&listener), listeners, Arc::clone(shared));
        let task = shared
            .workers
            .first()
            .handle
            .spawn(accepting)
            .abort_handle();
        Ok(Self { listener, task })
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.task.abort();
        lock(&self.listener).take();
    }
}

fn lock(listener: &Mutex<Option<TcpListener>>) -> MutexGuard<'_, Option<TcpListener>> {
    listener.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next connection, and when it came; none once the listener is no more.
async fn next(
    listener: &Mutex<Option<TcpListener>>,
    listeners: &Listeners,
) -> Option<(io::Result<TcpStream>, Option<Arrival>)> {
    poll_fn(|cx| match &*lock(listener) {
        Some(listener) => listener.poll_accept(cx).map(|accepted| {
            let stream = accepted.map(|(stream, _)| stream);
            // While this is locked nobody listens anew.
            Some((stream, listeners.arrival()))
        }),
        None => Poll::Ready(None),
    })
    .await
}

async fn accept(
    listener: Arc<Mutex<Option<TcpListener>>>,
    listeners: Arc<Listeners>,
    shared: Arc<Shared>,
) {
    while let Some((accepted, arrival)) = next(&listener, &listeners).await {
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "no TCP connection can be accepted; raise the limit of open files (ulimit -n)");
                tokio::time::sleep(NO_DESCRIPTOR_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = enter((stream, arrival), &listeners, &shared).await {
            tracing::debug!(%error, "a TCP connection was turned away");
        }
    }
}

/// accept(2): errors that a connection brings along, and those of a listener that is being closed.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
        )
    )
}

async fn enter(
    (stream, arrival): (TcpStream, Option<Arrival>),
    listeners: &Listeners,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    let (local, peer) = (
        canonical(stream.local_addr()?),
        canonical(stream.peer_addr()?),
    );
    // A connection that nobody takes is reset, tcp(7), as by a listener that is closed.
    let socket = SockRef::from(&stream);
    socket.set_linger(Some(Duration::ZERO))?;
    let path = path(&stream).unwrap_or_default();
    let arrival = arrival.ok_or(Errno::ECONNREFUSED)?;
    let entered = listeners.enter(arrival, (local, peer), path, &*shared.events);
    let (id, end) = entered.await?;
    socket.set_linger(None)?;
    tune(socket, shared.settings.idle_timeout)?;
    let shared = Arc::clone(shared);
    tokio::spawn(async move { shared.bridge_tcp(id, end, stream).await });
    Ok(())
}

/// A socket of the peer's family, bound if the source was chosen.
fn bound(peer: SocketAddr, source: Option<SocketAddr>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if let Some(source) = source {
        // Beside connections from the same port to other peers.
        socket.set_reuse_address(true)?;
        socket.bind(&source.into())?;
    }
    Ok(socket)
}

/// The peer as a socket of IPv6 is to name it, ipv6(7): one that was bound serves both families.
fn in_family(peer: SocketAddr, of_v6: bool) -> SocketAddr {
    match peer {
        SocketAddr::V4(v4) if of_v6 => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        other => other,
    }
}

/// What every connection is given.
fn tune(socket: SockRef<'_>, idle_timeout: Duration) -> io::Result<()> {
    /// Probes that go unanswered before a connection is given up, tcp(7).
    const PROBES: u32 = 5;
    // The program's writes are joined where they wait, in the pair.
    socket.set_tcp_nodelay(true)?;
    // As QUIC has it: a peer that is silent for the idle timeout is gone.
    let first = (idle_timeout / 2).max(Duration::from_secs(1));
    let between = (first / PROBES).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new()
        .with_time(first.min(LONGEST_KEEPALIVE))
        .with_interval(between.min(LONGEST_KEEPALIVE))
        .with_retries(PROBES);
    socket.set_tcp_keepalive(&keepalive)
}

/// An attempt to connect.
#[derive(Debug)]
pub(crate) struct Attempt {
    stream: TcpStream,
    /// The address that the kernel has chosen, or that was asked for.
    pub(crate) local: SocketAddr,
    /// Why it has come to nothing already: a port of this host answers before connect(2) returns.
    pub(crate) failed: Option<Errno>,
}

impl Attempt {
    /// Sends a SYN, from the socket that holds the port already if there is one. To be called within the
    /// runtime.
    ///
    /// # Errors
    /// As connect(2), where no answer is needed to know: ENETUNREACH, EADDRNOTAVAIL.
    pub(crate) fn start(
        peer: SocketAddr,
        source: Option<SocketAddr>,
        reserved: Option<Socket>,
        idle_timeout: Duration,
    ) -> Result<Self, Errno> {
        let started = || -> io::Result<Self> {
            let socket = match reserved {
                Some(socket) => socket,
                None => bound(peer, source)?,
            };
            tune(SockRef::from(&socket), idle_timeout)?;
            let of_v6 = socket.domain()? == Domain::IPV6;
            match socket.connect(&in_family(peer, of_v6).into()) {
                Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
                _ => {}
            }
            let local = canonical(socket.local_addr()?.as_socket().unwrap_or(peer));
            let failed = socket.take_error()?.and_then(|error| error.raw_os_error());
            let stream = TcpStream::from_std(socket.into())?;
            Ok(Self {
                stream,
                local,
                failed: failed.map(Errno::from_raw),
            })
        };
        started().map_err(|error| match error.raw_os_error() {
            Some(libc::EADDRINUSE) => Errno::EADDRNOTAVAIL,
            Some(number) => Errno::from_raw(number),
            None => Errno::ENETUNREACH,
        })
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// As connect(2): ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT.
    pub(crate) async fn established(self) -> Result<TcpStream, Errno> {
        let failure =
            |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::ECONNABORTED));
        if let Some(errno) = self.failed {
            return Err(errno);
        }
        self.stream.writable().await.map_err(failure)?;
        match self.stream.take_error().map_err(failure)? {
            Some(error) => Err(failure(error)),
            None => Ok(self.stream),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_is_found_out_within_the_idle_timeout() {
        for (seconds, first, between) in [(300, 150, 30), (1, 1, 1), (u32::MAX, 32_767, 32_767)] {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            tune(SockRef::from(&socket), Duration::from_secs(seconds.into())).unwrap();
            assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
            let seconds = Duration::from_secs;
            assert_eq!(socket.tcp_keepalive_time().unwrap(), seconds(first));
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), seconds(between));
        }
    }
}
