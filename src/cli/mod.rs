//! The command line: definitions, from which `--help` and the manual page are made, and the way from
//! them to a command.
#![forbid(unsafe_code)]

mod options;

use std::{
    ffi::{CString, OsString},
    io::{self, Write},
    os::unix::ffi::OsStringExt,
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};

pub(crate) use self::options::{Mode, Options, SettingsError};
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
    policy::{self, Carrier},
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
