//! What the tasks of the network share, and the bridging of a connection, whatever carries it.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quinn::{RecvStream, SendStream};
use tokio::{net::TcpStream, sync::Notify};

use super::{
    Settings,
    fallback::WithoutQuic,
    flow::{Carrier, Flow},
    tcp,
    workers::{Worker, Workers},
};
use crate::{
    emul::{
        socket::SocketId,
        transport::{BridgedEnd, Events},
    },
    quic::{
        bridge,
        link::Share,
        pool::Pool,
        raw::{self, Wire},
    },
};

/// What the tasks of the network share.
pub(crate) struct Shared {
    /// Where the tasks run.
    pub(crate) workers: Workers,
    /// Who is told.
    pub(crate) events: Arc<dyn Events>,
    /// What the command line says.
    pub(crate) settings: Settings,
    /// QUIC connections to servers.
    pub(crate) pool: Arc<Pool>,
    /// Where to take TCP at once.
    pub(super) without_quic: WithoutQuic,
    /// The connections that are bridged.
    pub(super) flows: Mutex<HashMap<SocketId, Arc<Flow>>>,
    /// Notified when a flow has ended or delivered everything.
    pub(super) progress: Arc<Notify>,
}

impl Shared {
    /// The connections that are bridged.
    pub(super) fn flows(&self) -> MutexGuard<'_, HashMap<SocketId, Arc<Flow>>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bridges a stream to its end.
    pub(crate) async fn bridge(
        &self,
        id: SocketId,
        end: BridgedEnd,
        share: Share,
        (send, recv): (SendStream, RecvStream),
    ) {
        let link = share.link();
        let bridge = |flow| async move {
            match self.settings.wire {
                Wire::Quicwrap => {
                    bridge::run(flow, send, recv, &*self.events).await;
                }
                Wire::Raw => raw::run_client(flow, link, (send, recv), &*self.events).await,
            }
        };
        self.run(id, end, share.into(), bridge).await;
    }

    /// Bridges a TCP connection to its end.
    pub(super) async fn bridge_tcp(&self, id: SocketId, end: BridgedEnd, stream: TcpStream) {
        let stream = Arc::new(stream);
        let carrier = Carrier::Tcp(Arc::clone(&stream));
        let bridge = |flow| tcp::bridge::run(flow, stream, &*self.events);
        self.run(id, end, carrier, bridge).await;
    }

    /// Registers a connection while it is bridged.
    pub(crate) async fn run<B: Future<Output = ()>>(
        &self,
        id: SocketId,
        end: BridgedEnd,
        carrier: Carrier,
        bridge: impl FnOnce(Arc<Flow>) -> B,
    ) {
        if let Some(flow) = self.register(id, end, carrier, self.workers.current()) {
            self.carry(flow, bridge).await;
        }
    }

    /// Registers a connection that `worker` is to bridge. To be called within its runtime.
    pub(super) fn register(
        &self,
        id: SocketId,
        end: BridgedEnd,
        carrier: Carrier,
        worker: &Worker,
    ) -> Option<Arc<Flow>> {
        let flow = Flow::new(
            id,
            end,
            carrier,
            self.settings.wire,
            Arc::clone(&self.progress),
            Arc::clone(&worker.activity),
        );
        match flow.map(Arc::new) {
            Ok(flow) => {
                self.flows().insert(id, Arc::clone(&flow));
                Some(flow)
            }
            Err(error) => {
                tracing::error!(%error, "cannot watch a connection, which is dropped");
                self.events.closed(id);
                None
            }
        }
    }

    /// Bridges a registered connection to its end.
    pub(super) async fn carry<B: Future<Output = ()>>(
        &self,
        flow: Arc<Flow>,
        bridge: impl FnOnce(Arc<Flow>) -> B,
    ) {
        let (id, activity) = (flow.id, Arc::clone(&flow.activity));
        bridge(flow).await;
        self.flows().remove(&id);
        activity.note_end();
        self.progress.notify_waiters();
    }

    /// Resolves once no flow is left for which `awaited` holds.
    pub(super) async fn none_left(&self, awaited: impl Fn(&Flow) -> bool) {
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
