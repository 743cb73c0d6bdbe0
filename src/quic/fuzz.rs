//! What peers send, and what is kept of them, for the fuzz targets.
#![forbid(unsafe_code)]

use std::{
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::preface::{LENGTH_BYTES, MAX_BODY, Preface};
use crate::trust::known_hosts::{Fingerprint, KnownHosts, Verdict};

/// A stream whose bytes come in pieces of up to `piece` bytes, with a pause before each.
struct Pieces<'a> {
    left: &'a [u8],
    piece: usize,
    paused: bool,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.paused = !self.paused;
        if self.paused {
            return Poll::Pending;
        }
        let count = self.piece.min(self.left.len()).min(buffer.remaining());
        let (now, later) = self.left.split_at(count);
        buffer.put_slice(now);
        self.left = later;
        Poll::Ready(Ok(()))
    }
}

/// A stream that begins with anything: read in pieces it is what it is as a whole, and nothing behind
/// the preface is taken. The first byte is the size of the pieces.
pub(crate) fn preface(data: &[u8]) {
    let Some((&piece, stream)) = data.split_first() else {
        return;
    };
    let mut pieces = Pieces {
        left: stream,
        piece: usize::from(piece).max(1),
        paused: false,
    };
    let read = {
        let mut reading = pin!(Preface::read(&mut pieces));
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(read) = reading.as_mut().poll(&mut context) {
                break read;
            }
        }
    };
    let whole = stream.split_first_chunk().and_then(|(field, rest)| {
        let body = rest.get(..Preface::body_length(*field)?)?;
        Preface::decode(body)
    });
    assert_eq!(read, whole);
    assert!(stream.len() - pieces.left.len() <= LENGTH_BYTES + MAX_BODY);
    if let Some(preface) = read {
        let bytes = preface.encode();
        assert_eq!(Preface::decode(&bytes[LENGTH_BYTES..]), Some(preface));
    }
}

/// A known_hosts file of any content: who is recorded in it is known. The first byte chooses the peer.
pub(crate) fn known_hosts(data: &[u8]) {
    let Some((&choice, contents)) = data.split_first() else {
        return;
    };
    let peer = match choice {
        0 => SocketAddr::from(([10, 0, 0, 5], 443)),
        1 => SocketAddr::from(([10, 0, 0, 5], 40_000)),
        _ => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 5], 443)),
    };
    let (file, key) = (KnownHosts::new("known_hosts".into()), Fingerprint::of(b""));
    let Ok(verdict) = file.judge(contents, peer, &key) else {
        return;
    };
    let lines = contents.iter().filter(|&&byte| byte == b'\n').count() + 1;
    if let Verdict::Changed { line, recorded } = verdict {
        assert!((1..=lines).contains(&line) && recorded != key);
    }
    let more = [contents, format!("\n{peer} {key}\n").as_bytes()].concat();
    assert_eq!(file.judge(&more, peer, &key).ok(), Some(Verdict::Known));
}
