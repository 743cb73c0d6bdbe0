//! Who trusts whom, and the TLS configurations that follow from it.
//!
//! TLS 1.3 only, one ALPN protocol, no early data and no resumption. Listeners present the identity
//! of `identity.rs` and accept the clients of `chain.rs`; connecting sockets accept what `verifier.rs`
//! accepts. A configuration is made for each handshake, from the files as they are then (`reload.rs`).
#![forbid(unsafe_code)]

mod options;

pub(crate) mod alerts;
mod authorities;
pub(crate) mod certificate;
mod chain;
pub(crate) mod identity;
pub(crate) mod known_hosts;
pub(crate) mod pem;
mod provider;
mod reload;
pub(crate) mod state_dir;
pub(crate) mod throttle;
mod verifier;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hmac;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{NoClientAuth, danger::ClientCertVerifier};
use rustls::{KeyLog, KeyLogFile};

use self::authorities::Authorities;
use self::chain::{SignedClient, SignedServers};
use self::identity::{Identity, Pair};
use self::known_hosts::{Fingerprint, KnownHosts, Verdict};
use self::pem::{IdentityError, read_certificates};
use self::reload::Reloaded;
use self::state_dir::{StateDir, StateError};
use self::throttle::Throttle;
use self::verifier::{PeerVerifier, Policy};

pub(crate) use options::{TrustError, TrustOptions};
pub(crate) use provider::provider;

/// The application protocol (RFC 7301) of quicwrap's own streams and prefaces.
pub(crate) const ALPN: &[u8] = b"quicwrap/1";

/// The file of recorded keys in the state directory, unless `--known-hosts` names another.
const KNOWN_HOSTS: &str = "known_hosts";

/// What listeners of this process present.
enum Presented {
    /// `--server-cert` and `--server-key`.
    Named(Reloaded<Identity>),
    /// `--server-cert` alone: enough to connect.
    CertificateOnly(PathBuf),
    /// The identity in the state directory, once it has been needed.
    SelfMade(Mutex<Option<Arc<Identity>>>),
}

/// Whom connecting sockets of this process accept.
enum Accepted {
    /// `--insecure`.
    Anyone,
    /// `--server-cert`.
    Exactly {
        file: PathBuf,
        certificate: Reloaded<CertificateDer<'static>>,
    },
    /// `--ca` and `--server-name`.
    Signed {
        authorities: Reloaded<Authorities>,
        name: Option<ServerName<'static>>,
    },
    /// Whom they have met before. The file is not touched before a client needs it.
    Pinned,
}

/// Everything TLS needs to know.
pub(crate) struct Trust {
    presented: Presented,
    accepted: Accepted,
    /// `--client-cert` and `--client-key`.
    client: Option<Reloaded<Identity>>,
    /// `--client-ca`.
    client_authorities: Option<Reloaded<Authorities>>,
    state_dir: Option<PathBuf>,
    known_hosts: Option<PathBuf>,
    provider: Arc<CryptoProvider>,
    key_log: Arc<dyn KeyLog>,
    alpn: Vec<Vec<u8>>,
    /// What clients can make a listener say.
    reports: Arc<Throttle>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}

impl Trust {
    /// Reads the files that were named, so that a wrong path or a mismatched key is an error before
    /// the program starts. What was not named is neither read nor made here.
    ///
    /// # Errors
    /// Options that contradict each other, files that cannot be used.
    pub(crate) fn load(options: &TrustOptions) -> Result<Self, TrustError> {
        options.check()?;
        if let Some(path) = &options.state_dir {
            StateDir::check(path)?;
        }
        if let Some(path) = &options.known_hosts {
            KnownHosts::new(path.clone()).check()?;
        }
        let trust = Self {
            presented: presented(options)?,
            accepted: accepted(options)?,
            client: client(options)?,
            client_authorities: authorities("--client-ca", options.client_ca.as_deref())?,
            state_dir: options.state_dir.clone(),
            known_hosts: options.known_hosts.clone(),
            provider: Arc::new(provider()),
            key_log: key_log(options.keylog.as_deref())?,
            alpn: options.alpn.clone().unwrap_or_else(|| vec![ALPN.to_vec()]),
            reports: Arc::default(),
        };
        if options.insecure {
            tracing::warn!("--insecure: connections are encrypted, but nobody checks with whom");
        }
        Ok(trust)
    }

    /// For a listener that `client` connects to. Makes the self-made identity on first use.
    ///
    /// # Errors
    /// No identity to present, or no CA to ask for.
    pub(crate) fn server_config(
        &self,
        client: SocketAddr,
    ) -> Result<Arc<rustls::ServerConfig>, TrustError> {
        let identity = self.identity()?;
        let mut config = rustls::ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(self.client_verifier(client)?)
            .with_cert_resolver(identity.resolver());
        config.alpn_protocols = self.alpn.clone();
        config.key_log = self.key_log.clone();
        config.max_early_data_size = 0;
        // Our clients do not resume, so tickets would only be bytes in the first flight.
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn client_verifier(
        &self,
        client: SocketAddr,
    ) -> Result<Arc<dyn ClientCertVerifier>, TrustError> {
        Ok(match &self.client_authorities {
            None => Arc::new(NoClientAuth),
            Some(authorities) => Arc::new(SignedClient::new(
                client,
                authorities.get(),
                &self.provider,
                Arc::clone(&self.reports),
            )?),
        })
    }

    /// Whether listeners ask clients for a certificate.
    pub(crate) fn asks_clients(&self) -> bool {
        self.client_authorities.is_some()
    }

    /// For a socket that connects. `peer` names the host for first-contact pinning and for messages.
    ///
    /// Resumption is off: a resumed handshake shows no certificate (RFC 8446 section 2.2), so it
    /// would outlive a pin that was removed or a policy that was changed, and a store shared
    /// between peers would be keyed by a name that need not tell them apart. Without early data it
    /// saves no round trip, and one connection per peer is pooled anyway.
    ///
    /// # Errors
    /// A state directory that cannot be used.
    pub(crate) fn client_config(
        &self,
        peer: SocketAddr,
    ) -> Result<Arc<rustls::ClientConfig>, TrustError> {
        let algorithms = self.provider.signature_verification_algorithms;
        let verifier = PeerVerifier::new(peer, self.policy()?, algorithms);
        let builder = rustls::ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match self.client_resolver() {
            Some(resolver) => builder.with_client_cert_resolver(resolver),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.clone();
        config.key_log = self.key_log.clone();
        config.enable_early_data = false;
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    fn client_resolver(&self) -> Option<Arc<dyn ResolvesClientCert>> {
        Some(self.client.as_ref()?.get().client_resolver())
    }

    /// The key of stateless reset tokens, for `quinn::EndpointConfig::new`: the same after a restart
    /// with the same identity, so that a peer of the process before learns at once that its
    /// connection is gone (RFC 9000 section 10.3). Makes the self-made identity on first use, so
    /// ask for endpoints that listen; one that only connects does well with
    /// `EndpointConfig::default`. Random where there is no private key to derive it from.
    pub(crate) fn reset_key(&self) -> Result<Arc<dyn quinn::crypto::HmacKey>, TrustError> {
        if let Presented::CertificateOnly(_) = self.presented {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &random::<64>()?);
            return Ok(Arc::new(key));
        }
        Ok(Arc::new(self.identity()?.reset_key()))
    }

    /// The key for `quinn_proto::HashedConnectionIdGenerator::from_key`, without which `reset_key`
    /// has no effect: quinn answers an unknown connection id with a stateless reset only if the
    /// generator made it, and by default every endpoint takes a random key for that.
    pub(crate) fn connection_id_key(&self) -> Result<u64, TrustError> {
        if let Presented::CertificateOnly(_) = self.presented {
            return Ok(u64::from_ne_bytes(random()?));
        }
        Ok(self.identity()?.connection_id_key())
    }

    /// What a TLS alert (RFC 8446 section 6) by which a server has ended the handshake means for who
    /// runs the client.
    pub(crate) fn refused_by_server(&self, alert: u8) -> String {
        let identity = self.client.as_ref().map(Reloaded::get);
        alerts::by_server(alert, identity.as_deref())
    }

    /// Reports a TLS alert by which `client` has ended the handshake, if it is about what is presented
    /// here.
    pub(crate) fn refused_by_client(&self, client: SocketAddr, alert: u8) {
        let Ok(identity) = self.identity() else {
            return;
        };
        match alerts::by_client(alert, &identity) {
            Some(text) => self
                .reports
                .warn(|| format!("client {client} refuses {text}")),
            None => tracing::info!(%client, alert, "a client refuses the handshake"),
        }
    }

    /// Reports a client that has shown no certificate although it was asked for one.
    pub(crate) fn missing_client_certificate(&self, client: SocketAddr) {
        self.reports.warn(|| {
            format!(
                "client {client} shows no certificate, which --client-ca asks for: it has to be given one with --client-cert and --client-key"
            )
        });
    }

    fn identity(&self) -> Result<Arc<Identity>, TrustError> {
        match &self.presented {
            Presented::Named(identity) => Ok(identity.get()),
            Presented::CertificateOnly(path) => {
                Err(TrustError::CertificateWithoutKey(path.clone()))
            }
            Presented::SelfMade(slot) => {
                // A panic elsewhere leaves the slot empty or full, both of which are fine.
                let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(identity) = &*slot {
                    return Ok(identity.clone());
                }
                let identity = Arc::new(Identity::open_or_create(&self.state_dir()?)?);
                Ok(slot.insert(identity).clone())
            }
        }
    }

    /// Whether connecting sockets hold the peer to a key that is recorded for it.
    pub(crate) fn has_met(&self, peer: SocketAddr) -> bool {
        let Ok(Policy::Pinned(hosts)) = self.policy() else {
            return false;
        };
        // Nobody's key: whatever is recorded is another.
        let verdict = hosts.lookup(peer, &Fingerprint::of(&[]));
        !matches!(verdict, Ok(Verdict::Absent | Verdict::Familiar))
    }

    fn policy(&self) -> Result<Policy, TrustError> {
        Ok(match &self.accepted {
            Accepted::Anyone => Policy::Anyone,
            Accepted::Exactly { file, certificate } => Policy::Exactly {
                file: file.clone(),
                certificate: CertificateDer::clone(&certificate.get()),
            },
            Accepted::Signed { authorities, name } => Policy::Signed(Arc::new(SignedServers::new(
                authorities.get(),
                name.clone(),
                &self.provider,
            )?)),
            Accepted::Pinned => Policy::Pinned(KnownHosts::new(match &self.known_hosts {
                Some(path) => path.clone(),
                None => self.state_dir()?.file(KNOWN_HOSTS),
            })),
        })
    }

    fn state_dir(&self) -> Result<StateDir, StateError> {
        StateDir::open(self.state_dir.as_deref())
    }
}

fn presented(options: &TrustOptions) -> Result<Presented, TrustError> {
    Ok(match (&options.server_cert, &options.server_key) {
        (Some(certificate), Some(key)) => Presented::Named(identity(Pair {
            certificate_option: "--server-cert",
            certificate: absolute(certificate)?,
            key_option: "--server-key",
            key: absolute(key)?,
        })?),
        (Some(certificate), None) => Presented::CertificateOnly(absolute(certificate)?),
        (None, _) => Presented::SelfMade(Mutex::new(None)),
    })
}

fn client(options: &TrustOptions) -> Result<Option<Reloaded<Identity>>, TrustError> {
    let (Some(certificate), Some(key)) = (&options.client_cert, &options.client_key) else {
        return Ok(None);
    };
    let pair = Pair {
        certificate_option: "--client-cert",
        certificate: absolute(certificate)?,
        key_option: "--client-key",
        key: absolute(key)?,
    };
    Ok(Some(identity(pair)?))
}

/// An identity that is replaced when both its files have been, and belong together.
fn identity(pair: Pair) -> Result<Reloaded<Identity>, IdentityError> {
    let files = vec![pair.certificate.clone(), pair.key.clone()];
    Reloaded::new(files, move || Identity::from_files(&pair))
}

fn accepted(options: &TrustOptions) -> Result<Accepted, TrustError> {
    // Read even where they do not decide: a wrong path is an error in any case.
    let name = options.expected_name()?;
    let exactly = options.server_cert.as_deref().map(exactly).transpose()?;
    Ok(match (options.insecure, &options.ca, exactly) {
        (true, ..) => Accepted::Anyone,
        (false, Some(_), _) => match authorities("--ca", options.ca.as_deref())? {
            Some(authorities) => Accepted::Signed { authorities, name },
            None => Accepted::Pinned,
        },
        (false, None, Some(exactly)) => exactly,
        (false, None, None) => Accepted::Pinned,
    })
}

fn exactly(path: &Path) -> Result<Accepted, TrustError> {
    const OPTION: &str = "--server-cert";
    let file = absolute(path)?;
    let read = file.clone();
    let certificate = Reloaded::new(vec![file.clone()], move || {
        let chain = read_certificates(OPTION, &read)?;
        let path = read.clone();
        let own = chain.into_iter().next();
        own.ok_or(IdentityError::NoCertificate { path })
    })?;
    Ok(Accepted::Exactly { file, certificate })
}

fn authorities(
    option: &'static str,
    path: Option<&Path>,
) -> Result<Option<Reloaded<Authorities>>, TrustError> {
    let Some(path) = path else { return Ok(None) };
    let file = absolute(path)?;
    let files = vec![file.clone()];
    Ok(Some(Reloaded::new(files, move || {
        Authorities::read(option, &file)
    })?))
}

/// Files are read again later, when the working directory may be another.
fn absolute(path: &Path) -> Result<PathBuf, TrustError> {
    std::path::absolute(path).map_err(|source| {
        let path = path.to_owned();
        TrustError::Relative { path, source }
    })
}

fn random<const N: usize>() -> Result<[u8; N], TrustError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| TrustError::Random)?;
    Ok(bytes)
}

fn key_log(path: Option<&Path>) -> Result<Arc<dyn KeyLog>, TrustError> {
    let Some(path) = path else {
        return Ok(Arc::new(KeyLogFile::new()));
    };
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path);
    let file = file.map_err(|source| {
        let path = path.to_owned();
        TrustError::KeyLog { path, source }
    })?;
    Ok(Arc::new(NamedKeyLog(file)))
}

/// `--keylog`: the lines of draft-ietf-tls-keylogfile, as `SSLKEYLOGFILE` has them.
#[derive(Debug)]
struct NamedKeyLog(File);

impl KeyLog for NamedKeyLog {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let line = format!("{label} {} {}\n", Hex(client_random), Hex(secret));
        // One write in append mode: lines of several processes do not mix. Losing one must not
        // fail the connection it is about.
        let _ = (&self.0).write_all(line.as_bytes());
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests;
