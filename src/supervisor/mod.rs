//! The seccomp front end: receives the program's trapped calls, asks the emulation what they come to,
//! and answers.
//!
//! Two threads meet here. The notification thread runs [`Supervisor::run`]; the network's thread
//! reports what happens to connections (events.rs). Both work on the [`Table`](sockets::Table) behind
//! one lock, which is never held while the program or the network is waited for. (What comes ahead of a connection's
//! data is waited for, but its sender needs no lock: `zpoline::preamble`.)
#![forbid(unsafe_code)]

mod call;
mod calls;
mod closes;
mod events;
pub(crate) mod filter;
pub(crate) mod limits;
mod lost;
mod meeting;
mod notify;
mod pair;
mod park;
mod peer;
mod queue;
mod reply;
mod seal;
mod sockets;
pub(crate) mod tasks;
mod trace;

use std::{
    ops::{Deref, DerefMut},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicI32, AtomicU64},
    },
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
        eventfd::{EfdFlags, EventFd},
    },
};

use self::{
    call::Tasks,
    closes::Closes,
    notify::tag,
    sockets::{End, Entry, ProgramEnd, Table},
};
use crate::{
    emul::{
        options::Limits,
        socket::{Socket, SocketId, State},
        transport::{BridgedEnd, Transport},
    },
    sys::seccomp::Listener,
    zpoline::{
        FastPath, Sockets,
        mark::{self, Mark},
    },
};

pub(crate) use call::open_task;
pub(crate) use notify::{Front, Hooks, Notice, until};
pub(crate) use pair::is_nonblocking;

/// The state that both threads share.
pub(crate) struct Supervisor {
    listener: Arc<Listener>,
    tasks: Tasks,
    limits: Limits,
    transport: OnceLock<Arc<dyn Transport>>,
    table: Mutex<Table>,
    /// With `--mode zpoline`.
    fast_path: Option<Arc<FastPath>>,
    epoll: Epoll,
    closes: Closes,
    /// Written when the network says that all is delivered.
    drained: EventFd,
    /// Written when the notification thread is to look at the time anew.
    awake: EventFd,
    /// How many calls there were, the thread that made the last, and the one that answers: [`Callers`].
    calls: AtomicU64,
    last_caller: AtomicI32,
    answerer: AtomicI32,
}

/// The table, locked. Programs see what has changed when it is let go.
struct TableGuard<'a>(MutexGuard<'a, Table>);

impl Deref for TableGuard<'_> {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.0
    }
}

impl DerefMut for TableGuard<'_> {
    fn deref_mut(&mut self) -> &mut Table {
        &mut self.0
    }
}

impl Drop for TableGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.0.has_taken_up() {
            self.0.publish();
        }
    }
}

fn event() -> nix::Result<EventFd> {
    EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
}

/// Adds a socket that is alone to the table. `program` is its end.
fn take_up(table: &mut Table, socket: Socket, program: &OwnedFd, end: ProgramEnd) {
    table.insert(end.cookie, Entry::new(socket, End::Alone, Some(end)));
    table.mark(end.cookie, program);
}

impl Supervisor {
    /// A supervisor of the tasks whose calls arrive on `listener`.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(crate) fn new(
        listener: Listener,
        limits: Limits,
        fast_path: Option<(FastPath, Sockets)>,
    ) -> nix::Result<Arc<Self>> {
        let (fast_path, shared) = fast_path.unzip();
        Ok(Arc::new(Self {
            listener: Arc::new(listener),
            tasks: Tasks::default(),
            limits,
            transport: OnceLock::new(),
            table: Mutex::new(Table::sharing(shared)),
            fast_path: fast_path.map(Arc::new),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            closes: Closes::default(),
            drained: event()?,
            awake: event()?,
            calls: AtomicU64::default(),
            last_caller: AtomicI32::default(),
            answerer: AtomicI32::default(),
        }))
    }

    /// Connects the network, which in turn knows this object as its `Events`. To be called once,
    /// before any call is answered.
    pub(crate) fn set_transport(&self, transport: Arc<dyn Transport>) {
        if self.transport.set(transport).is_err() {
            tracing::error!("the transport was set twice");
        }
    }

    fn transport(&self) -> &dyn Transport {
        self.transport
            .get()
            .expect("set_transport precedes the first call: launch/mod.rs does both in order")
            .as_ref()
    }

    /// The table. A handler that panicked has answered EIO and left each entry whole, since
    /// transitions are single assignments.
    fn table(&self) -> TableGuard<'_> {
        TableGuard(self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a socket, alone. Returns the program's end.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM: of this process, socket(2).
    fn create(
        &self,
        table: &mut Table,
        socket: Socket,
        nonblocking: bool,
    ) -> Result<(SocketId, OwnedFd), Errno> {
        let program = pair::alone(nonblocking)?;
        let end = ProgramEnd::of(&program).ok_or(Errno::ENOBUFS)?;
        take_up(table, socket, &program, end);
        Ok((end.cookie, program))
    }

    /// Takes up a socket that the fast path has made in the program, or a connection that it has accepted. `program` is a
    /// copy of its end. None if that is no such socket.
    fn adopt(&self, table: &mut Table, program: &OwnedFd, cookie: SocketId) -> Option<SocketId> {
        self.fast_path.as_ref()?;
        let domain = match Mark::of(program.as_fd()) {
            Mark::New(domain) => domain,
            Mark::Accepted(ticket) => {
                let connection = table.meet(ticket, program)?;
                table.show_loss(connection, || program.try_clone().ok());
                return Some(connection);
            }
            Mark::Emulated { .. } | Mark::Foreign => return None,
        };
        let socket = Socket::new(domain, libc::SOCK_STREAM, 0).ok()?;
        take_up(table, socket, program, ProgramEnd::known(program, cookie)?);
        if mark::is_of_another_network(program.as_fd()) {
            // An AF_UNIX name there is none here: another end takes its place before it matters.
            table.get(cookie)?.spent = true;
        }
        Some(cookie)
    }

    /// Gives a socket that is alone an end of ours, which tells of the program's close, and shows it as
    /// neither readable nor writable. `program` is a copy of its end.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM: of this process, socket(2).
    fn join(&self, table: &mut Table, id: SocketId, program: BorrowedFd<'_>) -> Result<(), Errno> {
        if !table
            .get(id)
            .is_some_and(|entry| matches!(entry.end, End::Alone))
        {
            return Ok(());
        }
        let ours = table.meeting.join(program)?;
        let filler = pair::show_connecting(program)?;
        if let Some(entry) = table.get(id) {
            entry.filler = filler;
        }
        self.watch(id, ours.as_fd())?;
        table.set_end(id, End::Ours(ours));
        Ok(())
    }

    /// Gives a socket whose connection was established at once an end of ours, which is the network's.
    ///
    /// # Errors
    /// As [`Self::join`].
    fn carry(&self, table: &mut Table, id: SocketId, program: BorrowedFd<'_>) -> Result<(), Errno> {
        let fd = table.meeting.join(program)?;
        pair::show_connected(Some(program), fd.as_fd(), 0);
        let end = BridgedEnd::new(fd);
        table.set_end(id, End::Bridged(Arc::clone(&end.unread)));
        self.transport().carry(id, end);
        Ok(())
    }

    /// Lets the notification thread ask anew when it has something to do.
    fn wake(&self) {
        if let Err(error) = self.awake.write(1) {
            tracing::debug!(%error, "the notification thread was not woken");
        }
    }

    /// Learns of the program closing its last copy by EPOLLHUP, which needs no asking for.
    fn watch(&self, id: SocketId, ours: BorrowedFd<'_>) -> Result<(), Errno> {
        self.epoll
            .add(ours, EpollEvent::new(EpollFlags::empty(), id.0))
    }

    /// Learns of the last close of a socket that is alone or listens.
    fn watch_close(&self, id: SocketId, program: BorrowedFd<'_>) {
        self.closes.watch(program, id, &self.epoll, tag::CLOSES);
    }

    /// The program has closed a socket.
    fn closed(&self, table: &mut Table, id: SocketId) {
        match table.get(id) {
            None => return,
            // The bridge finds out by itself, or says that the connection is over.
            Some(entry) if matches!(entry.end, End::Bridged(_)) => {
                entry.closed = true;
                return;
            }
            Some(_) => {}
        }
        table.drop_queue(id, None);
        let Some(entry) = table.remove(id) else {
            return;
        };
        if matches!(entry.socket.state, State::Listening { .. }) {
            self.transport().unlisten(id);
        }
        self.transport().release(id);
        tracing::trace!(?id, state = ?entry.socket.state, "closed");
    }

    /// Forgets sockets that are gone but had no end that could tell.
    fn sweep(&self) {
        let mut table = self.table();
        if !table.wants_sweep() && !self.closes.are_untold() {
            return;
        }
        // Asked with the table locked: what is made later is not in it.
        let Some(gone) = tasks::gone(&table.untold()) else {
            tracing::debug!("/proc/self/net/unix cannot be read: closed sockets stay in the table");
            return;
        };
        let gone = table.swept(&gone);
        tracing::trace!(gone = gone.len(), "swept closed sockets");
        for id in gone {
            self.closed(&mut table, id);
        }
    }
}
