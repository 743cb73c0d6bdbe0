//! The client: opens the streams, and adds up what arrived at either end; or measures round trips.
#![forbid(unsafe_code)]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use quicwrap::bench;
use quinn::{ClientConfig, Connection, Endpoint, crypto::rustls::QuicClientConfig};
use rustls::{RootCertStore, pki_types::CertificateDer};
use tokio::task::JoinSet;

use crate::{
    Amount, NAME, Order, Outcome,
    order::{Arrived, Limit, empty, fill},
};

/// What a round trip carries: as much as PING of redis.
const PING: &[u8] = b"PING\r\n";
/// Round trips that do not count.
const WARM_UP: usize = 500;

/// Moves bytes, and prints how many arrived and in how many seconds.
pub(crate) async fn run(peer: SocketAddr, certificate: &Path, amount: &Amount) -> Outcome<()> {
    let (endpoint, connection) = connect(peer, certificate).await?;
    let limit = match amount.bytes {
        Some(bytes) => Limit::Bytes(bytes),
        None => Limit::After(Duration::try_from_secs_f64(amount.seconds)?),
    };
    let orders: &[Order] = match (amount.reverse, amount.both) {
        (_, true) => &[Order::Take(limit), Order::Send(limit)],
        (true, _) => &[Order::Send(limit)],
        _ => &[Order::Take(limit)],
    };
    let (mut bytes, mut seconds) = (0, 0.0_f64);
    let mut sets: Vec<_> = orders
        .iter()
        .map(|&order| start(&connection, order, amount.streams))
        .collect();
    for set in &mut sets {
        let arrived = all(set).await?;
        bytes += arrived.bytes;
        seconds = seconds.max((arrived.last - arrived.first).as_secs_f64());
    }
    end(&endpoint, &connection).await;
    println!(
        "{}",
        serde_json::json!({"bytes": bytes, "seconds": seconds})
    );
    Ok(())
}

/// Makes round trips on one stream, one after another, and prints their median in microseconds.
pub(crate) async fn ping(peer: SocketAddr, certificate: &Path, count: usize) -> Outcome<()> {
    let (endpoint, connection) = connect(peer, certificate).await?;
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_all(&Order::Echo.encode()).await?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..WARM_UP + count {
        let begin = Instant::now();
        send.write_all(PING).await?;
        recv.read_exact(&mut [0; PING.len()]).await?;
        times.push(begin.elapsed());
    }
    end(&endpoint, &connection).await;
    let times = &mut times[WARM_UP..];
    times.sort_unstable();
    let median = times.get(count / 2).ok_or("no round trip was asked for")?;
    println!(
        "{}",
        serde_json::json!({"microseconds": median.as_secs_f64() * 1e6})
    );
    Ok(())
}

async fn connect(peer: SocketAddr, certificate: &Path) -> Outcome<(Endpoint, Connection)> {
    let any = match peer {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let endpoint = bench::endpoint(UdpSocket::bind((any, 0))?, None)?;
    let connecting = endpoint.connect_with(config(certificate, peer)?, peer, NAME)?;
    let connection = connecting.await?;
    Ok((endpoint, connection))
}

async fn end(endpoint: &Endpoint, connection: &Connection) {
    connection.close(0_u8.into(), b"");
    endpoint.wait_idle().await;
}

/// Streams of one direction.
type Set = JoinSet<Result<Arrived, String>>;

fn start(connection: &Connection, order: Order, streams: usize) -> Set {
    let begin = Instant::now();
    let mut set = JoinSet::new();
    for _ in 0..streams {
        let connection = connection.clone();
        set.spawn(async move {
            exchange(&connection, order, begin)
                .await
                .map_err(|error| error.to_string())
        });
    }
    set
}

async fn all(set: &mut Set) -> Outcome<Arrived> {
    let mut sum: Option<Arrived> = None;
    while let Some(arrived) = set.join_next().await {
        let arrived = arrived??;
        sum = Some(sum.map_or(arrived, |sum| sum.with(arrived)));
    }
    sum.ok_or_else(|| "no stream was asked for".into())
}

fn config(certificate: &Path, peer: SocketAddr) -> Outcome<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(std::fs::read(certificate)?))?;
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(bench::provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(bench::transport(peer));
    Ok(config)
}

async fn exchange(connection: &Connection, order: Order, begin: Instant) -> Outcome<Arrived> {
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_all(&order.encode()).await?;
    match order {
        Order::Take(limit) => fill(&mut send, limit, begin).await?,
        Order::Send(_) | Order::Echo => return empty(&mut recv, begin).await,
    }
    let mut report = [0; Arrived::LENGTH];
    recv.read_exact(&mut report).await?;
    Ok(Arrived::decode(report))
}
