//! Where the sockets lie: `$XDG_RUNTIME_DIR/quicwrap`, or `run` in the state directory.
//!
//! Paths in a directory that was opened and looked at go through /proc/self/fd: they mean that very
//! directory, and fit into sun_path whatever its own name, unix(7).
#![forbid(unsafe_code)]

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{fcntl::OFlag, unistd::geteuid};

use crate::trust::state_dir;

/// Ending of a socket's name.
pub(super) const SOCKET: &str = ".sock";
/// Bits of a mode that let others write.
const OTHERS_WRITE: u32 = 0o022;

/// A place for sockets, which may not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// `quicwrap` in the user's runtime directory, XDG base directory specification 0.8.
    Runtime(PathBuf),
    /// `run` in the state directory.
    State(PathBuf),
}

/// All places, the preferred one first. `state_dir` is what was named.
pub(super) fn places(state_dir: Option<&Path>) -> Vec<Place> {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|path| path.is_absolute());
    // Without a home there is no state directory.
    let state = state_dir::path(state_dir).ok();
    let runtime = runtime.map(Place::Runtime);
    runtime.into_iter().chain(state.map(Place::State)).collect()
}

impl Place {
    /// The directory of the sockets.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::Runtime(path) => path.join("quicwrap"),
            Self::State(path) => path.join("run"),
        }
    }

    /// Opens it for a socket of this process, and makes it if need be.
    ///
    /// # Errors
    /// It cannot be made, or is not this user's alone to write.
    pub(super) fn make(&self) -> io::Result<Directory> {
        let path = self.path();
        match Directory::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(directory) => return directory.own(),
            Err(error) => return Err(error),
        }
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        match self {
            // The specification has the system make it. Below another user's, as sudo(8) may hand it
            // down, root would stand in that user's way.
            Self::Runtime(parent) => {
                Directory::open(parent)?.own()?;
            }
            Self::State(_) => {
                builder.recursive(true);
            }
        }
        match builder.create(&path) {
            // Another instance was as fast.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Directory::open(&path)?.own(),
        }
    }

    /// Opens it to read the sockets of others. None if it is not there.
    ///
    /// # Errors
    /// It cannot be read, or is another user's and this is not root.
    pub(super) fn look(&self) -> io::Result<Option<Directory>> {
        match Directory::open(&self.path()) {
            Ok(directory) if geteuid().is_root() => Ok(Some(directory)),
            Ok(directory) => directory.own().map(Some),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// ENOTDIR: part of the path is a file, so there is nothing behind it.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// An open directory.
#[derive(Debug)]
pub(super) struct Directory(File);

impl Directory {
    fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(OFlag::O_DIRECTORY.bits());
        options.open(path).map(Self)
    }

    /// The same, if it is this user's and nobody else can write there.
    fn own(self) -> io::Result<Self> {
        let metadata = self.0.metadata()?;
        let problem = if metadata.uid() != geteuid().as_raw() {
            format!("it belongs to user {}", metadata.uid())
        } else if metadata.mode() & OTHERS_WRITE != 0 {
            "other users can write there".to_owned()
        } else {
            return Ok(self);
        };
        Err(io::Error::new(io::ErrorKind::PermissionDenied, problem))
    }

    /// The path of a file in it, for this process alone.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()))
    }

    /// The names of the sockets in it.
    ///
    /// # Errors
    /// As readdir(3).
    pub(super) fn sockets(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.file(""))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter(|name| is_socket_name(name)).collect())
    }
}

fn is_socket_name(name: &str) -> bool {
    let pid = name.strip_suffix(SOCKET);
    pid.is_some_and(|pid| pid.parse::<i32>().is_ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_a_pid_is_a_name() {
        assert!(is_socket_name("123.sock"));
        for other in ["123", ".sock", "x.sock", "123.new", "123.sock.new"] {
            assert!(!is_socket_name(other), "{other}");
        }
    }

    #[test]
    fn made_for_its_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let state = Place::State(root.path().join("a/b"));
        assert!(state.look().unwrap().is_none());
        state.make().unwrap();
        assert!(state.look().unwrap().is_some());
        let mode = fs::metadata(state.path()).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o700);
        state.make().unwrap();
    }

    #[test]
    fn a_runtime_directory_is_not_made_and_must_be_ones_own() {
        let root = tempfile::tempdir().unwrap();
        let missing = Place::Runtime(root.path().join("missing"));
        let error = missing.make().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let open = root.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
        let error = Place::Runtime(open.clone()).make().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(!open.join("quicwrap").exists());
    }
}
