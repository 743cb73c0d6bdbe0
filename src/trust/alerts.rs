//! TLS alerts (RFC 8446 section 6.2) by which the other side has refused a certificate of ours: what
//! they mean to whoever can mend it here.
#![forbid(unsafe_code)]

use super::certificate::Description;
use super::identity::Identity;

const BAD_CERTIFICATE: u8 = 42;
const UNSUPPORTED_CERTIFICATE: u8 = 43;
const CERTIFICATE_REVOKED: u8 = 44;
const CERTIFICATE_EXPIRED: u8 = 45;
const CERTIFICATE_UNKNOWN: u8 = 46;
const UNKNOWN_CA: u8 = 48;
const ACCESS_DENIED: u8 = 49;
/// The client has shown no certificate.
pub(crate) const CERTIFICATE_REQUIRED: u8 = 116;

/// What a server's alert means to its client, which presented `identity`, if any.
pub(crate) fn by_server(alert: u8, identity: Option<&Identity>) -> String {
    if alert == CERTIFICATE_REQUIRED {
        return "it asks for a client certificate: name one that its CA has signed with --client-cert and --client-key".to_owned();
    }
    let Some(identity) = identity else {
        return format!("it ends the TLS handshake with alert {alert}; its log may say why");
    };
    let (file, description) = (identity.file().display(), identity.description());
    let whose = shown(description.as_ref());
    let said = match alert {
        CERTIFICATE_EXPIRED => {
            validity(description.as_ref()) + ": renew it and replace the file, or set the clock that is wrong"
        }
        UNKNOWN_CA => "no CA in its --client-ca has signed it: name one that such a CA has signed, or have the CA added there".to_owned(),
        UNSUPPORTED_CERTIFICATE => "it is not for clients: have one made with the extended key usage clientAuth".to_owned(),
        BAD_CERTIFICATE | CERTIFICATE_REVOKED | CERTIFICATE_UNKNOWN | ACCESS_DENIED => {
            "its log says why".to_owned()
        }
        other => return format!("it ends the TLS handshake with alert {other}; its log may say why"),
    };
    format!("it refuses the certificate in --client-cert {file}, {whose}: {said}")
}

/// What a client's alert means to the server that presented `identity`; none if it is for the client
/// to mend, such as another key than the one it has recorded.
pub(crate) fn by_client(alert: u8, identity: &Identity) -> Option<String> {
    let (file, description) = (identity.file().display(), identity.description());
    let whose = shown(description.as_ref());
    let said = match alert {
        CERTIFICATE_EXPIRED => {
            validity(description.as_ref())
                + ": renew it and replace the file, which is read again, or set the clock that is wrong"
        }
        BAD_CERTIFICATE => format!(
            "it is for {}, and the client asked for another address or name: present one that names it, or give the client one of these with --server-name",
            description.as_ref().map_or("?".to_owned(), Description::names)
        ),
        UNKNOWN_CA => "the client's --ca does not hold the CA that signed it: present one that such a CA has signed (--server-cert, --server-key), or give the client the CA".to_owned(),
        UNSUPPORTED_CERTIFICATE => "it is not for servers: present one with the extended key usage serverAuth".to_owned(),
        _ => return None,
    };
    Some(format!("the certificate in {file}, {whose}: {said}"))
}

fn shown(description: Option<&Description>) -> String {
    description.map_or("which cannot be read".to_owned(), Description::to_string)
}

fn validity(description: Option<&Description>) -> String {
    match description {
        Some(dates) => {
            let what = if dates.has_expired() {
                "has expired; it"
            } else {
                "is outside its time by the other side's clock; it"
            };
            format!(
                "it {what} was made for {} to {}",
                dates.not_before(),
                dates.not_after()
            )
        }
        None => "it has expired".to_owned(),
    }
}
