//! What a stream begins with, and how it is then filled, emptied and reported upon.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tokio::time::Instant as Clock;

use crate::{Outcome, PIECE};

/// What the client asks for on one stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    /// The server sends, else the client.
    pub(crate) reverse: bool,
    /// When to stop.
    pub(crate) limit: Limit,
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
        let (kind, amount) = match self.limit {
            Limit::After(time) => (0, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
            Limit::Bytes(count) => (1, count),
        };
        let mut order = [0; Self::LENGTH];
        order[0] = self.reverse.into();
        order[1] = kind;
        order[2..].copy_from_slice(&amount.to_be_bytes());
        order
    }

    pub(crate) fn decode(order: [u8; Self::LENGTH]) -> Self {
        let [reverse, kind, amount @ ..] = order;
        let amount = u64::from_be_bytes(amount);
        Self {
            reverse: reverse != 0,
            limit: match kind {
                0 => Limit::After(Duration::from_nanos(amount)),
                _ => Limit::Bytes(amount),
            },
        }
    }
}

/// What arrived on a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub(crate) bytes: u64,
    pub(crate) time: Duration,
}

/// Fills a stream and ends it. The bytes are the same each time, and not copied before quinn does.
pub(crate) async fn fill(stream: &mut SendStream, limit: Limit) -> Outcome<()> {
    static CONTENT: [u8; PIECE] = [0x5a; PIECE];
    let content = Bytes::from_static(&CONTENT);
    match limit {
        Limit::After(time) => {
            let end = Clock::now() + time;
            while Clock::now() < end {
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

/// Empties a stream. The time runs from now to its end.
pub(crate) async fn empty(stream: &mut RecvStream) -> Outcome<Arrived> {
    let begin = Instant::now();
    let mut pieces = vec![Bytes::new(); 32];
    let mut bytes = 0;
    while let Some(count) = stream.read_chunks(&mut pieces).await? {
        for piece in &mut pieces[..count] {
            bytes += std::mem::take(piece).len() as u64;
        }
    }
    let time = begin.elapsed();
    Ok(Arrived { bytes, time })
}
