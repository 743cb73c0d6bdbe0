//! s2n-quic, as client and as server.

use std::{net::SocketAddr, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use s2n_quic::{
    Client, Connection, Server, client::Connect, provider::tls::rustls, stream::BidirectionalStream,
};

use crate::common::{Sandbox, net::free_port, tools::random_bytes};
use crate::identity::Identity;
use crate::{WORDS, all_well, wrapped_client, wrapped_server};

const SIZE: usize = 2 << 20;
/// An application error code of this peer's own.
const RESET: u32 = 77;
const PATIENCE: Duration = Duration::from_secs(20);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn checksum(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    let hex: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{} {hex}", bytes.len())
}

/// Reads to a line's end. What follows is kept in `rest`.
async fn line(stream: &mut BidirectionalStream, rest: &mut Vec<u8>) -> String {
    loop {
        if let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line = rest.drain(..=end).collect::<Vec<_>>();
            return String::from_utf8_lossy(&line).trim().to_owned();
        }
        match stream.receive().await.expect("a line") {
            Some(chunk) => rest.extend_from_slice(&chunk),
            None => return String::new(),
        }
    }
}

async fn to_end(stream: &mut BidirectionalStream, mut seen: Vec<u8>) -> Vec<u8> {
    while let Some(chunk) = stream.receive().await.expect("more, or the end") {
        seen.extend_from_slice(&chunk);
    }
    seen
}

/// Answers what talk.py asks.
async fn answer(mut connection: Connection) {
    let Ok(Some(mut stream)) = connection.accept_bidirectional_stream().await else {
        return;
    };
    let mut rest = Vec::new();
    match line(&mut stream, &mut rest).await.as_str() {
        "echo" => {
            stream.send(rest.into()).await.expect("echo");
            while let Some(chunk) = stream.receive().await.expect("more, or the end") {
                stream.send(chunk).await.expect("echo");
            }
            stream.finish().expect("FIN");
        }
        "sum" => {
            let sum = checksum(&to_end(&mut stream, rest).await);
            stream.send(sum.into()).await.expect("the sum");
            stream.finish().expect("FIN");
        }
        "reset" => {
            stream.send(b"12345"[..].into()).await.expect("five bytes");
            line(&mut stream, &mut rest).await;
            stream.reset(RESET.into()).expect("RESET_STREAM");
        }
        other => panic!("{other:?}"),
    }
    // Until the client has closed.
    let _ = connection.accept_bidirectional_stream().await;
}

#[test]
fn as_a_server() {
    let (sandbox, port) = (Sandbox::new(), free_port());
    let identity = Identity::new(&sandbox, "test");
    let tls = rustls::Server::builder()
        .with_certificate(identity.cert.as_path(), identity.key.as_path())
        .expect("a pair")
        .with_application_protocols(["test"].iter())
        .expect("ALPN")
        .build()
        .expect("TLS");
    let runtime = runtime();
    let mut server = runtime.block_on(async {
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        let server = Server::builder().with_tls(tls).expect("TLS");
        let server = server.with_io(address).expect("a port");
        server.start().expect("a server")
    });
    let serving = std::thread::spawn(move || {
        runtime.block_on(async {
            for _ in WORDS {
                let connection = server.accept().await.expect("a client");
                tokio::time::timeout(PATIENCE, answer(connection))
                    .await
                    .expect("an end");
            }
        });
    });
    all_well(wrapped_client(&sandbox, &identity, port));
    serving.join().expect("the server found all well");
}

async fn ask(connection: &mut Connection, word: &str) {
    let mut stream = connection
        .open_bidirectional_stream()
        .await
        .expect("a stream");
    stream
        .send(format!("{word}\n").into())
        .await
        .expect("a word");
    let data = random_bytes(SIZE, 5);
    if word == "reset" {
        let mut seen = Vec::new();
        while seen.len() < 5 {
            seen.extend_from_slice(&stream.receive().await.expect("data").expect("five bytes"));
        }
        assert_eq!(seen, b"12345");
        stream.send(b"go\n"[..].into()).await.expect("go");
        let end = stream.receive().await;
        assert!(
            matches!(end, Err(s2n_quic::stream::Error::StreamReset { .. })),
            "{end:?}"
        );
        return;
    }
    let (mut receive, mut send) = stream.split();
    let sent = data.clone();
    let sending = tokio::spawn(async move {
        send.send(sent.into()).await.expect("data");
        send.finish().expect("FIN");
    });
    let mut seen = Vec::new();
    while let Some(chunk) = receive.receive().await.expect("more, or the end") {
        seen.extend_from_slice(&chunk);
    }
    sending.await.expect("sent");
    if word == "echo" {
        assert!(seen == data, "{} bytes", seen.len());
    } else {
        assert_eq!(String::from_utf8_lossy(&seen), checksum(&data));
    }
}

#[test]
fn as_a_client() {
    let (sandbox, port) = (Sandbox::new(), free_port());
    let identity = Identity::new(&sandbox, "test");
    let _server = wrapped_server(&sandbox, &identity, port);
    let tls = rustls::Client::builder()
        .with_certificate(identity.cert.as_path())
        .expect("a root")
        .with_application_protocols(["test"].iter())
        .expect("ALPN")
        .build()
        .expect("TLS");
    runtime().block_on(async {
        let client = Client::builder().with_tls(tls).expect("TLS");
        let client = client.with_io("127.0.0.1:0").expect("a port");
        let client = client.start().expect("a client");
        for word in WORDS {
            let server =
                Connect::new(SocketAddr::from(([127, 0, 0, 1], port))).with_server_name("test");
            let mut connection = client.connect(server).await.expect("a connection");
            tokio::time::timeout(PATIENCE, ask(&mut connection, word))
                .await
                .expect("an end");
        }
    });
}
