//! What each stream begins with (docs/protocol.md): who connects, so that accept(2) can answer before
//! the client has sent a byte.
#![forbid(unsafe_code)]

use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest body that is taken. Real ones have 3 bytes; the rest is room for extensions.
pub(crate) const MAX_BODY: usize = 1024;
/// Bytes of the length field.
pub(crate) const LENGTH_BYTES: usize = 2;

/// The type of preface that opens a TCP connection.
const CONNECT: u8 = 1;

/// A connection request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Preface {
    /// The client's port. Its address is that of the QUIC path, which it cannot make up.
    pub(crate) source_port: u16,
}

impl Preface {
    /// Length (2 bytes, big-endian), type (1), source port (2, big-endian), extensions (none).
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut body = vec![CONNECT];
        body.extend(self.source_port.to_be_bytes());
        let mut bytes = (body.len() as u16).to_be_bytes().to_vec();
        bytes.extend(body);
        bytes
    }

    /// Reads one from the start of a stream, however it arrives; none if there is none.
    pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let mut field = [0; LENGTH_BYTES];
        from.read_exact(&mut field).await.ok()?;
        let mut body = vec![0; Self::body_length(field)?];
        from.read_exact(&mut body).await.ok()?;
        Self::decode(&body)
    }

    /// How long the body is, from the length field; none if that is more than may be.
    pub(crate) fn body_length(field: [u8; LENGTH_BYTES]) -> Option<usize> {
        let length = usize::from(u16::from_be_bytes(field));
        (length <= MAX_BODY).then_some(length)
    }

    /// Reads a body. What follows the known fields is for later releases and skipped.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let (&kind, fields) = body.split_first()?;
        if kind != CONNECT {
            return None;
        }
        let source_port = u16::from_be_bytes(*fields.first_chunk()?);
        Some(Self { source_port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preface_survives_the_wire_and_may_grow() {
        let preface = Preface { source_port: 54321 };
        let bytes = preface.encode();
        let length = Preface::body_length(*bytes.first_chunk().unwrap()).unwrap();
        assert_eq!(length, bytes.len() - LENGTH_BYTES);
        let mut body = bytes[LENGTH_BYTES..].to_vec();
        assert_eq!(Preface::decode(&body), Some(preface));
        body.extend([1, 2, 3, 4]);
        assert_eq!(Preface::decode(&body), Some(preface));
    }

    #[test]
    fn what_is_no_preface_is_refused() {
        assert_eq!(Preface::decode(&[]), None);
        assert_eq!(Preface::decode(&[CONNECT, 1]), None);
        assert_eq!(Preface::decode(&[9, 1, 2]), None);
        assert_eq!(Preface::body_length([0xff, 0xff]), None);
    }
}
