//! How connections end, whatever carries them.
#![forbid(unsafe_code)]

use std::time::Duration;

use nix::errno::Errno;
use tokio::time::Instant;

use super::flow::Flow;
use crate::emul::transport::Events;

/// net.ipv4.tcp_fin_timeout's default.
const FIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How one direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With FIN.
    Finished,
    /// The program has closed its end.
    HungUp,
    /// The program has closed its end so that the peer is to see a reset.
    Aborted,
    /// The program must see a reset, and this error.
    Reset(Errno),
}

impl Ended {
    /// Whether it ended so that the program must see a reset.
    pub(crate) fn is_reset(self) -> bool {
        matches!(self, Self::Reset(_))
    }

    /// Whether one side has reset the connection.
    pub(crate) fn is_abrupt(self) -> bool {
        matches!(self, Self::Reset(_) | Self::Aborted)
    }
}

/// Tells how a connection has ended whose two directions have.
pub(crate) fn tell(flow: &Flow, up: Ended, down: Ended, events: &dyn Events) {
    match (up, down) {
        // The program has gone, whatever the peer does.
        (Ended::HungUp | Ended::Aborted, _) | (_, Ended::HungUp | Ended::Aborted) => {
            events.closed(flow.id);
        }
        (Ended::Reset(errno), _) | (_, Ended::Reset(errno)) => flow.show_reset(errno, events),
        (Ended::Finished, Ended::Finished) => {
            flow.unseal();
            flow.tell_path(events);
            events.finished(flow.id, flow.end());
        }
    }
}

/// How long the peer's bytes are waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    /// As long as the program has not hung up.
    WhileOpen,
    /// The program has shut down both directions and may have closed: TCP waits for FIN no longer
    /// than tcp_fin_timeout (tcp(7)).
    Until(Instant),
}

impl Patience {
    /// Waits for FIN for net.ipv4.tcp_fin_timeout's default. Nothing is left to tell the peer meanwhile.
    pub(crate) fn until_fin_timeout(flow: &Flow) -> Self {
        flow.set_shut_down();
        Self::Until(Instant::now() + FIN_TIMEOUT)
    }

    /// Resolves when it is over.
    pub(crate) async fn ends(self, flow: &Flow) {
        match self {
            Self::WhileOpen => flow.hung_up().await,
            Self::Until(deadline) => tokio::time::sleep_until(deadline).await,
        }
    }
}
