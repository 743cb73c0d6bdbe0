//! Who may be at the other port: nobody, somebody silent, somebody speaking something else.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::common::{Done, Sandbox, Wrapped, net::free_port};
use crate::identity::Identity;
use crate::{echo_server, script};

/// One retransmission of the first packet: a deadline of three seconds, as with TCP.
const IMPATIENT: &str = "1";

fn connect(sandbox: &Sandbox, port: u16) -> Done {
    script(sandbox, "connect.py")
        .args([&port.to_string(), IMPATIENT])
        .run()
}

#[test]
fn nobody() {
    let sandbox = Sandbox::new();
    let done = connect(&sandbox, free_port()).exits(1);
    assert_eq!(
        (done.text().as_str(), done.stderr.as_str()),
        ("ECONNREFUSED\n", "")
    );
}

/// Another program's UDP socket holds the port.
#[test]
fn the_port_is_taken() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let port = free_port();
    let _holder = UdpSocket::bind(("127.0.0.1", port)).expect("a free port");
    let done = script(&sandbox, "echo.py")
        .arg(port.to_string())
        .run()
        .exits(1);
    assert_eq!(done.text(), "bind EADDRINUSE\n");
}

/// So it is between two wrapped servers; the first keeps the port.
#[test]
fn two_servers_on_one_port() {
    let sandbox = Sandbox::new();
    let port = free_port();
    let _server = echo_server(script(&sandbox, "echo.py"), port);
    let second = script(&sandbox, "echo.py")
        .arg(port.to_string())
        .run()
        .exits(1);
    assert_eq!(second.text(), "bind EADDRINUSE\n");
    assert_eq!(connect(&sandbox, port).success().text(), "echoed\n");
}

#[test]
fn a_silent_peer() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let port = free_port();
    let _silent = UdpSocket::bind(("127.0.0.1", port)).expect("a free port");
    assert_eq!(connect(&sandbox, port).exits(1).text(), "ETIMEDOUT\n");
}

/// Answers every datagram on a new port until the test ends.
fn answering(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> u16 {
    let port = free_port();
    let socket = UdpSocket::bind(("127.0.0.1", port)).expect("a free port");
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&answer(&buffer[..len]), from);
        }
    });
    port
}

/// RFC 9000, 5.2: what is not a valid packet is dropped, so garbage is no better than silence.
#[test]
fn a_peer_that_answers_garbage() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    for garbage in [
        vec![],
        vec![0],
        vec![0xff; 1200],
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
    ] {
        let port = answering(move |_| garbage.clone());
        let outcome = connect(&sandbox, port).exits(1).text();
        assert!(
            ["ETIMEDOUT\n", "ECONNREFUSED\n"].contains(&outcome.as_str()),
            "{outcome}"
        );
    }
}

/// An echo: the client's own packets come back to it.
#[test]
fn a_peer_that_echoes() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let port = answering(<[u8]>::to_vec);
    let outcome = connect(&sandbox, port).exits(1).text();
    assert!(
        ["ETIMEDOUT\n", "ECONNREFUSED\n"].contains(&outcome.as_str()),
        "{outcome}"
    );
}

/// RFC 9000, 17.2.1: a Version Negotiation packet that offers only a version nobody has.
fn other_version(packet: &[u8]) -> Vec<u8> {
    let id_at = |at: usize| {
        packet
            .get(at)
            .map_or(&[][..], |len| &packet[at + 1..at + 1 + *len as usize])
    };
    let destination = id_at(5);
    let source = id_at(6 + destination.len());
    let mut answer = vec![0x80, 0, 0, 0, 0, source.len() as u8];
    answer.extend_from_slice(source);
    answer.push(destination.len() as u8);
    answer.extend_from_slice(destination);
    answer.extend_from_slice(&[0xba, 0xba, 0xba, 0xba]);
    answer
}

#[test]
fn a_peer_of_another_quic_version() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let done = connect(&sandbox, answering(other_version)).exits(1);
    assert_eq!(done.text(), "ECONNREFUSED\n");
    done.stderr_has("version");
}

/// Runs `body` beside a QUIC server that speaks the protocol `alpn` and nothing else.
fn with_quic_server(alpn: &str, body: impl FnOnce(&Sandbox, u16)) {
    let sandbox = Sandbox::new();
    let identity = Identity::new(&sandbox, "other");
    let cert = CertificateDer::from_pem_file(&identity.cert).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(&identity.key).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13]);
    let config = config
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![cert], key);
    let mut config = config.expect("a server configuration");
    config.alpn_protocols = vec![alpn.into()];
    let crypto =
        quinn::crypto::rustls::QuicServerConfig::try_from(config).expect("a QUIC configuration");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let _inside = runtime.enter();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint =
        quinn::Endpoint::server(config, ([127, 0, 0, 1], 0).into()).expect("an endpoint");
    let port = endpoint.local_addr().expect("an address").port();
    let accepting = endpoint.clone();
    let serving = std::thread::spawn(move || {
        runtime.block_on(async {
            while let Some(incoming) = accepting.accept().await {
                let _ = incoming.await;
            }
        });
    });
    body(&sandbox, port);
    endpoint.close(0u32.into(), b"");
    serving.join().expect("the server ends");
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[test]
fn a_quic_peer_of_another_protocol() {
    wrapped_only!();
    with_quic_server("h3", |sandbox, port| {
        let done = connect(sandbox, port).exits(1);
        assert_eq!(done.text(), "ECONNREFUSED\n");
        done.stderr_has("ALPN");
        done.stderr_has(&format!("127.0.0.1:{port}"));
    });
}

/// What strangers send to a wrapped server does not trouble it.
#[test]
fn garbage_for_a_server() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let port = free_port();
    let mut server = echo_server(script(&sandbox, "echo.py"), port);
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    stranger
        .set_read_timeout(Some(Duration::from_millis(1)))
        .expect("a timeout");
    for i in 0..500 {
        let noise = crate::common::tools::random_bytes(1 + (i * 37) % 1500, i as u64 + 1);
        let _ = stranger.send_to(&noise, ("127.0.0.1", port));
        // A reply, such as Version Negotiation, may come or not.
        let _ = stranger.recv(&mut [0; 2000]);
    }
    assert_eq!(connect(&sandbox, port).success().text(), "echoed\n");
    assert!(!server.ended());
}

/// Keep-alives: a connection on which nothing happens outlives the idle timeout many times over.
#[test]
fn an_idle_connection_lives() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let port = free_port().to_string();
    let netcat = || {
        let netcat = sandbox.wrap(crate::common::tools::need("nc.openbsd"));
        netcat.option("--idle-timeout").option("1")
    };
    let mut server = netcat()
        .args(["-v", "-l", "127.0.0.1", &port])
        .piped()
        .spawn();
    server.wait_stderr("Listening on");
    let mut client = netcat().args(["127.0.0.1", &port]).piped().spawn();
    client.send("before\n");
    server.wait_stdout("before");
    // What is tested is that time passes.
    std::thread::sleep(Duration::from_secs(4));
    client.send("after\n");
    server.wait_stdout("after");
    server.send("answer\n");
    client.wait_stdout("answer");
}

fn ends(sandbox: &Sandbox, how: &str, port: u16) -> Wrapped {
    script(sandbox, "endings.py").args([how, &port.to_string()])
}

/// Its end follows the reset closely, and is not to take it back; on several threads the two are told by different ones.
#[test]
fn a_server_that_ends_with_data_unread() {
    for _ in 0..10 {
        let (sandbox, port) = (Sandbox::new(), free_port());
        let server = ends(&sandbox, "abort", port).option("--threads");
        let mut server = server.option("3").spawn();
        server.wait_stdout("listening");
        let seen = ends(&sandbox, "see", port).run().success();
        assert_eq!(seen.text(), "b'' EPIPE\n");
        server.finish().success();
    }
}

/// A client that has said all it had to say is not kept until the peer ends as well.
#[test]
fn a_client_that_shuts_down_both_directions_and_ends() {
    let (sandbox, port) = (Sandbox::new(), free_port());
    let mut server = ends(&sandbox, "hold", port).piped().spawn();
    server.wait_stdout("listening");
    // Whoever waited for something all the same would do so for longer than the test may take.
    let client = ends(&sandbox, "leave", port).option("--linger");
    client.option("3600").run().success();
    let held = server.finish().success();
    assert_eq!(held.text(), "listening\nb'left'\n");
}
