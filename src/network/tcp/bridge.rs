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
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use nix::{
    errno::Errno,
    sys::socket::{Shutdown, shutdown},
};
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream, sync::Notify};

use crate::{
    emul::transport::{Closing, Events},
    network::{
        ending::{self, Ended, Patience},
        flow::{Flow, Written},
        read_buffer::ReadBuffer,
    },
};

/// Bytes that are read from TCP at a time, while there is something.
const READ: usize = 64 << 10;

/// The TCP connection, whose failure the kernel tells only once: to whichever direction asks first.
struct Remote {
    stream: Arc<TcpStream>,
    failure: OnceLock<Errno>,
    /// Notified when there is one, and when the program has reset the connection.
    over: Notify,
    /// How many bytes the program had sent when the peer's FIN came.
    sent_before_fin: AtomicU64,
}

impl Remote {
    /// Notes why the connection has failed, and returns the first reason.
    fn lost(&self, error: &io::Error, flow: &Flow) -> Ended {
        let mut errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::ECONNRESET));
        let sent = flow.sent.load(Ordering::Relaxed);
        if errno == Errno::EPIPE && sent <= self.sent_before_fin.load(Ordering::Relaxed) {
            // tcp_reset in CLOSE_WAIT; not the answer to what the program wrote after the peer's close.
            errno = Errno::ECONNRESET;
        }
        let first = *self.failure.get_or_init(|| errno);
        self.over.notify_one();
        Ended::Reset(first)
    }

    /// Resolves when the connection has failed.
    async fn failure(&self, flow: &Flow) -> Ended {
        let asked = self.stream.async_io(Interest::ERROR, || {
            let taken = self.stream.take_error()?;
            taken.ok_or_else(|| io::ErrorKind::WouldBlock.into())
        });
        tokio::select! {
            biased;
            () = self.over.notified() => {}
            taken = asked => return match taken {
                Ok(error) | Err(error) => self.lost(&error, flow),
            },
        }
        Ended::Reset(self.failure.get().copied().unwrap_or(Errno::ECONNRESET))
    }
}

/// Carries bytes until both directions have ended.
pub(crate) async fn run(flow: Arc<Flow>, stream: Arc<TcpStream>, events: &dyn Events) {
    let remote = Remote {
        stream,
        failure: OnceLock::new(),
        over: Notify::new(),
        sent_before_fin: AtomicU64::new(u64::MAX),
    };
    let outward = async {
        let ended = up(&flow, &remote, events).await;
        if ended.is_reset() {
            flow.hurry();
        }
        // The kernel has it, and goes on without us.
        flow.set_delivered();
        ended
    };
    // In this order: what the program wrote is read before its close is told.
    let (up, down) = tokio::join!(biased; outward, down(&flow, &remote, events));
    tracing::debug!(id = ?flow.id, ?up, ?down, "TCP connection ended");
    if flow.cut_off.load(Ordering::Relaxed) || [up, down].contains(&Ended::Aborted) {
        // tcp(7): the peer is to see RST.
        let _ = SockRef::from(&*remote.stream).set_linger(Some(Duration::ZERO));
    }
    ending::tell(&flow, up, down, events);
}

/// From the program to the peer.
async fn up(flow: &Flow, remote: &Remote, events: &dyn Events) -> Ended {
    let mut buffer = ReadBuffer::default();
    loop {
        match buffer.read(flow) {
            Ok(Some(chunk)) => {
                flow.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                let sent = tokio::select! {
                    biased;
                    sent = send(&remote.stream, chunk) => Some(sent),
                    // A reset either way: the peer may never read the rest.
                    () = remote.over.notified() => None,
                };
                if flow.cut_off.load(Ordering::Relaxed) {
                    if let Some(Ok(())) = sent {
                        send_rest(flow, &mut buffer, &remote.stream);
                    }
                    return Ended::Aborted;
                }
                if let Some(&errno) = remote.failure.get() {
                    return Ended::Reset(errno);
                }
                if let Some(Err(error)) = sent {
                    return remote.lost(&error, flow);
                }
            }
            Ok(None) => return end_of_program_data(flow, &remote.stream, events),
            Err(Errno::EAGAIN) => {
                buffer.rest();
                tokio::select! {
                    biased;
                    ready = flow.readable() => if ready.is_err() {
                        return Ended::Reset(Errno::ECONNRESET);
                    },
                    lost = remote.failure(flow) => {
                        if flow.cut_off.load(Ordering::Relaxed) {
                            send_rest(flow, &mut buffer, &remote.stream);
                        }
                        return lost;
                    }
                }
            }
            Err(error) => {
                tracing::trace!(id = ?flow.id, %error, "the program has reset its connection");
                flow.aborted.store(true, Ordering::Relaxed);
                return end_of_program_data(flow, &remote.stream, events);
            }
        }
    }
}

/// Sends what the program had written before it closed, as far as there is room: TCP would have sent it by then.
fn send_rest(flow: &Flow, buffer: &mut ReadBuffer, stream: &TcpStream) {
    while let Ok(Some(chunk)) = buffer.read(flow) {
        flow.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        if !stream
            .try_write(&chunk)
            .is_ok_and(|sent| sent == chunk.len())
        {
            return;
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

/// From the peer to the program.
async fn down(flow: &Flow, remote: &Remote, events: &dyn Events) -> Ended {
    let mut patience = Patience::WhileOpen;
    let mut buffer = BytesMut::new();
    loop {
        let read = tokio::select! {
            biased;
            read = read(&remote.stream, &mut buffer) => read,
            () = patience.ends(flow) => match (flow.closing(events), &patience) {
                (Closing::Unknown, Patience::WhileOpen) => {
                    patience = Patience::until_fin_timeout(flow);
                    continue;
                }
                (Closing::Unknown, _) => return Ended::Finished,
                (closing, _) => return closed(flow, remote, closing),
            },
        };
        match read {
            Ok(0) => {
                if let Some(&errno) = remote.failure.get() {
                    return Ended::Reset(errno);
                }
                let sent = flow.sent.load(Ordering::Relaxed);
                remote.sent_before_fin.store(sent, Ordering::Relaxed);
                flow.show_fin(events);
                return Ended::Finished;
            }
            Ok(count) => {
                flow.received.fetch_add(count as u64, Ordering::Relaxed);
                let piece = buffer.split().freeze();
                match flow.write_all(&mut [piece]).await {
                    Written::Reset => return Ended::Reset(Errno::ECONNRESET),
                    // The kernel answers what comes after close(2) with RST, and after shutdown of both
                    // directions (tcp_rcv_state_process) as well.
                    Written::Refused if flow.is_hung_up() => {
                        return match flow.closing(events) {
                            Closing::Unknown => {
                                closed(flow, remote, Closing::Abort);
                                Ended::Reset(Errno::ECONNRESET)
                            }
                            closing => closed(flow, remote, closing),
                        };
                    }
                    Written::Done | Written::Refused => {}
                }
            }
            Err(error) => return remote.lost(&error, flow),
        }
    }
}

/// The program has closed: it reads no more.
fn closed(flow: &Flow, remote: &Remote, closing: Closing) -> Ended {
    if closing == Closing::Abort {
        flow.cut_off.store(true, Ordering::Relaxed);
        remote.over.notify_one();
        Ended::Aborted
    } else {
        Ended::HungUp
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
