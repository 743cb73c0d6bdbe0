//! Who a connecting socket accepts as its peer: the client side of the TLS handshake.
//!
//! Whatever the policy, a handshake succeeds only if the peer proves that it holds the key of the
//! certificate it shows (RFC 8446 section 4.4.3): a certificate is public, so comparing it, or
//! recording it, without that proof would say nothing about who is at the other end.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, PeerIncompatible, SignatureScheme};

use super::chain::{SignedServers, refused};
use super::known_hosts::{Fingerprint, KnownHosts, KnownHostsError, Verdict};

/// What makes a peer acceptable.
#[derive(Debug, Clone)]
pub(crate) enum Policy {
    /// `--insecure`: whoever answers.
    Anyone,
    /// `--server-cert`: this certificate, byte for byte. Its names and dates are not looked at: it
    /// was named by hand, which says more than they do.
    Exactly {
        /// Where it was read from, for messages.
        file: PathBuf,
        /// The certificate.
        certificate: CertificateDer<'static>,
    },
    /// `--ca`: what one of these CAs has signed for the peer's name.
    Signed(Arc<SignedServers>),
    /// The key that was met first, as ssh does. Names and dates play no part.
    Pinned(KnownHosts),
}

/// Why a peer was refused, with what to do about it. For this side's log only.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(
        "{peer} shows another key than before: it has {presented}, {}:{line} says {recorded}. \
         Either the peer has a new identity or somebody is in between. If the change is expected, \
         remove line {line} of that file and connect again",
        file.display()
    )]
    Changed {
        peer: SocketAddr,
        presented: Fingerprint,
        recorded: Fingerprint,
        file: PathBuf,
        line: usize,
    },

    #[error(
        "{peer} shows another certificate than the one in {}: it has {presented}, the file has \
         {expected} (SHA-256 of the certificate). Name the peer's present certificate with \
         --server-cert, or have the peer present the one in the file",
        file.display()
    )]
    OtherCertificate {
        peer: SocketAddr,
        presented: Fingerprint,
        expected: Fingerprint,
        file: PathBuf,
    },

    #[error("{peer} shows a certificate that cannot be read: {cause}")]
    Unreadable {
        peer: SocketAddr,
        cause: rustls::Error,
    },

    #[error(transparent)]
    KnownHosts(#[from] KnownHostsError),
}

impl Refusal {
    /// The one place every refusal passes: logged each time, since each time a connection of the
    /// program fails.
    fn report(self) -> rustls::Error {
        tracing::error!("{self}");
        refused()
    }
}

/// Verifies one peer.
#[derive(Debug)]
pub(crate) struct PeerVerifier {
    peer: SocketAddr,
    policy: Policy,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerVerifier {
    /// `peer` is what keys are recorded under; `algorithms` are those of the crypto provider.
    pub(crate) fn new(
        peer: SocketAddr,
        policy: Policy,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self {
            peer,
            policy,
            algorithms,
        }
    }

    fn expect_certificate(
        &self,
        file: &Path,
        expected: &CertificateDer<'_>,
        presented: &CertificateDer<'_>,
    ) -> Result<(), rustls::Error> {
        if presented == expected {
            return Ok(());
        }
        Err(Refusal::OtherCertificate {
            peer: self.peer,
            presented: Fingerprint::of(presented),
            expected: Fingerprint::of(expected),
            file: file.to_owned(),
        }
        .report())
    }

    /// Turns what the file says into an answer: a changed key is refused.
    fn accept(
        &self,
        hosts: &KnownHosts,
        verdict: Result<Verdict, KnownHostsError>,
        presented: Fingerprint,
    ) -> Result<Verdict, rustls::Error> {
        match verdict.map_err(|error| Refusal::from(error).report())? {
            Verdict::Changed { recorded, line } => Err(Refusal::Changed {
                peer: self.peer,
                presented,
                recorded,
                file: hosts.path().to_owned(),
                line,
            }
            .report()),
            other => Ok(other),
        }
    }

    /// The fingerprint of the SubjectPublicKeyInfo.
    fn public_key(&self, certificate: &CertificateDer<'_>) -> Result<Fingerprint, rustls::Error> {
        public_key(certificate).map_err(|cause| {
            let peer = self.peer;
            Refusal::Unreadable { peer, cause }.report()
        })
    }

    /// Refuses a changed key as soon as it is seen; a new one passes until it has to be proved.
    fn check_pin(
        &self,
        hosts: &KnownHosts,
        certificate: &CertificateDer<'_>,
    ) -> Result<Verdict, rustls::Error> {
        let key = self.public_key(certificate)?;
        self.accept(hosts, hosts.lookup(self.peer, &key), key)
    }

    /// Records a key that has just been proved, if it is new. Asked again under the lock of the
    /// file: another process may have met the peer, with another key, since `check_pin`.
    fn record_pin(
        &self,
        hosts: &KnownHosts,
        certificate: &CertificateDer<'_>,
    ) -> Result<(), rustls::Error> {
        let key = self.public_key(certificate)?;
        if self.check_pin(hosts, certificate)? != Verdict::Known
            && self.accept(hosts, hosts.record(self.peer, &key), key)? == Verdict::Absent
        {
            // Said whatever the log level is, in one write so that it stays one line among those
            // of other processes. A closed standard error is no reason to refuse the peer.
            let line = first_contact(self.peer, &key, hosts.path());
            let _ = io::stderr().write_all(line.as_bytes());
        }
        Ok(())
    }
}

impl ServerCertVerifier for PeerVerifier {
    /// Looks at the certificate. rustls calls this in every full handshake, before the signature;
    /// resumed handshakes skip it, which is why `client_config` allows none.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.policy {
            Policy::Anyone => {}
            Policy::Exactly { file, certificate } => {
                self.expect_certificate(file, certificate, end_entity)?;
            }
            Policy::Signed(servers) => {
                let verified = servers.verify(self.peer, end_entity, intermediates, now);
                verified.map_err(|(text, error)| {
                    tracing::error!("{text}");
                    error
                })?;
            }
            Policy::Pinned(hosts) => {
                self.check_pin(hosts, end_entity)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    /// Never reached: the configuration allows TLS 1.3 only, as QUIC does (RFC 9001 section 4.2).
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    /// The proof of possession; only a peer that passes it is recorded.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let valid = verify_tls13_signature(message, certificate, signature, &self.algorithms)?;
        if let Policy::Pinned(hosts) = &self.policy {
            self.record_pin(hosts, certificate)?;
        }
        Ok(valid)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn public_key(certificate: &CertificateDer<'_>) -> Result<Fingerprint, rustls::Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    Ok(Fingerprint::of(&parsed.subject_public_key_info()))
}

/// The one line quicwrap says when all is well.
fn first_contact(peer: SocketAddr, key: &Fingerprint, file: &Path) -> String {
    let file = file.display();
    format!("quicwrap: first contact with {peer}, key {key} recorded in {file}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(["test".to_owned()]).unwrap();
        parameters.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn first_contact_is_one_line() {
        let peer = SocketAddr::from(([10, 0, 0, 5], 443));
        let line = first_contact(peer, &Fingerprint::of(b""), Path::new("/s/known_hosts"));
        let key = "sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let expected = format!(
            "quicwrap: first contact with 10.0.0.5:443, key {key} recorded in /s/known_hosts\n"
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn the_first_of_two_processes_decides_the_pin() {
        let root = tempfile::tempdir().unwrap();
        let hosts = KnownHosts::new(root.path().join("known_hosts"));
        let peer = SocketAddr::from(([10, 0, 0, 5], 443));
        let algorithms =
            rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        let verifier = PeerVerifier::new(peer, Policy::Pinned(hosts.clone()), algorithms);
        let (mine, theirs) = (certificate(), certificate());
        assert_eq!(verifier.check_pin(&hosts, &mine).unwrap(), Verdict::Absent);
        hosts.record(peer, &public_key(&theirs).unwrap()).unwrap();
        assert!(verifier.record_pin(&hosts, &mine).is_err());
        verifier.record_pin(&hosts, &theirs).unwrap();
    }
}
