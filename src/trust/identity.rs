//! The certificate and key a listener presents, and the secrets that follow from the key.
//!
//! Either the files named by `--server-cert` and `--server-key`, or the self-made identity: one file
//! in the state directory, made by the first listener of this user and presented by all of them
//! from then on, so that a peer meets one key per user and address, as with an ssh host key.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::hmac;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::CertificateDer;
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::certificate::Description;
use super::pem::{IdentityError, parse_certificates, parse_key, read_certificates, read_named};
use super::state_dir::{FileLock, StateDir, check_private, io_error};

/// The file of the self-made identity in the state directory: private key, then certificate.
const FILE_NAME: &str = "identity.pem";

/// Domain separation: what is derived from the private key says what it is for.
const RESET_LABEL: &[u8] = b"quicwrap/1 stateless reset key";
const CONNECTION_ID_LABEL: &[u8] = b"quicwrap/1 connection id key";

/// The files of an identity, and the options that name them.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// `--server-cert` or `--client-cert`.
    pub certificate_option: &'static str,
    /// The certificate chain.
    pub certificate: PathBuf,
    /// `--server-key` or `--client-key`.
    pub key_option: &'static str,
    /// The private key; may be in the same file.
    pub key: PathBuf,
}

/// A certificate chain with its private key.
#[derive(Debug)]
pub(crate) struct Identity {
    certified: Arc<CertifiedKey>,
    file: PathBuf,
    reset_secret: hmac::Tag,
    connection_id_secret: hmac::Tag,
}

impl Identity {
    /// Reads the two files, which must belong together.
    ///
    /// # Errors
    /// A file that cannot be read, holds something else, or does not belong to the other.
    pub(crate) fn from_files(pair: &Pair) -> Result<Self, IdentityError> {
        let chain = read_certificates(pair.certificate_option, &pair.certificate)?;
        let key_pem = read_named(pair.key_option, &pair.key)?;
        Self::from_pem(chain, &pair.certificate, &key_pem, &pair.key)
    }

    /// The self-made identity of the state directory, made now if this is its first use.
    pub(crate) fn open_or_create(state: &StateDir) -> Result<Self, IdentityError> {
        let path = state.file(FILE_NAME);
        let pem = match read_private(&path)? {
            Some(pem) => pem,
            None => create(&path)?,
        };
        parse_certificates(&pem, &path)
            .and_then(|chain| Self::from_pem(chain, &path, &pem, &path))
            .map_err(|cause| IdentityError::Damaged {
                path,
                cause: Box::new(cause),
            })
    }

    fn from_pem(
        chain: Vec<CertificateDer<'static>>,
        chain_path: &Path,
        key_pem: &[u8],
        key_path: &Path,
    ) -> Result<Self, IdentityError> {
        let key = parse_key(key_pem, key_path)?;
        let signing_key = any_supported_type(&key).map_err(|_| IdentityError::BadKey {
            path: key_path.to_owned(),
            cause: "it is damaged, or of an unsupported kind, curve or size".to_owned(),
        })?;
        let certified = CertifiedKey::new(chain, signing_key);
        certified
            .keys_match()
            .map_err(|_| IdentityError::Mismatch {
                key: key_path.to_owned(),
                certificate: chain_path.to_owned(),
            })?;
        // The private key has more entropy than is derived, so one HMAC (HKDF-Extract, RFC 5869
        // section 2.2) per purpose is enough.
        let master = hmac::Key::new(hmac::HMAC_SHA512, key.secret_der());
        Ok(Self {
            certified: Arc::new(certified),
            file: chain_path.to_owned(),
            reset_secret: hmac::sign(&master, RESET_LABEL),
            connection_id_secret: hmac::sign(&master, CONNECTION_ID_LABEL),
        })
    }

    /// Presents this identity whatever name the client asks for.
    pub(crate) fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::new(SingleCertAndKey::from(self.certified.clone()))
    }

    /// Presents this identity to any server that asks for one, whichever CAs it names: that it was
    /// not the right one is then said by the server.
    pub(crate) fn client_resolver(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::new(SingleCertAndKey::from(self.certified.clone()))
    }

    /// The file that the certificate is from, for messages.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// What its certificate says; none for one that TLS can use and the report cannot read.
    pub(crate) fn description(&self) -> Option<Description> {
        Description::of(self.certified.end_entity_cert().ok()?)
    }

    /// The key of stateless reset tokens (RFC 9000 section 10.3.2): derived from 64 bytes that
    /// follow from the private key, so that a restarted process still knows the tokens of the
    /// connections it has lost.
    pub(crate) fn reset_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.reset_secret.as_ref())
    }

    /// The key by which quinn recognises connection ids of its own making. It answers a packet of
    /// an unknown connection with a stateless reset only if the id passes this test, so it has to
    /// survive a restart as well.
    pub(crate) fn connection_id_key(&self) -> u64 {
        let bytes = self.connection_id_secret.as_ref().iter().take(8);
        bytes.fold(0, |key, &byte| key << 8 | u64::from(byte))
    }
}

/// The contents of a file that must be its owner's alone, or `None` if there is no such file.
fn read_private(path: &Path) -> Result<Option<Vec<u8>>, IdentityError> {
    let failed = |error| io_error("read", path, error);
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error).into()),
    };
    // The open file is looked at, so that what is checked is what is read.
    check_private(path, &file.metadata().map_err(failed)?, 0o077, "600")?;
    let mut contents = Vec::new();
    file.read_to_end(&mut contents).map_err(failed)?;
    Ok(Some(contents))
}

/// Makes the identity, unless another process was faster: whoever gets the lock first decides.
fn create(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let failed = |error| io_error("write", path, error);
    let lock = FileLock::acquire(path).map_err(failed)?;
    if let Some(pem) = read_private(path)? {
        return Ok(pem);
    }
    let pem = generate()?;
    lock.replace(pem.as_bytes(), 0o600).map_err(failed)?;
    Ok(pem.into_bytes())
}

/// A P-256 key, the one kind every TLS 1.3 peer must support (RFC 8446 section 9.1), and a
/// certificate without an end (rcgen's default, the year 4096): peers pin the key, so an expiry
/// date would only be a date on which everything stops.
fn generate() -> Result<String, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut parameters = CertificateParams::new(["quicwrap".to_owned()])?;
    parameters
        .distinguished_name
        .push(DnType::CommonName, "quicwrap");
    parameters
        .extended_key_usages
        .push(ExtendedKeyUsagePurpose::ServerAuth);
    let certificate = parameters.self_signed(&key)?;
    Ok(key.serialize_pem() + &certificate.pem())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::SignatureAlgorithm;
    use rustls::server::ParsedCertificate;
    use tempfile::TempDir;

    use super::*;

    fn spki(identity: &Identity) -> Vec<u8> {
        let certificate = identity.certified.end_entity_cert().unwrap();
        let parsed = ParsedCertificate::try_from(certificate).unwrap();
        parsed.subject_public_key_info().to_vec()
    }

    fn key_and_certificate(algorithm: &'static SignatureAlgorithm) -> (KeyPair, String) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let parameters = CertificateParams::new(["test".to_owned()]).unwrap();
        let certificate = parameters.self_signed(&key).unwrap().pem();
        (key, certificate)
    }

    fn pem(label: &str, der: &[u8]) -> String {
        let body = STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    /// Takes one DER element off the front and returns its contents.
    fn take_element<'a>(der: &mut &'a [u8]) -> &'a [u8] {
        let bytes = *der;
        let (header, length) = match usize::from(bytes[1]) {
            short @ 0..0x80 => (2, short),
            long => {
                let end = 2 + (long & 0x7f);
                (
                    end,
                    bytes[2..end]
                        .iter()
                        .fold(0, |n, &byte| n << 8 | usize::from(byte)),
                )
            }
        };
        *der = &bytes[header + length..];
        &bytes[header..header + length]
    }

    /// The SEC1 or PKCS#1 key in a PKCS#8 one: the third element (RFC 5958 section 2).
    fn inner_key(mut pkcs8: &[u8]) -> &[u8] {
        let mut fields = take_element(&mut pkcs8);
        take_element(&mut fields);
        take_element(&mut fields);
        take_element(&mut fields)
    }

    fn load(certificate: &str, key: &str) -> Result<Identity, IdentityError> {
        let root = tempfile::tempdir().unwrap();
        let (cert_path, key_path) = (root.path().join("cert.pem"), root.path().join("key.pem"));
        fs::write(&cert_path, certificate).unwrap();
        fs::write(&key_path, key).unwrap();
        Identity::from_files(&Pair {
            certificate_option: "--server-cert",
            certificate: cert_path,
            key_option: "--server-key",
            key: key_path,
        })
    }

    fn message(certificate: &str, key: &str) -> String {
        load(certificate, key).err().unwrap().to_string()
    }

    fn state() -> (TempDir, StateDir) {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::open(Some(&root.path().join("state"))).unwrap();
        (root, state)
    }

    #[test]
    fn ten_programs_make_one_identity() {
        let (_root, state) = state();
        let keys: Vec<_> = std::thread::scope(|scope| {
            let make = || spki(&Identity::open_or_create(&state).unwrap());
            let threads: Vec<_> = (0..10).map(|_| scope.spawn(make)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        let mode = fs::metadata(state.file(FILE_NAME)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_crash_while_it_was_made_leaves_no_half_identity() {
        let (_root, state) = state();
        fs::write(state.file("identity.pem.new"), "-----BEGIN PRIV").unwrap();
        let made = spki(&Identity::open_or_create(&state).unwrap());
        assert_eq!(spki(&Identity::open_or_create(&state).unwrap()), made);
    }

    #[test]
    fn derived_keys_survive_a_restart_and_differ_between_identities() {
        let (_root, first) = state();
        let (_other_root, second) = state();
        let open = |state| {
            let identity = Identity::open_or_create(state).unwrap();
            let token = hmac::sign(&identity.reset_key(), b"connection id");
            (token.as_ref().to_vec(), identity.connection_id_key())
        };
        let before = open(&first);
        assert_eq!(open(&first), before);
        assert_ne!(open(&second).0, before.0);
        assert_ne!(open(&second).1, before.1);
    }

    #[test]
    fn refuses_an_identity_others_can_read() {
        let (_root, state) = state();
        Identity::open_or_create(&state).unwrap();
        let path = state.file(FILE_NAME);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let error = Identity::open_or_create(&state).err().unwrap().to_string();
        assert!(
            error.contains(&format!("`chmod 600 {}`", path.display())),
            "{error}"
        );
    }

    #[test]
    fn a_damaged_identity_is_reported_and_left_alone() {
        let (_root, state) = state();
        Identity::open_or_create(&state).unwrap();
        let path = state.file(FILE_NAME);
        fs::write(&path, "").unwrap();
        let error = Identity::open_or_create(&state).err().unwrap().to_string();
        assert!(
            error.contains("damaged") && error.contains("remove it"),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn reads_every_kind_and_form_of_key() {
        let (ec, ec_certificate) = key_and_certificate(&PKCS_ECDSA_P256_SHA256);
        let (rsa, rsa_certificate) = key_and_certificate(&rcgen::PKCS_RSA_SHA256);
        let (ed, ed_certificate) = key_and_certificate(&rcgen::PKCS_ED25519);
        let (p384, p384_certificate) = key_and_certificate(&rcgen::PKCS_ECDSA_P384_SHA384);
        let sec1 = pem("EC PRIVATE KEY", inner_key(ec.serialized_der()));
        // As `openssl ecparam -genkey` writes it, with the curve first.
        let with_parameters = pem("EC PARAMETERS", b"\x06\x08*\x86H\xce=\x03\x01\x07") + &sec1;
        for (certificate, key) in [
            (&ec_certificate, ec.serialize_pem()),
            (&ec_certificate, sec1),
            (&ec_certificate, with_parameters),
            (&rsa_certificate, rsa.serialize_pem()),
            (
                &rsa_certificate,
                pem("RSA PRIVATE KEY", inner_key(rsa.serialized_der())),
            ),
            (&ed_certificate, ed.serialize_pem()),
            (&p384_certificate, p384.serialize_pem()),
        ] {
            load(certificate, &key).map(drop).unwrap();
        }
        // A chain starts with the server's own certificate; key and chain may share a file.
        let chain = ec.serialize_pem() + &ec_certificate + &rsa_certificate;
        assert_eq!(load(&chain, &chain).unwrap().certified.cert.len(), 2);
        let reversed = rsa_certificate + &ec_certificate;
        assert!(message(&reversed, &chain).contains("does not belong"));
    }

    #[test]
    fn says_what_is_wrong_with_the_files() {
        let (key, certificate) = key_and_certificate(&PKCS_ECDSA_P256_SHA256);
        let (other, _) = key_and_certificate(&PKCS_ECDSA_P256_SHA256);
        let key = key.serialize_pem();
        let mismatch = message(&certificate, &other.serialize_pem());
        assert!(
            mismatch.contains("does not belong to the certificate"),
            "{mismatch}"
        );
        assert!(
            mismatch.contains("cert.pem") && mismatch.contains("key.pem"),
            "{mismatch}"
        );
        let encrypted = pem("ENCRYPTED PRIVATE KEY", b"?");
        let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: \
                      AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        for (certificate, key, expected) in [
            ("", &*key, "no certificate in"),
            (&*key, &*key, "no certificate in"),
            (&*pem("CERTIFICATE", b"junk"), &*key, "cannot be used"),
            (&*certificate, "", "no private key in"),
            (&*certificate, &*encrypted, "is encrypted"),
            (&*certificate, legacy, "is encrypted"),
            (
                &*certificate,
                &*pem("PRIVATE KEY", b"junk"),
                "cannot be used",
            ),
            (
                &*certificate,
                "-----BEGIN PRIVATE KEY-----\nAA",
                "cannot be used",
            ),
        ] {
            let error = message(certificate, key);
            assert!(error.contains(expected), "{error}");
        }
        let error = read_certificates("--server-cert", Path::new("/nonexistent/a.pem"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("--server-cert /nonexistent/a.pem"),
            "{error}"
        );
    }
}
