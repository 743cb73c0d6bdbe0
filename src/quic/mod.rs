//! The network side: TCP connections as streams of pooled QUIC connections.
//!
//! One thread runs everything here. [`Quic`] is the emulation's [`Transport`]; what happens to
//! connections goes back through its [`Events`].
#![forbid(unsafe_code)]

mod bindings;
mod bridge;
mod code;
mod config;
mod flow;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod identity;
mod known_hosts;
mod link;
mod pool;
mod preface;
mod route;
mod server;
mod state_dir;
pub(crate) mod trust;
mod udp;
mod verifier;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    thread,
    time::Duration,
};

use nix::errno::Errno;
use quinn::{EndpointConfig, RecvStream, SendStream};
use tokio::{
    runtime::{Builder, Handle},
    sync::{Notify, oneshot},
    task::AbortHandle,
};

use self::{
    bindings::Bindings,
    code::Refusal,
    flow::Flow,
    link::Share,
    pool::{Key, Pool},
    preface::Preface,
    server::{Server, ServerError},
    trust::Trust,
};
use crate::emul::{
    socket::SocketId,
    transport::{BindRequest, BridgedEnd, ConnectRequest, Events, PathInfo, Transport},
};

/// How long the connections are given to send CONNECTION_CLOSE. All streams are over by then, so one
/// that is lost costs the peer nothing but an idle connection, and a successor on the same port waits
/// no longer than this.
const FAREWELL_TIME: Duration = Duration::from_millis(5);

/// What the tasks of the network share.
struct Shared {
    handle: Handle,
    events: Arc<dyn Events>,
    idle_timeout: Duration,
    flows: Mutex<HashMap<SocketId, Arc<Flow>>>,
    /// Notified when a flow has ended or delivered everything.
    progress: Arc<Notify>,
}

/// The network, as the emulation knows it.
pub(crate) struct Quic {
    shared: Arc<Shared>,
    trust: Arc<Trust>,
    pool: Arc<Pool>,
    bindings: Arc<Mutex<Bindings>>,
    attempts: Arc<Mutex<HashMap<SocketId, AbortHandle>>>,
}

/// The network's thread.
#[derive(Debug)]
pub(crate) struct Thread {
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Quic {
    /// Starts the network's thread.
    ///
    /// # Errors
    /// EAGAIN, EMFILE: no thread or no epoll descriptor.
    pub(crate) fn start(
        trust: Trust,
        idle_timeout: Duration,
        events: Arc<dyn Events>,
    ) -> std::io::Result<(Arc<Self>, Thread)> {
        // One thread was fastest on two cores: no packet changes threads.
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::new(Shared {
            handle: runtime.handle().clone(),
            events,
            idle_timeout,
            flows: Mutex::default(),
            progress: Arc::default(),
        });
        let trust = Arc::new(trust);
        let quic = Arc::new(Self {
            pool: Pool::new(Arc::clone(&trust), idle_timeout),
            shared,
            trust,
            bindings: Arc::default(),
            attempts: Arc::default(),
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name("quic".to_owned())
            .spawn(move || {
                // An error means that the sender was dropped, which ends this thread as well.
                let _ = runtime.block_on(stopped);
            })?;
        Ok((quic, Thread { stop, thread }))
    }

    /// Calls `Events::drained` once what closed sockets hold has reached its peers.
    pub(crate) fn drain(&self) {
        let shared = Arc::clone(&self.shared);
        self.shared.handle.spawn(async move {
            shared
                .none_left(|flow| flow.is_undelivered() && flow.is_hung_up())
                .await;
            shared.events.drained();
        });
    }

    /// Waits until all that programs wrote has reached its peers, for at most `patience`. Returns
    /// whether it has. For when no wrapped task is left: what is still open then is about to be
    /// closed by the kernel, or is held by a process that was never wrapped.
    pub(crate) fn deliver(&self, patience: Duration) -> bool {
        let shared = Arc::clone(&self.shared);
        let (done, delivered) = oneshot::channel();
        self.shared.handle.spawn(async move {
            let all = shared.none_left(Flow::is_undelivered);
            let _ = done.send(tokio::time::timeout(patience, all).await.is_ok());
        });
        delivered.blocking_recv().unwrap_or(false)
    }

    /// Takes leave of the peers, frees all ports, and ends the thread.
    pub(crate) fn finish(&self, thread: Thread) {
        let pool = Arc::clone(&self.pool);
        let servers = self.bindings().servers();
        let (done, finished) = oneshot::channel();
        self.shared.handle.spawn(async move {
            pool.close();
            for server in &servers {
                server.close();
            }
            tokio::time::sleep(FAREWELL_TIME).await;
            for server in &servers {
                server.free_port();
            }
            let _ = done.send(());
        });
        let _ = finished.blocking_recv();
        let _ = thread.stop.send(());
        if thread.thread.join().is_err() {
            tracing::error!("internal error in the network's thread. Please report this");
        }
    }

    fn bindings(&self) -> MutexGuard<'_, Bindings> {
        self.bindings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempts(&self) -> MutexGuard<'_, HashMap<SocketId, AbortHandle>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a server once the connections that its listeners had accepted are over.
    fn wind_down(&self, address: SocketAddr, server: Arc<Server>) {
        let bindings = Arc::clone(&self.bindings);
        self.shared.handle.spawn(async move {
            server.go_away();
            server.unused().await;
            let lock = || bindings.lock().unwrap_or_else(PoisonError::into_inner);
            let retired = lock().retire(address);
            if let Some(server) = retired {
                server.retire().await;
                lock().forget_retired();
            }
        });
    }
}

impl Transport for Quic {
    fn bind(&self, id: SocketId, request: BindRequest) -> Result<SocketAddr, Errno> {
        self.bindings().bind(id, request, |server| {
            let flows = self.shared.flows();
            let mut accepted = flows.values().filter(|flow| server.has(&flow.link));
            accepted.any(|flow| !flow.is_hung_up())
        })
    }

    fn listen(&self, id: SocketId) -> Result<(), Errno> {
        let mut bindings = self.bindings();
        let binding = bindings.of(id).ok_or(Errno::EINVAL)?;
        if !binding.may_listen(id) {
            return Err(Errno::EADDRINUSE);
        }
        let server = match (&binding.server, binding.socket.take()) {
            (Some(server), _) => Arc::clone(server),
            (None, None) => return Err(Errno::EINVAL),
            (None, Some(socket)) => {
                let _runtime = self.shared.handle.enter();
                let request = binding.request(id).ok_or(Errno::EINVAL)?;
                let open = bindings::open(socket, &request).map_err(ServerError::from);
                let started =
                    open.and_then(|socket| Server::start(socket, &self.trust, &self.shared));
                let server = started.map_err(|error| {
                    tracing::error!("cannot listen: {error}");
                    Errno::EACCES
                })?;
                binding.server = Some(Arc::clone(&server));
                server
            }
        };
        binding.listeners.insert(id);
        server.add(id);
        Ok(())
    }

    fn unlisten(&self, id: SocketId) {
        let unlistened = self.bindings().unlisten(id);
        if let Some((address, server)) = unlistened
            && server.remove(id)
        {
            self.pool.retire(address);
            self.shared.handle.spawn(async move { server.go_away() });
        }
    }

    fn connect(&self, id: SocketId, request: ConnectRequest) -> Result<SocketAddr, Errno> {
        let source = request.source.map(|mut source| {
            source.set_port(0);
            source
        });
        let mut route = route::find(request.peer, source)?;
        route
            .local
            .set_port(request.source.map_or(0, |source| source.port()));
        let port = self.bindings().connect(id, route.local, request.peer)?;
        let key = Key {
            peer: request.peer,
            source: source.unwrap_or(pool::any_source(request.peer)),
        };
        let attempt = connect(
            id,
            key,
            Preface { source_port: port },
            request.timeout,
            Arc::clone(&self.pool),
            Arc::clone(&self.shared),
        );
        let attempts = Arc::clone(&self.attempts);
        // Locked while the task is spawned, so that it cannot end before it is noted.
        let mut noted = self.attempts();
        let task = self.shared.handle.spawn(async move {
            let established = attempt.await;
            attempts
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&id);
            if let Some(bridge) = established {
                bridge.await;
            }
        });
        noted.insert(id, task.abort_handle());
        route.local.set_port(port);
        Ok(route.local)
    }

    fn abandon(&self, id: SocketId) {
        if let Some(attempt) = self.attempts().remove(&id) {
            attempt.abort();
        }
        self.bindings().disconnect(id);
    }

    fn release(&self, id: SocketId) {
        self.abandon(id);
        let orphaned = self.bindings().release(id);
        if let Some((address, server)) = orphaned {
            self.wind_down(address, server);
        }
    }

    fn path(&self, id: SocketId) -> Option<PathInfo> {
        let flow = self.shared.flows().get(&id).cloned()?;
        let stats = flow.link.connection.stats();
        let (packets_before, bytes_before) = flow.lost_before;
        let mtu = stats.path.current_mtu;
        Some(PathInfo {
            rtt: stats.path.rtt,
            min_rtt: stats.path.min_rtt,
            cwnd: stats.path.cwnd,
            mss: mtu.saturating_sub(config::OVERHEAD).into(),
            mtu: mtu.into(),
            lost_packets: stats.path.lost_packets.saturating_sub(packets_before),
            lost_bytes: stats.path.lost_bytes.saturating_sub(bytes_before),
            sent_packets: stats.udp_tx.datagrams,
            received_packets: stats.udp_rx.datagrams,
            bytes_sent: flow.sent.load(Ordering::Relaxed),
            bytes_received: flow.received.load(Ordering::Relaxed),
        })
    }

    fn congestion(&self) -> &'static str {
        config::CONGESTION
    }
}

/// Connects, and returns the bridge that is to run then; none if it came to nothing.
async fn connect(
    id: SocketId,
    key: Key,
    preface: Preface,
    timeout: Duration,
    pool: Arc<Pool>,
    shared: Arc<Shared>,
) -> Option<impl Future<Output = ()>> {
    let opened = tokio::time::timeout(timeout, open_stream(&pool, key, preface)).await;
    let refusal = match opened {
        Ok(Ok((share, send, recv))) => {
            let end = shared.events.connected(id)?;
            return Some(async move { shared.bridge(id, end, share, send, recv).await });
        }
        Ok(Err(refusal)) => refusal,
        Err(_) => Refusal {
            errno: Errno::ETIMEDOUT,
            advice: Some(format!(
                "nothing that speaks QUIC answered within {timeout:?}; is its program running under quicwrap, and does a firewall let UDP port {} through?",
                key.peer.port()
            )),
        },
    };
    if let Some(advice) = &refusal.advice {
        tracing::error!("cannot connect to {}: {advice}", key.peer);
    }
    shared.events.failed(id, refusal.errno);
    None
}

async fn open_stream(
    pool: &Arc<Pool>,
    key: Key,
    preface: Preface,
) -> Result<(Share, SendStream, RecvStream), Refusal> {
    let lost = |_| Refusal::from(Errno::ECONNREFUSED);
    let share = pool.share(key).await?;
    let (mut send, recv) = share.connection.open_bi().await.map_err(lost)?;
    let written = send.write_all(&preface.encode()).await;
    written.map_err(|_| Refusal::from(Errno::ECONNREFUSED))?;
    Ok((share, send, recv))
}

impl Shared {
    fn flows(&self) -> MutexGuard<'_, HashMap<SocketId, Arc<Flow>>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bridges a connection to its end.
    async fn bridge(
        &self,
        id: SocketId,
        end: BridgedEnd,
        share: Share,
        send: SendStream,
        recv: RecvStream,
    ) {
        let flow = match Flow::new(id, end, share, Arc::clone(&self.progress)) {
            Ok(flow) => Arc::new(flow),
            Err(error) => {
                tracing::error!(%error, "cannot watch a connection, which is dropped");
                return self.events.closed(id);
            }
        };
        self.flows().insert(id, Arc::clone(&flow));
        bridge::run(flow, send, recv, &*self.events).await;
        self.flows().remove(&id);
        self.progress.notify_waiters();
    }

    /// Resolves once no flow is left for which `awaited` holds.
    async fn none_left(&self, awaited: impl Fn(&Flow) -> bool) {
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            // Registered before the look, so that nothing in between is missed.
            progress.as_mut().enable();
            if !self.flows().values().any(|flow| awaited(flow)) {
                return;
            }
            progress.await;
        }
    }
}

/// Settings that all endpoints share.
fn endpoint_config(mut config: EndpointConfig) -> EndpointConfig {
    /// The largest that is allowed: peers on a loopback or jumbo link send more than 1,472 bytes.
    const MAX_UDP_PAYLOAD: u16 = 65_527;
    if let Err(error) = config.max_udp_payload_size(MAX_UDP_PAYLOAD) {
        tracing::error!(%error, "QUIC datagrams stay small");
    }
    config
}
