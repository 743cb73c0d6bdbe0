//! Application error codes on the wire (docs/protocol.md), and what QUIC's own errors mean to a TCP
//! program.
#![forbid(unsafe_code)]

use super::raw::Wire;
use crate::trust::certificate;
use nix::errno::Errno;
use quinn::{ConnectionError, TransportErrorCode, VarInt};

/// STOP_SENDING: the program has closed its socket and reads no more. CONNECTION_CLOSE: no longer
/// needed.
pub(crate) const CLOSED: VarInt = VarInt::from_u32(0);
/// RESET_STREAM, STOP_SENDING: the program has reset its connection, or the other side has seen that.
pub(crate) const RESET: VarInt = VarInt::from_u32(1);
/// RESET_STREAM, STOP_SENDING, CONNECTION_CLOSE: nobody listens.
pub(crate) const REFUSED: VarInt = VarInt::from_u32(2);
/// RESET_STREAM, STOP_SENDING: the stream did not begin with a preface.
pub(crate) const BAD_PREFACE: VarInt = VarInt::from_u32(3);

/// STOP_SENDING: this plus the number of bytes that come before the reset.
const RESET_BEHIND: u64 = 1 << 60;

/// STOP_SENDING: the program has reset its connection, behind so many bytes that this side has sent.
pub(crate) fn reset_behind(bytes: u64, wire: Wire) -> VarInt {
    if wire == Wire::Raw {
        return RESET;
    }
    VarInt::from_u64(RESET_BEHIND.saturating_add(bytes)).unwrap_or(RESET)
}

/// Whether a STOP_SENDING tells of a reset. Programs that speak raw QUIC have codes of their own.
pub(crate) fn is_reset(code: VarInt, wire: Wire) -> bool {
    match wire {
        Wire::Quicwrap => code != CLOSED,
        Wire::Raw => code == RESET,
    }
}

/// How many bytes come before the reset that a STOP_SENDING tells of.
pub(crate) fn bytes_before_reset(code: VarInt) -> u64 {
    code.into_inner().saturating_sub(RESET_BEHIND)
}

/// TLS alert no_application_protocol (RFC 7301 section 3.2).
const NO_APPLICATION_PROTOCOL: u8 = 120;
/// First of the 256 QUIC codes that carry a TLS alert (RFC 9001 section 4.8).
const CRYPTO_ERROR: u64 = 0x100;

/// Why a handshake came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What connect(2) returns.
    pub(crate) errno: Errno,
    /// What the user can do about it, if the errno alone does not say.
    pub(crate) advice: Option<String>,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self {
            errno,
            advice: None,
        }
    }
}

/// The error on one line: a peer's reason may hold anything.
pub(crate) fn shown(error: &ConnectionError) -> String {
    certificate::shown(&error.to_string())
}

/// What a failed handshake means for connect(2). `by_server` says what a TLS alert of the server means.
pub(crate) fn refusal(
    error: &ConnectionError,
    wire: Wire,
    by_server: impl Fn(u8) -> String,
) -> Refusal {
    let with = |errno, advice: &str| Refusal {
        errno,
        advice: Some(advice.to_owned()),
    };
    match error {
        ConnectionError::TimedOut => Errno::ETIMEDOUT.into(),
        // Its reason is the peer's text, and left out.
        ConnectionError::ConnectionClosed(close) => by_code(
            close.error_code,
            &close.error_code.to_string(),
            wire,
            |alert| Some(by_server(alert)),
        ),
        ConnectionError::TransportError(error) => {
            by_code(error.code, &error.to_string(), wire, |alert| {
                let text = || format!("the TLS handshake failed: {error}");
                (!is_about_certificate(alert)).then(text)
            })
        }
        ConnectionError::VersionMismatch => with(
            Errno::ECONNREFUSED,
            "it speaks no QUIC version that quicwrap knows; is it a quicwrap of another release?",
        ),
        ConnectionError::ApplicationClosed(_) | ConnectionError::Reset => {
            Errno::ECONNREFUSED.into()
        }
        ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => {
            Errno::ECONNABORTED.into()
        }
    }
}

fn other_protocol(wire: Wire) -> &'static str {
    match wire {
        Wire::Quicwrap => {
            "it speaks QUIC but not quicwrap's protocol (ALPN quicwrap/1) of this release; start its program under quicwrap, or bring both ends to one release"
        }
        Wire::Raw => {
            "it speaks QUIC but none of the application protocols that --alpn names; name its own, or none if it has none"
        }
    }
}

/// The TLS alert in a QUIC error code, RFC 9001 section 4.8.
pub(crate) fn alert(code: TransportErrorCode) -> Option<u8> {
    let code = u64::from(code);
    let alert = code.checked_sub(CRYPTO_ERROR)?;
    u8::try_from(alert).ok()
}

/// Whether this side has refused a certificate, with a report of its own (bad_certificate to
/// access_denied, RFC 8446 section 6.2). A bad signature is decrypt_error.
fn is_about_certificate(alert: u8) -> bool {
    matches!(alert, 42..=46 | 48 | 49)
}

fn by_code(
    code: TransportErrorCode,
    text: &str,
    wire: Wire,
    by_alert: impl Fn(u8) -> Option<String>,
) -> Refusal {
    let (errno, advice) = match alert(code) {
        // The second says the same where it interrupts a handshake: RFC 9000 section 20.1, APPLICATION_ERROR.
        _ if [
            TransportErrorCode::CONNECTION_REFUSED,
            TransportErrorCode::APPLICATION_ERROR,
        ]
        .contains(&code) =>
        {
            (Errno::ECONNREFUSED, None)
        }
        Some(NO_APPLICATION_PROTOCOL) => {
            (Errno::ECONNREFUSED, Some(other_protocol(wire).to_owned()))
        }
        // connect(2): EACCES, as for a connection that a local rule forbids.
        Some(alert) => (Errno::EACCES, by_alert(alert)),
        None => (
            Errno::ECONNREFUSED,
            Some(format!("the QUIC handshake failed: {text}")),
        ),
    };
    Refusal { errno, advice }
}

/// What the loss of an established connection means for its sockets.
pub(crate) fn lost(error: &ConnectionError) -> Errno {
    match error {
        ConnectionError::TimedOut => Errno::ETIMEDOUT,
        _ => Errno::ECONNRESET,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_says_where_it_is() {
        assert_eq!(
            bytes_before_reset(reset_behind(12_345, Wire::Quicwrap)),
            12_345
        );
        assert_eq!(bytes_before_reset(reset_behind(0, Wire::Quicwrap)), 0);
        assert_eq!(bytes_before_reset(RESET), 0);
        assert_eq!(
            bytes_before_reset(reset_behind(u64::MAX, Wire::Quicwrap)),
            0
        );
    }

    #[test]
    fn refusals_get_the_errno_that_tcp_would_give() {
        let closed = |error_code| {
            let reason = bytes::Bytes::from_static(b"the peer's own words");
            let close = quinn::ConnectionClose {
                error_code,
                frame_type: None,
                reason,
            };
            let error = ConnectionError::ConnectionClosed(close);
            refusal(&error, Wire::Quicwrap, |alert| format!("alert {alert}"))
        };
        let refused = closed(TransportErrorCode::CONNECTION_REFUSED);
        assert_eq!(refused, Errno::ECONNREFUSED.into());
        assert_eq!(closed(TransportErrorCode::APPLICATION_ERROR), refused);
        let no_alpn = closed(TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL));
        assert_eq!(no_alpn.errno, Errno::ECONNREFUSED);
        let expired = closed(TransportErrorCode::crypto(45));
        assert_eq!(expired.errno, Errno::EACCES);
        assert_eq!(expired.advice.as_deref(), Some("alert 45"));
        let forged = quinn::ApplicationClose {
            error_code: CLOSED,
            reason: bytes::Bytes::from_static(b"\nquicwrap: error: \x1b[31m"),
        };
        let text = shown(&ConnectionError::ApplicationClosed(forged));
        assert!(!text.contains(char::is_control), "{text:?}");
        let other = closed(TransportErrorCode::PROTOCOL_VIOLATION);
        let advice = other.advice.unwrap_or_default();
        assert!(!advice.contains("own words"), "{advice}");
        assert_eq!(
            refusal(&ConnectionError::TimedOut, Wire::Quicwrap, |_| String::new(
            )),
            Errno::ETIMEDOUT.into()
        );
    }
}
