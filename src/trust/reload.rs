//! Files that may be replaced while the program runs: certificates, keys and CAs that options name.
//!
//! Whether one has changed is asked when it is needed, at the beginning of a handshake: stat(2) costs
//! microseconds, a handshake hundreds, and no watcher can miss a change or run out of watches. A new
//! version that cannot be used, such as half of one or a certificate whose key has not come yet, is
//! reported once, and what was read before stays in use.
#![forbid(unsafe_code)]

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use super::pem::IdentityError;

/// Tells one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

type Make<T> = dyn Fn() -> Result<T, IdentityError> + Send + Sync;

/// What was made of files, and is made again when one of them has changed.
pub(crate) struct Reloaded<T> {
    files: Vec<PathBuf>,
    make: Box<Make<T>>,
    state: Mutex<State<T>>,
}

struct State<T> {
    seen: Vec<Option<Version>>,
    good: Arc<T>,
}

impl<T> Reloaded<T> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// Of `make`: what is wrong with them.
    pub(crate) fn new(
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, IdentityError> + Send + Sync + 'static,
    ) -> Result<Self, IdentityError> {
        // A pipe (`<(command)` in a shell) can be read but once.
        let is_file = |file: &PathBuf| !fs::metadata(file).is_ok_and(|found| !found.is_file());
        let files: Vec<_> = files.into_iter().filter(is_file).collect();
        // Before the files are read: a change in between is then seen at the next look.
        let seen = versions(&files);
        let good = Arc::new(make()?);
        Ok(Self {
            files,
            make: Box::new(make),
            state: Mutex::new(State { seen, good }),
        })
    }

    /// The present version, or the last one that could be used.
    pub(crate) fn get(&self) -> Arc<T> {
        // A panic in `make` leaves the version before, which is whole.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = versions(&self.files);
        if now != state.seen {
            let made = self.readable().and_then(|()| (self.make)());
            // Changed again while it was read: the next handshake will see it whole.
            if versions(&self.files) == now {
                state.seen = now;
                self.take(&mut state, made);
            }
        }
        Arc::clone(&state.good)
    }

    /// A pipe in the place of a file would be waited for, and all connections with it.
    fn readable(&self) -> Result<(), IdentityError> {
        let is_other = |file: &&PathBuf| fs::metadata(file).is_ok_and(|found| !found.is_file());
        match self.files.iter().find(is_other) {
            None => Ok(()),
            Some(file) => Err(IdentityError::Read {
                option: "the file",
                path: file.clone(),
                source: io::Error::other("not a regular file"),
            }),
        }
    }

    fn take(&self, state: &mut State<T>, made: Result<T, IdentityError>) {
        let files: Vec<_> = self
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        let files = files.join(" and ");
        match made {
            Ok(value) => {
                tracing::info!("read {files} again: new handshakes use what is there now");
                state.good = Arc::new(value);
            }
            Err(error) => tracing::warn!(
                "{files} changed, and cannot be used as it is now: {error}. New handshakes go on using what was read before"
            ),
        }
    }
}

fn versions(files: &[PathBuf]) -> Vec<Option<Version>> {
    let version = |file: &PathBuf| {
        let metadata = fs::metadata(file).ok()?;
        Some(Version {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    };
    files.iter().map(version).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Takes numbers, and nothing else.
    fn number(path: PathBuf) -> (Reloaded<u32>, Arc<AtomicUsize>) {
        let reads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reads);
        let file = path.clone();
        let make = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let text = fs::read_to_string(&file).unwrap_or_default();
            text.trim()
                .parse()
                .map_err(|_| IdentityError::NoCertificate { path: file.clone() })
        };
        (Reloaded::new(vec![path], make).unwrap(), reads)
    }

    #[test]
    fn read_again_when_changed_and_only_then() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, "1").unwrap();
        let (value, reads) = number(path.clone());
        assert_eq!((*value.get(), *value.get()), (1, 1));
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        fs::write(root.path().join("new"), "2").unwrap();
        fs::rename(root.path().join("new"), &path).unwrap();
        assert_eq!((*value.get(), *value.get()), (2, 2));
        assert_eq!(reads.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_last_good_version_stays_and_a_bad_one_is_tried_once() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, "1").unwrap();
        let (value, reads) = number(path.clone());
        fs::write(&path, "nonsense").unwrap();
        assert_eq!((*value.get(), *value.get()), (1, 1));
        assert_eq!(reads.load(Ordering::Relaxed), 2);
        fs::remove_file(&path).unwrap();
        assert_eq!(*value.get(), 1);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(*value.get(), 1);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "30").unwrap();
        assert_eq!(*value.get(), 30);
    }
}
