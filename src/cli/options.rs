//! The options of a wrapped program, which a gateway has as well.
#![forbid(unsafe_code)]

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use crate::{
    network::{Settings, port::PortOffset, workers},
    policy::{Choice, Rule, RuleError, Rules, Sockets, TooMany},
    quic::{
        config::{Congestion, LEAST_MTU, MOST_MTU, STREAM_WINDOW, Tuning},
        qlog::{Qlog, QlogError},
        raw::Wire,
    },
    sys::probe,
    trust::TrustOptions,
};

/// Why connections cannot be as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// `--tcp` and `--quic`.
    #[error(transparent)]
    Rules(#[from] RuleError),
    /// A door beside the one that is guarded.
    #[error(
        "--client-ca asks every client for a certificate, and --also-tcp takes plain TCP clients, which show none: leave one of them out"
    )]
    StrangersOverTcp,
    /// quicwrap's protocol has a name of its own.
    #[error("--alpn names protocols for --wire raw alone: add --wire raw, or leave --alpn out")]
    AlpnWithoutRaw,
    /// What was asked for cannot be written.
    #[error(transparent)]
    Qlog(#[from] QlogError),
}

/// RFC 7301 section 3.1: 1 to 255 bytes.
fn application_protocol(name: &str) -> Result<String, String> {
    match name.len() {
        1..=255 => Ok(name.to_owned()),
        length => Err(format!("{length} bytes; a protocol name has 1 to 255")),
    }
}

/// `--fallback`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Fallback {
    /// In the clear
    Tcp,
}

/// `--mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// The supervisor answers each call that it emulates
    Seccomp,
    /// Calls that have trapped are rewritten, and what can be is answered in the program
    Zpoline,
    /// zpoline where it works, and without code at address 0 that could be read
    Auto,
}

/// What may be set for a wrapped program.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Certificate (PEM, a chain if need be) that listening sockets present and, without --ca, the
    /// only one that connecting sockets accept
    #[arg(
        long,
        value_name = "PEM",
        env = "QUICWRAP_SERVER_CERT",
        help_heading = "Trust"
    )]
    server_cert: Option<PathBuf>,

    /// Private key (PEM) of --server-cert; needed where the program listens
    #[arg(
        long,
        value_name = "PEM",
        env = "QUICWRAP_SERVER_KEY",
        requires = "server_cert",
        help_heading = "Trust"
    )]
    server_key: Option<PathBuf>,

    /// CAs (PEM, one or more): connecting sockets accept what one of them has signed for the server's
    /// IP address or --server-name
    #[arg(long, value_name = "PEM", env = "QUICWRAP_CA", help_heading = "Trust")]
    ca: Option<PathBuf>,

    /// Name that the server's certificate must be for, in place of its IP address; needs --ca
    #[arg(
        long,
        value_name = "NAME",
        env = "QUICWRAP_SERVER_NAME",
        help_heading = "Trust"
    )]
    server_name: Option<String>,

    /// Certificate (PEM, a chain if need be) that connecting sockets present to servers that ask for
    /// one
    #[arg(
        long,
        value_name = "PEM",
        env = "QUICWRAP_CLIENT_CERT",
        help_heading = "Trust"
    )]
    client_cert: Option<PathBuf>,

    /// Private key (PEM) of --client-cert
    #[arg(
        long,
        value_name = "PEM",
        env = "QUICWRAP_CLIENT_KEY",
        help_heading = "Trust"
    )]
    client_key: Option<PathBuf>,

    /// CAs (PEM, one or more): listening sockets accept only clients that present a certificate
    /// signed by one of them
    #[arg(
        long,
        value_name = "PEM",
        env = "QUICWRAP_CLIENT_CA",
        help_heading = "Trust"
    )]
    client_ca: Option<PathBuf>,

    /// Encrypt, but accept any certificate: anyone on the way can read and change everything
    #[arg(long, env = "QUICWRAP_INSECURE", value_parser = clap::builder::FalseyValueParser::new(), help_heading = "Trust")]
    pub(super) insecure: bool,

    /// Where the keys of servers met before are kept [default: known_hosts in the state directory]
    #[arg(
        long,
        value_name = "FILE",
        env = "QUICWRAP_KNOWN_HOSTS",
        help_heading = "Trust"
    )]
    known_hosts: Option<PathBuf>,

    /// Directory of the identity made on first use, and of known_hosts [default:
    /// $XDG_STATE_HOME/quicwrap or ~/.local/state/quicwrap]
    #[arg(
        long,
        value_name = "DIR",
        env = "QUICWRAP_STATE_DIR",
        help_heading = "Trust"
    )]
    state_dir: Option<PathBuf>,

    /// Append TLS secrets to FILE, for Wireshark [default: $SSLKEYLOGFILE]
    #[arg(
        long,
        value_name = "FILE",
        env = "QUICWRAP_KEYLOG",
        help_heading = "Trust"
    )]
    keylog: Option<PathBuf>,

    /// Leave connections to, and listeners on, these addresses and ports on TCP: 10.0.0.0/8, :22,
    /// 10.0.0.5:5432, [2001:db8::]/32:8000-8999. The longest address prefix decides, then the fewest
    /// ports
    #[arg(
        long,
        value_name = "RULE",
        env = "QUICWRAP_TCP",
        value_delimiter = ',',
        help_heading = "Which connections"
    )]
    tcp: Vec<Rule>,

    /// Carry these by QUIC, and leave what no rule matches on TCP. Without --quic, what no rule
    /// matches is carried by QUIC
    #[arg(
        long,
        value_name = "RULE",
        env = "QUICWRAP_QUIC",
        value_delimiter = ',',
        help_heading = "Which connections"
    )]
    quic: Vec<Rule>,

    /// Emulate the sockets of this DOMAIN,TYPE,PROTOCOL of socket(2), such as
    /// AF_INET,SOCK_STREAM,123456, and no others; tcp stands for those that are emulated without this
    /// option
    #[arg(
        long,
        value_name = "TRIPLE",
        env = "QUICWRAP_SOCKET",
        value_delimiter = ' ',
        help_heading = "Which connections"
    )]
    socket: Vec<Choice>,

    /// Listening sockets take plain TCP clients as well, on the same port number, so that a server can
    /// be wrapped before its clients are: their connections are in the clear
    #[arg(long, env = "QUICWRAP_ALSO_TCP", value_parser = clap::builder::FalseyValueParser::new(), help_heading = "Which connections")]
    also_tcp: bool,

    /// Where nobody answers over QUIC, connect over TCP, in the clear
    #[arg(
        long,
        value_name = "CARRIER",
        env = "QUICWRAP_FALLBACK",
        help_heading = "Which connections"
    )]
    fallback: Option<Fallback>,

    /// TCP port N is UDP port N + PORTS, at both ends alike: for programs that use TCP and UDP on one port
    #[arg(
        long,
        value_name = "PORTS",
        env = "QUICWRAP_PORT_OFFSET",
        default_value_t = 0,
        value_parser = clap::value_parser!(u16).range(..=32_767),
        help_heading = "Which connections"
    )]
    port_offset: u16,

    /// How connections lie on the wire. raw: a QUIC connection each, bytes on stream 0 and nothing
    /// else, to talk to programs that speak QUIC themselves
    #[arg(
        long,
        value_name = "FORM",
        env = "QUICWRAP_WIRE",
        default_value = "quicwrap",
        help_heading = "Connections"
    )]
    wire: Wire,

    /// Application protocols (ALPN) to offer and accept with --wire raw [default: none]
    #[arg(
        long,
        value_name = "NAME",
        env = "QUICWRAP_ALPN",
        value_delimiter = ',',
        value_parser = application_protocol,
        help_heading = "Connections"
    )]
    alpn: Vec<String>,

    /// Threads that carry connections; one QUIC connection is carried by one [default: half of the
    /// processors, 8 at most]
    #[arg(long, value_name = "N", env = "QUICWRAP_THREADS", value_parser = clap::value_parser!(u8).range(1..=workers::MOST as i64), help_heading = "Connections")]
    threads: Option<u8>,

    /// QUIC connections to one peer: beyond the first, which is made at once, another when those there
    /// are carry 8 TCP connections each [default: as many as threads]
    #[arg(long, value_name = "N", env = "QUICWRAP_CONNECTIONS", value_parser = clap::value_parser!(u8).range(1..), help_heading = "Connections")]
    connections: Option<u8>,

    /// Congestion controller of QUIC connections
    #[arg(
        long,
        value_name = "ALGORITHM",
        env = "QUICWRAP_CONGESTION",
        default_value = "cubic",
        help_heading = "Connections"
    )]
    congestion: Congestion,

    /// Send IP packets of at most so many bytes, after probing that they arrive, whatever the MTU of the
    /// link to the peer [default: that of the link]
    #[arg(long, value_name = "BYTES", env = "QUICWRAP_MTU", value_parser = clap::value_parser!(u32).range(LEAST_MTU as i64..=MOST_MTU as i64), help_heading = "Connections")]
    mtu: Option<u32>,

    /// What a connection may have under way or unread, where its bytes arrive: it moves at most so much in
    /// a round trip, and a peer can make quicwrap keep so much for each. More than 64 takes both ends
    #[arg(long, value_name = "MIB", env = "QUICWRAP_WINDOW", default_value_t = STREAM_WINDOW, value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Connections")]
    window: u32,

    /// Give a connection up (ETIMEDOUT) when its peer has been silent this long
    #[arg(long, value_name = "SECONDS", env = "QUICWRAP_IDLE_TIMEOUT", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Connections")]
    idle_timeout: u32,

    /// After the program has ended, wait at most this long until its peers have all it wrote
    #[arg(
        long,
        value_name = "SECONDS",
        env = "QUICWRAP_LINGER",
        default_value_t = 5,
        help_heading = "Connections"
    )]
    linger: u32,

    /// Who answers system calls: the supervisor, which they trap to, or, where it can, code in the program
    #[arg(
        long,
        value_name = "MODE",
        env = "QUICWRAP_MODE",
        default_value = "seccomp",
        help_heading = "System calls"
    )]
    mode: Mode,

    /// What to report: off, error, warn, info, debug (each trapped call), trace; or directives such
    /// as quicwrap=debug,quinn=trace
    #[arg(
        long,
        value_name = "LEVEL",
        env = "QUICWRAP_LOG",
        default_value = "warn",
        help_heading = "Reports"
    )]
    pub(super) log: String,

    /// Report to FILE instead of standard error
    #[arg(
        long,
        value_name = "FILE",
        env = "QUICWRAP_LOG_FILE",
        help_heading = "Reports"
    )]
    pub(super) log_file: Option<PathBuf>,

    /// Write what happens to the packets of each QUIC connection into a file in DIR (qlog), for qvis. A
    /// server makes one for every client that begins a handshake: for finding faults, not for every day
    #[arg(
        long,
        value_name = "DIR",
        env = "QUICWRAP_QLOG",
        help_heading = "Reports"
    )]
    qlog: Option<PathBuf>,
}

impl Options {
    /// What concerns trust.
    pub(crate) fn trust(&self) -> TrustOptions {
        TrustOptions {
            server_cert: self.server_cert.clone(),
            server_key: self.server_key.clone(),
            ca: self.ca.clone(),
            server_name: self.server_name.clone(),
            client_cert: self.client_cert.clone(),
            client_key: self.client_key.clone(),
            client_ca: self.client_ca.clone(),
            insecure: self.insecure,
            state_dir: self.state_dir.clone(),
            known_hosts: self.known_hosts.clone(),
            keylog: self.keylog.clone(),
            alpn: self.alpn(),
        }
    }

    /// Which connections are carried by QUIC.
    ///
    /// # Errors
    /// A `--tcp` and a `--quic` rule contradict each other.
    pub(crate) fn rules(&self) -> Result<Rules, RuleError> {
        Rules::new(&self.tcp, &self.quic)
    }

    /// What concerns connections.
    ///
    /// # Errors
    /// Options that contradict one another.
    pub(crate) fn network(&self) -> Result<Settings, SettingsError> {
        if !self.alpn.is_empty() && self.wire != Wire::Raw {
            return Err(SettingsError::AlpnWithoutRaw);
        }
        if self.also_tcp && self.client_ca.is_some() {
            return Err(SettingsError::StrangersOverTcp);
        }
        let rules = self.rules()?;
        let threads = self
            .threads
            .map_or_else(workers::default_count, usize::from);
        Ok(Settings {
            idle_timeout: Duration::from_secs(self.idle_timeout.into()),
            listener_rules: rules.clone(),
            rules,
            also_tcp: self.also_tcp,
            fall_back: self.fallback == Some(Fallback::Tcp),
            wire: self.wire,
            port_offset: PortOffset::new(self.port_offset),
            threads,
            choose: probe::may_choose_processors(),
            connections: self.connections.map_or(threads, usize::from),
            tuning: Tuning {
                congestion: self.congestion,
                mtu: self.mtu,
                window: self.window,
            },
            qlog: self.qlog.as_deref().map(Qlog::new).transpose()?,
        })
    }

    /// The application protocols of TLS; none for quicwrap's own.
    fn alpn(&self) -> Option<Vec<Vec<u8>>> {
        let names = self.alpn.iter().map(|name| name.clone().into_bytes());
        (self.wire == Wire::Raw).then(|| names.collect())
    }

    /// Which sockets are emulated.
    ///
    /// # Errors
    /// Too many kinds.
    pub(crate) fn sockets(&self) -> Result<Sockets, TooMany> {
        Sockets::new(&self.socket)
    }

    /// How system calls reach quicwrap.
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// How long the end of the program waits for delivery.
    pub(crate) fn linger(&self) -> Duration {
        Duration::from_secs(self.linger.into())
    }
}
