//! The two files of an identity: never half written, never overwritten unasked, the key its owner's
//! alone.
#![forbid(unsafe_code)]

use std::{
    fs::Permissions,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::{KeygenError, make::Made};

/// Where a certificate and its key go.
pub(super) struct Target {
    /// NAME.pem.
    pub(super) certificate: PathBuf,
    /// NAME.key.
    pub(super) key: PathBuf,
    force: bool,
}

impl Target {
    /// The files of this name in a directory, which must not be there without `force`: asked before
    /// anything is made.
    pub(super) fn new(directory: &Path, name: &str, force: bool) -> Result<Self, KeygenError> {
        let directory = directory.strip_prefix(".").unwrap_or(directory);
        let target = Self {
            certificate: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}.key")),
            force,
        };
        for path in [&target.certificate, &target.key] {
            if !force && path.symlink_metadata().is_ok() {
                return Err(KeygenError::Exists(path.clone()));
            }
        }
        Ok(target)
    }

    /// Which of these files, if any, would be replaced.
    pub(super) fn touches<'a>(&self, files: [&'a PathBuf; 2]) -> Option<&'a Path> {
        let real = |path: &Path| path.canonicalize().ok();
        let own = [&self.certificate, &self.key].map(|path| real(path));
        let mut files = files.into_iter().map(PathBuf::as_path);
        files.find(|file| real(file).is_some_and(|file| own.contains(&Some(file))))
    }

    /// Writes both, the key first: a certificate that is there has its key beside it.
    pub(super) fn write(&self, made: &Made) -> Result<(), KeygenError> {
        self.place(&self.key, made.key.as_bytes(), 0o600)?;
        self.place(&self.certificate, made.certificate.as_bytes(), 0o644)
    }

    fn place(&self, path: &Path, contents: &[u8], mode: u32) -> Result<(), KeygenError> {
        let written = || -> io::Result<()> {
            let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
            // Made with mode 0600 under a name nobody knows, and given its own when it is whole.
            let mut file = NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
            file.write_all(contents)?;
            file.as_file()
                .set_permissions(Permissions::from_mode(mode))?;
            file.as_file().sync_all()?;
            if self.force {
                file.persist(path)?;
            } else {
                file.persist_noclobber(path)?;
            }
            Ok(())
        };
        written().map_err(|source| {
            let path = path.to_owned();
            if source.kind() == io::ErrorKind::AlreadyExists {
                KeygenError::Exists(path)
            } else {
                KeygenError::Write { path, source }
            }
        })
    }
}
