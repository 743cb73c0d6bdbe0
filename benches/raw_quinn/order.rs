//! What a stream begins with, and how it is then filled, emptied and reported upon.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{RecvStream, SendStream};

use crate::{Outcome, PIECE};

/// What the client asks for on one stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// The client sends.
    Take(Limit),
    /// The server sends.
    Send(Limit),
    /// The server sends back what comes.
    Echo,
}

/// When a sender stops.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    After(Duration),
    Bytes(u64),
}

impl Order {
    /// Length of an order on the wire.
    pub(crate) const LENGTH: usize = 10;

    pub(crate) fn encode(self) -> [u8; Self::LENGTH] {
        let (what, limit) = match self {
            Self::Take(limit) => (0, limit),
            Self::Send(limit) => (1, limit),
            Self::Echo => (2, Limit::Bytes(0)),
        };
        let (kind, amount) = match limit {
            Limit::After(time) => (0, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
            Limit::Bytes(count) => (1, count),
        };
        let mut order = [0; Self::LENGTH];
        (order[0], order[1]) = (what, kind);
        order[2..].copy_from_slice(&amount.to_be_bytes());
        order
    }

    pub(crate) fn decode(order: [u8; Self::LENGTH]) -> Self {
        let [what, kind, amount @ ..] = order;
        let amount = u64::from_be_bytes(amount);
        let limit = match kind {
            0 => Limit::After(Duration::from_nanos(amount)),
            _ => Limit::Bytes(amount),
        };
        match what {
            0 => Self::Take(limit),
            1 => Self::Send(limit),
            _ => Self::Echo,
        }
    }
}

/// What arrived, and when the first and the last was waited for, counted from the connection's begin. Streams begin
/// and end at different times: what all of them carried, they carried between the first and the last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub(crate) bytes: u64,
    pub(crate) first: Duration,
    pub(crate) last: Duration,
}

impl Arrived {
    /// Length on the wire.
    pub(crate) const LENGTH: usize = 24;

    pub(crate) fn encode(self) -> [u8; Self::LENGTH] {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut report = [0; Self::LENGTH];
        for (place, value) in
            report
                .chunks_exact_mut(8)
                .zip([self.bytes, nanos(self.first), nanos(self.last)])
        {
            place.copy_from_slice(&value.to_be_bytes());
        }
        report
    }

    pub(crate) fn decode(report: [u8; Self::LENGTH]) -> Self {
        let mut values = report.chunks_exact(8).map(|value| {
            value
                .iter()
                .fold(0, |sum, &byte| sum << 8 | u64::from(byte))
        });
        let mut next = || values.next().unwrap_or_default();
        Self {
            bytes: next(),
            first: Duration::from_nanos(next()),
            last: Duration::from_nanos(next()),
        }
    }

    /// What arrived on both.
    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }
}

/// Fills a stream and ends it; a time limit counts from `begin`, since streams get their turn late
/// among many. The bytes are the same each time, and not copied before quinn does.
pub(crate) async fn fill(stream: &mut SendStream, limit: Limit, begin: Instant) -> Outcome<()> {
    static CONTENT: [u8; PIECE] = [0x5a; PIECE];
    let content = Bytes::from_static(&CONTENT);
    match limit {
        Limit::After(time) => {
            while begin.elapsed() < time {
                stream.write_chunk(content.clone()).await?;
            }
        }
        Limit::Bytes(mut left) => {
            while left > 0 {
                let count = left.min(PIECE as u64);
                stream.write_chunk(content.slice(..count as usize)).await?;
                left -= count;
            }
        }
    }
    stream.finish()?;
    Ok(())
}

/// Empties a stream.
pub(crate) async fn empty(stream: &mut RecvStream, begin: Instant) -> Outcome<Arrived> {
    let first = begin.elapsed();
    let mut pieces = vec![Bytes::new(); 32];
    let mut bytes = 0;
    while let Some(count) = stream.read_chunks(&mut pieces).await? {
        for piece in &mut pieces[..count] {
            bytes += std::mem::take(piece).len() as u64;
        }
    }
    let last = begin.elapsed();
    Ok(Arrived { bytes, first, last })
}

/// Sends back what comes, until it ends.
pub(crate) async fn echo(send: &mut SendStream, recv: &mut RecvStream) -> Outcome<()> {
    while let Some(piece) = recv.read_chunk(PIECE, true).await? {
        send.write_chunk(piece.bytes).await?;
    }
    send.finish()?;
    Ok(())
}
