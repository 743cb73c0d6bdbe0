//! How far ahead of the network the streams of a QUIC connection write, and in which order.
//!
//! quinn keeps what was written until it is acknowledged, and takes no more once that fills a window that all streams of
//! a connection share. The window is some congestion windows wide, as TCP's send buffer is (tcp_sndbuf_expand), so that
//! nobody is far ahead of a slow network, and keeps no more memory than that; on loopback it has a fixed width. Most of
//! those who have much to send wait for it, then; and since quinn lets them go on in the reverse order in which they began
//! to wait, they write in turn.
#![forbid(unsafe_code)]

use std::{
    future::{Future, poll_fn},
    ops::RangeInclusive,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use quinn::{Connection, SendStream, WriteError};

/// The window's width in congestion windows. One is in flight, and is replaced by two while the congestion window doubles
/// in each round-trip time; with less than four of them those would not all be there before the next writer is woken.
const FLIGHTS: u64 = 4;
/// How long it takes beyond a round trip until something lost has arrived: acknowledgements and timers are some
/// milliseconds late. What is sent meanwhile is kept, acknowledged or not; with 1 % loss on a path that is shorter than
/// that, half as much would be moved.
const RECOVERY: Duration = Duration::from_millis(5);
/// A quarter of the window is free before the next one writes, as TCP waits for a third (sk_stream_min_wspace): who wakes
/// for each acknowledgement writes in small pieces. Not so on loopback, where a narrow window is the limit and
/// acknowledgements are for much.
const FREE: u64 = 4;
/// An eighth of the window is one turn: 130 ms at 2 Mbit/s if the window is as narrow as can be, and all that is read at a
/// time on loopback, where 64 streams would move 5 % less with half of it.
const TURNS: u64 = 8;
/// Bytes that a stream may write in a round-trip time without its turn, and beyond the window: it has less to say than
/// one turn, and over TCP waits for nobody.
const FEW: usize = 16 << 10;
/// What is written beyond the window to see whether the peer's flow control lets a stream write.
const TRIAL: usize = 1;
/// When that is looked at again while a stream waits in its turn, for the trial itself may have been the last byte that
/// the peer takes; and then each time after twice as long.
const FIRST_INTERVAL: Duration = Duration::from_millis(5);

/// The send window of one QUIC connection.
#[derive(Debug)]
pub(crate) struct SendWindow {
    /// Its least and its largest width, in bytes.
    widths: RangeInclusive<u64>,
    /// What it is now.
    now: Mutex<u64>,
    /// Held by the stream whose turn it is.
    turn: tokio::sync::Mutex<()>,
}

impl SendWindow {
    /// One of these widths, in bytes.
    pub(crate) fn new(widths: RangeInclusive<u64>) -> Self {
        Self {
            widths,
            now: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Makes it as wide as the congestion window wants it. Returns how long a turn is, in bytes.
    pub(crate) fn fit(&self, connection: &Connection) -> usize {
        let (least, most) = (*self.widths.start(), *self.widths.end());
        let mut width = least;
        if least < most {
            let stats = connection.stats();
            let path = stats.path;
            width = wanted(path.cwnd, path.rtt, stats.udp_tx.bytes).clamp(least, most);
        }
        self.set(connection, width);
        usize::try_from(width / TURNS).unwrap_or(usize::MAX)
    }

    /// Makes it so much narrower that nobody is woken before some of it is free. One that has a fixed width stays as it is.
    fn narrow(&self, connection: &Connection) {
        if self.widths.start() < self.widths.end() {
            let width = *self.now();
            self.set(connection, width - width / FREE);
        }
    }

    fn set(&self, connection: &Connection, width: u64) {
        let mut now = self.now();
        if *now != width {
            *now = width;
            connection.set_send_window(width);
        }
    }

    /// Writes beyond the window, if the peer's flow control lets it.
    fn poll_beyond(
        &self,
        cx: &mut Context<'_>,
        writing: &mut Writing<'_>,
        most: usize,
    ) -> Poll<Result<usize, WriteError>> {
        let now = self.now();
        writing.connection.set_send_window(u64::MAX);
        let written = writing.poll(cx, most);
        writing.connection.set_send_window(*now);
        written
    }

    fn now(&self) -> MutexGuard<'_, u64> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a path with this congestion window wants, where so much was sent; bytes all of them. No more than that is sent in
/// place of what was lost: the first round-trip times are those of an empty link, which may be a slow one.
fn wanted(congestion_window: u64, rtt: Duration, sent: u64) -> u64 {
    let rtt = rtt.max(Duration::from_micros(1));
    let times = u64::try_from(RECOVERY.as_micros() / rtt.as_micros()).unwrap_or(u64::MAX);
    let meanwhile = congestion_window.saturating_mul(times).min(sent);
    FLIGHTS.saturating_mul(congestion_window.saturating_add(meanwhile))
}

/// A stream, and what is to be written there.
struct Writing<'a> {
    connection: &'a Connection,
    send: &'a mut SendStream,
    chunk: Bytes,
}

impl Writing<'_> {
    /// Writes some of the chunk's first bytes, and takes them from it. Pending if nothing can be written.
    fn poll(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<Result<usize, WriteError>> {
        let mut piece = [self.chunk.slice(..most.min(self.chunk.len()))];
        let written = ready!(pin!(self.send.write_chunks(&mut piece)).poll(cx))?;
        self.chunk.advance(written.bytes);
        Poll::Ready(Ok(written.bytes))
    }

    /// Writes what can be written at once, up to so many bytes, and returns how many those are.
    async fn at_once(&mut self, most: usize) -> Result<usize, WriteError> {
        let mut left = most;
        poll_fn(|cx| {
            while left > 0 && !self.chunk.is_empty() {
                match self.poll(cx, left) {
                    Poll::Ready(Ok(written)) => left -= written,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
            }
            Poll::Ready(Ok(most - left))
        })
        .await
    }

    /// Writes, beyond the window, what the peer's flow control lets pass, as [`Self::at_once`].
    async fn beyond(&mut self, window: &SendWindow, most: usize) -> Result<usize, WriteError> {
        poll_fn(|cx| match window.poll_beyond(cx, self, most) {
            Poll::Pending => Poll::Ready(Ok(0)),
            written => written,
        })
        .await
    }

    /// Waits until something can be written, and writes it.
    async fn wait(&mut self, most: usize) -> Result<usize, WriteError> {
        poll_fn(|cx| self.poll(cx, most)).await
    }
}

/// What a stream has written lately.
#[derive(Debug)]
pub(crate) struct Writer {
    /// Bytes that it may still write without its turn, and since when.
    few: usize,
    since: Instant,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            few: FEW,
            since: Instant::now(),
        }
    }
}

impl Writer {
    /// Writes a chunk, when it is the stream's turn.
    pub(crate) async fn write(
        &mut self,
        window: &SendWindow,
        connection: &Connection,
        send: &mut SendStream,
        chunk: Bytes,
    ) -> Result<(), WriteError> {
        let mut writing = Writing {
            connection,
            send,
            chunk,
        };
        // Nobody waits.
        if let Ok(_turn) = window.turn.try_lock() {
            writing.at_once(usize::MAX).await?;
        }
        let left = writing.chunk.len();
        if left > 0 && self.may_hurry(left, Instant::now(), connection.rtt()) {
            writing.beyond(window, left).await?;
        }
        while !writing.chunk.is_empty() {
            let turn = window.turn.lock().await;
            let stalled = take_turn(window, &mut writing).await?;
            drop(turn);
            if stalled {
                writing.wait(TRIAL).await?;
            }
        }
        Ok(())
    }

    /// Whether these are few enough to be written without the stream's turn.
    fn may_hurry(&mut self, bytes: usize, now: Instant, rtt: Duration) -> bool {
        if now.saturating_duration_since(self.since) >= rtt {
            self.since = now;
            self.few = FEW;
        }
        let left = self.few.checked_sub(bytes);
        self.few = left.unwrap_or(self.few);
        left.is_some()
    }
}

/// Writes what may be written in a turn. Returns whether the peer's flow control has kept the stream from it: it does not
/// read, and the others need not wait for that.
async fn take_turn(window: &SendWindow, writing: &mut Writing<'_>) -> Result<bool, WriteError> {
    let mut written = 0;
    loop {
        let turn = window.fit(writing.connection);
        written += writing.at_once(turn.saturating_sub(written)).await?;
        if written >= turn || writing.chunk.is_empty() {
            return Ok(false);
        }
        window.narrow(writing.connection);
        match wait_for_room(window, writing, turn).await? {
            Some(more) => written += more,
            None => return Ok(true),
        }
    }
}

/// Waits until some of the window is free, and writes there. Returns how many bytes; none if it is the peer's flow control
/// that keeps the stream from writing.
async fn wait_for_room(
    window: &SendWindow,
    writing: &mut Writing<'_>,
    most: usize,
) -> Result<Option<usize>, WriteError> {
    let (mut written, mut interval) = (0, FIRST_INTERVAL);
    while !writing.chunk.is_empty() {
        match writing.beyond(window, TRIAL).await? {
            0 => return Ok(None),
            passed => written += passed,
        }
        if !writing.chunk.is_empty()
            && let Ok(more) = tokio::time::timeout(interval, writing.wait(most)).await
        {
            return Ok(Some(written + more?));
        }
        interval *= 2;
    }
    Ok(Some(written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_path_wants_what_is_sent_until_a_loss_is_made_up_for() {
        let wants = |micros| wanted(1000, Duration::from_micros(micros), u64::MAX);
        assert_eq!(wants(100_000), 4_000);
        assert_eq!(wants(5_000), 8_000);
        assert_eq!(wants(100), 204_000);
        assert_eq!(wants(0), wants(1));
        assert_eq!(wanted(u64::MAX, Duration::ZERO, u64::MAX), u64::MAX);
    }

    #[test]
    fn a_path_that_was_short_while_it_was_empty_wants_little() {
        let wants = |sent| wanted(10_000, Duration::from_micros(100), sent);
        assert_eq!(wants(5_000), 60_000);
        assert_eq!(wants(100_000), 440_000);
        assert_eq!(wants(10_000_000), 2_040_000);
    }

    #[test]
    fn few_bytes_need_no_turn() {
        let rtt = Duration::from_millis(50);
        let mut writer = Writer::default();
        let now = writer.since;
        assert!(!writer.may_hurry(FEW + 1, now, rtt));
        assert!(writer.may_hurry(FEW - 1, now, rtt));
        assert!(!writer.may_hurry(2, now, rtt));
        assert!(writer.may_hurry(1, now, rtt));
        assert!(!writer.may_hurry(FEW + 1, now + rtt, rtt));
        assert!(writer.may_hurry(FEW, now + rtt, rtt));
        assert!(!writer.may_hurry(1, now + rtt, rtt));
    }
}
