//! Handshakes without a network.
#![forbid(unsafe_code)]

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
        self.trust().server_config(peer()).unwrap()
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

/// A user whose listeners present what a CA has signed for these addresses, and the CA's file.
fn signed_for(names: &[&str]) -> (User, PathBuf) {
    let mut user = User::new();
    let files = ["ca.pem", "cert.pem", "key.pem"].map(|name| user.path(name));
    let [ca, cert, key] = &files;
    let ca_key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::default();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    fs::write(ca, parameters.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::new(parameters, ca_key);
    let pair = KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let signed = CertificateParams::new(names)
        .unwrap()
        .signed_by(&pair, &issuer);
    fs::write(cert, signed.unwrap().pem()).unwrap();
    fs::write(key, pair.serialize_pem()).unwrap();
    user.options.server_cert = Some(cert.clone());
    user.options.server_key = Some(key.clone());
    let [ca, ..] = files;
    (user, ca)
}

#[test]
fn an_address_is_looked_for_in_its_plain_form() {
    let (server, ca) = signed_for(&["10.0.0.5", "2001:db8::5"]);
    let mut client = User::new();
    client.options.ca = Some(ca);
    let connect = |peer: &str| {
        let config = client.trust().client_config(peer.parse().unwrap());
        handshake(config.unwrap(), server.server())
    };
    for peer in ["10.0.0.5:1", "[2001:db8::5]:1", "[::ffff:10.0.0.5]:1"] {
        connect(peer).unwrap();
    }
    let error = refusal(|| connect("[2001:db8::6]:1"));
    assert!(
        error.contains("10.0.0.5, 2001:db8::5, not for 2001:db8::6"),
        "{error}"
    );
    assert!(!client.path("state").exists(), "nothing to remember");
}

/// Shows the certificate of `victim` and signs with another key.
fn impostor(victim: &User) -> Arc<ServerConfig> {
    let trust = victim.trust();
    let chain = read_certificates(
        "--server-cert",
        victim.options.server_cert.as_ref().unwrap(),
    )
    .unwrap();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let mut config = ServerConfig::clone(&trust.server_config(peer()).unwrap());
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
    let fingerprint = super::known_hosts::Fingerprint::of(&spki);
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
    let (expecting, stranger, mut insecure) = (User::expecting(&victim), User::new(), User::new());
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
    let error = trust.server_config(peer()).err().unwrap().to_string();
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
