//! The command line: definitions, from which `--help` and the manual page are made, and the way from
//! them to a command.
#![forbid(unsafe_code)]

use std::{
    ffi::{CString, OsString},
    io::{self, Write},
    os::unix::ffi::OsStringExt,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, error::ErrorKind};

use crate::{
    config::{self, ConfigError, Given, Keys},
    demo::{
        self, DemoOptions,
        programs::{self, ClientOptions, ServerOptions},
    },
    doctor,
    gateway::{self, GatewayOptions},
    keygen::{self, KeygenOptions},
    launch, logging,
    policy::{self, Carrier, Choice, Rule, RuleError, Rules, Sockets, TooMany},
    quic::{Settings, port::PortOffset, raw::Wire, trust::TrustOptions},
    stats::{self, StatsOptions},
};

/// Exit status of quicwrap's own failures, as env(1), timeout(1) and nohup(1) have it.
pub(crate) const FAILURE: u8 = 125;

/// Run a program so that its TCP connections are carried over QUIC.
///
/// The program runs unmodified: its TCP sockets become streams of encrypted QUIC connections, TCP
/// port N being UDP port N. Both ends must run under quicwrap. No root, no sysctl, no library to
/// preload; static and Go programs, threads, fork and exec are covered.
#[derive(Debug, Parser)]
#[command(
    name = "quicwrap",
    version,
    max_term_width = 100,
    override_usage = "quicwrap [OPTIONS] -- COMMAND [ARGS]...\n       quicwrap demo\n       quicwrap keygen ca|host\n       quicwrap stats [PID]\n       quicwrap doctor",
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    /// Take what is given neither here nor in the environment from FILE (TOML, with the long options
    /// as keys) [default: $XDG_CONFIG_HOME/quicwrap/config.toml or ~/.config/quicwrap/config.toml,
    /// else /etc/quicwrap/config.toml]
    #[arg(long, value_name = "FILE", env = "QUICWRAP_CONFIG")]
    config: Option<PathBuf>,

    #[command(flatten)]
    options: Options,

    /// Say on standard output whether QUIC or TCP carries a connection to HOST:PORT, or a listener
    /// there, and which rule decides; run nothing
    #[arg(
        long,
        value_name = "HOST:PORT",
        conflicts_with = "program",
        help_heading = "Which connections"
    )]
    explain: Option<String>,

    /// The program to run, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    program: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Move data between a built-in TCP server and client, wrapped, and show the proof
    Demo(DemoOptions),
    /// Make a CA and certificates for a fleet of hosts that trust each other alone
    Keygen(KeygenOptions),
    /// Say what this system allows, and what to change
    Doctor,
    /// Pass connections on between QUIC and TCP, for programs that cannot be wrapped
    Gateway(Box<GatewayCommand>),
    /// Show the programs and gateways that you run, and how their connections are
    Stats(StatsOptions),
    /// The demonstration's server
    #[command(name = "__demo-server", hide = true)]
    DemoServer(ServerOptions),
    /// The demonstration's client
    #[command(name = "__demo-client", hide = true)]
    DemoClient(ClientOptions),
}

/// `quicwrap gateway`.
#[derive(Debug, Args)]
struct GatewayCommand {
    #[command(flatten)]
    gateway: GatewayOptions,

    /// As for a program
    #[arg(long, value_name = "FILE", env = "QUICWRAP_CONFIG")]
    config: Option<PathBuf>,

    #[command(flatten)]
    options: Options,
}

/// `--fallback`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Fallback {
    /// In the clear
    Tcp,
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
    insecure: bool,

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
        help_heading = "Connections"
    )]
    alpn: Vec<String>,

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

    /// What to report: off, error, warn, info, debug (each trapped call), trace; or directives such
    /// as quicwrap=debug,quinn=trace
    #[arg(
        long,
        value_name = "LEVEL",
        env = "QUICWRAP_LOG",
        default_value = "warn",
        help_heading = "Reports"
    )]
    log: String,

    /// Report to FILE instead of standard error
    #[arg(
        long,
        value_name = "FILE",
        env = "QUICWRAP_LOG_FILE",
        help_heading = "Reports"
    )]
    log_file: Option<PathBuf>,
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
    /// A `--tcp` and a `--quic` rule contradict each other.
    pub(crate) fn network(&self) -> Result<Settings, RuleError> {
        let rules = self.rules()?;
        Ok(Settings {
            idle_timeout: Duration::from_secs(self.idle_timeout.into()),
            listener_rules: rules.clone(),
            rules,
            also_tcp: self.also_tcp,
            fall_back: self.fallback == Some(Fallback::Tcp),
            wire: self.wire,
            port_offset: PortOffset::new(self.port_offset),
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

    /// How long the end of the program waits for delivery.
    pub(crate) fn linger(&self) -> Duration {
        Duration::from_secs(self.linger.into())
    }
}

/// The definitions, for the manual page.
pub fn command() -> clap::Command {
    Cli::command()
}

/// What may stand in the configuration file: the options of a wrapped program.
pub(crate) fn config_keys() -> Keys {
    Keys::new(
        Options::augment_args(clap::Command::new("quicwrap")),
        &command(),
    )
}

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    let inherited = launch::inherited_descriptors();
    let arguments: Vec<_> = std::env::args_os().collect();
    let given = match config::parse(&command(), &config_keys(), &arguments) {
        Ok(given) => given,
        Err(ConfigError::Usage { error, note }) => return usage(&error, note),
        Err(error) => return fail(&error.to_string()),
    };
    let cli = match Cli::from_arg_matches(&given.matches) {
        Ok(cli) => cli,
        Err(error) => return usage(&error.format(&mut command()), None),
    };
    let options = match &cli.command {
        Some(Command::Gateway(command)) => &command.options,
        _ => &cli.options,
    };
    if let Err(error) = logging::start(&options.log, options.log_file.as_deref()) {
        return fail(&error.to_string());
    }
    match cli.command {
        Some(Command::Demo(options)) => ExitCode::from(demo::run(&options)),
        Some(Command::DemoServer(options)) => program("server", programs::serve(&options)),
        Some(Command::DemoClient(options)) => program("client", programs::send(&options)),
        Some(Command::Gateway(command)) => gateway(&command),
        Some(Command::Keygen(options)) => match keygen::run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string()),
        },
        Some(Command::Stats(options)) => match stats::run(&options) {
            Ok(status) => ExitCode::from(status),
            Err(error) => fail(&error.to_string()),
        },
        Some(Command::Doctor) => ExitCode::from(doctor::run()),
        None if cli.explain.is_some() => explain(&cli, &given),
        None if cli.program.is_empty() => {
            fail("no program to run: quicwrap [OPTIONS] -- COMMAND [ARGS]... (see quicwrap --help)")
        }
        None => run(&cli.options, cli.program, inherited),
    }
}

fn run(options: &Options, program: Vec<OsString>, inherited: Vec<i32>) -> ExitCode {
    let arguments: Result<Vec<_>, _> = program
        .into_iter()
        .map(|argument| CString::new(argument.into_vec()))
        .collect();
    match arguments {
        Ok(arguments) => match launch::run(options, &arguments, inherited) {
            Ok(status) => ExitCode::from(status),
            Err(error) => fail(&error.to_string()),
        },
        Err(error) => fail(&format!("an argument holds a zero byte: {error}")),
    }
}

/// Runs a gateway to its end.
fn gateway(command: &GatewayCommand) -> ExitCode {
    let options = &command.options;
    let settings = match options.network() {
        Ok(settings) => settings,
        Err(error) => return fail(&error.to_string()),
    };
    match gateway::run(
        &command.gateway,
        &options.trust(),
        settings,
        options.linger(),
    ) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// `--explain`: the answer goes to standard output.
fn explain(cli: &Cli, given: &Given) -> ExitCode {
    let target = cli.explain.as_deref().unwrap_or_default();
    let origin = |carrier: Carrier| given.origin(carrier.option(), &command());
    let rules = match cli.options.rules() {
        Ok(rules) => rules,
        Err(error) => return fail(&error.to_string()),
    };
    match policy::explain(&rules, target, origin) {
        Err(error) => fail(&error.to_string()),
        Ok(text) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("standard output: {error}")),
        },
    }
}

/// `--help` and `--version` are answers; all else is a failure of ours, not the program's.
fn usage(error: &clap::Error, note: Option<String>) -> ExitCode {
    // A closed standard output or error leaves nobody to tell.
    let _ = error.print();
    if let Some(note) = note {
        let _ = writeln!(io::stderr(), "quicwrap: {note}");
    }
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(FAILURE),
    }
}

/// The end of one of the demonstration's programs.
fn program(name: &str, result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn fail(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "quicwrap: {message}");
    ExitCode::from(FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn everything_behind_the_dashes_is_the_programs() {
        let cli = Cli::try_parse_from(["quicwrap", "--insecure", "--", "demo", "--log", "x"]);
        let cli = cli.unwrap();
        assert!(cli.command.is_none() && cli.options.insecure);
        assert_eq!(cli.program, ["demo", "--log", "x"]);
    }

    #[test]
    fn a_key_needs_a_certificate() {
        let parsed = Cli::try_parse_from(["quicwrap", "--server-key", "k.pem", "--", "true"]);
        assert_eq!(
            parsed.unwrap_err().kind(),
            ErrorKind::MissingRequiredArgument
        );
    }
}
