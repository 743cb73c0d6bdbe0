//! Floods: what strangers can make a server keep and send is bounded, and others are served meanwhile.

use std::net::UdpSocket;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;

use nix::unistd::Pid;
use quinn::{Connection, RecvStream, SendStream, StoppedError, VarInt};

use crate::common::namespace::in_own_network;
use crate::common::running::children;
use crate::common::{Running, Sandbox, net::free_port, tools, wait_until};
use crate::identity::{Authority, Request};
use crate::stranger::Stranger;
use crate::{echo_server, script};

/// docs/protocol.md: streams that are allowed at first; those whose preface may be waited for; bytes in flight on
/// streams that nobody has taken.
const FIRST_STREAMS: usize = 256;
const PREFACES: usize = 64;
const FIRST_WINDOW: usize = 1 << 20;
/// Application error code BAD_PREFACE.
const BAD_PREFACE: u32 = 3;
/// Application error code RESET.
const RESET: u32 = 1;
/// The preface of a connection from port 54321.
const PREFACE: [u8; 5] = [0, 3, 1, 0xd4, 0x31];

/// Resident memory of the supervisor, KiB.
fn memory(server: &Running) -> usize {
    let supervisors = children(server.pid());
    let [supervisor] = supervisors[..] else {
        panic!("front's children: {supervisors:?}")
    };
    resident(supervisor)
}

fn resident(pid: Pid) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let value = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    value.expect("VmRSS")
}

fn connects(sandbox: &Sandbox, port: u16) {
    let done = script(sandbox, "connect.py").arg(port.to_string()).run();
    assert_eq!(done.success().text(), "echoed\n");
}

/// RFC 9000, 8.1: at most three times the bytes that came, however long the certificate chain is. On a link that is not
/// taken for loopback: there a datagram could be a fake.
#[test]
fn amplification() {
    in_own_network("floods::amplification", || {
        let ip = Command::new(tools::need("ip"))
            .args(["link", "set", "lo", "mtu", "1500"])
            .status();
        assert!(ip.expect("ip runs").success());
        let sandbox = Sandbox::new();
        let stranger = Stranger::new();
        // Flights that end within the first, second, third datagram, and beyond the limit.
        let mut servers: Vec<_> = [0, 1, 3, 4, 5, 6, 7, 12]
            .into_iter()
            .map(|between| of_length(&sandbox, between))
            .collect();
        let first = stranger.first_datagrams(servers.len());
        let sockets: Vec<_> = servers
            .iter()
            .zip(&first)
            .map(|((_, port), datagram)| {
                let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
                socket.set_nonblocking(true).expect("a socket");
                let sent = socket.send_to(datagram, ("127.0.0.1", *port));
                assert_eq!(sent.expect("a send"), datagram.len());
                (socket, datagram.len())
            })
            .collect();
        for ((server, _), (socket, sent)) in servers.iter_mut().zip(sockets) {
            // It has sent all it will, retransmissions included.
            server.wait_stderr("came to nothing");
            let mut buffer = [0; 65_536];
            let received = std::iter::from_fn(|| socket.recv(&mut buffer).ok());
            let answered: usize = received.sum();
            assert!(answered > 0, "no answer");
            assert!(answered <= 3 * sent, "{answered} bytes for {sent}");
        }
    });
}

/// A server whose certificate comes with so many CAs.
fn of_length(sandbox: &Sandbox, between: usize) -> (Running, u16) {
    let name = |level| format!("chain-{between}-{level}");
    let root = Authority::new(sandbox, &name(0));
    let issuer = (1..=between).fold(root, |above, level| {
        above.intermediate(sandbox, &name(level))
    });
    let identity = issuer.sign(sandbox, &Request::new(&name(99)));
    let port = free_port();
    let command = script(sandbox, "echo.py")
        .option("--log=info")
        .option("--server-cert")
        .option(identity.cert)
        .option("--server-key")
        .option(identity.key);
    (echo_server(command, port), port)
}

/// Handshakes that are begun from thousands of ports and never continued: the server asks for proof of the address,
/// keeps little, and serves a client that comes in the middle of it.
#[test]
fn first_packets() {
    wrapped_only!();
    /// KiB. Sixty-four half-open handshakes, and much room for the allocator's habits.
    const BOUND: usize = 64 << 10;
    const COUNT: usize = 3000;
    let sandbox = Sandbox::new();
    let port = free_port();
    let server = echo_server(script(&sandbox, "echo.py"), port);
    connects(&sandbox, port);
    let before = memory(&server);
    let datagrams = Stranger::new().first_datagrams(COUNT);
    assert_eq!(datagrams.len(), COUNT);
    let (sent, served, retried) = (
        AtomicUsize::new(0),
        AtomicBool::new(false),
        AtomicUsize::new(0),
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for datagram in &datagrams {
                retried.fetch_add(usize::from(is_retried(datagram, port)), Ordering::Relaxed);
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        // In the middle of it; what is tested is that it succeeds.
        wait_until("the flood has begun", || {
            sent.load(Ordering::Relaxed) > COUNT / 10
        });
        connects(&sandbox, port);
        served.store(true, Ordering::Relaxed);
    });
    let grown = memory(&server).saturating_sub(before);
    eprintln!("{COUNT} first packets: {grown} KiB more than {before}");
    assert!(grown < BOUND, "{grown} KiB for {COUNT} first packets");
    let retried = retried.load(Ordering::Relaxed);
    assert!(
        retried > COUNT / 2,
        "{retried} of {COUNT} were asked for proof"
    );
    connects(&sandbox, port);
}

/// Sends a client's first datagram from a port of its own. Returns whether Retry is the answer.
fn is_retried(datagram: &[u8], port: u16) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket
        .set_read_timeout(Some(std::time::Duration::from_secs(1)))
        .expect("a timeout");
    let sent = socket.send_to(datagram, ("127.0.0.1", port));
    assert_eq!(sent.expect("a send"), datagram.len());
    let mut answer = [0; 65_536];
    // RFC 9000, 17.2.5: a long header of type 3.
    socket.recv(&mut answer).is_ok() && answer[0] & 0xf0 == 0xf0
}

/// As many streams as the server allows without another word of it.
fn open_all(stranger: &Stranger, connection: &Connection) -> Vec<(SendStream, RecvStream)> {
    stranger.runtime.block_on(async {
        let mut streams = Vec::new();
        loop {
            let mut opening = std::pin::pin!(connection.open_bi());
            let opened =
                std::future::poll_fn(|context| Poll::Ready(opening.as_mut().poll(context)));
            match opened.await {
                Poll::Ready(stream) => streams.push(stream.expect("a connection")),
                Poll::Pending => return streams,
            }
        }
    })
}

/// Streams that never say who connects: no more than a few are allowed, the server waits for a part of them at a time,
/// and gives them up in the end.
#[test]
fn streams_without_a_preface() {
    wrapped_only!();
    /// KiB: 256 streams, and much room for the allocator's habits.
    const BOUND: usize = 32 << 10;
    let sandbox = Sandbox::new();
    let port = free_port();
    let server = echo_server(script(&sandbox, "echo.py"), port);
    connects(&sandbox, port);
    let before = memory(&server);
    let stranger = Stranger::new();
    let connection = stranger.connect(port);
    let mut streams = open_all(&stranger, &connection);
    assert_eq!(streams.len(), FIRST_STREAMS);
    let runtime = &stranger.runtime;
    runtime.block_on(async {
        for (send, _) in &mut streams {
            send.write_all(&PREFACE[..1]).await.expect("a byte");
        }
    });
    connects(&sandbox, port);
    // Who comes behind more of them than are waited for is served when one has been given up.
    let ended = runtime.block_on(async {
        let (send, recv) = &mut streams[PREFACES];
        send.write_all(&PREFACE[1..]).await.expect("a preface");
        send.finish().expect("the stream lives");
        assert_eq!(recv.read_to_end(16).await.expect("an end"), b"");
        // The first by now, the others as long after it as they came.
        let mut first = std::pin::pin!(streams[0].0.stopped());
        let now = std::future::poll_fn(|context| Poll::Ready(first.as_mut().poll(context)));
        assert!(now.await.is_ready(), "served before any was given up");
        let mut ended = Vec::new();
        for (send, _) in &mut streams[..PREFACES] {
            ended.push(send.stopped().await);
        }
        ended
    });
    let code = VarInt::from_u32(BAD_PREFACE);
    let is_code =
        |end: &Result<Option<VarInt>, StoppedError>| matches!(end, Ok(Some(c)) if *c == code);
    assert!(ended.iter().all(is_code), "{ended:?}");
    let grown = memory(&server).saturating_sub(before);
    eprintln!("{FIRST_STREAMS} streams without a preface: {grown} KiB more than {before}");
    assert!(grown < BOUND, "{grown} KiB");
    connects(&sandbox, port);
}

/// A program that never accepts, its queue full: what a newcomer sends is bounded for all its streams together.
#[test]
fn streams_that_nobody_takes() {
    wrapped_only!();
    /// KiB: the window, twice over for the pieces it came in, and much room for the allocator's habits.
    const BOUND: usize = 24 << 10;
    let sandbox = Sandbox::new();
    let port = free_port();
    let command = script(&sandbox, "hoard.py").arg(port.to_string());
    let mut server = command.piped().spawn();
    server.wait_stdout("listening");
    let stranger = Stranger::new();
    let crowd = fill_queue(&stranger, port);
    let before = memory(&server);

    let newcomer = stranger.connect(port);
    let streams = open_all(&stranger, &newcomer);
    let written = Arc::new(AtomicUsize::new(0));
    let count = streams.len();
    let writers: Vec<_> = streams
        .into_iter()
        .map(|(send, recv)| {
            stranger
                .runtime
                .spawn(write_all(send, recv, Arc::clone(&written)))
        })
        .collect();
    wait_until("the window is full", || {
        written.load(Ordering::Relaxed) >= FIRST_WINDOW
    });
    // Round trips of another connection: had the window grown, it would show.
    drop(stranger.connect(port));
    drop(stranger.connect(port));
    assert_eq!(written.load(Ordering::Relaxed), FIRST_WINDOW);
    let grown = memory(&server).saturating_sub(before);
    eprintln!("{count} streams that nobody takes: {grown} KiB more than {before}");
    assert!(grown < BOUND, "{grown} KiB");

    // The program begins to accept, one client after the other: nobody is stuck, nothing is lost.
    for (connection, _) in &crowd {
        connection.close(VarInt::from_u32(RESET), b"");
    }
    server.send("x");
    for writer in writers {
        stranger.runtime.block_on(writer).expect("a writer");
    }
    let expected = format!("got {EACH}\n");
    wait_until("each has got all", || {
        server.stdout().matches(&expected).count() == count
    });
    assert!(!server.ended());
}

/// Bytes that each stream of the newcomer carries behind its preface.
const EACH: usize = 64 << 10;

async fn write_all(mut send: SendStream, mut recv: RecvStream, written: Arc<AtomicUsize>) {
    let bytes = [&PREFACE[..], &vec![7; EACH]].concat();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let count = send.write(rest).await.expect("the stream lives");
        written.fetch_add(count, Ordering::Relaxed);
        rest = &rest[count..];
    }
    send.finish().expect("the stream lives");
    // Its end, when the program has closed.
    let _ = recv.read_to_end(16).await;
}

/// Opens connections until the server's queue takes no more: then the streams that are allowed stay open unanswered.
fn fill_queue(stranger: &Stranger, port: u16) -> Vec<(Connection, Vec<(SendStream, RecvStream)>)> {
    // A queue holds 1,024 at least; each of these may wait 256.
    let links: Vec<_> = (0..6)
        .map(|_| {
            let connection = stranger.connect(port);
            let mut streams = Vec::new();
            stranger.runtime.block_on(async {
                for _ in 0..FIRST_STREAMS {
                    let (mut send, recv) = connection.open_bi().await.expect("a stream");
                    send.write_all(&PREFACE).await.expect("a preface");
                    streams.push((send, recv));
                }
            });
            (connection, streams)
        })
        .collect();
    links
}
