//! The bridge of a connection that stays on TCP: bytes, half-closes and resets between the pair and a TCP
//! socket.
//!
//! | on our end of the pair | on the TCP socket |
//! |---|---|
//! | bytes | bytes |
//! | end of file: the program has shut down writing | shutdown(SHUT_WR) |
//! | hang-up: the program has closed | close(2), behind all it wrote |
//! | ECONNRESET (closed with data unread), or SO_LINGER 0 | RST: close(2) with SO_LINGER 0 |
//! | shutdown(SHUT_WR) | end of file |
//! | reset, once all bytes are delivered | ECONNRESET, ETIMEDOUT and their like |
#![forbid(unsafe_code)]

use std::{
    io,
    os::fd::AsRawFd,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use nix::{
    errno::Errno,
    sys::socket::{Shutdown, shutdown},
};
use socket2::SockRef;
use tokio::{
    io::Interest,
    net::TcpStream,
};

use crate::{
    emul::transport::{Closing, Events},
    quic::{
        ending::{self, Ended, Patience},
        flow::{Flow, Written},
        read_buffer::ReadBuffer,
    },
};

/// Bytes that are read from TCP at a time, while there is something.
const READ: usize = 64 << 10;

/// Carries bytes until both directions have ended.
pub(in crate::quic) async fn run(flow: Arc<Flow>, stream: Arc<TcpStream>, events: &dyn Events) {
    let outward = async {
        let ended = up(&flow, &stream, events).await;
        if ended.is_reset() {
            flow.hurry();
        }
        // The kernel has it, and goes on without us.
        flow.set_delivered();
        ended
    };
    // In this order: what the program wrote is read before its close is told.
    let (up, down) = tokio::join!(biased; outward, down(&flow, &stream, events));
    tracing::debug!(id = ?flow.id, ?up, ?down, "TCP connection ended");
    if [up, down].contains(&Ended::Aborted) {
        // tcp(7): the peer is to see RST.
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
    ending::tell(&flow, up, down, events);
}

/// From the program to the peer.
async fn up(flow: &Flow, stream: &TcpStream, events: &dyn Events) -> Ended {
    let mut buffer = ReadBuffer::default();
    loop {
        match buffer.read(flow) {
            Ok(Some(chunk)) => {
                flow.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                if let Err(error) = send(stream, chunk).await {
                    return lost(flow, &error);
                }
                if flow.cut_off.load(Ordering::Relaxed) {
                    return Ended::Aborted;
                }
            }
            Ok(None) => return end_of_program_data(flow, stream, events),
            Err(Errno::EAGAIN) => {
                buffer.rest();
                tokio::select! {
                    biased;
                    ready = flow.readable() => if ready.is_err() {
                        return Ended::Reset(Errno::ECONNRESET);
                    },
                    error = failure(stream) => return lost(flow, &error),
                }
            }
            Err(error) => {
                tracing::trace!(id = ?flow.id, %error, "the program has reset its connection");
                flow.aborted.store(true, Ordering::Relaxed);
                return end_of_program_data(flow, stream, events);
            }
        }
    }
}

async fn send(stream: &TcpStream, mut chunk: Bytes) -> io::Result<()> {
    while !chunk.is_empty() {
        stream.writable().await?;
        match stream.try_write(&chunk) {
            Ok(count) => chunk.advance(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Resolves when the connection has an error that nobody has been told.
async fn failure(stream: &TcpStream) -> io::Error {
    if let Err(error) = stream.ready(Interest::ERROR).await {
        return error;
    }
    match stream.take_error() {
        Ok(Some(error)) | Err(error) => error,
        // The other direction has taken it, and says so.
        Ok(None) => std::future::pending().await,
    }
}

/// The program has shut down writing or closed.
fn end_of_program_data(flow: &Flow, stream: &TcpStream, events: &dyn Events) -> Ended {
    match flow.is_hung_up().then(|| flow.closing(events)) {
        Some(Closing::Abort) => Ended::Aborted,
        Some(Closing::Orderly) => Ended::HungUp,
        Some(Closing::Unknown) | None => {
            // Reset meanwhile: the other direction finds out.
            let _ = shutdown(stream.as_raw_fd(), Shutdown::Write);
            Ended::Finished
        }
    }
}

/// The connection has failed. After the peer's FIN TCP says EPIPE (tcp_reset in CLOSE_WAIT), which is
/// what a program sees that writes after its peer has closed.
fn lost(flow: &Flow, error: &io::Error) -> Ended {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::ECONNRESET));
    let closed = flow.fin_shown.load(Ordering::Relaxed) && errno == Errno::ECONNRESET;
    Ended::Reset(if closed { Errno::EPIPE } else { errno })
}

/// From the peer to the program.
async fn down(flow: &Flow, stream: &TcpStream, events: &dyn Events) -> Ended {
    let mut patience = Patience::WhileOpen;
    let mut buffer = BytesMut::new();
    loop {
        let read = tokio::select! {
            biased;
            read = read(stream, &mut buffer) => read,
            () = patience.ends(flow) => match (flow.closing(events), &patience) {
                (Closing::Unknown, Patience::WhileOpen) => {
                    patience = Patience::until_fin_timeout();
                    continue;
                }
                (Closing::Abort, _) => {
                    flow.cut_off.store(true, Ordering::Relaxed);
                    return Ended::Aborted;
                }
                (Closing::Orderly, _) => return Ended::HungUp,
                (Closing::Unknown, _) => return Ended::Finished,
            },
        };
        match read {
            Ok(0) => {
                flow.show_fin(events);
                return Ended::Finished;
            }
            Ok(count) => {
                flow.received.fetch_add(count as u64, Ordering::Relaxed);
                let piece = buffer.split().freeze();
                if flow.write_all(&mut [piece]).await == Written::Reset {
                    return Ended::Reset(Errno::ECONNRESET);
                }
            }
            Err(error) => return lost(flow, &error),
        }
    }
}

/// Reads what there is; 0 at the end. Room is made once there is something, for idle connections are many.
async fn read(stream: &TcpStream, buffer: &mut BytesMut) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        buffer.reserve(READ);
        match stream.try_read_buf(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => *buffer = BytesMut::new(),
            result => return result,
        }
    }
}
