//! Asks all that run.
#![forbid(unsafe_code)]

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    sys::socket::{getsockopt, sockopt::PeerCredentials},
    unistd::geteuid,
};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{
    StatsError,
    place::{self, Directory},
    report::Instance,
};

/// How long one may take to answer: longer than it grants each of those that ask before.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer, in bytes: more than a million connections.
const MAX_ANSWER: usize = 1 << 29;
/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// What all instances of this user say. Sockets of supervisors that were killed are removed. Who does
/// not answer is named on standard error.
///
/// # Errors
/// A directory that cannot be read.
pub(super) fn all(state_dir: Option<&Path>) -> Result<Vec<Instance>, StatsError> {
    let mut instances = Vec::new();
    for place in place::places(state_dir) {
        let failed = |source| StatsError::Place {
            path: place.path(),
            source,
        };
        let Some(directory) = place.look().map_err(failed)? else {
            continue;
        };
        for name in directory.sockets().map_err(failed)? {
            instances.extend(visit(&directory, &place.path(), &name));
        }
    }
    Ok(instances)
}

fn visit(directory: &Directory, shown: &Path, name: &str) -> Option<Instance> {
    let (path, shown) = (directory.file(name), shown.join(name));
    let shown = shown.display();
    match ask(&path) {
        Ok(instance) => return Some(instance),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let removed = fs::remove_file(&path);
            tracing::debug!(?removed, path = %shown, "the socket of one that was killed");
        }
        // It has ended meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            // With standard error closed there is nobody to tell.
            let _ = writeln!(
                io::stderr(),
                "quicwrap: {shown} gives no answer: {error}; it is left out"
            );
        }
    }
    None
}

fn ask(path: &Path) -> io::Result<Instance> {
    let end = Instant::now() + PATIENCE;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // For connect(2) too, which waits for a place in the queue, unix(7).
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect(&SockAddr::unix(path)?).map_err(in_words)?;
    let owner = getsockopt(&socket, PeerCredentials)?.uid();
    let own = geteuid();
    if owner != own.as_raw() && !own.is_root() {
        let problem = format!("user {owner} listens there");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    }
    let text = read(&socket, end)?;
    serde_json::from_slice(&text).map_err(|error| {
        let problem = format!("not what this version of quicwrap expects ({error})");
        io::Error::new(io::ErrorKind::InvalidData, problem)
    })
}

/// Reads to the end of the stream.
fn read(mut socket: &Socket, end: Instant) -> io::Result<Vec<u8>> {
    let (mut text, mut piece) = (Vec::new(), vec![0; PIECE]);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(in_words(io::ErrorKind::WouldBlock.into()));
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut piece) {
            Ok(0) => return Ok(text),
            Ok(read) => text.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What was said before is whole or will not be understood.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(text),
            Err(error) => return Err(in_words(error)),
        }
        if text.len() > MAX_ANSWER {
            let problem = "the answer has no end";
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
    }
}

/// EAGAIN is what SO_RCVTIMEO and SO_SNDTIMEO come to, socket(7).
fn in_words(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        let problem = format!("not within {PATIENCE:?} (is it stopped?)");
        return io::Error::new(io::ErrorKind::TimedOut, problem);
    }
    error
}

#[cfg(test)]
mod tests {
    use std::{net::Shutdown, os::unix::net::UnixListener, thread};

    use super::*;
    use crate::stats::report::tests::instance;

    /// What is made of a listener that says this.
    fn answer(text: &str) -> io::Result<Instance> {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("1.sock");
        let listener = UnixListener::bind(&path).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(text.as_bytes()).unwrap();
                stream.shutdown(Shutdown::Both).unwrap();
            });
            ask(&path)
        })
    }

    #[test]
    fn answers_are_read_and_nonsense_is_not_believed() {
        let said = instance(5);
        let text = serde_json::to_string(&said).unwrap();
        assert_eq!(answer(&text).unwrap(), said);
        for nonsense in [
            "",
            "{}",
            &text[1..],
            &text.replace("\"pid\":5", "\"pid\":\"x\""),
        ] {
            let error = answer(nonsense).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{nonsense}");
        }
    }

    #[test]
    fn one_that_is_dead_refuses() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("1.sock");
        drop(UnixListener::bind(&path).unwrap());
        let error = ask(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
