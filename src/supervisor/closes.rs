//! Tells that the last descriptor of a socket is closed, where no end of ours hangs up: for bound and
//! listening sockets, whose address is to be free at once. inotify(7) watches the sockets' inodes.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    sync::{Mutex, OnceLock, PoisonError},
};

use nix::sys::{
    epoll::{Epoll, EpollEvent, EpollFlags},
    inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};

use super::pair;
use crate::emul::socket::SocketId;

/// The watched sockets.
#[derive(Debug, Default)]
pub(super) struct Closes {
    /// Made for the first watch, since a user may have no more than fs.inotify.max_user_instances.
    inotify: OnceLock<Option<Inotify>>,
    watched: Mutex<HashMap<WatchDescriptor, SocketId>>,
}

impl Closes {
    /// Watches a socket by any descriptor of it. Events are announced by `epoll` with `tag`.
    pub(super) fn watch(&self, fd: BorrowedFd<'_>, id: SocketId, epoll: &Epoll, tag: u64) {
        let made = self.inotify.get_or_init(|| start(epoll, tag));
        let Some(inotify) = made else { return };
        // Held while the watch is added, so that its event finds it.
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        match add(inotify, fd) {
            Ok(watch) => {
                watched.insert(watch, id);
            }
            Err(error) => {
                tracing::warn!(%error, "the end of a listening socket is not noticed until the program ends; raise fs.inotify.max_user_watches")
            }
        }
    }

    /// The watched sockets that were closed since the last call.
    pub(super) fn take(&self) -> Vec<SocketId> {
        let Some(Some(inotify)) = self.inotify.get() else {
            return Vec::new();
        };
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let events = inotify.read_events().unwrap_or_default();
        let closed = events.iter().filter_map(|event| watched.remove(&event.wd));
        closed.collect()
    }

    /// Whether the sockets have to be looked at from time to time instead.
    pub(super) fn are_untold(&self) -> bool {
        matches!(self.inotify.get(), Some(None))
    }
}

fn add(inotify: &Inotify, fd: BorrowedFd<'_>) -> nix::Result<WatchDescriptor> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    // Once is enough, and a watch that stays would keep the inode.
    let mask = AddWatchFlags::IN_CLOSE | AddWatchFlags::IN_ONESHOT;
    inotify.add_watch(path.as_str(), mask)
}

/// None if the kernel tells nothing of sockets, or the user has no instance left.
fn start(epoll: &Epoll, tag: u64) -> Option<Inotify> {
    let started = (|| {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let trial = pair::alone(true)?;
        add(&inotify, trial.as_fd())?;
        drop(trial);
        inotify.read_events()?;
        epoll.add(&inotify, EpollEvent::new(EpollFlags::EPOLLIN, tag))?;
        Ok::<_, nix::Error>(inotify)
    })();
    started
        .inspect_err(|error| {
            tracing::info!(%error, "inotify tells nothing of sockets: they are looked at every 100 ms");
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use nix::sys::epoll::{EpollCreateFlags, EpollTimeout};

    use super::*;

    #[test]
    fn the_last_close_is_told_once() {
        let (closes, epoll) = (
            Closes::default(),
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap(),
        );
        let socket = pair::alone(true).unwrap();
        closes.watch(socket.as_fd(), SocketId(7), &epoll, 1);
        assert!(!closes.are_untold());
        let copy = socket.try_clone().unwrap();
        drop(socket);
        assert!(closes.take().is_empty());
        drop(copy);
        let mut events = [EpollEvent::empty()];
        assert_eq!(epoll.wait(&mut events, EpollTimeout::ZERO), Ok(1));
        assert_eq!(closes.take(), [SocketId(7)]);
        assert!(closes.take().is_empty());
    }
}
