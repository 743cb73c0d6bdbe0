//! The server and the client of the demonstration: ordinary TCP programs that know nothing of
//! quicwrap. What they have done they say on their standard output, a line each.
#![forbid(unsafe_code)]

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    time::Instant,
};

use clap::Args;
use crc32fast::Hasher;

/// Bytes that are read and written at a time.
const CHUNK: usize = 256 << 10;
/// The client says how far it is after so many bytes.
const PROGRESS: u64 = 16 << 20;
/// The server's answer: how many bytes it has got, and their checksum. A CRC, because a cryptographic
/// one would take longer than the transfer.
const ANSWER: usize = 8 + 4;

/// The server says this before its address.
pub(super) const LISTENING: &str = "listening ";
/// Both say this before the size and checksum of what one connection has carried.
pub(super) const MOVED: &str = "moved ";
/// The client says this before a number of bytes.
pub(super) const PROGRESS_AT: &str = "at ";
/// The client says this before a number of microseconds.
pub(super) const TOOK: &str = "took ";

/// What the server is to do.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerOptions {
    /// How many connections to serve, one after another
    #[arg(long)]
    pub(super) count: u32,
}

/// What the client is to do.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClientOptions {
    /// Where the server is
    pub(super) address: SocketAddr,
    /// How many connections to make, one after another
    #[arg(long)]
    pub(super) count: u32,
    /// How many bytes to send on each
    #[arg(long)]
    pub(super) bytes: u64,
}

/// Takes connections; answers each, when its sender has finished, with the checksum of what it got.
///
/// # Errors
/// Of its sockets, and of standard output.
pub(crate) fn serve(options: &ServerOptions) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    say(&format!("{LISTENING}{}", listener.local_addr()?))?;
    let mut buffer = vec![0; CHUNK];
    for _ in 0..options.count {
        let (mut stream, _) = listener.accept()?;
        let (mut bytes, mut checksum) = (0, Hasher::new());
        loop {
            match stream.read(&mut buffer)? {
                0 => break,
                count => {
                    checksum.update(&buffer[..count]);
                    bytes += count as u64;
                }
            }
        }
        let answer = answer(bytes, checksum);
        stream.write_all(&answer)?;
        say(&moved(&answer))?;
    }
    Ok(())
}

/// Makes connections; sends on each, and compares the server's checksum with its own.
///
/// # Errors
/// Of its sockets, and of standard output. InvalidData: the checksums differ.
pub(crate) fn send(options: &ClientOptions) -> io::Result<()> {
    let mut block = random_block();
    let begin = Instant::now();
    for connection in 0..options.count {
        let mut stream = TcpStream::connect(options.address)?;
        let checksum = fill(&mut stream, &mut block, connection, options.bytes)?;
        stream.shutdown(Shutdown::Write)?;
        let expected = answer(options.bytes, checksum);
        let mut got = [0; ANSWER];
        stream.read_exact(&mut got)?;
        if got != expected {
            let message = format!(
                "sent: {}; the server says: {}",
                moved(&expected),
                moved(&got)
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        say(&moved(&expected))?;
    }
    say(&format!("{TOOK}{}", begin.elapsed().as_micros()))
}

/// Sends `bytes` bytes, no two blocks of them alike.
fn fill(
    stream: &mut TcpStream,
    block: &mut [u8],
    connection: u32,
    bytes: u64,
) -> io::Result<Hasher> {
    let mut checksum = Hasher::new();
    let mut sent = 0;
    while sent < bytes {
        let size = (bytes - sent).min(block.len() as u64) as usize;
        let stamp = (u64::from(connection) << 32 ^ sent).to_le_bytes();
        block[..stamp.len()].copy_from_slice(&stamp);
        checksum.update(&block[..size]);
        stream.write_all(&block[..size])?;
        sent += size as u64;
        if sent % PROGRESS == 0 {
            say(&format!("{PROGRESS_AT}{sent}"))?;
        }
    }
    Ok(checksum)
}

/// Bytes that do not compress: xorshift64*.
fn random_block() -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let words = (0..CHUNK / 8).flat_map(|_| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes()
    });
    words.collect()
}

fn answer(bytes: u64, checksum: Hasher) -> [u8; ANSWER] {
    let mut answer = [0; ANSWER];
    answer[..8].copy_from_slice(&bytes.to_be_bytes());
    answer[8..].copy_from_slice(&checksum.finalize().to_be_bytes());
    answer
}

/// An answer as a line.
fn moved(answer: &[u8; ANSWER]) -> String {
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let (size, checksum) = answer.split_at(8);
    format!("{MOVED}{} {:08x}", number(size), number(checksum))
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_size_and_crc32() {
        let mut checksum = Hasher::new();
        checksum.update(b"123456789");
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(
            moved(&answer(0x1_0000_0203, checksum)),
            "moved 4294967811 cbf43926"
        );
    }
}
