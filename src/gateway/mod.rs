//! `quicwrap gateway`: the other end for programs that cannot be wrapped. Takes connections over QUIC and
//! passes them on over TCP, or the other way round.
//!
//! There is no program here: the two bridges of a connection face each other over a socketpair.
#![forbid(unsafe_code)]

mod proxy;
mod relay;

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use nix::{
    errno::Errno,
    sys::signal::{SigSet, Signal},
    unistd::getpid,
};

use self::{proxy::ProxyVersion, relay::Relay};
use crate::{
    emul::transport::{BindRequest, Transport},
    launch,
    network::{Network, Settings},
    policy::{Carrier, Rules},
    stats::{
        self,
        report::{Identity, Kind},
    },
    trust::{Trust, TrustError, TrustOptions},
};

/// What the gateway is to do.
#[derive(Debug, Clone, Args)]
pub(crate) struct GatewayOptions {
    /// Where to take connections: 10.0.0.1:5432, [::1]:5432, or :5432 for all addresses
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Listen,

    /// Where to pass them on
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    to: String,

    /// Take connections over TCP and pass them on over QUIC; without this, take them over QUIC and
    /// pass them on over TCP
    #[arg(long)]
    from_tcp: bool,

    /// Begin each connection to the server with a PROXY protocol header of this version, so that it
    /// learns the client's address; it must expect one
    #[arg(long, value_name = "VERSION")]
    proxy_protocol: Option<ProxyVersion>,
}

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GatewayError {
    /// Certificates, keys, the state directory.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The address cannot be had.
    #[error("cannot listen on {address}: {}; choose another address or port with --listen", .source.desc())]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// Why not.
        source: Errno,
    },
    /// Threads, signals.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
    /// The same.
    #[error("cannot start: {0}")]
    System(#[from] Errno),
}

/// `--listen`: an address, or all addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listen {
    At(SocketAddr),
    Everywhere(u16),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(port) = text.strip_prefix(':') {
            return match port.parse() {
                Ok(port @ 1..) => Ok(Self::Everywhere(port)),
                _ => Err(format!(
                    "{port:?} is no port: a number from 1 to 65535 is needed, as in :5432"
                )),
            };
        }
        let resolved = text.to_socket_addrs().map_err(|error| {
            format!("{error}; an address and a port are needed, as in 127.0.0.1:5432 or :5432")
        })?;
        let first = resolved.into_iter().next();
        match first {
            Some(address) if address.port() != 0 => Ok(Self::At(address)),
            Some(_) => Err("0 is no port: a number from 1 to 65535 is needed".to_owned()),
            None => Err("no address".to_owned()),
        }
    }
}

/// Checks the form alone: the name is looked up for each connection.
fn host_and_port(text: &str) -> Result<String, String> {
    let wrong = || "a host and a port are needed, as in db.example:5432 or [::1]:5432".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || host.contains(':') && !bracketed {
        return Err(wrong());
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(text.to_owned()),
        _ => Err(format!(
            "{port:?} is no port: a number from 1 to 65535 is needed"
        )),
    }
}

/// Passes connections on until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from listening.
pub(crate) fn run(
    options: &GatewayOptions,
    trust: &TrustOptions,
    settings: Settings,
    linger: Duration,
) -> Result<(), GatewayError> {
    let state_dir = trust.state_dir.clone();
    let trust = Trust::load(trust)?;
    let mut end = SigSet::empty();
    end.add(Signal::SIGTERM);
    end.add(Signal::SIGINT);
    // Blocked before there are threads, so that they arrive below.
    end.thread_block()?;
    launch::raise_open_files_limit();
    let settings = carriers(settings, options.from_tcp);
    let relay = Arc::new(Relay::new(options.to.clone(), options.proxy_protocol));
    let network = Network::start(trust, settings, Arc::new(Arc::clone(&relay)))?;
    relay.set_network(Arc::clone(&network));
    let address = listen(options.listen, &network, &relay)?;
    let serving = stats::serve(&network, identity(), state_dir.as_deref());
    tracing::info!(%address, to = options.to, "gateway ready");
    let signal = end.wait()?;
    tracing::info!(%signal, "gateway ends, once its connections have or --linger is over");
    // The next one ends it at once.
    end.thread_unblock()?;
    network.unlisten(relay.listener());
    if !network.deliver(linger) {
        tracing::warn!("connections were open, which are ended now");
    }
    drop(serving);
    network.finish();
    Ok(())
}

/// What `quicwrap stats` names this by.
fn identity() -> Identity {
    let pid = getpid().as_raw();
    let words = std::env::args_os();
    Identity {
        kind: Kind::Gateway,
        pid,
        front_pid: pid,
        supervisor_pid: pid,
        command: words
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
    }
}

/// One side over QUIC, the other over TCP; `--also-tcp` and `--fallback` hold as for a program.
fn carriers(settings: Settings, from_tcp: bool) -> Settings {
    let (listen, connect) = if from_tcp {
        (Carrier::Tcp, Carrier::Quic)
    } else {
        (Carrier::Quic, Carrier::Tcp)
    };
    Settings {
        rules: Rules::all(connect),
        listener_rules: Rules::all(listen),
        ..settings
    }
}

fn listen(listen: Listen, network: &Network, relay: &Relay) -> Result<SocketAddr, GatewayError> {
    let at = |address| {
        let request = BindRequest {
            address,
            v6_only: false,
            reuse_address: true,
            reuse_port: false,
        };
        let bound = network.bind(relay.listener(), request)?;
        network.listen(relay.listener()).map(|()| bound)
    };
    let failed = |address| move |source| GatewayError::Listen { address, source };
    match listen {
        Listen::At(address) => at(address).map_err(failed(address)),
        Listen::Everywhere(port) => {
            let (v6, v4) = ((Ipv6Addr::UNSPECIFIED, port), (Ipv4Addr::UNSPECIFIED, port));
            match at(v6.into()) {
                // A host without IPv6.
                Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => {
                    at(v4.into()).map_err(failed(v4.into()))
                }
                result => result.map_err(failed(v6.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on() {
        let at = |text: &str| Listen::At(text.parse().unwrap());
        assert_eq!("127.0.0.1:80".parse(), Ok(at("127.0.0.1:80")));
        assert_eq!("[::1]:80".parse(), Ok(at("[::1]:80")));
        assert_eq!(":80".parse(), Ok(Listen::Everywhere(80)));
        for wrong in [
            "",
            ":",
            ":x",
            ":0",
            "127.0.0.1:0",
            "80",
            "127.0.0.1",
            "127.0.0.1:99999",
        ] {
            assert!(wrong.parse::<Listen>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn places_to_pass_on_to() {
        for right in ["db.example:5432", "127.0.0.1:1", "[::1]:65535"] {
            assert_eq!(host_and_port(right).as_deref(), Ok(right));
        }
        for wrong in ["", "db", ":80", "db:", "db:0", "db:99999", "::1:80"] {
            assert!(host_and_port(wrong).is_err(), "{wrong}");
        }
    }
}
