//! The side that is asked: a UNIX stream socket named after this process, which says how the
//! connections are to whoever connects, and closes.
#![forbid(unsafe_code)]

use std::{
    fs, io,
    os::unix::net::UnixListener as StdUnixListener,
    path::Path,
    process,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    sys::stat::{Mode, fchmod},
    unistd::geteuid,
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    task::AbortHandle,
    time::timeout,
};

use super::{
    place::{self, Directory, Place, SOCKET},
    report::{Identity, Instance, Totals},
};
use crate::network::Network;

/// Who asks waits in turn; this many may.
const BACKLOG: i32 = 16;
/// How long the answer may take to be made, with packets having their turns in between.
const MAKING: Duration = Duration::from_secs(3);
/// How long who asks may take to read it before the next has its turn.
const READING: Duration = Duration::from_secs(1);
/// Pause after accept(2) found no descriptor.
const NO_DESCRIPTOR_PAUSE: Duration = Duration::from_secs(1);
/// Connections that are looked at before packets have their turn again: some 100 µs.
const TURN: usize = 32;

/// Answers while it lives.
#[derive(Debug)]
pub(crate) struct Serving {
    directory: Directory,
    name: String,
    task: AbortHandle,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
        // Gone already if somebody has tidied up; what is left over is removed by the command.
        let _ = fs::remove_file(self.directory.file(&self.name));
    }
}

/// Answers what `quicwrap stats` asks, in the network's runtime. Without a place for the socket nobody
/// can ask, and all else goes on.
pub(crate) fn serve(
    network: &Arc<Network>,
    identity: Identity,
    state_dir: Option<&Path>,
) -> Option<Serving> {
    let started = Instant::now();
    place::places(state_dir).iter().find_map(|place| {
        let serving = bind(place).and_then(|(directory, name, listener)| {
            let _runtime = network.handle().enter();
            let listener = UnixListener::from_std(listener)?;
            let answering = answer_all(listener, Arc::clone(network), identity.clone(), started);
            Ok(Serving {
                directory,
                name,
                task: network.handle().spawn(answering).abort_handle(),
            })
        });
        let path = place.path();
        let path = path.display();
        serving
            .inspect_err(|error| tracing::debug!(%error, %path, "no socket for quicwrap stats"))
            .ok()
    })
}

/// A listening socket of mode 0600. It gets its name when it listens: who finds a socket that does not
/// listen may remove it.
fn bind(place: &Place) -> io::Result<(Directory, String, StdUnixListener)> {
    let directory = place.make()?;
    let name = format!("{}{SOCKET}", process::id());
    let (path, new) = (
        directory.file(&name),
        directory.file(&format!("{name}.new")),
    );
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // Before bind(2), which makes the file with the mode of the socket.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let address = SockAddr::unix(&new)?;
    if is_in_use(socket.bind(&address))? {
        // Of a process with this pid that was killed.
        fs::remove_file(&new)?;
        socket.bind(&address)?;
    }
    let named = socket.listen(BACKLOG).and_then(|()| give_name(&new, &path));
    let removed = fs::remove_file(&new);
    named.and(removed)?;
    Ok((directory, name, socket.into()))
}

fn is_in_use(bound: io::Result<()>) -> io::Result<bool> {
    match bound {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(true),
        result => result.map(|()| false),
    }
}

/// Gives a socket its name, unless one that listens has it: a process of another pid namespace.
fn give_name(new: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(new, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        result => return result,
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path)?;
            fs::hard_link(new, path)
        }
        _ => Err(io::ErrorKind::AlreadyExists.into()),
    }
}

async fn answer_all(
    listener: UnixListener,
    network: Arc<Network>,
    who: Identity,
    started: Instant,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let answered = answer(stream, &network, &who, started).await;
                tracing::debug!(?answered, "asked for statistics");
            }
            Err(error) => {
                tracing::debug!(%error, "cannot be asked for statistics");
                tokio::time::sleep(NO_DESCRIPTOR_PAUSE).await;
            }
        }
    }
}

async fn answer(
    mut stream: UnixStream,
    network: &Network,
    who: &Identity,
    started: Instant,
) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uid != 0 && uid != geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let instance = timeout(MAKING, gather(network, who, started)).await??;
    let text = serde_json::to_vec(&instance)?;
    timeout(READING, stream.write_all(&text)).await?
}

/// Looks at all connections, some at a time. Their text is made at once, so that the whole is merely
/// put together.
async fn gather(
    network: &Network,
    who: &Identity,
    started: Instant,
) -> serde_json::Result<Instance<Box<RawValue>, Box<RawValue>>> {
    let snapshot = network.snapshot();
    let mut totals = Totals::default();
    let quic_connections = texts(snapshot.quic(), |each| totals.add_quic(each)).await?;
    let tcp_connections = texts(snapshot.tcp(), |each| totals.add_tcp(each)).await?;
    Ok(Instance {
        identity: who.clone(),
        uptime_seconds: started.elapsed().as_secs(),
        quic_connections,
        tcp_connections,
        totals,
    })
}

async fn texts<T: Serialize>(
    connections: impl Iterator<Item = T>,
    mut count: impl FnMut(&T),
) -> serde_json::Result<Vec<Box<RawValue>>> {
    let mut texts = Vec::new();
    for connection in connections {
        count(&connection);
        texts.push(to_raw_value(&connection)?);
        if texts.len() % TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn own(state: &Path) -> std::path::PathBuf {
        state.join("run").join(format!("{}{SOCKET}", process::id()))
    }

    #[test]
    fn a_socket_for_its_owner_alone_in_place_of_a_dead_one() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::State(root.path().to_owned());
        let (first, ..) = bind(&place).unwrap();
        // Its listener is closed, so it is a dead one's; and what a killed one leaves.
        fs::write(own(root.path()).with_extension("sock.new"), "").unwrap();
        let (_, _, listener) = bind(&place).unwrap();
        let mode = fs::metadata(own(root.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(first.sockets().unwrap().len(), 1);
        let names = fs::read_dir(root.path().join("run")).unwrap();
        assert_eq!(names.count(), 1);
        drop(listener);
    }

    #[test]
    fn one_that_listens_keeps_its_name() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::State(root.path().to_owned());
        let _alive = bind(&place).unwrap();
        let error = bind(&place).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let names = fs::read_dir(root.path().join("run")).unwrap();
        assert_eq!(names.count(), 1);
    }
}
