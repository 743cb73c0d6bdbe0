//! Application error codes on the wire (docs/protocol.md), and what QUIC's own errors mean to a TCP
//! program.
#![forbid(unsafe_code)]

use super::raw::Wire;
use nix::errno::Errno;
use quinn::{ConnectionError, TransportErrorCode, VarInt};

/// STOP_SENDING: the program has closed its socket and reads no more. CONNECTION_CLOSE: no longer
/// needed.
pub(super) const CLOSED: VarInt = VarInt::from_u32(0);
/// RESET_STREAM, STOP_SENDING: the program has reset its connection, or the other side has seen that.
pub(super) const RESET: VarInt = VarInt::from_u32(1);
/// RESET_STREAM, STOP_SENDING, CONNECTION_CLOSE: nobody listens.
pub(super) const REFUSED: VarInt = VarInt::from_u32(2);
/// RESET_STREAM, STOP_SENDING: the stream did not begin with a preface.
pub(super) const BAD_PREFACE: VarInt = VarInt::from_u32(3);

/// STOP_SENDING: this plus the number of bytes that come before the reset.
const RESET_BEHIND: u64 = 1 << 60;

/// STOP_SENDING: the program has reset its connection, behind so many bytes that this side has sent.
pub(super) fn reset_behind(bytes: u64, wire: Wire) -> VarInt {
    if wire == Wire::Raw {
        return RESET;
    }
    VarInt::from_u64(RESET_BEHIND.saturating_add(bytes)).unwrap_or(RESET)
}

/// Whether a STOP_SENDING tells of a reset. Programs that speak raw QUIC have codes of their own.
pub(super) fn is_reset(code: VarInt, wire: Wire) -> bool {
    match wire {
        Wire::Quicwrap => code != CLOSED,
        Wire::Raw => code == RESET,
    }
}

/// How many bytes come before the reset that a STOP_SENDING tells of.
pub(super) fn bytes_before_reset(code: VarInt) -> u64 {
    code.into_inner().saturating_sub(RESET_BEHIND)
}

/// TLS alert no_application_protocol (RFC 7301 section 3.2), as a QUIC error (RFC 9001 section 4.8).
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;
/// First of the QUIC codes that carry a TLS alert.
const CRYPTO_ERROR: u64 = 0x100;
/// Last of them.
const CRYPTO_ERROR_END: u64 = 0x1ff;

/// Why a handshake came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What connect(2) returns.
    pub(super) errno: Errno,
    /// What the user can do about it, if the errno alone does not say.
    pub(super) advice: Option<String>,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self {
            errno,
            advice: None,
        }
    }
}

/// What a failed handshake means for connect(2).
pub(super) fn refusal(error: &ConnectionError, wire: Wire) -> Refusal {
    let with = |errno, advice: &str| Refusal {
        errno,
        advice: Some(advice.to_owned()),
    };
    match error {
        ConnectionError::TimedOut => Errno::ETIMEDOUT.into(),
        ConnectionError::ConnectionClosed(close) => {
            by_code(close.error_code, &close.to_string(), wire)
        }
        ConnectionError::TransportError(error) => by_code(error.code, &error.to_string(), wire),
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

fn by_code(code: TransportErrorCode, text: &str, wire: Wire) -> Refusal {
    let (errno, advice) = match u64::from(code) {
        _ if code == TransportErrorCode::CONNECTION_REFUSED => (Errno::ECONNREFUSED, None),
        NO_APPLICATION_PROTOCOL => (Errno::ECONNREFUSED, Some(other_protocol(wire).to_owned())),
        // connect(2): EACCES, as for a connection that a local rule forbids. A refusal of our own
        // has been explained by the verifier.
        CRYPTO_ERROR..=CRYPTO_ERROR_END => (
            Errno::EACCES,
            Some(format!("the TLS handshake failed: {text}")),
        ),
        _ => (
            Errno::ECONNREFUSED,
            Some(format!("the QUIC handshake failed: {text}")),
        ),
    };
    Refusal { errno, advice }
}

/// What the loss of an established connection means for its sockets.
pub(super) fn lost(error: &ConnectionError) -> Errno {
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
        let closed = |code: u64| {
            let code = if code == 2 {
                TransportErrorCode::CONNECTION_REFUSED
            } else {
                TransportErrorCode::crypto((code - CRYPTO_ERROR) as u8)
            };
            by_code(code, "text")
        };
        assert_eq!(closed(2), Errno::ECONNREFUSED.into());
        assert_eq!(closed(NO_APPLICATION_PROTOCOL).errno, Errno::ECONNREFUSED);
        assert_eq!(closed(0x100 + 42).errno, Errno::EACCES);
        assert_eq!(
            refusal(&ConnectionError::TimedOut, Wire::Quicwrap),
            Errno::ETIMEDOUT.into()
        );
    }
}
