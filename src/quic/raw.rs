//! `--wire raw`: one QUIC connection for each TCP connection, its bytes on the client's first
//! bidirectional stream and nothing else. What any QUIC program can speak, and poem-quicly does.
#![forbid(unsafe_code)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::ValueEnum;
use quinn::{RecvStream, SendStream};

use super::{bridge, code, link::Link};
use crate::{
    emul::transport::Events,
    network::{flow::Flow, listeners::Listeners, shared::Shared},
};

/// How connections lie on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Wire {
    /// docs/protocol.md: streams of one QUIC connection
    #[default]
    Quicwrap,
    /// A QUIC connection each, bytes on stream 0
    Raw,
}

/// How long a connection may wait for its first byte before the reason is named.
const SILENCE: Duration = Duration::from_secs(5);

/// Carries a connection that this side has made, to its end.
pub(crate) async fn run_client(
    flow: Arc<Flow>,
    link: Arc<Link>,
    (send, recv): (SendStream, RecvStream),
    events: &dyn Events,
) {
    let hint = hint_at_silence(&flow, &link);
    let bridge = bridge::run(Arc::clone(&flow), send, recv, events);
    tokio::pin!(bridge);
    tokio::select! {
        () = &mut bridge => {}
        () = hint => bridge.await,
    }
    link.close();
}

/// Says, once nothing was sent for a while, that the peer does not know of the connection yet.
async fn hint_at_silence(flow: &Flow, link: &Link) {
    tokio::time::sleep(SILENCE).await;
    if flow.sent.load(std::sync::atomic::Ordering::Relaxed) == 0 && !flow.is_hung_up() {
        tracing::warn!(
            peer = %link.connection.remote_address(),
            "the program waits for its peer to speak first, and with --wire raw the peer learns of a connection with its first byte: use quicwrap's own protocol at both ends for such programs"
        );
    }
    std::future::pending().await
}

/// Takes a connection of a client: accept(2) returns at once, the bytes come with the stream.
pub(crate) async fn serve(
    link: Arc<Link>,
    addresses: (SocketAddr, SocketAddr),
    listeners: &Listeners,
    shared: &Shared,
) {
    let Some(arrival) = listeners.arrival() else {
        return refuse(&link);
    };
    let Some(mut share) = link.share() else {
        return;
    };
    let accepted = tokio::select! {
        biased;
        accepted = listeners.enter(arrival, addresses, share.path(None), &*shared.events) => accepted,
        _ = link.connection.closed() => return,
    };
    match accepted {
        Ok((id, end)) => {
            share.take();
            let events = &*shared.events;
            let bridge = |flow| run_server(flow, Arc::clone(&link), events);
            shared.run(id, end, share.into(), bridge).await;
        }
        Err(_) => refuse(&link),
    }
}

fn refuse(link: &Link) {
    link.connection.close(code::REFUSED, b"nobody listens");
}

async fn run_server(flow: Arc<Flow>, link: Arc<Link>, events: &dyn Events) {
    let mut patience = std::pin::pin!(tokio::time::sleep(SILENCE));
    let mut hinted = false;
    loop {
        tokio::select! {
            biased;
            opened = link.connection.accept_bi() => match opened {
                Ok((send, recv)) => {
                    bridge::run(Arc::clone(&flow), send, recv, events).await;
                    return link.close();
                }
                Err(error) => {
                    flow.set_delivered();
                    return flow.show_reset(code::lost(&error), events);
                }
            },
            // What it wrote has nowhere to go.
            () = flow.hung_up() => {
                flow.set_delivered();
                link.connection.close(code::RESET, b"closed before the first byte");
                return events.closed(flow.id);
            }
            () = &mut patience, if !hinted => {
                hinted = true;
                if flow.has_unread() == Ok(true) {
                    tracing::warn!(
                        peer = %link.connection.remote_address(),
                        "the program speaks first, and with --wire raw nothing can be sent before the client's first byte: use quicwrap's own protocol at both ends for such programs"
                    );
                }
            }
        }
    }
}
