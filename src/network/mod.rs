//! The network side: TCP connections as streams of pooled QUIC connections, and those that stay on TCP.
//!
//! One thread runs everything here. [`Network`] is the emulation's [`Transport`]; what happens to
//! connections goes back through its [`Events`].
#![forbid(unsafe_code)]

mod activity;
mod bindings;
mod closed;
mod connect;
pub(crate) mod ending;
mod fallback;
pub(crate) mod flow;
pub(crate) mod listeners;
mod placement;
pub(crate) mod port;
pub(crate) mod read_buffer;
pub(crate) mod route;
mod settings;
pub(crate) mod shared;
mod snapshot;
mod takeover;
mod tcp;
mod udp;
pub(crate) mod workers;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::errno::Errno;
use tokio::{runtime::Handle, sync::oneshot};

pub(crate) use self::settings::Settings;
use self::{
    bindings::{Binding, Bindings},
    connect::{Attempts, Prepared, Work},
    fallback::WithoutQuic,
    flow::{Carrier, Flow},
    route::Source,
    shared::Shared,
    workers::{Worker, Workers},
};
use crate::{
    emul::{
        socket::SocketId,
        transport::{
            Begun, BindRequest, BridgedEnd, ConnectRequest, Events, PathInfo, Progress, Transport,
        },
    },
    policy,
    quic::{
        pool::{self, InLine, Key, Pool},
        raw::Wire,
        server::{Server, ServerError},
    },
    trust::Trust,
};

/// How long the connections are given to send CONNECTION_CLOSE. All streams are over by then, so one
/// that is lost costs the peer nothing but an idle connection, and a successor on the same port waits
/// no longer than this.
const FAREWELL_TIME: Duration = Duration::from_millis(5);

/// The network, as the emulation knows it.
pub(crate) struct Network {
    shared: Arc<Shared>,
    trust: Arc<Trust>,
    bindings: Arc<Mutex<Bindings>>,
    attempts: Arc<Mutex<Attempts>>,
    sources: Mutex<route::Sources>,
}

impl Network {
    /// Starts the network's first thread.
    ///
    /// # Errors
    /// EAGAIN, EMFILE: no thread or no epoll descriptor.
    pub(crate) fn start(
        trust: Trust,
        settings: Settings,
        events: Arc<dyn Events>,
    ) -> std::io::Result<Arc<Self>> {
        let workers = Workers::start(settings.threads, settings.choose, Arc::clone(&events))?;
        let trust = Arc::new(trust);
        let bindings = Bindings::new(settings.port_offset);
        let shared = Arc::new(Shared {
            workers,
            events,
            pool: Pool::new(Arc::clone(&trust), settings.clone()),
            settings,
            without_quic: WithoutQuic::default(),
            flows: Mutex::default(),
            progress: Arc::default(),
        });
        Ok(Arc::new(Self {
            shared,
            trust,
            bindings: Arc::new(Mutex::new(bindings)),
            attempts: Arc::default(),
            sources: Mutex::default(),
        }))
    }

    /// Calls `Events::drained` once what closed sockets hold has reached its peers.
    pub(crate) fn drain(&self) {
        let shared = Arc::clone(&self.shared);
        self.shared.workers.first().handle.spawn(async move {
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
        self.shared.workers.first().handle.spawn(async move {
            let all = shared.none_left(Flow::is_undelivered);
            let _ = done.send(tokio::time::timeout(patience, all).await.is_ok());
        });
        delivered.blocking_recv().unwrap_or(false)
    }

    /// Takes leave of the peers, frees all ports, and ends the threads.
    pub(crate) fn finish(&self) {
        let shared = Arc::clone(&self.shared);
        let servers = self.bindings().servers();
        let (done, finished) = oneshot::channel();
        self.shared.workers.first().handle.spawn(async move {
            shared.pool.close();
            for server in &servers {
                server.close();
            }
            // Those of raw connections, which are in no pool.
            for flow in shared.flows().values() {
                if let Carrier::Quic { link, .. } = &flow.carrier {
                    link.close();
                }
            }
            // Raw connections have endpoints of their own.
            let connected = shared.settings.wire == Wire::Raw
                || shared.pool.has_connections()
                || servers.iter().any(|server| server.has_open_links());
            if connected {
                tokio::time::sleep(FAREWELL_TIME).await;
            }
            for server in &servers {
                server.free_port();
            }
            let _ = done.send(());
        });
        let _ = finished.blocking_recv();
        self.shared.workers.stop();
    }

    fn bindings(&self) -> MutexGuard<'_, Bindings> {
        self.bindings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sources(&self) -> MutexGuard<'_, route::Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Takes TCP connections for a binding that is to have them and does not yet.
    fn listen_tcp(&self, binding: &mut Binding, request: &BindRequest) -> Result<(), Errno> {
        if binding.acceptor.is_some() {
            return Ok(());
        }
        let reserved = match binding.reserved.tcp.take() {
            Some(socket) => socket,
            // It has listened before.
            None if self.shared.settings.carriers(request.address).tcp => {
                tcp::reserve(request)
                    .map_err(|error| {
                        Errno::from_raw(error.raw_os_error().unwrap_or(libc::EADDRINUSE))
                    })?
                    .0
            }
            None => return Ok(()),
        };
        if self.trust.asks_clients() {
            tracing::warn!(
                "{} stays on TCP by a rule: there clients show no certificate, whatever --client-ca says",
                request.address
            );
        }
        let acceptor = tcp::Acceptor::start(reserved, Arc::clone(&binding.listeners), &self.shared);
        binding.acceptor = Some(acceptor.map_err(|error| {
            tracing::error!("cannot listen on TCP: {error}");
            Errno::from_raw(error.raw_os_error().unwrap_or(libc::EADDRINUSE))
        })?);
        Ok(())
    }

    /// Starts the server of a binding, unless it runs.
    fn listen_quic(&self, binding: &mut Binding, request: &BindRequest) -> Result<(), Errno> {
        let Some(socket) = binding.reserved.udp.take() else {
            return Ok(());
        };
        let port = request.address.port();
        let listeners = Arc::clone(&binding.listeners);
        let request = BindRequest {
            address: self.shared.settings.port_offset.to_udp(request.address)?,
            ..*request
        };
        let count = if binding.reserved.beside {
            // A group of sockets would get what is for the others: udp.rs.
            1
        } else {
            self.shared.workers.count()
        };
        let open = udp::open_many(socket, &request, count).map_err(ServerError::from);
        let started = open
            .and_then(|sockets| Server::start(sockets, port, listeners, &self.trust, &self.shared));
        let server = started.map_err(|error| {
            tracing::error!("cannot listen: {error}");
            Errno::EACCES
        })?;
        binding.server = Some(server);
        Ok(())
    }

    /// A place in the line for a QUIC connection. Taken while connect(2) is handled: who calls it next comes behind. None
    /// where it is not sure that there will be one.
    fn enter(&self, key: Key) -> Option<InLine> {
        let settings = &self.shared.settings;
        if settings.wire == Wire::Raw || settings.fall_back {
            return None;
        }
        let _runtime = self.shared.workers.get(key.worker()).handle.enter();
        Some(self.shared.pool.enter(key))
    }

    /// Whether nobody listens at an address of this host: TCP knows that, too, when connect(2) returns.
    fn refused_here(&self, key: Key, local: SocketAddr, udp: SocketAddr) -> Option<Errno> {
        let (local, peer) = (local.ip(), key.peer.ip());
        let is_here = local == peer || local.is_loopback() && peer.is_loopback();
        if !is_here || self.shared.settings.fall_back || self.shared.pool.has(key) {
            return None;
        }
        let errno = route::find(udp, Some(key.source)).ok()?.probe()?;
        tracing::info!(peer = %key.peer, %errno, "no QUIC connection");
        Some(errno)
    }

    /// Notes what [`Transport::proceed`] is to start.
    fn prepare(&self, id: SocketId, worker: usize, work: Work) {
        let prepared = Prepared { id, worker, work };
        self.attempts().prepared.push(prepared);
    }

    /// Bridges a connection that was established at once.
    fn start_bridge(
        &self,
        id: SocketId,
        worker: &Worker,
        (share, send, recv): connect::Stream,
        source_port: u16,
        end: BridgedEnd,
    ) {
        let _runtime = worker.handle.enter();
        // Here, so that who asks what is undelivered finds it from now on.
        if let Some(flow) = self.shared.register(id, end, share.into(), worker) {
            let carried = connect::carry(flow, (send, recv), source_port, self.shared());
            worker.handle.spawn(carried);
        }
    }

    /// Runs an attempt to connect, and then the bridge that it comes to.
    fn start_attempt(&self, id: SocketId, runtime: &Handle, attempt: connect::Attempt) {
        let attempts = Arc::clone(&self.attempts);
        self.attempts().running.insert(id, None);
        // Not locked: the network's thread may run at once.
        let task = runtime.spawn(async move {
            let established = attempt.await;
            attempts
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .running
                .remove(&id);
            if let Some(bridge) = established {
                // In the same task, so that the preface leaves with the first bytes.
                bridge.await;
            }
        });
        if let Some(running) = self.attempts().running.get_mut(&id) {
            *running = Some(task.abort_handle());
        }
    }

    /// Ends a server once the connections that its listeners had accepted are over. Others may have its port before.
    fn wind_down(&self, address: SocketAddr, server: Arc<Server>) {
        if !server.begin_winding_down() {
            // It was bound again meanwhile, and has connections of before that.
            return;
        }
        let bindings = Arc::clone(&self.bindings);
        let udp = self.shared.settings.port_offset.to_udp(address);
        let winds_down = closed::wind_down(bindings, (address, udp), server);
        self.shared.workers.first().handle.spawn(winds_down);
    }
}

impl Transport for Network {
    fn bind(&self, id: SocketId, request: BindRequest) -> Result<SocketAddr, Errno> {
        let carriers = self.shared.settings.carriers(request.address);
        self.bindings().bind(id, request, carriers, |server| {
            let flows = self.shared.flows();
            let of_server = |flow: &Flow| match &flow.carrier {
                Carrier::Quic { link, .. } => server.has(link),
                Carrier::Tcp(_) => false,
            };
            flows
                .values()
                .any(|flow| of_server(flow) && !flow.is_hung_up())
        })
    }

    fn expect_udp(&self, wanted: SocketAddr) {
        self.bindings().expect_udp(wanted);
    }

    fn listen(&self, id: SocketId) -> Result<(), Errno> {
        let mut bindings = self.bindings();
        let binding = bindings.of(id).ok_or(Errno::EINVAL)?;
        if !binding.may_listen(id) {
            return Err(Errno::EADDRINUSE);
        }
        let request = binding.request(id).ok_or(Errno::EINVAL)?;
        let _runtime = self.shared.workers.first().handle.enter();
        let first = binding.listeners.is_empty();
        // Before anybody can come, who would be turned away.
        binding.listeners.add(id);
        let tcp = self.listen_tcp(binding, &request);
        if let Err(error) = tcp.and_then(|()| self.listen_quic(binding, &request)) {
            binding.listeners.remove(id);
            if first {
                binding.acceptor = None;
            }
            return Err(error);
        }
        if first {
            // Behind that: who connects from now on does not share what was dialled while nobody listened.
            self.shared.pool.retire(request.address);
        }
        Ok(())
    }

    fn unlisten(&self, id: SocketId) {
        // Locked until all is done: whoever listens there next has nothing of this.
        let mut bindings = self.bindings();
        if let Some((address, server)) = bindings.unlisten(id) {
            self.shared.pool.retire(address);
            server.go_away(&self.shared.workers.first().handle);
        }
    }

    fn connect(&self, id: SocketId, request: ConnectRequest) -> Result<Begun, Errno> {
        let settings = &self.shared.settings;
        if settings.rules.decide(request.peer).carrier == policy::Carrier::Tcp {
            let worker = id.0 as usize;
            let _runtime = self.shared.workers.get(worker).handle.enter();
            let bound = self
                .bindings()
                .of(id)
                .map(|binding| binding.reserved.tcp.take());
            let attempt = tcp::Attempt::start(
                request.peer,
                request.source,
                bound.flatten(),
                settings.idle_timeout,
            )?;
            let local = attempt.local;
            if let Some(errno) = attempt.failed {
                let progress = Progress::Failed(errno);
                return Ok(Begun { local, progress });
            }
            let attempt = connect::by_tcp(id, request, attempt, self.shared());
            self.prepare(id, worker, Work::Attempt(Box::pin(attempt)));
            return Ok(Begun {
                local,
                progress: Progress::Pending,
            });
        }
        let bound = request.source.map(|mut source| {
            source.set_port(0);
            source
        });
        let udp = settings.port_offset.to_udp(request.peer)?;
        let Source { mut local, bound } = self.sources().find(udp, bound)?;
        local.set_port(request.source.map_or(0, |source| source.port()));
        let port = self.bindings().connect(id, local, request.peer)?;
        local.set_port(port);
        let mut key = Key {
            peer: request.peer,
            source: bound.unwrap_or(pool::any_source(request.peer)),
            lane: match settings.wire {
                Wire::Quicwrap => 0,
                Wire::Raw => id.0 as usize,
            },
        };
        let workers = &self.shared.workers;
        if settings.wire == Wire::Quicwrap {
            key = self.shared.pool.choose(key, workers);
        }
        let (work, progress) = match connect::at_once(key, &self.shared) {
            Some(stream) => {
                let bridge = Work::Bridge(Box::new(stream), local, None);
                (bridge, Progress::Established)
            }
            None => {
                if let Some(errno) = self.refused_here(key, local, udp) {
                    let progress = Progress::Failed(errno);
                    return Ok(Begun { local, progress });
                }
                let place = self.enter(key);
                let attempt =
                    connect::by_quic(id, key, place, local, request.timeout, self.shared());
                (Work::Attempt(Box::pin(attempt)), Progress::Pending)
            }
        };
        self.prepare(id, key.worker(), work);
        Ok(Begun { local, progress })
    }

    fn carry(&self, id: SocketId, end: BridgedEnd) {
        for prepared in &mut self.attempts().prepared {
            if prepared.id == id
                && let Work::Bridge(_, _, place) = &mut prepared.work
            {
                *place = Some(end);
                return;
            }
        }
    }

    fn proceed(&self) {
        let prepared: Vec<_> = {
            let is_complete =
                |prepared: &mut Prepared| !matches!(prepared.work, Work::Bridge(_, _, None));
            let mut attempts = self.attempts();
            attempts.prepared.extract_if(.., is_complete).collect()
        };
        for Prepared { id, worker, work } in prepared {
            let worker = self.shared.workers.get(worker);
            match work {
                Work::Attempt(attempt) => self.start_attempt(id, &worker.handle, attempt),
                Work::Bridge(stream, local, Some(end)) => {
                    self.start_bridge(id, worker, *stream, local.port(), end);
                }
                // Its end is to come yet, or it is abandoned.
                Work::Bridge(_, _, None) => {}
            }
        }
    }

    fn abandon(&self, id: SocketId) {
        let mut attempts = self.attempts();
        attempts.prepared.retain(|prepared| prepared.id != id);
        if let Some(Some(attempt)) = attempts.running.remove(&id) {
            attempt.abort();
        }
        drop(attempts);
        self.bindings().disconnect(id);
    }

    fn release(&self, id: SocketId) {
        self.abandon(id);
        let mut bindings = self.bindings();
        if let Some((address, server)) = bindings.release(id) {
            server.go_away(&self.shared.workers.first().handle);
            self.wind_down(address, server);
        }
    }

    fn path(&self, id: SocketId) -> Option<PathInfo> {
        let flow = self.shared.flows().get(&id).cloned()?;
        flow.path()
    }

    fn congestion(&self) -> &'static str {
        self.shared.settings.tuning.congestion.name()
    }
}
