//! Certificates that a CA must have signed (RFC 5280 section 6): who is accepted, and for a refusal
//! what is wrong and who can mend it.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::authorities::Authorities;
use super::certificate::{Description, describe};
use super::throttle::Throttle;

/// All that leaves this side: quinn sends the text of a TLS error to the peer, in the reason of
/// CONNECTION_CLOSE, and a peer that is not trusted must not learn our paths, names and pins from it.
#[derive(Debug, thiserror::Error)]
#[error("refused by a policy, which the log of this side explains")]
struct Refused;

/// A refusal that tells the peer nothing but the alert "certificate_unknown".
pub(crate) fn refused() -> Error {
    CertificateError::Other(OtherError(Arc::new(Refused))).into()
}

/// The error with the same TLS alert (RFC 8446 section 6.2) and nothing of ours in its text.
fn bare(error: &Error) -> Error {
    use CertificateError as C;
    let Error::InvalidCertificate(cause) = error else {
        return refused();
    };
    let bare = match cause {
        C::Expired | C::ExpiredContext { .. } => C::Expired,
        C::NotValidYet | C::NotValidYetContext { .. } => C::NotValidYet,
        C::NotValidForName | C::NotValidForNameContext { .. } => C::NotValidForName,
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => C::InvalidPurpose,
        C::UnknownIssuer => C::UnknownIssuer,
        C::BadEncoding => C::BadEncoding,
        _ => return refused(),
    };
    bare.into()
}

/// `--ca`: servers whose certificate one of the CAs has signed for their name.
#[derive(Debug)]
pub(crate) struct SignedServers {
    authorities: Arc<Authorities>,
    /// `--server-name`; the server's IP address if it is not given.
    name: Option<ServerName<'static>>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl SignedServers {
    /// Prepares to verify what servers show.
    ///
    /// # Errors
    /// No CA at all.
    pub(crate) fn new(
        authorities: Arc<Authorities>,
        name: Option<ServerName<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let roots = Arc::clone(&authorities.roots);
        let builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider));
        let verifier = builder
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self {
            authorities,
            name,
            verifier,
        })
    }

    /// Verifies a chain that `peer` shows. `Err` holds what to tell the user, and the peer.
    pub(crate) fn verify(
        &self,
        peer: SocketAddr,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), (String, Error)> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => ServerName::from(peer.ip().to_canonical()),
        };
        let verified =
            self.verifier
                .verify_server_cert(certificate, intermediates, &name, &[], now);
        verified.map(drop).map_err(|error| {
            let what = self.complaint(&error, certificate, &name);
            let whose = describe(certificate);
            let text = format!("{peer} shows the certificate of {whose}, {what}");
            (text, bare(&error))
        })
    }

    /// What is wrong with a server's certificate, and what to do.
    fn complaint(
        &self,
        error: &Error,
        shown: &CertificateDer<'_>,
        name: &ServerName<'_>,
    ) -> String {
        use CertificateError as C;
        let file = self.authorities.file.display();
        let description = Description::of(shown);
        match (error, description) {
            (
                Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }),
                Some(description),
            ) => format!(
                "which is for {}, not for {}: name one of these with --server-name, or have the peer present a certificate that names the address",
                description.names(),
                name.to_str()
            ),
            (Error::InvalidCertificate(C::UnknownIssuer), description) => format!(
                "which no CA in --ca {file} has signed: add the certificate of {} to that file if the peer is to be trusted, or have the peer present a certificate that one of them signed",
                signer(description.as_ref())
            ),
            (Error::InvalidCertificate(C::InvalidPurpose | C::InvalidPurposeContext { .. }), _) => {
                "which is not for servers (extended key usage): have the peer present one that is"
                    .to_owned()
            }
            (error, description) => dates(error, description.as_ref()).unwrap_or_else(|| {
                format!(
                    "which is not accepted: {error}. Have the peer present a certificate that a CA in --ca {file} signed, or name this very one with --server-cert"
                )
            }),
        }
    }
}

/// `--client-ca`: a client's certificate must have been signed by one of the CAs.
#[derive(Debug)]
pub(crate) struct SignedClient {
    client: SocketAddr,
    authorities: Arc<Authorities>,
    inner: Arc<dyn ClientCertVerifier>,
    reports: Arc<Throttle>,
}

impl SignedClient {
    /// Prepares to verify what `client` shows. Refusals are reported as often as `reports` allows.
    ///
    /// # Errors
    /// No CA at all.
    pub(crate) fn new(
        client: SocketAddr,
        authorities: Arc<Authorities>,
        provider: &Arc<CryptoProvider>,
        reports: Arc<Throttle>,
    ) -> Result<Self, Error> {
        let roots = Arc::clone(&authorities.roots);
        let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
        let inner = builder
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self {
            client,
            authorities,
            inner,
            reports,
        })
    }

    /// What is wrong with a client's certificate, and what to do.
    fn complaint(&self, error: &Error, shown: &CertificateDer<'_>) -> String {
        use CertificateError as C;
        let (option, file) = (self.authorities.option, self.authorities.file.display());
        let description = Description::of(shown);
        match error {
            Error::InvalidCertificate(C::UnknownIssuer) => format!(
                "which no CA in {option} {file} has signed: add the certificate of {} to that file if the client is to be accepted",
                signer(description.as_ref())
            ),
            Error::InvalidCertificate(C::InvalidPurpose | C::InvalidPurposeContext { .. }) => {
                "which is not for clients (extended key usage): the client needs one that is"
                    .to_owned()
            }
            error => dates(error, description.as_ref())
                .unwrap_or_else(|| format!("which is not accepted: {error}")),
        }
    }
}

impl ClientCertVerifier for SignedClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now);
        verified.map_err(|error| {
            let (client, whose) = (self.client, describe(end_entity));
            let what = self.complaint(&error, end_entity);
            self.reports
                .warn(|| format!("client {client} shows the certificate of {whose}, {what}"));
            bare(&error)
        })
    }

    /// Never reached: the configuration allows TLS 1.3 only, as QUIC does (RFC 9001 section 4.2).
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn signer(description: Option<&Description>) -> &str {
    description.map_or("its CA", Description::issuer)
}

/// What is wrong with the dates of a certificate, if that is what `error` says.
fn dates(error: &Error, description: Option<&Description>) -> Option<String> {
    use CertificateError as C;
    let description = description?;
    match error {
        Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. })
            if description.has_expired() =>
        {
            Some(format!(
                "which has expired ({}): it has to be renewed there",
                description.not_after()
            ))
        }
        Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => Some(
            "with which came a CA's certificate that has expired: it has to be renewed there"
                .to_owned(),
        ),
        Error::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => Some(format!(
            "which is not valid yet (from {} on): set the clock that is wrong, or have it made anew",
            description.not_before()
        )),
        _ => None,
    }
}
