//! Keys and certificates: P-256, the one kind that every TLS 1.3 peer must support (RFC 8446 section
//! 9.1).
#![forbid(unsafe_code)]

use std::{fs, path::PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::ServerName;
use time::{Duration, OffsetDateTime};

use super::KeygenError;
use crate::trust::{
    certificate::Description,
    identity::{Identity, Pair},
    pem::read_certificates,
};

/// How long before now certificates are valid: clocks of a fleet differ, and one that was made just
/// now must not be refused by a host whose clock is behind.
const CLOCK_SKEW: Duration = Duration::hours(1);

/// Longest common name (RFC 5280, upper bound ub-common-name).
const MAX_COMMON_NAME: usize = 64;

/// A certificate (a chain) and its private key, in PEM form.
pub(super) struct Made {
    pub(super) certificate: String,
    pub(super) key: String,
    /// `YYYY-MM-DD hh:mm UTC`.
    pub(super) until: String,
}

/// A CA that can sign.
pub(super) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    description: Description,
    /// The certificates that go with what it signs: none if it is a root, which is known.
    above: String,
}

impl Ca {
    /// Reads a CA's certificate (with the CAs above it, if it is no root) and key.
    ///
    /// # Errors
    /// Files that cannot be used or do not belong together; a certificate that is no CA's or has
    /// expired.
    pub(super) fn read(certificate: PathBuf, key: PathBuf) -> Result<Self, KeygenError> {
        let pair = Pair {
            certificate_option: "--ca",
            certificate,
            key_option: "--ca-key",
            key,
        };
        // Says what is wrong with the files, and that they belong together.
        let identity = Identity::from_files(&pair)?;
        let bad = |cause: String| KeygenError::BadCa {
            path: pair.certificate.clone(),
            cause,
        };
        let description = identity
            .description()
            .ok_or_else(|| bad("it cannot be read".to_owned()))?;
        if !description.is_ca() {
            return Err(bad(format!("{description} is not a CA")));
        }
        if description.has_expired() {
            let since = description.not_after();
            return Err(bad(format!("{description} has expired ({since})")));
        }
        let key = fs::read_to_string(&pair.key).map_err(|error| bad(error.to_string()))?;
        let chain = read_certificates("--ca", &pair.certificate)?;
        let own = chain
            .first()
            .ok_or_else(|| bad("it holds no certificate".to_owned()))?;
        let issuer = KeyPair::from_pem(&key)
            .and_then(|key| Issuer::from_ca_cert_der(own, key))
            .map_err(|error| bad(error.to_string()))?;
        let above = if description.is_self_signed() {
            String::new()
        } else {
            fs::read_to_string(&pair.certificate).map_err(|error| bad(error.to_string()))?
        };
        Ok(Self {
            issuer,
            description,
            above,
        })
    }
}

/// A root, valid for so many days.
pub(super) fn ca(name: &str, days: u32) -> Result<Made, KeygenError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut parameters = parameters(name, days);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = parameters.self_signed(&key)?;
    made(certificate.pem(), &key, &parameters)
}

/// A certificate for servers and clients with these names, valid for so many days, and no longer than
/// the CA.
pub(super) fn host(names: &[String], days: u32, ca: &Ca) -> Result<Made, KeygenError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let first = names.first().map_or("", String::as_str);
    let mut parameters = parameters(first, days);
    parameters.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
    parameters.not_after = parameters.not_after.min(ca.description.expiry());
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = parameters.signed_by(&key, &ca.issuer)?;
    made(certificate.pem() + &ca.above, &key, &parameters)
}

/// DNS names (with a wildcard as the first label, if at all) and IP addresses.
///
/// # Errors
/// Anything else.
pub(super) fn check_names(names: &[String]) -> Result<Vec<String>, KeygenError> {
    let check = |name: &String| {
        let plain = name.strip_prefix("*.").unwrap_or(name);
        match ServerName::try_from(plain) {
            Ok(_) => Ok(name.to_lowercase()),
            Err(_) => Err(KeygenError::BadName(name.clone())),
        }
    };
    names.iter().map(check).collect()
}

fn parameters(name: &str, days: u32) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    let name: String = name.chars().take(MAX_COMMON_NAME).collect();
    parameters.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::now_utc();
    parameters.not_before = now - CLOCK_SKEW;
    parameters.not_after = now + Duration::days(days.into());
    parameters
}

fn made(
    certificate: String,
    key: &KeyPair,
    parameters: &CertificateParams,
) -> Result<Made, KeygenError> {
    Ok(Made {
        certificate,
        key: key.serialize_pem(),
        until: crate::trust::certificate::minute(parameters.not_after),
    })
}
