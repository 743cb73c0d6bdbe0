//! The threads that move bytes: each runs one current-thread runtime, with QUIC connections of its own. No packet and no
//! connection changes threads.
#![forbid(unsafe_code)]

use std::{
    io,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread,
};

use tokio::{
    runtime::{Builder, Handle, Id},
    sync::oneshot,
};

use super::{
    activity::{self, Activity},
    placement,
};
use crate::emul::transport::Events;

/// Threads that may be asked for: one byte of a connection ID tells so many apart nearly evenly (see
/// [`crate::quic::steering`]).
pub(crate) const MOST: usize = 64;

/// Threads beyond which a number that nobody chose does not go.
const MOST_BY_DEFAULT: usize = 8;

/// How many threads there are when nobody says: half of the processors that this process may use, for the programs need
/// the others.
pub(crate) fn default_count() -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    (processors / 2).clamp(1, MOST_BY_DEFAULT)
}

/// All threads of the network. The first is always there, others from when they are first wanted.
pub(crate) struct Workers {
    events: Arc<dyn Events>,
    /// Whether threads may choose where they run.
    choose: bool,
    first: Worker,
    others: Vec<OnceLock<Option<Worker>>>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Its runtime.
    pub(crate) handle: Handle,
    /// What the bridges on it move.
    pub(crate) activity: Arc<Activity>,
    thread: Mutex<Option<(oneshot::Sender<()>, thread::JoinHandle<()>)>>,
}

impl Workers {
    /// Starts the first of `count`, which may `choose` where they run.
    ///
    /// # Errors
    /// EAGAIN, EMFILE: no thread or no epoll descriptor.
    pub(crate) fn start(count: usize, choose: bool, events: Arc<dyn Events>) -> io::Result<Self> {
        Ok(Self {
            choose,
            first: Worker::start(&events, choose)?,
            others: (1..count).map(|_| OnceLock::new()).collect(),
            events,
        })
    }

    /// How many there are, or will be.
    pub(crate) fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// The first.
    pub(crate) fn first(&self) -> &Worker {
        &self.first
    }

    /// The one with this number, counted round. The first stands in for one that cannot be had.
    pub(crate) fn get(&self, number: usize) -> &Worker {
        let Some(place) = (number % self.count()).checked_sub(1) else {
            return &self.first;
        };
        let start = || {
            Worker::start(&self.events, self.choose)
                .inspect_err(|error| tracing::warn!(%error, "one network thread less"))
                .ok()
        };
        let other = self
            .others
            .get(place)
            .map(|worker| worker.get_or_init(start));
        other.and_then(Option::as_ref).unwrap_or(&self.first)
    }

    /// The one whose thread calls.
    pub(crate) fn current(&self) -> &Worker {
        let id = Handle::try_current().map(|handle| handle.id()).ok();
        self.running()
            .find(|worker| Some(worker.id()) == id)
            .unwrap_or(&self.first)
    }

    /// Those that have been started.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Worker> {
        let others = self
            .others
            .iter()
            .filter_map(|worker| worker.get()?.as_ref());
        std::iter::once(&self.first).chain(others)
    }

    /// Ends all threads.
    pub(crate) fn stop(&self) {
        for worker in self.running() {
            worker.stop();
        }
    }
}

impl Worker {
    fn start(events: &Arc<dyn Events>, choose: bool) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let activity = Arc::<Activity>::default();
        runtime.spawn(activity::stay_awake(Arc::clone(&activity)));
        if choose {
            let near = placement::stay_near(Arc::clone(&activity), Arc::clone(events));
            runtime.spawn(near);
        }
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name("quic".to_owned())
            .spawn(move || {
                // An error means that the sender was dropped, which ends this thread as well.
                let _ = runtime.block_on(stopped);
            })?;
        Ok(Self {
            handle,
            activity,
            thread: Mutex::new(Some((stop, thread))),
        })
    }

    fn id(&self) -> Id {
        self.handle.id()
    }

    fn stop(&self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some((stop, thread)) = thread else { return };
        // An error means that it has ended.
        let _ = stop.send(());
        if thread.join().is_err() {
            tracing::error!("internal error in a network thread. Please report this");
        }
    }
}
