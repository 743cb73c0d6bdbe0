//! Who trusts whom, and the TLS configurations that follow from it.
//!
//! TLS 1.3 only, one ALPN protocol, no early data and no resumption. Listeners present the identity
//! of `identity.rs`; connecting sockets accept what `verifier.rs` accepts.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hmac;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::{KeyLog, KeyLogFile};

use super::identity::{Identity, IdentityError, read_certificates};
use super::known_hosts::{KnownHosts, KnownHostsError};
use super::state_dir::{StateDir, StateError};
use super::verifier::{PeerVerifier, Policy};

/// The application protocol (RFC 7301) of quicwrap's own streams and prefaces.
pub(crate) const ALPN: &[u8] = b"quicwrap/1";

/// The file of recorded keys in the state directory, unless `--known-hosts` names another.
const KNOWN_HOSTS: &str = "known_hosts";

/// The options that decide whom to trust, as the user gave them.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrustOptions {
    /// `--server-cert`: what listeners present, and the one certificate that clients accept.
    pub server_cert: Option<PathBuf>,
    /// `--server-key`: its private key.
    pub server_key: Option<PathBuf>,
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

    /// The certificate and key.
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

/// What listeners of this process present.
enum Presented {
    /// `--server-cert` and `--server-key`.
    Named(Arc<Identity>),
    /// `--server-cert` alone: enough to connect.
    CertificateOnly(PathBuf),
    /// The identity in the state directory, once it has been needed.
    SelfMade(Mutex<Option<Arc<Identity>>>),
}

/// Everything TLS needs to know, read once.
pub(crate) struct Trust {
    presented: Presented,
    /// `None` stands for the pins, whose file is not touched before a client needs it.
    fixed_policy: Option<Policy>,
    state_dir: Option<PathBuf>,
    known_hosts: Option<PathBuf>,
    provider: Arc<CryptoProvider>,
    key_log: Arc<dyn KeyLog>,
    alpn: Vec<Vec<u8>>,
}

impl Trust {
    /// Reads the files that were named, so that a wrong path or a mismatched key is an error before
    /// the program starts. What was not named is neither read nor made here.
    pub(crate) fn load(options: &TrustOptions) -> Result<Self, TrustError> {
        if let Some(path) = &options.state_dir {
            StateDir::check(path)?;
        }
        if let Some(path) = &options.known_hosts {
            KnownHosts::new(path.clone()).check()?;
        }
        if options.insecure {
            tracing::warn!("--insecure: connections are encrypted, but nobody checks with whom");
        }
        Ok(Self {
            presented: presented(options)?,
            fixed_policy: fixed_policy(options)?,
            state_dir: options.state_dir.clone(),
            known_hosts: options.known_hosts.clone(),
            provider: Arc::new(provider()),
            key_log: key_log(options.keylog.as_deref())?,
            alpn: options.alpn.clone().unwrap_or_else(|| vec![ALPN.to_vec()]),
        })
    }

    /// For a listener. Makes the self-made identity on first use.
    pub(crate) fn server_config(&self) -> Result<Arc<rustls::ServerConfig>, TrustError> {
        let identity = self.identity()?;
        let mut config = rustls::ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(identity.resolver());
        config.alpn_protocols = self.alpn.clone();
        config.key_log = self.key_log.clone();
        config.max_early_data_size = 0;
        // Our clients do not resume, so tickets would only be bytes in the first flight.
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// For a socket that connects. `peer` names the host for first-contact pinning and for messages.
    ///
    /// Resumption is off: a resumed handshake shows no certificate (RFC 8446 section 2.2), so it
    /// would outlive a pin that was removed or a policy that was changed, and a store shared
    /// between peers would be keyed by a name that need not tell them apart. Without early data it
    /// saves no round trip, and one connection per peer is pooled anyway.
    pub(crate) fn client_config(
        &self,
        peer: SocketAddr,
    ) -> Result<Arc<rustls::ClientConfig>, TrustError> {
        let algorithms = self.provider.signature_verification_algorithms;
        let verifier = PeerVerifier::new(peer, self.policy()?, algorithms);
        let mut config = rustls::ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = self.alpn.clone();
        config.key_log = self.key_log.clone();
        config.enable_early_data = false;
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
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

    fn identity(&self) -> Result<Arc<Identity>, TrustError> {
        match &self.presented {
            Presented::Named(identity) => Ok(identity.clone()),
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

    fn policy(&self) -> Result<Policy, TrustError> {
        let path = match (&self.fixed_policy, &self.known_hosts) {
            (Some(policy), _) => return Ok(policy.clone()),
            (None, Some(path)) => path.clone(),
            (None, None) => self.state_dir()?.file(KNOWN_HOSTS),
        };
        Ok(Policy::Pinned(KnownHosts::new(path)))
    }

    fn state_dir(&self) -> Result<StateDir, StateError> {
        StateDir::open(self.state_dir.as_deref())
    }
}

fn presented(options: &TrustOptions) -> Result<Presented, TrustError> {
    match (&options.server_cert, &options.server_key) {
        (Some(certificate), Some(key)) => Ok(Presented::Named(Arc::new(Identity::from_files(
            certificate,
            key,
        )?))),
        (Some(certificate), None) => Ok(Presented::CertificateOnly(certificate.clone())),
        (None, Some(key)) => Err(TrustError::KeyWithoutCertificate(key.clone())),
        (None, None) => Ok(Presented::SelfMade(Mutex::new(None))),
    }
}

fn fixed_policy(options: &TrustOptions) -> Result<Option<Policy>, TrustError> {
    // Read even under --insecure: a wrong path is an error in any case.
    let exactly = match &options.server_cert {
        Some(file) => read_certificates(file)?
            .into_iter()
            .next()
            .map(|certificate| {
                let file = file.clone();
                Policy::Exactly { file, certificate }
            }),
        None => None,
    };
    Ok(if options.insecure {
        Some(Policy::Anyone)
    } else {
        exactly
    })
}

fn random<const N: usize>() -> Result<[u8; N], TrustError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| TrustError::Random)?;
    Ok(bytes)
}

/// AES-128-GCM first: the fastest where the processor has AES instructions, and the one RFC 8446
/// section 9.1 requires. The client's order decides.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..default_provider()
    }
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
mod tests {
    use std::fs;

    use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, SignatureAlgorithm};
    use rustls::pki_types::ServerName;
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
    use tempfile::TempDir;

    use super::*;

    /// A user with a state directory of its own.
    struct User {
        root: TempDir,
        options: TrustOptions,
    }

    impl User {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let state_dir = Some(root.path().join("state"));
            Self {
                root,
                options: TrustOptions {
                    state_dir,
                    ..TrustOptions::default()
                },
            }
        }

        /// One that was given a certificate and key of this kind.
        fn with_files(algorithm: &'static SignatureAlgorithm) -> Self {
            let mut user = Self::new();
            let (cert, key) = (user.path("cert.pem"), user.path("key.pem"));
            let pair = KeyPair::generate_for(algorithm).unwrap();
            let parameters = CertificateParams::new(["test".to_owned()]).unwrap();
            fs::write(&cert, parameters.self_signed(&pair).unwrap().pem()).unwrap();
            fs::write(&key, pair.serialize_pem()).unwrap();
            (user.options.server_cert, user.options.server_key) = (Some(cert), Some(key));
            user
        }

        /// One that was told which certificate to accept.
        fn expecting(other: &User) -> Self {
            let mut user = Self::new();
            user.options.server_cert = other.options.server_cert.clone();
            user
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        fn trust(&self) -> Trust {
            Trust::load(&self.options).unwrap()
        }

        fn server(&self) -> Arc<ServerConfig> {
            self.trust().server_config().unwrap()
        }

        fn connect(&self, server: Arc<ServerConfig>) -> Result<Connected, rustls::Error> {
            handshake(self.trust().client_config(peer()).unwrap(), server)
        }

        fn known_hosts(&self) -> String {
            fs::read_to_string(self.path("state/known_hosts")).unwrap_or_default()
        }
    }

    type Connected = (ClientConnection, ServerConnection);

    fn peer() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 5], 443))
    }

    fn handshake(
        client: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
    ) -> Result<Connected, rustls::Error> {
        let name = ServerName::from(peer().ip());
        let mut client = ClientConnection::new(client, name).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut flight = Vec::new();
            client.write_tls(&mut flight).unwrap();
            server.read_tls(&mut &flight[..]).unwrap();
            server.process_new_packets()?;
            let mut flight = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut flight).unwrap();
            }
            client.read_tls(&mut &flight[..]).unwrap();
            client.process_new_packets()?;
        }
        Ok((client, server))
    }

    /// What the log says when the connection is refused.
    fn refusal(connect: impl FnOnce() -> Result<Connected, rustls::Error>) -> String {
        let log = tempfile::NamedTempFile::new().unwrap();
        let writer = Mutex::new(log.reopen().unwrap());
        let subscriber = tracing_subscriber::fmt()
            .with_writer(writer)
            .with_ansi(false)
            .finish();
        let error = tracing::subscriber::with_default(subscriber, connect)
            .err()
            .unwrap();
        let wire = error.to_string();
        assert!(
            !wire.contains("sha256") && !wire.contains('/'),
            "tells the peer: {wire}"
        );
        fs::read_to_string(log.path()).unwrap()
    }

    /// Shows the certificate of `victim` and signs with another key.
    fn impostor(victim: &User) -> Arc<ServerConfig> {
        let trust = victim.trust();
        let chain = read_certificates(victim.options.server_cert.as_ref().unwrap()).unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
        let mut config = ServerConfig::clone(&trust.server_config().unwrap());
        config.cert_resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
        Arc::new(config)
    }

    #[test]
    fn named_certificate_is_accepted_whatever_its_kind() {
        for algorithm in [
            &PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
        ] {
            let server = User::with_files(algorithm);
            let client = User::expecting(&server);
            let (connection, _) = client.connect(server.server()).unwrap();
            assert_eq!(connection.alpn_protocol(), Some(ALPN));
            assert_eq!(
                connection.protocol_version(),
                Some(rustls::ProtocolVersion::TLSv1_3)
            );
            let suite = connection.negotiated_cipher_suite().unwrap().suite();
            assert_eq!(suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
            assert!(!client.path("state").exists(), "nothing to remember");
        }
    }

    #[test]
    fn another_certificate_than_the_named_one_is_refused() {
        let server = User::with_files(&PKCS_ECDSA_P256_SHA256);
        let other = User::with_files(&PKCS_ECDSA_P256_SHA256);
        let client = User::expecting(&other);
        let error = refusal(|| client.connect(server.server()));
        assert!(
            error.contains("10.0.0.5:443 shows another certificate"),
            "{error}"
        );
        assert!(
            error.contains("cert.pem") && error.matches("sha256:").count() == 2,
            "{error}"
        );
    }

    #[test]
    fn first_contact_pins_and_a_changed_key_is_refused() {
        let (server, client) = (User::new(), User::new());
        client.connect(server.server()).unwrap();
        let pinned = client.known_hosts();
        assert!(pinned.starts_with("10.0.0.5:443 sha256:"), "{pinned}");
        assert_eq!(pinned.lines().count(), 1);
        client.connect(server.server()).unwrap();
        let error = refusal(|| client.connect(User::new().server()));
        assert!(
            error.contains("ERROR") && error.contains("remove line 1 of that file"),
            "{error}"
        );
        assert!(
            error.matches("sha256:").count() == 2 && error.contains("state/known_hosts:1 "),
            "{error}"
        );
        assert_eq!(
            client.known_hosts(),
            pinned,
            "a refused key is not recorded"
        );
    }

    #[test]
    fn the_pin_is_the_hash_of_the_public_key() {
        let server = User::with_files(&PKCS_ECDSA_P256_SHA256);
        let key = fs::read_to_string(server.path("key.pem")).unwrap();
        let spki = rcgen::PublicKeyData::subject_public_key_info(&KeyPair::from_pem(&key).unwrap());
        let mut client = User::new();
        let elsewhere = client.path("elsewhere");
        client.options.known_hosts = Some(elsewhere.clone());
        client.connect(server.server()).unwrap();
        let fingerprint = super::super::known_hosts::Fingerprint::of(&spki);
        let line = format!("10.0.0.5:443 {fingerprint}\n");
        assert_eq!(fs::read_to_string(elsewhere).unwrap(), line);
        assert!(!client.path("state").exists());
    }

    #[test]
    fn insecure_accepts_anyone_and_records_nothing() {
        let mut client = User::new();
        client.options.insecure = true;
        client.connect(User::new().server()).unwrap();
        client
            .connect(User::with_files(&rcgen::PKCS_ED25519).server())
            .unwrap();
        assert!(!client.path("state").exists());
    }

    #[test]
    fn nobody_may_show_a_certificate_without_its_key() {
        let victim = User::with_files(&PKCS_ECDSA_P256_SHA256);
        let (expecting, stranger, mut insecure) =
            (User::expecting(&victim), User::new(), User::new());
        insecure.options.insecure = true;
        let pinned = User::new();
        pinned.connect(victim.server()).unwrap();
        for client in [&expecting, &stranger, &insecure, &pinned] {
            let error = client.connect(impostor(&victim)).err().unwrap();
            let expected = rustls::CertificateError::BadSignature;
            assert_eq!(error, rustls::Error::InvalidCertificate(expected));
        }
        assert_eq!(stranger.known_hosts(), "", "recorded only after the proof");
    }

    #[test]
    fn a_pin_that_cannot_be_kept_is_an_error() {
        let client = User::new();
        fs::create_dir_all(client.path("state/known_hosts.lock")).unwrap();
        let error = refusal(|| client.connect(User::new().server()));
        assert!(
            error.contains("cannot record the key of 10.0.0.5:443"),
            "{error}"
        );
        fs::write(client.path("state/known_hosts"), "10.0.0.5:443 sha256:AA\n").unwrap();
        let error = refusal(|| client.connect(User::new().server()));
        assert!(
            error.contains("known_hosts:1: the line for 10.0.0.5:443"),
            "{error}"
        );
    }

    #[test]
    fn every_connection_shows_its_certificate() {
        let (server, client) = (User::new(), User::new());
        let (server, client) = (
            server.server(),
            client.trust().client_config(peer()).unwrap(),
        );
        for _ in 0..3 {
            let (connection, _) = handshake(client.clone(), server.clone()).unwrap();
            assert_eq!(
                connection.handshake_kind(),
                Some(rustls::HandshakeKind::Full)
            );
        }
    }

    #[test]
    fn half_an_identity() {
        let mut user = User::with_files(&PKCS_ECDSA_P256_SHA256);
        let key = user.options.server_key.take();
        let trust = user.trust();
        trust.client_config(peer()).unwrap();
        trust.reset_key().unwrap();
        let error = trust.server_config().err().unwrap().to_string();
        assert!(error.contains("name it with --server-key"), "{error}");
        (user.options.server_cert, user.options.server_key) = (None, key);
        let error = Trust::load(&user.options).err().unwrap().to_string();
        assert!(error.contains("name it with --server-cert"), "{error}");
    }

    #[test]
    fn wrong_files_are_errors_at_the_start() {
        let mut user = User::new();
        user.options.server_cert = Some(user.path("no-such.pem"));
        assert!(Trust::load(&user.options).is_err());
        let mut user = User::with_files(&PKCS_ECDSA_P256_SHA256);
        user.options.server_key = User::with_files(&PKCS_ECDSA_P256_SHA256).options.server_key;
        assert!(Trust::load(&user.options).is_err());
        let mut user = User::new();
        user.options.keylog = Some(user.path("no/such/directory"));
        let error = Trust::load(&user.options).err().unwrap().to_string();
        assert!(error.contains("--keylog"), "{error}");
        let mut user = User::new();
        user.options.known_hosts = Some(user.root.path().to_owned());
        assert!(Trust::load(&user.options).is_err());
    }

    #[test]
    fn reset_and_connection_id_keys_survive_a_restart() {
        let user = User::new();
        let keys = |user: &User| {
            let (trust, mut token) = (user.trust(), [0; 32]);
            trust
                .reset_key()
                .unwrap()
                .sign(b"connection id", &mut token);
            (token, trust.connection_id_key().unwrap())
        };
        assert_eq!(keys(&user), keys(&user));
        assert_ne!(keys(&user), keys(&User::new()));
    }

    #[test]
    fn quinn_takes_the_configurations() {
        let user = User::new();
        QuicServerConfig::try_from(user.server()).map(drop).unwrap();
        let client = user.trust().client_config(peer()).unwrap();
        QuicClientConfig::try_from(client).map(drop).unwrap();
    }

    #[test]
    fn keylog_is_appended_in_the_usual_form() {
        let mut client = User::new();
        let path = client.path("keys");
        fs::write(&path, "# before\n").unwrap();
        client.options.keylog = Some(path.clone());
        client.connect(User::new().server()).unwrap();
        let log = fs::read_to_string(path).unwrap();
        assert!(
            log.starts_with("# before\n") && log.ends_with('\n'),
            "{log}"
        );
        let wanted = |line: &&str| line.starts_with("CLIENT_TRAFFIC_SECRET_0 ");
        let line = log.lines().find(wanted).unwrap();
        let words: Vec<_> = line.split(' ').collect();
        // SHA-256 suite: 32 bytes of client random, 32 of secret.
        assert!(
            words.len() == 3 && words[1..].iter().all(|hex| hex.len() == 64),
            "{line}"
        );
    }
}
