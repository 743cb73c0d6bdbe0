//! `--qlog`: what happens to the packets of each QUIC connection, for qvis and the like: qlog
//! (draft-ietf-quic-qlog-main-schema) as a JSON text sequence (RFC 7464), a file for each.
#![forbid(unsafe_code)]

use std::{
    fs::{self, File},
    io::{self, LineWriter, Write},
    net::SocketAddr,
    path::{self, Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::unistd::{AccessFlags, access};
use quinn::{QlogConfig, QlogStream, Side};

/// Why nothing can be written there.
#[derive(Debug, thiserror::Error)]
#[error("--qlog {}: {source}; name a directory that files can be made in", folder.display())]
pub(crate) struct QlogError {
    folder: PathBuf,
    source: io::Error,
}

/// A directory of qlog files.
#[derive(Debug, Clone)]
pub(crate) struct Qlog {
    folder: PathBuf,
    made: Arc<AtomicU64>,
}

impl Qlog {
    /// Files are to be made in `folder`, which is made if need be.
    ///
    /// # Errors
    /// EACCES, ENOENT (of its parent), ENOTDIR, EROFS …
    pub(crate) fn new(folder: &Path) -> Result<Self, QlogError> {
        let prepare = || {
            let folder = path::absolute(folder)?;
            match fs::create_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            fs::read_dir(&folder)?;
            access(&folder, AccessFlags::W_OK | AccessFlags::X_OK)?;
            Ok(folder)
        };
        let folder = prepare().map_err(|source| QlogError {
            folder: folder.to_owned(),
            source,
        })?;
        Ok(Self {
            folder,
            made: Arc::default(),
        })
    }

    /// The file of a new connection. None, with a warning, if it cannot be made.
    pub(crate) fn stream(&self, side: Side, peer: SocketAddr) -> Option<QlogStream> {
        let side = match side {
            Side::Client => "client",
            Side::Server => "server",
        };
        let (path, file) = match self.make(side, peer) {
            Ok(made) => made,
            Err(error) => {
                let folder = self.folder.display();
                tracing::warn!(%peer, "--qlog: no file can be made in {folder}: {error}");
                return None;
            }
        };
        let mut config = QlogConfig::default();
        config
            .writer(Box::new(Lines {
                path,
                file: Some(LineWriter::new(file)),
            }))
            .title(Some(format!("quicwrap {}", env!("CARGO_PKG_VERSION"))))
            .description(Some(format!("the {side}'s side; peer {peer}")));
        config.into_stream()
    }

    /// A file that no other process has had.
    fn make(&self, side: &str, peer: SocketAddr) -> io::Result<(PathBuf, File)> {
        loop {
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            let (process, ip, port) = (process::id(), peer.ip(), peer.port());
            let name = format!("{process}-{number}-{side}-{ip}-{port}.sqlog");
            let path = self.folder.join(name);
            match File::create_new(&path) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Writes whole lines, so that nothing is missing whenever a process ends. A disk that is full is said once: the
/// connection goes on without its file.
struct Lines {
    path: PathBuf,
    file: Option<LineWriter<File>>,
}

impl Lines {
    fn attempt(&mut self, act: impl FnOnce(&mut LineWriter<File>) -> io::Result<()>) {
        if let Some(file) = &mut self.file
            && let Err(error) = act(file)
        {
            tracing::warn!("--qlog {}: {error}; it ends here", self.path.display());
            self.file = None;
        }
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.attempt(|file| file.write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt(LineWriter::flush);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_made_side_by_side_and_hold_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("made");
        let peer = "[::1]:443".parse().unwrap();
        let streams: Vec<_> = (0..2)
            .map(|_| Qlog::new(&inner).unwrap().stream(Side::Client, peer))
            .collect();
        assert!(streams.iter().all(Option::is_some));
        let names: Vec<_> = fs::read_dir(&inner).unwrap().flatten().collect();
        assert_eq!(names.len(), 2);
        for name in names {
            let text = fs::read_to_string(name.path()).unwrap();
            assert!(text.starts_with('\u{1e}') && text.ends_with('\n'), "{text}");
            assert!(text.contains("peer [::1]:443"), "{text}");
        }
    }

    #[test]
    fn a_place_where_nothing_can_be_made_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        File::create(&file).unwrap();
        for wrong in [file.clone(), file.join("under"), "/no/such/place".into()] {
            let error = Qlog::new(&wrong).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("--qlog {}", wrong.display())),
                "{error}"
            );
        }
    }

    #[test]
    fn a_full_disk_ends_the_file_and_not_the_connection() {
        let mut lines = Lines {
            path: "/dev/full".into(),
            file: Some(LineWriter::new(File::create("/dev/full").unwrap())),
        };
        for _ in 0..3 {
            lines.write_all(b"an event\n").unwrap();
        }
        lines.flush().unwrap();
        assert!(lines.file.is_none());
    }
}
