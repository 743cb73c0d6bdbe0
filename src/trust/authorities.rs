//! CAs: whose certificates are accepted because they have signed them.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;

use super::certificate::{Description, describe};
use super::pem::{IdentityError, read_certificates};

/// The CAs of a file, one or more.
#[derive(Debug)]
pub(crate) struct Authorities {
    /// The option that names the file, for messages.
    pub option: &'static str,
    /// The file.
    pub file: PathBuf,
    /// The CAs.
    pub roots: Arc<RootCertStore>,
}

impl Authorities {
    /// Reads the file that `option` names. A CA whose time is over is named in a warning, and still
    /// counts: X.509 path validation does not look at the dates of a trust anchor (RFC 5280 section
    /// 6.1).
    ///
    /// # Errors
    /// A file that cannot be read, or holds anything but certificates.
    pub(crate) fn read(option: &'static str, file: &Path) -> Result<Self, IdentityError> {
        let mut roots = RootCertStore::empty();
        for certificate in read_certificates(option, file)? {
            let expired = Description::of(&certificate).filter(Description::has_expired);
            if let Some(description) = expired {
                tracing::warn!(
                    "{option} {}: the CA {description} has expired ({}); what it signed is accepted all the same, until it is replaced",
                    file.display(),
                    description.not_after()
                );
            }
            let subject = describe(&certificate);
            roots
                .add(certificate)
                .map_err(|error| IdentityError::BadAuthority {
                    option,
                    path: file.to_owned(),
                    subject,
                    cause: error.to_string(),
                })?;
        }
        Ok(Self {
            option,
            file: file.to_owned(),
            roots: Arc::new(roots),
        })
    }
}
