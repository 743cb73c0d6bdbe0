//! The directory that holds what quicwrap remembers between runs: the self-made identity and the
//! keys it has met.
//!
//! Any number of programs may start at the same moment and each may be killed at any point, so a
//! file here is only ever replaced whole, and only by the holder of the lock beside it: the lock
//! makes writers take turns, the rename means that a reader (who takes no lock) and a crash see
//! either the old file or the new one.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::Uid;

use crate::home;

/// Why the state directory, or a file in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// Nothing in the environment or the user database says where to keep state.
    #[error(
        "no state directory: neither XDG_STATE_HOME nor HOME is set and user {uid} has no home \
         directory; name a directory with --state-dir"
    )]
    NoHome {
        /// The effective user.
        uid: Uid,
    },

    /// The system refused.
    #[error(
        "cannot {action} {}: {source}; check its permissions, or name another directory with \
         --state-dir",
        path.display()
    )]
    Io {
        /// A verb.
        action: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },

    /// Whoever owns the file can change what we trust or read our key.
    #[error(
        "{shown} belongs to user {owner}, quicwrap runs as user {uid}: run `chown {uid} {shown}`, \
         or name another directory with --state-dir",
        shown = path.display()
    )]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The effective user.
        uid: Uid,
    },

    /// The mode gives other users more than it may.
    #[error(
        "{shown} is open to other users (mode {mode:04o}): check that it is what you expect, then \
         run `chmod {fix} {shown}`",
        shown = path.display()
    )]
    Mode {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What chmod(1) is to be told.
        fix: &'static str,
    },
}

/// A state directory that exists and that only its owner can write.
#[derive(Debug, Clone)]
pub(crate) struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Finds the directory (`named`, else the default place) and makes it if it is not there.
    pub(crate) fn open(named: Option<&Path>) -> Result<Self, StateError> {
        let path = path(named)?;
        // The XDG base directory specification asks for mode 0700 on what is created on the way.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|source| io_error("create the state directory", &path, source))?;
        Self::check(&path)?;
        Ok(Self { path })
    }

    /// Checks a directory that may not exist yet, without making it.
    pub(crate) fn check(path: &Path) -> Result<(), StateError> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => check_private(path, &metadata, 0o022, "go-w"),
            Ok(_) => Err(io_error(
                "use the state directory",
                path,
                Errno::ENOTDIR.into(),
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error("use the state directory", path, error)),
        }
    }

    /// The path of a file in the directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Where the directory is: `named`, else the default place.
///
/// # Errors
/// There is no home directory.
pub(crate) fn path(named: Option<&Path>) -> Result<PathBuf, StateError> {
    named.map_or_else(default_path, |path| Ok(path.to_owned()))
}

/// Refuses a file whose owner is somebody else or whose mode has one of the bits in `forbidden`.
pub(crate) fn check_private(
    path: &Path,
    metadata: &Metadata,
    forbidden: u32,
    fix: &'static str,
) -> Result<(), StateError> {
    let (path, owner, uid) = (path.to_owned(), metadata.uid(), Uid::effective());
    if owner != uid.as_raw() {
        return Err(StateError::Owner { path, owner, uid });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(StateError::Mode { path, mode, fix });
    }
    Ok(())
}

/// The right to replace one file; given back when it is dropped, or when the process dies.
pub(crate) struct FileLock {
    path: PathBuf,
    _held: Flock<File>,
}

impl FileLock {
    /// Waits until no other process (or thread) holds the lock of `path`.
    ///
    /// The lock is a file of its own, `path` + `.lock`: `path` itself gets a new inode at each
    /// replacement, and a lock on the old one would exclude nobody.
    pub(crate) fn acquire(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(with_suffix(path, ".lock"))?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(held) => {
                    let path = path.to_owned();
                    return Ok(Self { path, _held: held });
                }
                Err((again, Errno::EINTR)) => file = again,
                Err((_, errno)) => return Err(errno.into()),
            }
        }
    }

    /// Replaces the file with `contents`, all at once: rename(2) is atomic, and the data is on disk
    /// before the name points to it, so that a power cut leaves no empty file behind.
    pub(crate) fn replace(&self, contents: &[u8], mode: u32) -> io::Result<()> {
        let temporary = with_suffix(&self.path, ".new");
        // Left by a holder that was killed: no living process uses it while we hold the lock.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let written =
            write_new(&temporary, contents, mode).and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            // Best effort: the next holder removes it too.
            let _ = fs::remove_file(&temporary);
            return written;
        }
        // Some file systems cannot sync a directory; the file itself is complete either way.
        if let Some(parent) = self.path.parent() {
            let _ = File::open(parent).and_then(|directory| directory.sync_all());
        }
        Ok(())
    }
}

fn write_new(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode & 0o600)
        .open(path)?;
    // open(2) applies the umask; the mode asked for is the mode wanted.
    file.set_permissions(PermissionsExt::from_mode(mode))?;
    file.write_all(contents)?;
    file.sync_all()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// An `Io` error about `path`; `action` is a verb.
pub(crate) fn io_error(action: &'static str, path: &Path, source: io::Error) -> StateError {
    let path = path.to_owned();
    StateError::Io {
        action,
        path,
        source,
    }
}

fn default_path() -> Result<PathBuf, StateError> {
    let uid = Uid::effective();
    choose_path(std::env::var_os("XDG_STATE_HOME"), home::directory)
        .ok_or(StateError::NoHome { uid })
}

/// XDG base directory specification 0.8: `$XDG_STATE_HOME`, and a relative path in it is ignored;
/// `.local/state` in the [home directory](home) otherwise.
fn choose_path(
    xdg_state_home: Option<OsString>,
    home: impl FnOnce() -> Option<PathBuf>,
) -> Option<PathBuf> {
    let named = xdg_state_home.map(PathBuf::from);
    let base = match named.filter(|path| path.is_absolute()) {
        Some(path) => path,
        None => home()?.join(".local/state"),
    };
    Some(base.join("quicwrap"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_place_in_order_of_preference() {
        let choose = |xdg: Option<&str>, home: Option<&str>| {
            choose_path(xdg.map(Into::into), || home.map(Into::into))
        };
        let xdg = Some(PathBuf::from("/x/quicwrap"));
        assert_eq!(choose(Some("/x"), Some("/h")), xdg);
        let home = Some(PathBuf::from("/h/.local/state/quicwrap"));
        assert_eq!(choose(None, Some("/h")), home);
        assert_eq!(choose(Some("relative"), Some("/h")), home);
        assert_eq!(choose(Some(""), None), None);
    }

    #[test]
    fn made_for_its_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        StateDir::open(Some(&path)).unwrap();
        for made in [root.path().join("a"), path] {
            assert_eq!(fs::metadata(made).unwrap().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn refuses_a_directory_others_can_write() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), PermissionsExt::from_mode(0o770)).unwrap();
        let error = StateDir::open(Some(root.path())).unwrap_err().to_string();
        let advice = format!("run `chmod go-w {}`", root.path().display());
        assert!(error.contains(&advice) && error.contains("0770"), "{error}");
        fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755)).unwrap();
        StateDir::open(Some(root.path())).unwrap();
    }

    #[test]
    fn refuses_a_file_in_its_place() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = StateDir::open(Some(file.path())).unwrap_err().to_string();
        assert!(error.contains("--state-dir"), "{error}");
        assert!(StateDir::check(file.path()).is_err());
    }

    #[test]
    fn replaces_whole_and_clears_what_a_killed_writer_left() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(root.path().join("file.new"), "half of a li").unwrap();
        let lock = FileLock::acquire(&path).unwrap();
        lock.replace(b"one", 0o600).unwrap();
        lock.replace(b"two", 0o644).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        assert!(!root.path().join("file.new").exists());
    }
}
