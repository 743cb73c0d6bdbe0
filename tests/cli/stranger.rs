//! A QUIC client that is not quicwrap, and does what it should not.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, Connection, Endpoint, TransportConfig};
use rustls::DigitallySignedStruct;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A client with a thread of its own that drives its connections.
pub(crate) struct Stranger {
    pub(crate) runtime: Handle,
    endpoint: Endpoint,
    /// The thread ends when this is dropped.
    _alive: oneshot::Sender<()>,
}

impl Stranger {
    pub(crate) fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let handle = runtime.handle().clone();
        let inside = runtime.enter();
        let mut endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).expect("an endpoint");
        drop(inside);
        endpoint.set_default_client_config(config());
        let (alive, gone) = oneshot::channel::<()>();
        std::thread::spawn(move || runtime.block_on(gone));
        Stranger {
            runtime: handle,
            endpoint,
            _alive: alive,
        }
    }

    /// A QUIC connection with a wrapped server.
    pub(crate) fn connect(&self, port: u16) -> Connection {
        let server = SocketAddr::from(([127, 0, 0, 1], port));
        self.runtime.block_on(async {
            let connecting = self.endpoint.connect(server, "127.0.0.1");
            connecting.expect("an attempt").await.expect("a connection")
        })
    }

    /// The first datagrams of `count` connections: Initial packets with a client's first words.
    pub(crate) fn first_datagrams(&self, count: usize) -> Vec<Vec<u8>> {
        let sink = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let patience = Duration::from_secs(60);
        sink.set_read_timeout(Some(patience)).expect("a timeout");
        let address = sink.local_addr().expect("an address");
        let mut seen = HashMap::new();
        let mut buffer = [0; 2048];
        for _ in 0..count {
            let _inside = self.runtime.enter();
            let attempt = self.endpoint.connect(address, "127.0.0.1");
            let attempt = attempt.expect("an attempt");
            let before = seen.len();
            while seen.len() == before {
                let (length, _) = sink.recv_from(&mut buffer).expect("an Initial packet");
                let datagram = &buffer[..length];
                // RFC 9000, 17.2: the length of the destination connection id is at offset 5.
                let id = datagram[6..6 + usize::from(datagram[5])].to_vec();
                seen.entry(id).or_insert_with(|| datagram.to_vec());
            }
            drop(attempt);
        }
        seen.into_values().collect()
    }
}

fn config() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3");
    let mut crypto = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    crypto.alpn_protocols = vec![b"quicwrap/1".to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(crypto);
    let mut config = ClientConfig::new(Arc::new(crypto.expect("a QUIC configuration")));
    let mut transport = TransportConfig::default();
    // It takes and keeps as much as the server allows.
    transport.send_window(1 << 40);
    config.transport_config(Arc::new(transport));
    config
}

/// Accepts every certificate.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_tls13_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
