//! The limit of the transport: two processes that move bytes over quinn with quicwrap's own settings, UDP socket and
//! allocator, and nothing else; no socket pair, no trapped calls.
//!
//!     raw_quinn server ADDRESS CERTIFICATE          serves until it is ended; writes its certificate first
//!     raw_quinn client ADDRESS CERTIFICATE [--streams N] [--seconds S | --bytes N] [--reverse | --both]
//!     raw_quinn ping ADDRESS CERTIFICATE COUNT      makes round trips of a few bytes, one after another
//!
//! The client prints a JSON object: what arrived, counted where it arrived, and in how many seconds. ping prints the
//! median of its round trips.
#![forbid(unsafe_code)]

mod client;
mod order;
mod server;

use std::{error::Error, net::SocketAddr, process::ExitCode};

use clap::{Args, Parser};

use order::Order;

/// The name that the certificate is for.
const NAME: &str = "localhost";
/// What is handed to the transport at once.
const PIECE: usize = 128 << 10;

type Outcome<T> = Result<T, Box<dyn Error>>;

#[derive(Parser)]
enum Command {
    /// Sends and receives as clients ask, until it is ended.
    Server {
        address: SocketAddr,
        certificate: std::path::PathBuf,
    },
    /// Moves bytes, and prints how many arrived and in how many seconds.
    Client {
        address: SocketAddr,
        certificate: std::path::PathBuf,
        #[command(flatten)]
        amount: Amount,
    },
    /// Makes round trips of a few bytes, one after another, and prints their median.
    Ping {
        address: SocketAddr,
        certificate: std::path::PathBuf,
        count: usize,
    },
}

#[derive(Args)]
struct Amount {
    /// Streams in each direction.
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// How long is sent.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How much is sent on each stream, in place of `--seconds`.
    #[arg(long)]
    bytes: Option<u64>,
    /// The server sends.
    #[arg(long, conflicts_with = "both")]
    reverse: bool,
    /// Both send.
    #[arg(long)]
    both: bool,
}

fn run() -> Outcome<()> {
    let command = Command::parse();
    // As the network's thread of the program.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match command {
            Command::Server {
                address,
                certificate,
            } => server::run(address, &certificate).await,
            Command::Client {
                address,
                certificate,
                amount,
            } => client::run(address, &certificate, &amount).await,
            Command::Ping {
                address,
                certificate,
                count,
            } => client::ping(address, &certificate, count).await,
        }
    })
}

fn main() -> ExitCode {
    // `cargo bench` calls every target with this argument alone.
    if std::env::args().skip(1).eq(["--bench".to_owned()]) {
        println!("raw_quinn is run by `make bench`");
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("raw_quinn: {error}");
            ExitCode::FAILURE
        }
    }
}
