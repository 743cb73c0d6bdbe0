//! What becomes of a server whose listener has been closed.
#![forbid(unsafe_code)]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, TryLockError},
    time::Duration,
};

use nix::errno::Errno;

use super::{bindings::Bindings, takeover};
use crate::quic::server::Server;

/// After which pause bindings that others have locked are looked for again.
const DOOR_PAUSE: Duration = Duration::from_millis(1);

/// Ends a server once the connections that its listeners had accepted are over, unless it was bound again. Others may have
/// its port, at this address of TCP and of UDP, before.
pub(super) async fn wind_down(
    bindings: Arc<Mutex<Bindings>>,
    (address, udp): (SocketAddr, Result<SocketAddr, Errno>),
    server: Arc<Server>,
) {
    let lock = || bindings.lock().unwrap_or_else(PoisonError::into_inner);
    let is_over = || {
        let mut bindings = lock();
        let retired = bindings.retire(address, &server);
        // Somebody may have been accepted, and the listener closed again, since it was found unused.
        let over = retired.is_some() || !bindings.is_ownerless(address, &server);
        if over {
            server.end_winding_down();
        }
        (over, retired)
    };
    loop {
        tokio::select! {
            biased;
            () = server.unused() => {}
            () = offer(udp, address, &server, &bindings) => {}
        }
        let (over, retired) = is_over();
        if let Some(server) = retired {
            server.retire().await;
            lock().forget_retired();
        }
        if over {
            return;
        }
    }
}

/// The UDP port of a server whose listener has been closed.
struct ClosedDoor<'a> {
    address: SocketAddr,
    server: &'a Arc<Server>,
    bindings: &'a Mutex<Bindings>,
}

impl ClosedDoor<'_> {
    /// None while somebody has the bindings: who may wait for somebody who waits for this door.
    fn try_open(&self, open: bool) -> Option<bool> {
        let mut bindings = match self.bindings.try_lock() {
            Ok(bindings) => bindings,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(bindings.admit_others(self.address, self.server, open))
    }
}

impl takeover::Door for ClosedDoor<'_> {
    async fn open(&self, open: bool) -> bool {
        loop {
            if let Some(is_so) = self.try_open(open) {
                return is_so;
            }
            tokio::time::sleep(DOOR_PAUSE).await;
        }
    }
}

/// Offers the port to others for as long as this is polled.
async fn offer(
    udp: Result<SocketAddr, Errno>,
    address: SocketAddr,
    server: &Arc<Server>,
    bindings: &Mutex<Bindings>,
) {
    let offers = bindings
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .offers();
    let (Ok(udp), Some(offers)) = (udp, offers) else {
        return std::future::pending().await;
    };
    let door = ClosedDoor {
        address,
        server,
        bindings,
    };
    offers.offer(udp, door).await;
}
