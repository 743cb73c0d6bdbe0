//! The server: does on each stream what the client asks for.
#![forbid(unsafe_code)]

use std::{
    net::{SocketAddr, UdpSocket},
    path::Path,
    sync::Arc,
    time::Instant,
};

use quicwrap::bench;
use quinn::{Incoming, RecvStream, SendStream, ServerConfig, crypto::rustls::QuicServerConfig};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::{
    NAME, Order, Outcome,
    order::{echo, empty, fill},
};

pub(crate) async fn run(address: SocketAddr, certificate: &Path) -> Outcome<()> {
    let config = config(certificate)?;
    let endpoint = bench::endpoint(UdpSocket::bind(address)?, Some(config.clone()))?;
    while let Some(incoming) = endpoint.accept().await {
        let config = config.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(incoming, config).await {
                eprintln!("raw_quinn server: {error}");
            }
        });
    }
    Ok(())
}

/// A key of its own, whose certificate is written for the client to trust.
fn config(certificate: &Path) -> Outcome<ServerConfig> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    std::fs::write(certificate, made.cert.der())?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(bench::provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(key))?;
    let crypto = QuicServerConfig::try_from(tls)?;
    Ok(ServerConfig::with_crypto(Arc::new(crypto)))
}

async fn serve(incoming: Incoming, mut config: ServerConfig) -> Outcome<()> {
    config.transport_config(bench::transport(incoming.remote_address()));
    let connection = incoming.accept_with(Arc::new(config))?.await?;
    let begin = Instant::now();
    // Ends with an error when the client has closed the connection, as it does in order.
    while let Ok((send, recv)) = connection.accept_bi().await {
        tokio::spawn(async move {
            if let Err(error) = carry_out(send, recv, begin).await {
                eprintln!("raw_quinn server: {error}");
            }
        });
    }
    Ok(())
}

async fn carry_out(mut send: SendStream, mut recv: RecvStream, begin: Instant) -> Outcome<()> {
    let mut order = [0; Order::LENGTH];
    recv.read_exact(&mut order).await?;
    match Order::decode(order) {
        Order::Take(_) => {
            let arrived = empty(&mut recv, begin).await?;
            send.write_all(&arrived.encode()).await?;
            send.finish()?;
            Ok(())
        }
        Order::Send(limit) => fill(&mut send, limit, begin).await,
        Order::Echo => echo(&mut send, &mut recv).await,
    }
}
