//! The certificate and key a listener presents, and the secrets that follow from the key.
//!
//! Either the files named by `--server-cert` and `--server-key`, or the self-made identity: one file
//! in the state directory, made by the first listener of this user and presented by all of them
//! from then on, so that a peer meets one key per user and address, as with an ssh host key.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::hmac;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ParsedCertificate, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::state_dir::{FileLock, StateDir, StateError, check_private, io_error};

/// The file of the self-made identity in the state directory: private key, then certificate.
const FILE_NAME: &str = "identity.pem";

/// Domain separation: what is derived from the private key says what it is for.
const RESET_LABEL: &[u8] = b"quicwrap/1 stateless reset key";
const CONNECTION_ID_LABEL: &[u8] = b"quicwrap/1 connection id key";

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
         pkey -in {shown} -out FILE` and name that with --server-key",
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
         identity with --server-key and --server-cert (a chain starts with the server's own \
         certificate)",
        key.display(),
        certificate.display()
    )]
    Mismatch {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
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

/// A certificate chain with its private key.
pub(crate) struct Identity {
    certified: Arc<CertifiedKey>,
    reset_secret: hmac::Tag,
    connection_id_secret: hmac::Tag,
}

impl Identity {
    /// Reads `--server-cert` and `--server-key`; both may name one file.
    pub(crate) fn from_files(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let chain = read_certificates(certificate)?;
        let key_pem = read_named("--server-key", key)?;
        Self::from_pem(chain, certificate, &key_pem, key)
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
            reset_secret: hmac::sign(&master, RESET_LABEL),
            connection_id_secret: hmac::sign(&master, CONNECTION_ID_LABEL),
        })
    }

    /// Presents this identity whatever name the client asks for.
    pub(crate) fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::new(SingleCertAndKey::from(self.certified.clone()))
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

/// The certificates of the file `--server-cert` names; the first is the server's own (RFC 8446
/// section 4.4.2).
pub(crate) fn read_certificates(
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    parse_certificates(&read_named("--server-cert", path)?, path)
}

fn read_named(option: &'static str, path: &Path) -> Result<Vec<u8>, IdentityError> {
    fs::read(path).map_err(|source| {
        let path = path.to_owned();
        IdentityError::Read {
            option,
            path,
            source,
        }
    })
}

fn parse_certificates(
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
fn parse_key(pem: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
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
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::SignatureAlgorithm;
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
        Identity::from_files(&cert_path, &key_path)
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
        let error = read_certificates(Path::new("/nonexistent/a.pem"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("--server-cert /nonexistent/a.pem"),
            "{error}"
        );
    }
}
