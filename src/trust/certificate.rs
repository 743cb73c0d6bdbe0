//! What a certificate says, in words for reports.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Characters of a name that are shown: names come from peers.
const MAX_NAME: usize = 200;
/// Names of a certificate that are shown.
const MAX_NAMES: usize = 16;

/// Whose a certificate is, who has signed it, for how long and for which names it is valid.
#[derive(Debug, Clone)]
pub(crate) struct Description {
    subject: String,
    issuer: String,
    names: Vec<String>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    is_ca: bool,
}

impl Description {
    /// Reads an X.509 certificate; none if it is not one.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = names
            .into_iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(alternative_name)
            .take(MAX_NAMES);
        Some(Self {
            subject: shown(&parsed.subject().to_string()),
            issuer: shown(&parsed.issuer().to_string()),
            names: names.collect(),
            not_before: parsed.validity().not_before.to_datetime(),
            not_after: parsed.validity().not_after.to_datetime(),
            is_ca: parsed.is_ca(),
        })
    }

    /// Who has signed it.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The names of its subjectAltName extension (RFC 5280 section 4.2.1.6), by which clients know it.
    pub(crate) fn names(&self) -> String {
        if self.names.is_empty() {
            "no address and no name".to_owned()
        } else {
            self.names.join(", ")
        }
    }

    /// `YYYY-MM-DD hh:mm UTC`: since when it is valid.
    pub(crate) fn not_before(&self) -> String {
        minute(self.not_before)
    }

    /// `YYYY-MM-DD hh:mm UTC`: until when it is valid.
    pub(crate) fn not_after(&self) -> String {
        minute(self.not_after)
    }

    /// Whether it may sign others (basicConstraints, RFC 5280 section 4.2.1.9).
    pub(crate) fn is_ca(&self) -> bool {
        self.is_ca
    }

    /// Whether nobody is above it.
    pub(crate) fn is_self_signed(&self) -> bool {
        self.subject == self.issuer
    }

    /// When it expires.
    pub(crate) fn expiry(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Whether its time is over.
    pub(crate) fn has_expired(&self) -> bool {
        self.not_after < OffsetDateTime::now_utc()
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_self_signed() {
            write!(f, "{} (self-signed)", self.subject)
        } else {
            write!(f, "{} (issued by {})", self.subject, self.issuer)
        }
    }
}

/// A certificate in a report: its description, or that it has none.
pub(crate) fn describe(certificate: &CertificateDer<'_>) -> String {
    Description::of(certificate).map_or_else(
        || "a certificate that cannot be read".to_owned(),
        |description| description.to_string(),
    )
}

fn alternative_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(shown(name)),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    }
}

/// RFC 5280 section 4.2.1.6: four octets or sixteen.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).into());
    let v6 = <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).into());
    v4.or(v6).ok()
}

/// A peer's text on one line, without what a terminal would act on.
pub(crate) fn shown(text: &str) -> String {
    let text = text.chars().take(MAX_NAME);
    let text = text.flat_map(|character| {
        let plain = (!character.is_control()).then_some(character);
        let escaped = character.is_control().then(|| character.escape_default());
        plain.into_iter().chain(escaped.into_iter().flatten())
    });
    let text: String = text.collect();
    if text.is_empty() {
        "(no name)".to_owned()
    } else {
        text
    }
}

/// `YYYY-MM-DD hh:mm UTC`.
pub(crate) fn minute(time: OffsetDateTime) -> String {
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute) = (time.hour(), time.minute());
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(name: &str, names: &[&str]) -> CertificateDer<'static> {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 2);
        parameters.not_after = rcgen::date_time_ymd(2021, 3, 4);
        let key = KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn says_whose_it_is_and_for_how_long() {
        let der = certificate("web1", &["web1.example", "10.0.0.5", "2001:db8::5"]);
        let description = Description::of(&der).unwrap();
        assert_eq!(description.to_string(), "CN=web1 (self-signed)");
        assert_eq!(description.names(), "web1.example, 10.0.0.5, 2001:db8::5");
        assert_eq!(description.not_before(), "2020-01-02 00:00 UTC");
        assert_eq!(description.not_after(), "2021-03-04 00:00 UTC");
        assert!(description.has_expired());
    }

    #[test]
    fn what_a_peer_writes_stays_on_one_line() {
        let description = Description::of(&certificate("a\nb\x1b[31m", &[])).unwrap();
        let text = description.to_string();
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert_eq!(description.names(), "no address and no name");
        assert_eq!(
            describe(&CertificateDer::from(vec![1, 2, 3])),
            "a certificate that cannot be read"
        );
    }
}
