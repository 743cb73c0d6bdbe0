//! Certificates and private keys in PEM files (RFC 7468), and what can be wrong with them.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;

use super::state_dir::StateError;

/// Why there is no identity to present.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// A PEM file that was named cannot be read.
    #[error("cannot read {option} {}: {source}; check the path and its permissions", path.display())]
    Read {
        /// The option that named it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },

    /// The file holds no PEM certificate.
    #[error(
        "no certificate in {}: it needs a PEM block `BEGIN CERTIFICATE` (a DER file is converted by \
         `openssl x509 -inform der`)",
        path.display()
    )]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },

    /// The file holds something that is not an X.509 certificate.
    #[error(
        "the certificate in {} cannot be used: {cause}; an X.509 version 3 certificate in PEM form \
         is needed",
        path.display()
    )]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        cause: String,
    },

    /// The file holds no PEM private key.
    #[error(
        "no private key in {}: it needs a PEM block `BEGIN PRIVATE KEY`, `BEGIN EC PRIVATE KEY` or \
         `BEGIN RSA PRIVATE KEY`",
        path.display()
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },

    /// The private key is protected by a passphrase, and nobody is there to type it.
    #[error(
        "the private key in {shown} is encrypted: write a copy without passphrase with `openssl \
         pkey -in {shown} -out FILE` and name that instead",
        shown = path.display()
    )]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },

    /// The private key is of a kind TLS 1.3 has no use for, or damaged.
    #[error(
        "the private key in {} cannot be used: {cause}; use an ECDSA (P-256, P-384, P-521), \
         Ed25519 or RSA (2048 bits or more) key",
        path.display()
    )]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        cause: String,
    },

    /// Key and certificate are not a pair.
    #[error(
        "the private key in {} does not belong to the certificate in {}: name the two files of one \
         identity (a chain starts with the holder's own certificate)",
        key.display(),
        certificate.display()
    )]
    Mismatch {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
    },

    /// A CA that cannot vouch for anybody.
    #[error(
        "{option} {}: the CA {subject} cannot be used: {cause}; name a file with the certificates of \
         CAs, and nothing else",
        path.display()
    )]
    BadAuthority {
        /// The option that named it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Whose certificate it is.
        subject: String,
        /// What is wrong with it.
        cause: String,
    },

    /// The self-made identity was damaged; making another silently would lock out every peer.
    #[error(
        "the identity of this user is damaged: {cause}. Restore {shown}, or remove it: a new one is \
         then made, and peers that know the old one must remove its line from their known_hosts",
        shown = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: Box<IdentityError>,
    },

    /// Key generation failed.
    #[error("cannot make an identity: {0}; name one with --server-cert and --server-key")]
    Generate(#[from] rcgen::Error),

    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
}

/// The certificates of the file that `option` names. In a chain the first is the holder's own (RFC
/// 8446 section 4.4.2).
pub(crate) fn read_certificates(
    option: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    parse_certificates(&read_named(option, path)?, path)
}

/// The contents of the file that `option` names.
/// No bundle of CAs is longer.
const LONGEST: u64 = 16 << 20;

pub(crate) fn read_named(option: &'static str, path: &Path) -> Result<Vec<u8>, IdentityError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut pem = Vec::new();
        File::open(path)?.take(LONGEST + 1).read_to_end(&mut pem)?;
        if pem.len() as u64 > LONGEST {
            return Err(io::Error::other("longer than 16 MiB"));
        }
        Ok(pem)
    };
    read().map_err(|source| {
        let path = path.to_owned();
        IdentityError::Read {
            option,
            path,
            source,
        }
    })
}

/// All certificates in `pem`, at least one; `path` is for messages.
pub(crate) fn parse_certificates(
    pem: &[u8],
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let bad = |cause: String| {
        let path = path.to_owned();
        IdentityError::BadCertificate { path, cause }
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| bad(error.to_string()))?;
    let Some(own) = chain.first() else {
        return Err(IdentityError::NoCertificate {
            path: path.to_owned(),
        });
    };
    ParsedCertificate::try_from(own).map_err(|error| bad(error.to_string()))?;
    Ok(chain)
}

/// The first private key in PKCS#8 (RFC 5958), SEC1 (RFC 5915) or PKCS#1 (RFC 8017) form.
pub(crate) fn parse_key(pem: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        let path = path.to_owned();
        // `BEGIN ENCRYPTED PRIVATE KEY`, or the `Proc-Type: 4,ENCRYPTED` header of RFC 1421.
        if pem.windows(9).any(|window| window == b"ENCRYPTED") {
            IdentityError::EncryptedKey { path }
        } else if matches!(error, pem::Error::NoItemsFound) {
            IdentityError::NoKey { path }
        } else {
            IdentityError::BadKey {
                path,
                cause: error.to_string(),
            }
        }
    })
}
