//! `quicwrap keygen`: a CA for a fleet, and certificates for its hosts.
#![forbid(unsafe_code)]

mod files;
mod make;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};

use self::{
    files::Target,
    make::{Ca, Made},
};
use crate::trust::pem::IdentityError;

/// Lifetimes, in days. A CA's certificate has to be brought to every host, so it lasts; a host's is
/// soon made again, and with it a key that got lost loses its worth.
const CA_DAYS: u32 = 3650;
const HOST_DAYS: u32 = 365;

/// What to make.
#[derive(Debug, Args)]
pub(crate) struct KeygenOptions {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a CA: ca.pem, which every host gets, and ca.key, which stays where it is
    Ca(CaOptions),
    /// Make a certificate that the CA signs, for servers and clients: NAME.pem and NAME.key
    Host(HostOptions),
}

/// Options of `quicwrap keygen ca`.
#[derive(Debug, Args)]
struct CaOptions {
    /// What the CA is called
    #[arg(long, value_name = "NAME", default_value = "quicwrap fleet CA")]
    name: String,

    /// How long it is valid
    #[arg(long, value_name = "DAYS", default_value_t = CA_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,

    /// Where to write
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,

    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

/// Options of `quicwrap keygen host`.
#[derive(Debug, Args)]
struct HostOptions {
    /// DNS names and IP addresses of the host; connecting sockets look for the address they connect
    /// to, or for --server-name. The files are named after the first
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,

    /// Certificate of the CA [default: ca.pem in the directory of --out]
    #[arg(long = "ca", value_name = "PEM")]
    issuer: Option<PathBuf>,

    /// Private key of the CA [default: beside --ca, with the ending .key]
    #[arg(long = "ca-key", value_name = "PEM")]
    issuer_key: Option<PathBuf>,

    /// How long it is valid, at most as long as the CA
    #[arg(long, value_name = "DAYS", default_value_t = HOST_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,

    /// Where to write
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,

    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeygenError {
    /// A file is there already.
    #[error(
        "{} is there already: make another with --out DIR, or replace it with --force (what its key \
         has signed or serves stops being accepted)",
        _0.display()
    )]
    Exists(PathBuf),

    /// The host's files would be the CA's.
    #[error(
        "a certificate named {name} would replace the CA in {}: give the host another first name, or \
         another directory with --out",
        path.display()
    )]
    OverCa {
        /// The host's first name.
        name: String,
        /// The CA's file.
        path: PathBuf,
    },

    /// It cannot be written.
    #[error("cannot write {}: {source}; name another directory with --out", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },

    /// There is no CA to sign with.
    #[error(
        "there is no CA in {}: make one with `quicwrap keygen ca`, or name one with --ca and --ca-key",
        _0.display()
    )]
    NoCa(PathBuf),

    /// The CA's files cannot be used.
    #[error(transparent)]
    Ca(#[from] IdentityError),

    /// The CA may not sign.
    #[error(
        "{} cannot sign for hosts: {cause}; make a CA with `quicwrap keygen ca`, or name one with --ca \
         and --ca-key",
        path.display()
    )]
    BadCa {
        /// The CA's certificate.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },

    /// No name that a certificate could hold.
    #[error("{0:?} is neither a DNS name nor an IP address: give names without ports or paths")]
    BadName(String),

    /// The cryptographic library fails.
    #[error("cannot make a certificate: {0}; please report this")]
    Generate(#[from] rcgen::Error),
}

/// Makes what is asked for, and says on standard output what it was.
///
/// # Errors
/// Files that are there, that cannot be written, or a CA that cannot sign.
pub(crate) fn run(options: &KeygenOptions) -> Result<(), KeygenError> {
    let text = match &options.what {
        What::Ca(options) => make_ca(options)?,
        What::Host(options) => make_host(options)?,
    };
    // A closed standard output leaves nobody to tell; the files are there.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn make_ca(options: &CaOptions) -> Result<String, KeygenError> {
    let target = Target::new(&options.out, "ca", options.force)?;
    let made = make::ca(&options.name, options.days)?;
    target.write(&made)?;
    let (certificate, key) = (target.certificate.display(), target.key.display());
    Ok(format!(
        "{certificate}: CA {:?}, until {}. Every host needs it, for --ca and --client-ca\n\
         {key}: its private key. Whoever has it can make certificates: keep it off the hosts\n",
        options.name, made.until
    ))
}

fn make_host(options: &HostOptions) -> Result<String, KeygenError> {
    let (Some(first), names) = (options.names.first(), &options.names) else {
        return Err(KeygenError::BadName(String::new()));
    };
    let names = make::check_names(names)?;
    let (certificate, key) = ca_files(options)?;
    let target = Target::new(
        &options.out,
        &first.replace('*', "_wildcard"),
        options.force,
    )?;
    if let Some(path) = target.touches([&certificate, &key]) {
        let (name, path) = (first.clone(), path.to_owned());
        return Err(KeygenError::OverCa { name, path });
    }
    let ca = Ca::read(certificate, key)?;
    let Made { until, .. } = {
        let made = make::host(&names, options.days, &ca)?;
        target.write(&made)?;
        made
    };
    let (certificate, key) = (target.certificate.display(), target.key.display());
    Ok(format!(
        "{certificate}: certificate for {}, until {until}. For --server-cert and --client-cert\n\
         {key}: its private key. For --server-key and --client-key\n",
        names.join(", ")
    ))
}

/// The CA's certificate and key.
fn ca_files(options: &HostOptions) -> Result<(PathBuf, PathBuf), KeygenError> {
    let certificate = match &options.issuer {
        Some(path) => path.clone(),
        None => {
            let path = options.out.join("ca.pem");
            if !path.exists() {
                return Err(KeygenError::NoCa(directory(&options.out)));
            }
            path
        }
    };
    let key = match &options.issuer_key {
        Some(path) => path.clone(),
        None => certificate.with_extension("key"),
    };
    Ok((certificate, key))
}

fn directory(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
