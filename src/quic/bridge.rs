//! The bridge of one TCP connection: bytes, half-closes and resets between the socketpair and the
//! stream.
//!
//! | on our end of the pair | on the stream |
//! |---|---|
//! | bytes | bytes |
//! | end of file: the program has shut down writing | FIN |
//! | hang-up: the program has closed | FIN, STOP_SENDING(CLOSED) |
//! | ECONNRESET (closed with data unread), or SO_LINGER 0 | STOP_SENDING(RESET, and where) |
//! | no room for what comes: both directions are shut down | STOP_SENDING(RESET, and where) |
//! | shutdown(SHUT_WR) | FIN |
//! | reset, once all bytes are delivered | STOP_SENDING(RESET), RESET_STREAM, connection lost |
//! | reset, if the program writes | STOP_SENDING(CLOSED): TCP answers data after close with RST |
#![forbid(unsafe_code)]

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use nix::errno::Errno;
use quinn::{ConnectionError, ReadError, RecvStream, SendStream, StoppedError, VarInt, WriteError};

use super::{code, raw::Wire, send_window::Writer};
use crate::emul::transport::{Closing, Events};
use crate::network::{
    ending::{self, Ended, Patience},
    flow::{Carrier, Flow, Pieces, Written},
    read_buffer::ReadBuffer,
};

/// How long a side that was told of a reset may take to answer. It does not if it had sent FIN, and
/// all was acknowledged, before it was told.
const RESET_PATIENCE: Duration = Duration::from_secs(2);
/// How late an acknowledgement may be, RFC 9000 section 18.2.
const MAX_ACK_DELAY: Duration = Duration::from_millis(25);

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send>>;

/// Carries bytes until both directions have ended and what the program wrote is delivered.
pub(crate) async fn run(
    flow: Arc<Flow>,
    mut send: SendStream,
    mut recv: RecvStream,
    events: &dyn Events,
) {
    let outward = async {
        let ended = up(&flow, &mut send, events).await;
        let answered = settle(&flow, ended, &mut send).await;
        flow.set_delivered();
        (ended, answered)
    };
    let inward = async {
        let ended = down(&flow, &mut recv, events).await;
        // A reset of ours is behind all that the program wrote.
        if ended.is_reset() && !flow.cut_off.load(Ordering::Relaxed) {
            flow.reset.notify_one();
        }
        ended
    };
    // In this order: what the program wrote is read before its close is told.
    let ((up, answered), down) = tokio::join!(biased; outward, inward);
    tracing::debug!(id = ?flow.id, ?up, ?down, "connection ended");
    if up.is_reset() || down.is_reset() {
        // Either direction may have ended already.
        let _ = send.reset(code::RESET);
        let _ = recv.stop(code::RESET);
    }
    ending::tell(&flow, up, down, events);
    if (up.is_abrupt() || down.is_abrupt()) && !answered {
        take_leave(&flow).await;
    }
}

/// A reset was told that nobody confirms. The QUIC connection stays until it has arrived, as far as can be known: its
/// CONNECTION_CLOSE takes back what was not sent yet.
async fn take_leave(flow: &Flow) {
    if let Carrier::Quic { link, .. } = &flow.carrier {
        let connection = &link.connection;
        // RFC 9002 section 6.2.1; the variance is at most half the round-trip time at first, and less later.
        let pto = 3 * connection.rtt() + MAX_ACK_DELAY;
        // As long as a closing connection stays, RFC 9000 section 10.2, though a peer may make the time long.
        let patience = RESET_PATIENCE.min(3 * pto);
        let _ = tokio::time::timeout(patience, connection.closed()).await;
    }
}

/// Waits until the peer has acknowledged everything, or wants no more. Returns whether it has heard of a reset, if that
/// is how the direction ended.
async fn settle(flow: &Flow, ended: Ended, send: &mut SendStream) -> bool {
    match ended {
        Ended::Reset(_) => {
            flow.hurry();
            true
        }
        Ended::Aborted => {
            let answer = send.stopped();
            let patience = match flow.wire {
                Wire::Quicwrap => RESET_PATIENCE,
                // Nothing but RESET_STREAM says it there.
                Wire::Raw => Duration::ZERO,
            };
            let answered = tokio::time::timeout(patience, answer).await.is_ok();
            if !answered {
                let _ = send.reset(code::RESET);
            }
            answered
        }
        Ended::Finished | Ended::HungUp => {
            if let Ok(Some(code)) = send.stopped().await
                && code::is_reset(code, flow.wire)
            {
                flow.reset_behind(code::bytes_before_reset(code));
            }
            false
        }
    }
}

/// From the program to the peer.
async fn up(flow: &Flow, send: &mut SendStream, events: &dyn Events) -> Ended {
    let mut stopped: Stopped = Box::pin(send.stopped());
    let mut buffer = ReadBuffer::default();
    let mut writer = Writer::default();
    loop {
        let read = if buffer.is_drained() {
            Err(Errno::EAGAIN)
        } else {
            buffer.read(flow)
        };
        match read {
            Ok(Some(chunk)) => {
                flow.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                let written = tokio::select! {
                    biased;
                    written = write(flow, &mut writer, send, chunk) => written,
                    () = flow.reset.notified() => return Ended::Reset(Errno::ECONNRESET),
                };
                match written {
                    Ok(()) => {}
                    Err(WriteError::Stopped(code)) => {
                        return stopped_by_peer(flow, code, send, events).await;
                    }
                    Err(WriteError::ConnectionLost(error)) => {
                        return lost(flow, &error, send, events).await;
                    }
                    Err(WriteError::ClosedStream | WriteError::ZeroRttRejected) => {
                        return Ended::Reset(Errno::ECONNRESET);
                    }
                }
            }
            Ok(None) => return end_of_program_data(flow, send, events),
            Err(Errno::EAGAIN) => {
                buffer.rest();
                tokio::select! {
                    biased;
                    ready = flow.readable() => if ready.is_err() {
                        return Ended::Reset(Errno::ECONNRESET);
                    },
                    // Somebody's RESET_STREAM alone: quicwrap sends STOP_SENDING as well.
                    () = flow.reset.notified() => return Ended::Reset(Errno::ECONNRESET),
                    result = &mut stopped => match result {
                        Ok(Some(code)) => return stopped_by_peer(flow, code, send, events).await,
                        Ok(None) => return Ended::Finished,
                        Err(StoppedError::ConnectionLost(error)) => {
                            return lost(flow, &error, send, events).await;
                        }
                        Err(StoppedError::ZeroRttRejected) => {
                            return Ended::Reset(Errno::ECONNRESET);
                        }
                    },
                }
            }
            Err(error) => {
                // ECONNRESET: closed with data unread, where TCP sends RST (RFC 1122, 4.2.2.13).
                tracing::trace!(id = ?flow.id, %error, "the program has reset its connection");
                flow.aborted.store(true, Ordering::Relaxed);
                return end_of_program_data(flow, send, events);
            }
        }
    }
}

/// Writes when it is the stream's turn, if others write to the same QUIC connection.
async fn write(
    flow: &Flow,
    writer: &mut Writer,
    send: &mut SendStream,
    chunk: Bytes,
) -> Result<(), WriteError> {
    match &flow.carrier {
        Carrier::Quic { link, .. } => link.write(writer, send, chunk).await,
        Carrier::Tcp(_) => send.write_chunk(chunk).await,
    }
}

/// The program has shut down writing or closed: FIN, after all it wrote. A reset is told by the other
/// direction, with STOP_SENDING, so that the bytes before it still arrive; once that direction is over,
/// only RESET_STREAM is left to say so.
fn end_of_program_data(flow: &Flow, send: &mut SendStream, events: &dyn Events) -> Ended {
    match flow.is_hung_up().then(|| flow.closing(events)) {
        Some(Closing::Abort) => {
            // The peer's data has come to its end, so that no STOP_SENDING can tell it.
            if flow.fin_shown.load(Ordering::Relaxed) {
                if flow.sent.load(Ordering::Relaxed) == 0 {
                    let _ = send.reset(code::RESET);
                } else {
                    // RESET_STREAM would take the answer back: rather an end of file.
                    let _ = send.finish();
                    return Ended::HungUp;
                }
            }
            Ended::Aborted
        }
        orderly => {
            // Stopped meanwhile: the peer wants no more, and knows.
            let _ = send.finish();
            if orderly == Some(Closing::Orderly) {
                Ended::HungUp
            } else {
                Ended::Finished
            }
        }
    }
}

/// The QUIC connection has ended. If the peer's supervisor has ended it in order, all its programs had
/// closed before.
async fn lost(
    flow: &Flow,
    error: &ConnectionError,
    send: &mut SendStream,
    events: &dyn Events,
) -> Ended {
    match error {
        ConnectionError::ApplicationClosed(close) if close.error_code == code::CLOSED => {
            stopped_by_peer(flow, code::CLOSED, send, events).await
        }
        error => Ended::Reset(code::lost(error)),
    }
}

/// The peer reads no more. After a reset the program must see one, once it has what was sent before.
/// After a close TCP sends RST only when data arrives, so the program may still write once.
async fn stopped_by_peer(
    flow: &Flow,
    code: VarInt,
    send: &mut SendStream,
    events: &dyn Events,
) -> Ended {
    if flow.cut_off.load(Ordering::Relaxed) {
        // Its answer to a reset of ours.
        return Ended::Aborted;
    }
    if code::is_reset(code, flow.wire) {
        flow.reset_behind(code::bytes_before_reset(code));
        return Ended::Reset(Errno::ECONNRESET);
    }
    loop {
        match flow.has_unread() {
            Ok(false) | Err(Errno::ECONNRESET) => return end_of_program_data(flow, send, events),
            // tcp_reset in CLOSE_WAIT: EPIPE.
            Ok(true) => return Ended::Reset(Errno::EPIPE),
            Err(_) => tokio::select! {
                ready = flow.readable() => if ready.is_err() {
                    return Ended::HungUp;
                },
                // The connection is lost, and with it what the program reads.
                () = flow.reset.notified() => return Ended::Reset(Errno::ECONNRESET),
            },
        }
    }
}

/// From the peer to the program.
async fn down(flow: &Flow, recv: &mut RecvStream, events: &dyn Events) -> Ended {
    let mut pieces = Pieces::default();
    let mut patience = Patience::WhileOpen;
    loop {
        if flow.is_reset() {
            return Ended::Reset(Errno::ECONNRESET);
        }
        let read = tokio::select! {
            biased;
            read = recv.read_chunks(pieces.room()) => read,
            () = flow.hurry.notified() => continue,
            () = patience.ends(flow) => match (flow.closing(events), &patience) {
                (Closing::Unknown, Patience::WhileOpen) => {
                    patience = Patience::until_fin_timeout(flow);
                    continue;
                }
                (closing, _) => return stop_sender(flow, recv, closing),
            },
        };
        match read {
            Ok(Some(count)) => {
                let read = &mut pieces.room()[..count];
                let bytes: usize = read.iter().map(Bytes::len).sum();
                flow.received.fetch_add(bytes as u64, Ordering::Relaxed);
                let written = flow.write_all(read).await;
                pieces.fit(count);
                match written {
                    Written::Reset => return Ended::Reset(Errno::ECONNRESET),
                    Written::Refused if flow.is_hung_up() => return refuse(flow, recv, events),
                    Written::Done | Written::Refused => {}
                }
            }
            Ok(None) => {
                flow.show_fin(events);
                return Ended::Finished;
            }
            Err(ReadError::ConnectionLost(error)) => return Ended::Reset(code::lost(&error)),
            Err(_) => return Ended::Reset(Errno::ECONNRESET),
        }
    }
}

/// Data has come for a program that has closed, or shut down both directions: TCP answers with RST in
/// either case (tcp_rcv_state_process).
fn refuse(flow: &Flow, recv: &mut RecvStream, events: &dyn Events) -> Ended {
    match flow.closing(events) {
        Closing::Unknown => {
            stop_sender(flow, recv, Closing::Abort);
            Ended::Reset(Errno::ECONNRESET)
        }
        closing => stop_sender(flow, recv, closing),
    }
}

/// The program has closed: it reads no more. A reset is behind all that it wrote, also what lies unread in the pair. Errors
/// mean that the peer has said all already.
fn stop_sender(flow: &Flow, recv: &mut RecvStream, closing: Closing) -> Ended {
    match closing {
        Closing::Abort => {
            flow.cut_off.store(true, Ordering::Relaxed);
            let _ = recv.stop(code::reset_behind(flow.written(), flow.wire));
            Ended::Aborted
        }
        Closing::Orderly => {
            let _ = recv.stop(code::CLOSED);
            Ended::HungUp
        }
        Closing::Unknown => {
            let _ = recv.stop(code::CLOSED);
            Ended::Finished
        }
    }
}
