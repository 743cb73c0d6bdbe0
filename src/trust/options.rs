//! What the user may say about trust, and what contradicts itself.
#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;

use rustls::pki_types::ServerName;

use super::known_hosts::KnownHostsError;
use super::pem::IdentityError;
use super::state_dir::StateError;

/// The options that decide whom to trust, as the user gave them.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrustOptions {
    /// `--server-cert`: what listeners present and, without `--ca`, the one certificate that clients
    /// accept.
    pub server_cert: Option<PathBuf>,
    /// `--server-key`: its private key.
    pub server_key: Option<PathBuf>,
    /// `--ca`: clients accept what these CAs have signed.
    pub ca: Option<PathBuf>,
    /// `--server-name`: the name that it must be signed for, in place of the server's IP address.
    pub server_name: Option<String>,
    /// `--client-cert`: what clients present when they are asked.
    pub client_cert: Option<PathBuf>,
    /// `--client-key`: its private key.
    pub client_key: Option<PathBuf>,
    /// `--client-ca`: listeners ask for a certificate that one of these CAs has signed.
    pub client_ca: Option<PathBuf>,
    /// `--insecure`: accept any peer. What listeners present is not affected.
    pub insecure: bool,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
    /// `--known-hosts`.
    pub known_hosts: Option<PathBuf>,
    /// `--keylog`: where TLS secrets are appended, in place of `SSLKEYLOGFILE`.
    pub keylog: Option<PathBuf>,
    /// Application protocols that are offered and accepted; `None` for quicwrap's own.
    pub alpn: Option<Vec<Vec<u8>>>,
}

impl TrustOptions {
    /// Refuses what contradicts itself, whether it was given as an option or in the environment.
    ///
    /// # Errors
    /// The contradiction, and how to resolve it.
    pub(crate) fn check(&self) -> Result<(), TrustError> {
        if let (None, Some(key)) = (&self.server_cert, &self.server_key) {
            return Err(TrustError::KeyWithoutCertificate(key.clone()));
        }
        match (&self.client_cert, &self.client_key) {
            (Some(certificate), None) => {
                return Err(TrustError::ClientCertificateWithoutKey(certificate.clone()));
            }
            (None, Some(key)) => return Err(TrustError::ClientKeyWithoutCertificate(key.clone())),
            (Some(_), Some(_)) | (None, None) => {}
        }
        if self.ca.is_some() && self.insecure {
            return Err(TrustError::InsecureWithCa);
        }
        if self.ca.is_some() && self.known_hosts.is_some() {
            return Err(TrustError::KnownHostsWithCa);
        }
        if let (None, Some(name)) = (&self.ca, &self.server_name) {
            return Err(TrustError::NameWithoutCa(name.clone()));
        }
        Ok(())
    }

    /// `--server-name`, as X.509 knows names.
    ///
    /// # Errors
    /// Neither a DNS name nor an IP address.
    pub(crate) fn expected_name(&self) -> Result<Option<ServerName<'static>>, TrustError> {
        let Some(name) = &self.server_name else {
            return Ok(None);
        };
        let parsed = ServerName::try_from(name.clone());
        parsed
            .map(Some)
            .map_err(|_| TrustError::BadName(name.clone()))
    }
}

/// Why there is no TLS configuration. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// A key alone is half an identity.
    #[error(
        "--server-key {} needs the certificate it belongs to: name it with --server-cert",
        _0.display()
    )]
    KeyWithoutCertificate(PathBuf),

    /// Clients can do with the certificate, listeners cannot.
    #[error(
        "a listener cannot present --server-cert {} without its private key: name it with \
         --server-key",
        _0.display()
    )]
    CertificateWithoutKey(PathBuf),

    /// Half an identity of a client.
    #[error(
        "--client-cert {} cannot be presented without its private key: name it with --client-key",
        _0.display()
    )]
    ClientCertificateWithoutKey(PathBuf),

    /// The other half.
    #[error(
        "--client-key {} needs the certificate it belongs to: name it with --client-cert",
        _0.display()
    )]
    ClientKeyWithoutCertificate(PathBuf),

    /// Two answers to the question whom to accept.
    #[error(
        "--insecure accepts anyone, --ca only what its CAs signed: leave one of them out (or unset \
         QUICWRAP_INSECURE, QUICWRAP_CA)"
    )]
    InsecureWithCa,

    /// Nothing is recorded of servers that a CA vouches for.
    #[error(
        "--known-hosts records the keys of first contacts, and with --ca there are none: leave one \
         of them out (or unset QUICWRAP_KNOWN_HOSTS, QUICWRAP_CA)"
    )]
    KnownHostsWithCa,

    /// Only a CA's word makes a name mean something.
    #[error(
        "--server-name {0} is looked at only in certificates that a CA signed: name the CA with --ca, \
         or leave --server-name out"
    )]
    NameWithoutCa(String),

    /// No name that a certificate could hold.
    #[error(
        "--server-name {0:?} is neither a DNS name nor an IP address: give one, without a port"
    )]
    BadName(String),

    /// The secrets that were asked for cannot be written.
    #[error(
        "cannot open --keylog {} to append: {source}; name a file that can be written",
        path.display()
    )]
    KeyLog {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },

    /// The system has no random numbers.
    #[error("the system gives no random numbers: check getrandom(2) and /dev/urandom")]
    Random,

    /// The working directory has no path, so that a relative one means nothing.
    #[error("cannot tell which file {} is: {source}; give an absolute path", path.display())]
    Relative {
        /// The path that was given.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },

    /// The certificates, keys and CAs.
    #[error(transparent)]
    Identity(#[from] IdentityError),

    /// The recorded keys.
    #[error(transparent)]
    KnownHosts(#[from] KnownHostsError),

    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),

    /// rustls refuses the configuration.
    #[error("TLS cannot be configured: {0}; please report this")]
    Tls(#[from] rustls::Error),
}
