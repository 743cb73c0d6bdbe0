//! docs/protocol.md, as somebody who has only read that would implement it: a client and a server over quinn.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, ReadError, RecvStream, SendStream,
    ServerConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::common::{Done, Running, Sandbox, Wrapped, net::free_port, tools};
use crate::identity::Identity;

const ALPN: &str = "quicwrap/1";
const CLOSED: u32 = 0;
const RESET: u32 = 1;
const REFUSED: u32 = 2;
const BAD_PREFACE: u32 = 3;
/// STOP_SENDING: this plus the bytes before the reset.
const RESET_BEHIND: u64 = 1 << 60;
/// CRYPTO_ERROR (RFC 9001 section 4.8) with the alert no_application_protocol.
const NO_APPLICATION_PROTOCOL: u64 = 0x178;
const PATIENCE: Duration = Duration::from_secs(20);

/// The preface of a connection from source port 54321, as the document gives it.
const PREFACE: &[u8] = &[0x00, 0x03, 0x01, 0xD4, 0x31];

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("an end") })
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    rustls::crypto::aws_lc_rs::default_provider().into()
}

fn certificate(identity: &Identity) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&identity.cert).expect("a certificate")
}

async fn connect(
    identity: &Identity,
    port: u16,
    alpn: &str,
) -> Result<Connection, ConnectionError> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(identity)).expect("a root");
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.into()];
    let crypto = QuicClientConfig::try_from(tls).expect("QUIC");
    let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a port");
    let server = SocketAddr::from(([127, 0, 0, 1], port));
    let connecting =
        endpoint.connect_with(ClientConfig::new(Arc::new(crypto)), server, "127.0.0.1");
    connecting.expect("a configuration").await
}

fn listen(identity: &Identity, port: u16, alpn: &str) -> Endpoint {
    let key = PrivateKeyDer::from_pem_file(&identity.key).expect("a key");
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate(identity)], key)
        .expect("a pair");
    tls.alpn_protocols = vec![alpn.into()];
    let crypto = QuicServerConfig::try_from(tls).expect("QUIC");
    let config = ServerConfig::with_crypto(Arc::new(crypto));
    Endpoint::server(config, ([127, 0, 0, 1], port).into()).expect("a port")
}

fn python(sandbox: &Sandbox, identity: &Identity, script: &str) -> Wrapped {
    let name = format!("{:x}.py", crc32fast::hash(script.as_bytes()));
    sandbox
        .wrap(tools::python())
        .option("--server-cert")
        .option(&identity.cert)
        .arg("-u")
        .arg(sandbox.file(&name, script))
}

const TALK: &str = include_str!("../cli/py/talk.py");

/// A wrapped server that runs `script`, ready.
fn server(sandbox: &Sandbox, identity: &Identity, script: &str, arguments: &[&str]) -> Running {
    let server = python(sandbox, identity, script)
        .option("--server-key")
        .option(&identity.key)
        .option("--idle-timeout")
        .option("2");
    let mut server = server.args(arguments).spawn();
    server.wait_stdout("listening");
    server
}

fn talk_server(sandbox: &Sandbox, identity: &Identity, port: u16) -> Running {
    server(sandbox, identity, TALK, &["serve", &port.to_string()])
}

/// A wrapped client, at its end, while `peer` is its server.
async fn with_client(client: Wrapped, peer: impl Future<Output = ()>) -> Done {
    let client = tokio::task::spawn_blocking(move || client.run());
    peer.await;
    client.await.expect("the client's end")
}

async fn open(connection: &Connection, preface: &[u8]) -> (SendStream, RecvStream) {
    let (mut send, recv) = connection.open_bi().await.expect("a stream");
    send.write_all(preface).await.expect("the preface");
    (send, recv)
}

async fn echo(connection: &Connection, preface: &[u8]) {
    let (mut send, mut recv) = open(connection, preface).await;
    send.write_all(b"echo\nword").await.expect("a word");
    send.finish().expect("FIN");
    assert_eq!(recv.read_to_end(100).await.expect("the echo"), b"word");
}

#[test]
fn a_client_of_ones_own() {
    let (sandbox, port) = (Sandbox::new(), free_port());
    let identity = Identity::new(&sandbox, "test");
    let _server = talk_server(&sandbox, &identity, port);
    run(async {
        let connection = connect(&identity, port, ALPN).await.expect("a connection");
        echo(&connection, PREFACE).await;
        // Extensions are skipped.
        let mut extended = vec![0x00, 0x0A, 0x01, 0xD4, 0x32];
        extended.extend_from_slice(b"unknown");
        echo(&connection, &extended).await;
        // The address that the program sees.
        let (mut send, mut recv) = open(&connection, PREFACE).await;
        send.write_all(b"who\n").await.expect("a word");
        let seen = recv.read_to_end(100).await.expect("addresses");
        let expected = format!("('127.0.0.1', 54321) ('127.0.0.1', {port})");
        assert_eq!(String::from_utf8_lossy(&seen), expected);
        assert_asks_for_acknowledgements(&connection);
    });
}

/// A peer that says that it lets itself be told has been told, once.
fn assert_asks_for_acknowledgements(connection: &Connection) {
    assert_eq!(connection.stats().frame_rx.ack_frequency, 1);
}

#[test]
fn what_is_no_preface_ends_its_stream_alone() {
    let (sandbox, port) = (Sandbox::new(), free_port());
    let identity = Identity::new(&sandbox, "test");
    let _server = talk_server(&sandbox, &identity, port);
    run(async {
        let connection = connect(&identity, port, ALPN).await.expect("a connection");
        let wrong: [&[u8]; 4] = [
            &[0x00, 0x02, 0x01, 0xD4],
            &[0x00, 0x03, 0x09, 0xD4, 0x31],
            &[0x04, 0x01, 0x01, 0xD4, 0x31],
            &[0x00, 0x00],
        ];
        for bytes in wrong {
            let (send, mut recv) = open(&connection, bytes).await;
            let reset = recv.read_to_end(100).await;
            let expected = quinn::ReadToEndError::Read(ReadError::Reset(BAD_PREFACE.into()));
            assert_eq!(reset, Err(expected), "{bytes:?}");
            assert_eq!(send.stopped().await, Ok(Some(BAD_PREFACE.into())));
        }
        echo(&connection, PREFACE).await;
    });
}

#[test]
fn a_reset_says_behind_which_byte_it_is() {
    let (sandbox, port) = (Sandbox::new(), free_port());
    let identity = Identity::new(&sandbox, "test");
    let mut server = talk_server(&sandbox, &identity, port);
    run(async {
        let connection = connect(&identity, port, ALPN).await.expect("a connection");
        // By the server.
        let (mut send, mut recv) = open(&connection, PREFACE).await;
        send.write_all(b"reset\ngo\n").await.expect("a word");
        let code = send.stopped().await.expect("an open connection");
        assert_eq!(code.map(VarInt::into_inner), Some(RESET_BEHIND + 5));
        let mut seen = [0; 5];
        recv.read_exact(&mut seen)
            .await
            .expect("what was sent before");
        assert_eq!(&seen, b"12345");
        send.reset(RESET.into()).expect("the answer");
        let end = recv.read(&mut seen).await;
        assert_eq!(end, Err(ReadError::Reset(RESET.into())));
        // By the client.
        let (mut send, mut recv) = open(&connection, PREFACE).await;
        send.write_all(b"echo\nword").await.expect("a word");
        let mut seen = [0; 4];
        recv.read_exact(&mut seen).await.expect("the echo");
        let code = VarInt::from_u64(RESET_BEHIND + 9).expect("a code");
        recv.stop(code).expect("STOP_SENDING");
        let answer = send.stopped().await.expect("an open connection");
        assert_eq!(answer, Some(RESET.into()));
    });
    server.wait_stderr("ConnectionResetError");
}

/// Accepts one connection, closes the listener, and goes on.
const ONE: &str = "
import socket, sys
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))
print('listening')
connection = listener.accept()[0]
connection.recv(1)
listener.close()
while data := connection.recv(100):
    connection.sendall(data)
";

#[test]
fn a_listener_that_closes_says_go_away() {
    let (sandbox, port) = (Sandbox::new(), free_port());
    let identity = Identity::new(&sandbox, "test");
    let _server = server(&sandbox, &identity, ONE, &[&port.to_string()]);
    run(async {
        let connection = connect(&identity, port, ALPN).await.expect("a connection");
        let (mut send, mut recv) = open(&connection, PREFACE).await;
        send.write_all(b"x").await.expect("a byte");
        let mut control = connection.accept_uni().await.expect("a control stream");
        assert_eq!(control.read_to_end(0).await.expect("FIN"), b"");
        // Who opens a stream all the same is refused.
        let (late, mut refused) = open(&connection, PREFACE).await;
        let end = refused.read(&mut [0]).await;
        assert_eq!(end, Err(ReadError::Reset(REFUSED.into())));
        assert_eq!(late.stopped().await, Ok(Some(REFUSED.into())));
        // What is open goes on, and the connection ends with it.
        send.write_all(b"more").await.expect("more");
        send.finish().expect("FIN");
        assert_eq!(recv.read_to_end(100).await.expect("the echo"), b"more");
        let end = connection.closed().await;
        assert!(
            matches!(&end, ConnectionError::ApplicationClosed(close) if close.error_code == CLOSED.into()),
            "{end:?}"
        );
    });
}

#[test]
fn another_release_is_refused_by_the_server() {
    let (sandbox, port) = (Sandbox::new(), free_port());
    let identity = Identity::new(&sandbox, "test");
    let _server = talk_server(&sandbox, &identity, port);
    let error = run(connect(&identity, port, "quicwrap/2")).expect_err("another protocol");
    let ConnectionError::ConnectionClosed(close) = error else {
        panic!("{error:?}");
    };
    assert_eq!(u64::from(close.error_code), NO_APPLICATION_PROTOCOL);
}

#[test]
fn another_release_is_named_to_the_client() {
    let (sandbox, port) = (Sandbox::new(), free_port());
    let identity = Identity::new(&sandbox, "test");
    let done = run(async {
        let endpoint = listen(&identity, port, "quicwrap/2");
        let client = python(&sandbox, &identity, TALK).args(["call", &port.to_string(), "echo"]);
        with_client(client, async {
            let incoming = endpoint.accept().await.expect("a client");
            assert!(incoming.await.is_err());
        })
        .await
    });
    let done = done.exits(1);
    assert_eq!(done.text(), "ECONNREFUSED\n");
    done.stderr_has("quicwrap/1");
    done.stderr_has("release");
}

/// A client that vanishes: its peer learns by the idle timeout.
#[test]
fn a_peer_that_is_gone() {
    const WAIT: &str = "
import errno, select, socket, sys
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))
print('listening')
connection = listener.accept()[0]
print('accepted')
select.select([connection], [], [])
print(errno.errorcode[connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)])
";
    let (sandbox, port) = (Sandbox::new(), free_port());
    let identity = Identity::new(&sandbox, "test");
    let mut server = server(&sandbox, &identity, WAIT, &[&port.to_string()]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let kept = runtime.block_on(async {
        let connection = connect(&identity, port, ALPN).await.expect("a connection");
        let streams = open(&connection, PREFACE).await;
        // The runtime has to turn until the preface is there.
        while !server.stdout().contains("accepted") {
            assert!(!server.ended(), "{}", server.stderr());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (connection, streams)
    });
    // The runtime stands still: nothing more is sent.
    server.wait_stdout("ETIMEDOUT");
    drop((runtime, kept));
}

/// The client's side of the table, told by a server of one's own.
#[test]
fn a_server_of_ones_own() {
    let (sandbox, port) = (Sandbox::new(), free_port());
    let identity = Identity::new(&sandbox, "test");
    let done = run(async {
        let endpoint = listen(&identity, port, ALPN);
        let client =
            python(&sandbox, &identity, TALK).args(["call", &port.to_string(), "echo", "echo"]);
        with_client(client, async {
            for _ in 0..2 {
                let connection = endpoint
                    .accept()
                    .await
                    .expect("a client")
                    .await
                    .expect("TLS");
                let (mut send, mut recv) = connection.accept_bi().await.expect("a stream");
                let mut preface = [0; 5];
                recv.read_exact(&mut preface).await.expect("a preface");
                assert_eq!(preface[..3], [0x00, 0x03, 0x01]);
                let mut word = [0; 5];
                recv.read_exact(&mut word).await.expect("a word");
                assert_eq!(&word, b"echo\n");
                // Go away: the next connection must be a new one.
                connection
                    .open_uni()
                    .await
                    .expect("a stream")
                    .finish()
                    .expect("FIN");
                while let Some(chunk) = recv.read_chunk(1 << 16, true).await.expect("data") {
                    send.write_chunk(chunk.bytes).await.expect("echo");
                }
                send.finish().expect("FIN");
                connection.closed().await;
                assert_asks_for_acknowledgements(&connection);
            }
        })
        .await
    });
    assert_eq!(done.success().text(), "echo ok\necho ok\n");
}

/// Connects, reads until the end, writes until it fails, and prints both errnos.
const ENDS: &str = "
import errno, socket, sys
client = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
client.sendall(b'x')
try:
    print('read', client.recv(100), client.recv(100))
except OSError as error:
    print('read', errno.errorcode[error.errno])
try:
    while True:
        client.sendall(b'y')
except OSError as error:
    print('write', errno.errorcode[error.errno])
";

async fn serve_one(endpoint: &Endpoint, end: impl FnOnce(Connection, SendStream, RecvStream)) {
    let connection = endpoint
        .accept()
        .await
        .expect("a client")
        .await
        .expect("TLS");
    let (send, mut recv) = connection.accept_bi().await.expect("a stream");
    let mut beginning = [0; 6];
    recv.read_exact(&mut beginning)
        .await
        .expect("a preface and a byte");
    end(connection.clone(), send, recv);
    connection.closed().await;
}

fn ends(end: impl FnOnce(Connection, SendStream, RecvStream)) -> String {
    let (sandbox, port) = (Sandbox::new(), free_port());
    let identity = Identity::new(&sandbox, "test");
    run(async {
        let endpoint = listen(&identity, port, ALPN);
        let client = python(&sandbox, &identity, ENDS).arg(port.to_string());
        let done = with_client(client, serve_one(&endpoint, end)).await;
        done.success().text()
    })
}

#[test]
fn every_end_is_shown_as_tcp_shows_it() {
    let closed = ends(|_, mut send, mut recv| {
        send.finish().expect("FIN");
        recv.stop(CLOSED.into()).expect("STOP_SENDING");
        std::mem::forget((send, recv));
    });
    assert_eq!(closed, "read b'' b''\nwrite EPIPE\n");
    let reset = ends(|_, mut send, mut recv| {
        send.reset(RESET.into()).expect("RESET_STREAM");
        recv.stop(RESET.into()).expect("STOP_SENDING");
    });
    assert_eq!(reset, "read ECONNRESET\nwrite EPIPE\n");
    let refused = ends(|_, mut send, mut recv| {
        send.reset(REFUSED.into()).expect("RESET_STREAM");
        recv.stop(REFUSED.into()).expect("STOP_SENDING");
    });
    assert_eq!(refused, "read ECONNRESET\nwrite EPIPE\n");
    let lost = ends(|connection, send, recv| {
        connection.close(RESET.into(), b"");
        drop((send, recv));
    });
    assert_eq!(lost, "read ECONNRESET\nwrite EPIPE\n");
}
