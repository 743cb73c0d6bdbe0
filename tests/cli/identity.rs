//! Certificates made for a test.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use crate::common::Sandbox;

/// A self-signed certificate and its key, as PEM files.
pub(crate) struct Identity {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Identity {
    pub(crate) fn new(sandbox: &Sandbox, name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([name.to_owned(), "127.0.0.1".to_owned()])
            .expect("a certificate");
        Self::write(
            sandbox,
            name,
            made.cert.pem(),
            made.signing_key.serialize_pem(),
        )
    }

    fn write(sandbox: &Sandbox, name: &str, cert: String, key: String) -> Self {
        let cert = sandbox.file(&format!("{name}.cert.pem"), cert);
        let key = sandbox.file(&format!("{name}.key.pem"), key);
        Identity { cert, key }
    }
}

/// What a CA is asked to sign.
pub(crate) struct Request<'a> {
    pub(crate) name: &'a str,
    /// DNS names and addresses.
    pub(crate) names: &'a [&'a str],
    /// Validity, in days from now.
    pub(crate) days: (i64, i64),
    pub(crate) usages: &'a [ExtendedKeyUsagePurpose],
}

impl<'a> Request<'a> {
    /// For 127.0.0.1, now, as server and client.
    pub(crate) fn new(name: &'a str) -> Self {
        Request {
            name,
            names: &["127.0.0.1"],
            days: (-1, 1),
            usages: &[
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        }
    }

    fn parameters(&self) -> CertificateParams {
        let names: Vec<_> = self.names.iter().map(|&name| name.to_owned()).collect();
        let mut parameters = CertificateParams::new(names).expect("names");
        parameters.distinguished_name = common_name(self.name);
        parameters.extended_key_usages = self.usages.to_vec();
        let now = OffsetDateTime::now_utc();
        parameters.not_before = now + Duration::days(self.days.0);
        parameters.not_after = now + Duration::days(self.days.1);
        parameters
    }
}

/// A CA, whose certificate is in a PEM file.
pub(crate) struct Authority {
    pub(crate) cert: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// Certificates between this and the root.
    chain: String,
}

impl Authority {
    /// A root.
    pub(crate) fn new(sandbox: &Sandbox, name: &str) -> Self {
        let (parameters, key) = (authority_parameters(name), new_key());
        let pem = parameters.self_signed(&key).expect("a CA").pem();
        Authority {
            cert: sandbox.file(&format!("{name}.ca.pem"), pem),
            issuer: Issuer::new(parameters, key),
            chain: String::new(),
        }
    }

    /// A CA that this one vouches for.
    pub(crate) fn intermediate(&self, sandbox: &Sandbox, name: &str) -> Self {
        let (parameters, key) = (authority_parameters(name), new_key());
        let signed = parameters.signed_by(&key, &self.issuer).expect("a CA");
        Authority {
            cert: sandbox.file(&format!("{name}.ca.pem"), signed.pem()),
            issuer: Issuer::new(parameters, key),
            chain: signed.pem() + &self.chain,
        }
    }

    /// Signs, and writes certificate (with its chain) and key.
    pub(crate) fn sign(&self, sandbox: &Sandbox, request: &Request<'_>) -> Identity {
        let key = new_key();
        let signed = request.parameters().signed_by(&key, &self.issuer);
        let chain = signed.expect("a certificate").pem() + &self.chain;
        Identity::write(sandbox, request.name, chain, key.serialize_pem())
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn authority_parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = common_name(name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    parameters
}
